//! Processes that start others, become others, or were started in an unusual way: each with its own
//! names and lines.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use pyscry_tests::family::{are_at_work, at_work, place, single};
use pyscry_tests::host::command_line;
use pyscry_tests::interpreters::all;
use pyscry_tests::run::MINOR;
use pyscry_tests::{Family, HostRecorder, Interpreter, compiled, on_each, on_one};
use tempfile::TempDir;

const PROGRAM: &str = include_str!("../programs/family.py");
const RATE: [&str; 2] = ["--rate", "499"];

/// Long enough for each of a dozen processes that share a CPU.
fn a_while() {
    thread::sleep(Duration::from_millis(2000));
}

#[test]
fn children_of_all_kinds() {
    on_each("subprocesses", |python| {
        let mut families = [
            Family::of(python, &["prefork", "10"], 3),
            Family::of(python, &["nested", "20"], 3),
            Family::of(python, &["multi", "30", "fork"], 3),
            Family::of(python, &["multi", "40", "spawn"], 3),
        ];
        let stranger = Family::of(python, &["single", "99"], 1);
        let pids = families.each_ref().map(|family| family.pid().to_string());
        let mut args: Vec<_> = pids.iter().flat_map(|pid| ["--pid", pid]).collect();
        args.push("--subprocesses");
        args.extend(RATE);
        let recorder = HostRecorder::start(&args);
        for family in &mut families[..2] {
            family.tell("go");
            family.expect(1);
        }
        a_while();
        let recorded = recorder.stop();
        let members = families.iter().flat_map(|family| family.members.clone());
        are_at_work(&recorded.host, &members.collect());
        let pids = recorded.host.pids();
        assert!(!pids.contains(&stranger.pid()), "{}", recorded.stderr);
        assert!(recorded.host.with_function("work_99").is_empty());
    });
}

#[test]
fn only_the_process_without_subprocesses() {
    on_one("a server without its workers", MINOR, |python| {
        let family = Family::of(python, &["prefork", "10"], 3);
        let pid = family.pid().to_string();
        let ended = pyscry_tests::record(&["--pid", &pid, "--duration", "1"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_eq!(at_work(&ended.folded), [10], "{}", ended.stderr);
        let roots: Vec<_> = ended.folded.stacks.keys().map(|stack| &stack[0]).collect();
        assert!(
            roots.iter().all(|root| !root.starts_with("process ")),
            "{roots:?}"
        );
    });
}

#[test]
fn a_launched_family() {
    on_one("a launched program with subprocesses", MINOR, |python| {
        let exe = python.exe.to_str().expect("a path");
        let file = place(python);
        let file = file.to_str().expect("a path");
        let program = [exe, "-S", file, "multi", "70", "spawn"];
        let (lines, stdout) = std::io::pipe().expect("a pipe");
        let args = [&["--subprocesses", "--"], &program[..]].concat();
        let recorder = HostRecorder::start_with(&args, stdout);
        // All three are at work.
        assert_eq!(BufReader::new(lines).lines().take(3).count(), 3);
        a_while();
        let recorded = recorder.stop();
        for number in [70, 71, 72] {
            let process = recorded.host.only_with(&format!("work_{number}"));
            assert!(process.command.contains(exe), "{process:?}");
        }
    });
}

/// Those that processes of an interpreter can become: its own version, and another one where both
/// see the same files.
fn nexts(python: &Interpreter) -> Vec<Interpreter> {
    let mut nexts = vec![python.clone()];
    if python.root.is_none() {
        let mut others = all();
        others.retain(|other| other.root.is_none() && other.minor() != python.minor());
        // An older one, and a newer one.
        nexts.extend([others[0].clone(), others[others.len() - 1].clone()]);
    }
    nexts
}

#[test]
fn processes_that_become_other_programs() {
    on_each("exec of others, host-wide", |python| {
        let start = |(index, next): (usize, &Interpreter)| {
            let exe = next.exe.to_str().expect("a path");
            let file = place(next);
            let file = file.to_str().expect("a path");
            let [from, to] = [110, 120].map(|number| (number + index).to_string());
            let args = ["execs", &from, exe, "-S", file, "single", &to];
            Family::of(python, &args, 1)
        };
        let mut families: Vec<_> = nexts(python).iter().enumerate().map(start).collect();
        let recorder = HostRecorder::start(&[&["--all"], &RATE[..]].concat());
        let commands = |families: &[Family]| -> Vec<String> {
            families
                .iter()
                .map(|family| command_line(family.pid()))
                .collect()
        };
        let before = commands(&families);
        thread::sleep(Duration::from_millis(700));
        for family in &mut families {
            family.tell("go");
            family.expect(1);
        }
        a_while();
        let after = commands(&families);
        let recorded = recorder.stop();
        let host = &recorded.host;
        for (index, family) in families.iter().enumerate() {
            are_at_work(host, &family.members);
            // What it was, and what it became, are two processes of one number.
            let [first, second] = [110, 120].map(|number| format!("work_{}", number + index));
            assert_eq!(host.only_with(&first).command, before[index]);
            assert_eq!(host.only_with(&second).command, after[index]);
        }
    });
}

/// One way to start an interpreter, with the function's number.
struct Start {
    what: &'static str,
    number: usize,
    command: Command,
    /// What happens once it runs.
    then: Box<dyn Fn()>,
}

/// A virtual environment's interpreter.
fn venv(python: &Interpreter, place: &Path) -> PathBuf {
    let path = place.join("venv");
    let mut command = Command::new(&python.exe);
    let made = command
        .args(["-m", "venv", "--without-pip"])
        .arg(&path)
        .status();
    assert!(made.expect("it runs").success(), "no environment");
    path.join("bin/python")
}

/// A package with a `__main__`, and the directory that it is in.
fn package(place: &Path) -> PathBuf {
    let package = place.join("packages/family_package");
    fs::create_dir_all(&package).expect("a directory");
    fs::write(package.join("__init__.py"), "").expect("a file");
    fs::write(package.join("__main__.py"), PROGRAM).expect("a file");
    place.join("packages")
}

/// A program in an archive.
fn zipapp(python: &Interpreter, place: &Path) -> PathBuf {
    let source = place.join("zipped");
    fs::create_dir_all(&source).expect("a directory");
    fs::write(source.join("__main__.py"), PROGRAM).expect("a file");
    let archive = place.join("family.pyz");
    let mut command = Command::new(&python.exe);
    let made = command
        .args(["-m", "zipapp", "-o"])
        .args([&archive, &source])
        .status();
    assert!(made.expect("it runs").success(), "no archive");
    archive
}

/// Another copy of the executable, which may be removed.
fn copy(python: &Interpreter, place: &Path, name: &str) -> PathBuf {
    let copy = place.join(name);
    fs::copy(&python.exe, &copy).expect("a copy");
    copy
}

/// All the ways that need nothing but files of the host.
fn starts(python: &Interpreter, directory: &Path) -> Vec<Start> {
    let file = directory.join("family.py");
    fs::write(&file, PROGRAM).expect("a program");
    let own = |args: &[&OsStr], exe: &Path, number| single(exe.as_os_str(), args, number);
    let script = [file.as_os_str()];
    // A copy does not find its library beside itself.
    let home = python.exe.ancestors().nth(2).expect("a prefix").to_owned();
    let at_home = |mut command: Command| {
        command.env("PYTHONHOME", &home);
        command
    };
    let nothing = || -> Box<dyn Fn()> { Box::new(|| {}) };
    let mut starts = Vec::new();
    let mut add = |what, number, command, then| {
        starts.push(Start {
            what,
            number,
            command,
            then,
        });
    };
    add(
        "venv",
        50,
        own(&script, &venv(python, directory), 50),
        nothing(),
    );
    let mut module = own(&["-m", "family_package"].map(OsStr::new), &python.exe, 51);
    module.env("PYTHONPATH", package(directory));
    add("-m package", 51, module, nothing());
    let archive = zipapp(python, directory);
    add(
        "zipapp",
        52,
        own(&[archive.as_os_str()], &python.exe, 52),
        nothing(),
    );

    let gone = directory.join("gone");
    fs::create_dir(&gone).expect("a directory");
    let mut command = own(&script, &python.exe, 53);
    command.current_dir(&gone);
    let remove = move || fs::remove_dir(&gone).expect("it is empty");
    add("a directory that is removed", 53, command, Box::new(remove));

    let removed = copy(python, directory, "python-removed");
    let command = at_home(own(&script, &removed, 54));
    let remove = move || fs::remove_file(&removed).expect("a file");
    add(
        "an executable that is removed",
        54,
        command,
        Box::new(remove),
    );

    let replaced = copy(python, directory, "python-replaced");
    let command = at_home(own(&script, &replaced, 55));
    // As a package manager does: another file under the same name.
    let replace = move || {
        let new = replaced.with_extension("new");
        fs::copy("/bin/true", &new).expect("a copy");
        fs::rename(&new, &replaced).expect("a file");
    };
    add(
        "an executable that is replaced",
        55,
        command,
        Box::new(replace),
    );

    let spaced = copy(python, directory, "not a snake");
    let command = at_home(own(&script, &spaced, 56));
    add("an executable of another name", 56, command, nothing());

    let text = "import sys\nexec(compile(open(sys.argv.pop(1)).read(), 'family.py', 'exec'))";
    let mut args: Vec<OsString> = ["-S", "-c", text].map(OsString::from).to_vec();
    args.push(file.clone().into_os_string());
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    add("-c", 57, own(&args, &python.exe, 57), nothing());
    starts
}

#[test]
fn interpreters_started_in_unusual_ways() {
    on_each("unusual starts", |python| {
        // A chroot's interpreters do not find these files; what matters here is none of theirs.
        if python.root.is_some() {
            let family = Family::of(python, &["single", "50"], 1);
            let recorder = HostRecorder::start(&[&["--all"], &RATE[..]].concat());
            a_while();
            are_at_work(&recorder.stop().host, &family.members);
            return;
        }
        let directory = TempDir::new().expect("a directory");
        let (mut families, mut commands) = (Vec::new(), Vec::new());
        let mut starts = starts(python, directory.path());
        // One half is there before, the other one comes.
        let come = starts.split_off(starts.len() / 2);
        let mut begin = |starts: Vec<Start>| {
            for mut start in starts {
                let family = Family::start(&mut start.command, 1);
                (start.then)();
                commands.push((start.what, start.number, command_line(family.pid())));
                families.push(family);
            }
        };
        begin(starts);
        let recorder = HostRecorder::start(&[&["--all"], &RATE[..]].concat());
        begin(come);
        a_while();
        let recorded = recorder.stop();
        let members = families.iter().flat_map(|family| family.members.clone());
        are_at_work(&recorded.host, &members.collect());
        for (what, number, command) in commands {
            let process = recorded.host.only_with(&format!("work_{number}"));
            assert_eq!(process.command, command.replace(';', ":"), "{what}");
        }
    });
}

/// A program that is no interpreter and has one inside, from its start on or later.
const EMBEDDED: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *library;
#define GET(result, name, ...) \
    result (*name)(__VA_ARGS__) = (result (*)(__VA_ARGS__))dlsym(library, #name)

/* Where Python's threads are not: before there is any. */
__attribute__((noinline)) static void without_python(void)
{
    volatile unsigned long sum = 0;
    for (unsigned long i = 0; i < 300000000UL; i++)
        sum += i;
}

int main(int argc, char **argv)
{
    const char *path = argv[1], *when = argv[2], *program = argv[3];
    if (*when == 'l') {
        puts("waits 0 0");
        fflush(stdout);
        getchar();
        without_python();
    }
    library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    GET(void, Py_InitializeEx, int);
    GET(int, PyRun_SimpleStringFlags, const char *, void *);
    Py_InitializeEx(0);
    return PyRun_SimpleStringFlags(program, NULL);
}
"#;

/// What it runs, for a process's number in a function's name.
fn embedded_program(number: usize) -> String {
    format!(
        "\
import os
source = 'def work_{number}():\\n    while True:\\n        sum(range(500))\\n'
exec(compile(source, 'work_{number}.py', 'exec'))
os.write(1, b'embedded {number} %d\\n' % os.getpid())
work_{number}()
"
    )
}

#[test]
fn programs_with_an_interpreter_inside() {
    on_each("embedded interpreters", |python| {
        let prefix = python.exe.ancestors().nth(2).expect("a prefix");
        let minor = python.minor();
        let library = prefix.join(format!("lib/libpython3.{minor}.so.1.0"));
        if !library.exists() {
            // Debian's chroots come without the library: its interpreter is a file of its own.
            assert!(python.root.is_some(), "no {}", library.display());
            return;
        }
        let directory = TempDir::new().expect("a directory");
        fs::write(directory.path().join("embeds.c"), EMBEDDED).expect("a source file");
        let args = ["-O1", "-o", "embeds", "embeds.c", "-ldl"];
        compiled::run(directory.path(), "gcc", &args);
        let start = |when: &str, number| {
            let mut command = Command::new(directory.path().join("embeds"));
            let program = embedded_program(number);
            command.arg(&library).args([when, &program]);
            Family::start(command.env("PYTHONHOME", prefix), 1)
        };
        let early = start("early", 80);
        let mut late = start("late", 81);
        let recorder = HostRecorder::start(&[&["--all"], &RATE[..]].concat());
        late.tell("go");
        late.expect(1);
        a_while();
        let recorded = recorder.stop();
        let mut members = early.members.clone();
        members.extend([(81, late.members[&81])]);
        are_at_work(&recorded.host, &members);
    });
}
