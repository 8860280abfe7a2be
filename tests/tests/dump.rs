//! `pyscry dump`, against what the target says of itself.

#![allow(clippy::expect_used, reason = "what a test looks for has to be there")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ::pyscry::dump::stop::Stopped;
use pyscry_tests::{Interpreter, Target, on_each, on_one, pyscry};
use serde_json::Value;

const STACKS: &str = include_str!("../programs/dump.py");
const STATES: &str = include_str!("../programs/dump_states.py");
const LOCALS: &str = include_str!("../programs/dump_locals.py");
const NUMPY: &str = include_str!("../programs/dump_numpy.py");
const SLEEPS: &str = "import time\nprint('ready')\ntime.sleep(1000)\n";
/// Of this system, for what does not depend on the version.
const MINOR: u8 = 12;

/// Runs it, and returns its exit code, and what it wrote and said.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("pyscry runs");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let code = output.status.code().expect("pyscry was killed by a signal");
    (code, text(&output.stdout), text(&output.stderr))
}

fn dump(args: &[&str]) -> (i32, String, String) {
    run(pyscry().arg("dump").args(args))
}

fn text_of(args: &[&str]) -> String {
    let (code, text, said) = dump(args);
    assert_eq!((code, said.as_str()), (0, ""), "{args:?}");
    text
}

fn threads_of(args: &[&str]) -> Vec<Value> {
    let text = text_of(&[args, &["--json"]].concat());
    let threads: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    assert!(!threads.is_empty(), "{args:?}: no thread");
    threads
}

fn threads_of_process(pid: u32, args: &[&str]) -> Vec<Value> {
    threads_of(&[&["--pid", &pid.to_string()], args].concat())
}

fn named<'a>(threads: &'a [Value], name: &str) -> &'a Value {
    let found = threads.iter().find(|thread| thread["thread_name"] == name);
    found.unwrap_or_else(|| panic!("no thread {name} in {threads:#?}"))
}

/// Names of a thread's frames, innermost first.
fn names(thread: &Value) -> Vec<&str> {
    let frames = thread["frames"].as_array().expect("frames");
    frames
        .iter()
        .map(|frame| frame["name"].as_str().expect("a name"))
        .collect()
}

/// Name, file and line of a thread's frames, innermost first.
fn places(thread: &Value) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let frames = thread["frames"].as_array().expect("frames").iter();
    frames
        .map(|frame| {
            let line = frame["line"].as_u64().expect("a line");
            (text(&frame["name"]), text(&frame["filename"]), line)
        })
        .collect()
}

/// What a program says of one of its threads.
#[derive(Debug)]
struct Truth {
    name: String,
    tid: u64,
    /// By `sys._current_frames()`, innermost first.
    frames: Vec<(String, String, u64)>,
    /// By `faulthandler`, which knows no qualified names.
    traceback: Vec<(String, String, u64)>,
}

/// What the program says of its threads, by their idents.
fn truth(target: &mut Target) -> BTreeMap<u64, Truth> {
    target.tell("report");
    let said: Value = serde_json::from_str(&target.line()).expect("what the program says");
    let mut truths: BTreeMap<u64, Truth> = BTreeMap::new();
    for (ident, thread) in said.as_object().expect("threads") {
        let frames = thread["frames"].as_array().expect("frames").iter();
        let frames = frames.map(|frame| {
            let text = |index: usize| frame[index].as_str().expect("text").to_owned();
            (text(0), text(1), frame[2].as_u64().expect("a line"))
        });
        let truth = Truth {
            name: thread["name"].as_str().expect("a name").to_owned(),
            tid: thread["tid"].as_u64().expect("a number"),
            frames: frames.collect(),
            traceback: Vec::new(),
        };
        truths.insert(ident.parse().expect("a number"), truth);
    }
    let mut of = None;
    loop {
        let line = target.line();
        if line == "end" {
            return truths;
        }
        let header = line
            .split_once("hread 0x")
            .map(|(_, rest)| rest.split(' ').next().expect("a number"));
        if let Some(ident) = header {
            of = Some(u64::from_str_radix(ident, 16).expect("a number"));
        } else if let Some(frame) = line.trim().strip_prefix("File \"") {
            let (file, rest) = frame.split_once("\", line ").expect("a file");
            let (line, name) = rest.split_once(" in ").expect("a line");
            let frame = (
                name.to_owned(),
                file.to_owned(),
                line.parse().expect("a number"),
            );
            let of = truths.get_mut(&of.expect("a thread")).expect("a thread");
            of.traceback.push(frame);
        }
    }
}

/// A program whose threads all wait.
fn start_stacks(python: &Interpreter, name: &str) -> Target {
    let target = Target::start(python, name, STACKS);
    // They have let go of the interpreter's lock for it; the kernel has them a moment later.
    while letters(target.pid()).iter().any(|letter| *letter != 'S') {
        std::thread::yield_now();
    }
    target
}

/// Compares all threads but the one that talks. Returns how many there were.
fn compare(threads: &[Value], truths: &BTreeMap<u64, Truth>, version: &str) -> usize {
    assert_eq!(threads.len(), truths.len(), "Python {version}");
    let mut compared = 0;
    for thread in threads {
        let ident = thread["thread_id"].as_u64().expect("a number");
        let truth = truths.get(&ident).expect("a thread of the program");
        assert_eq!(thread["thread_name"], truth.name.as_str());
        assert_eq!(thread["os_thread_id"], truth.tid);
        assert_eq!(thread["consistent"], true);
        if truth.name == "Listener" {
            continue;
        }
        let found = places(thread);
        assert_eq!(found, truth.frames, "Python {version}, {}", truth.name);
        let plain = found.into_iter().map(|(name, file, line)| {
            // What is behind the last point, but `Class.method.<locals>.<lambda>`.
            let short = name.rsplit('.').next().unwrap_or(&name).to_owned();
            (short, file, line)
        });
        let plain: Vec<_> = plain.collect();
        assert_eq!(plain, truth.traceback, "Python {version}, {}", truth.name);
        compared += 1;
    }
    compared
}

#[test]
fn names_and_lines_of_all_threads() {
    on_each("dump", |python| {
        let mut target = start_stacks(python, "stacks.py");
        let truths = truth(&mut target);
        for args in [&[][..], &["--blocking"], &["--nonblocking"]] {
            let threads = threads_of_process(target.pid(), args);
            assert_eq!(compare(&threads, &truths, &python.version), 7);
            let sleeps = named(&threads, "sleeps-0-ü");
            assert_eq!(sleeps["state"], "idle: sleep");
            assert_eq!(sleeps["active"], false);
            assert_eq!(sleeps["owns_gil"], false);
        }
        // It goes on as before.
        assert_eq!(truth(&mut target).len(), 8);
    });
}

/// The kernel's name for core files, which is everybody's.
struct CorePattern(Option<String>);

const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

impl CorePattern {
    /// Core files are written into the directory of the process that ends.
    fn in_directory() -> Self {
        let pattern = fs::read_to_string(CORE_PATTERN).expect("the pattern of core files");
        if pattern.trim().starts_with("core") {
            return Self(None);
        }
        fs::write(CORE_PATTERN, "core").expect("core files can be had");
        Self(Some(pattern))
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        if let Some(pattern) = &self.0 {
            fs::write(CORE_PATTERN, pattern).expect("the pattern as it was");
        }
    }
}

/// The directory of a target's file, as we see it.
fn directory(python: &Interpreter, target: &Target) -> PathBuf {
    let inside = target.file.parent().expect("a directory");
    match &python.root {
        Some(root) => root.join(inside.strip_prefix("/").expect("a whole path")),
        None => inside.to_owned(),
    }
}

fn core_file(directory: &Path) -> PathBuf {
    let entries = fs::read_dir(directory).expect("the directory");
    let mut files = entries.map(|entry| entry.expect("an entry").path());
    let is_core = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.starts_with("core")
    };
    files.find(is_core).expect("a core file")
}

#[test]
fn core_files() {
    let _pattern = CorePattern::in_directory();
    on_each("dump --core", |python| {
        let mut target = start_stacks(python, "aborts.py");
        let truths = truth(&mut target);
        let pid = target.pid();
        target.tell("abort");
        // Its output ends with it, and the core file is written before.
        assert_eq!(target.line(), "");
        let core = core_file(&directory(python, &target));
        let path = core.to_str().expect("a path");
        let threads = threads_of(&["--core", path]);
        assert_eq!(compare(&threads, &truths, &python.version), 7);
        assert_eq!(threads[0]["pid"], pid);
        let listener = named(&threads, "Listener");
        assert_eq!(listener["owns_gil"], true);
        assert_eq!(names(listener)[0], "listen");
        let text = text_of(&["--core", path, "--locals"]);
        let head = format!("Signal 6: {path}\nProcess {pid}: ");
        assert!(text.starts_with(&head), "{text}");
        assert!(text.contains("(gil): \"Listener\"\n"), "{text}");
        assert!(text.contains("            line: \"abort\\n\"\n"), "{text}");
        fs::remove_file(core).expect("removed");
    });
}

#[test]
fn core_files_that_are_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().join("empty");
    fs::write(&empty, "").expect("written");
    for (path, words) in [
        (empty.to_str().expect("a path"), "no core file"),
        ("/proc/self/exe", "no core file"),
        ("/nowhere/core", "No such file"),
    ] {
        let (code, text, said) = dump(&["--core", path]);
        assert_eq!((code, text.as_str()), (1, ""), "{path}");
        assert!(said.contains(path) && said.contains(words), "{said}");
    }
}

#[test]
fn five_thousand_deep() {
    const PROGRAM: &str = "
import sys, time
sys.setrecursionlimit(10000)
def deeper(left):
    if left:
        return deeper(left - 1)
    print('ready', flush=True)
    time.sleep(1000)
deeper(4999)
";
    on_each("dump, 5,000 deep", |python| {
        let target = Target::start(python, "deep.py", PROGRAM);
        for args in [&[][..], &["--native", "--blocking"]] {
            let threads = threads_of_process(target.pid(), args);
            let places = places(&threads[0]);
            let python_frames: Vec<_> = places
                .iter()
                .filter(|(_, file, _)| file.ends_with("deep.py"))
                .map(|(name, _, line)| (name.as_str(), *line))
                .collect();
            assert_eq!(python_frames.len(), 5001, "Python {}", python.version);
            assert_eq!(python_frames[0], ("deeper", 8));
            assert!(
                python_frames[1..5000]
                    .iter()
                    .all(|frame| *frame == ("deeper", 6))
            );
            assert_eq!(python_frames[5000], ("<module>", 9));
        }
    });
}

#[test]
fn all_interpreters() {
    const PROGRAM: &str = "
import sys, threading, time
CODE = '''
import sys, time
def in_sub():
    print('ready')
    sys.stdout.flush()
    time.sleep(1000)
in_sub()
'''
def run():
    if sys.version_info >= (3, 14):
        from concurrent import interpreters
        interpreters.create().exec(CODE)
    elif sys.version_info >= (3, 13):
        import _interpreters
        _interpreters.exec(_interpreters.create(), CODE)
    else:
        import _xxsubinterpreters
        _xxsubinterpreters.run_string(_xxsubinterpreters.create(), CODE)
threading.Thread(target=run, name='Sub', daemon=True).start()
time.sleep(1000)
";
    on_each("dump of interpreters", |python| {
        let target = Target::start(python, "interpreters.py", PROGRAM);
        let threads = threads_of_process(target.pid(), &[]);
        let stack_of = |interpreter: u64, leaf: &str| {
            let of = threads.iter().find(|thread| {
                thread["interpreter"] == interpreter && names(thread).first() == Some(&leaf)
            });
            of.unwrap_or_else(|| panic!("no {leaf} in {threads:#?}"))
        };
        let of_main = |thread: &&Value| thread["os_thread_id"] == target.pid();
        let main = threads.iter().find(of_main).expect("the main thread");
        assert_eq!(main["interpreter"], 0);
        assert_eq!(names(main).last(), Some(&"<module>"));
        let inside = stack_of(1, "in_sub");
        assert_eq!(names(inside), ["in_sub", "<module>"]);
        // The same thread, further out.
        let outside = named(&threads, "Sub");
        assert_eq!(outside["interpreter"], 0);
        assert_eq!(outside["os_thread_id"], inside["os_thread_id"]);
        assert!(names(outside).contains(&"run"));
        let text = text_of(&["--pid", &target.pid().to_string()]);
        for label in [" [interpreter 0]\n", " [interpreter 1]\n"] {
            assert!(text.contains(label), "{text}");
        }
    });
}

/// Scalars of the real numpy are shown as it writes them.
#[test]
fn scalars_of_numpy() {
    const SITE: &str = "PYSCRY_SITE";
    let Ok(site) = std::env::var(SITE) else {
        panic!("{SITE} is not set: run the tests with `cargo xtask test`");
    };
    on_one("dump --locals, numpy", MINOR, |python| {
        let mut target = Target::start_with(python, "numpys.py", NUMPY, &[&site]);
        let texts: Value = serde_json::from_str(&target.line()).expect("what it says");
        let long = "-".to_owned() + &"l".repeat(20);
        let threads = threads_of_process(target.pid(), &[&long]);
        let frames = threads[0]["frames"].as_array().expect("frames");
        let variables = frames[0]["locals"].as_array().expect("variables");
        let texts = texts.as_object().expect("texts");
        assert!(texts.len() > 5, "{texts:?}");
        for (name, items) in texts {
            let found = variables.iter().find(|variable| variable["name"] == **name);
            let found = found.unwrap_or_else(|| panic!("no {name}"))["repr"].as_str();
            let items = items.as_array().expect("items").iter();
            let items: Vec<&str> = items.map(|item| item.as_str().expect("text")).collect();
            assert_eq!(found, Some(&*format!("[{}]", items.join(", "))), "{name}");
        }
    });
}

#[test]
fn arguments_and_locals() {
    on_each("dump --locals", |python| {
        let target = Target::start(python, "locals.py", LOCALS);
        let threads = threads_of_process(target.pid(), &["--locals"]);
        let frames = threads[0]["frames"].as_array().expect("frames");
        let inner = &frames[0];
        let function = &frames[1];
        let of = |frame: &Value| -> Vec<(String, bool, String)> {
            let variables = frame["locals"].as_array().expect("variables").iter();
            variables
                .map(|variable| {
                    assert_ne!(variable["addr"], 0);
                    let text = |key: &str| variable[key].as_str().expect("text").to_owned();
                    let is_argument = variable["arg"].as_bool().expect("yes or no");
                    (text("name"), is_argument, text("repr"))
                })
                .collect()
        };
        let found = of(function);
        let arguments: Vec<_> = found
            .iter()
            .take_while(|(_, argument, _)| *argument)
            .collect();
        let arguments: Vec<_> = arguments
            .iter()
            .map(|(name, _, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            arguments,
            [
                ("a", "5"),
                ("b", "\"x\""),
                ("key", "3"),
                ("rest", "(7)"),
                ("more", "{\"other\": \"z\"}"),
            ],
            "Python {}",
            python.version
        );
        let locals: BTreeMap<_, _> = found
            .iter()
            .filter(|(_, argument, _)| !argument)
            .map(|(name, _, value)| (name.as_str(), value.as_str()))
            .collect();
        for (name, value) in [
            ("whole", "576460752303423488"),
            ("large", "+bigint"),
            ("small", "-bigint"),
            ("negative", "-5"),
            ("real", "2.5"),
            ("yes", "True"),
            ("nothing", "None"),
            ("text", r#""say \"ü\"\n""#),
            ("pair", "(1, \"two\")"),
            ("table", "{\"k\": [1, {}], 2: ()}"),
            ("int8", "-7"),
            ("uint16", "65535"),
            ("int64", "-1099511627776"),
            ("float16", "1.5"),
            ("float32", "0.25"),
            ("float64", "1e+300"),
            ("true", "True"),
            ("in_cell", "[5]"),
        ] {
            assert_eq!(
                locals.get(name).copied(),
                Some(value),
                "{name}, Python {}",
                python.version
            );
        }
        assert!(locals["thing"].starts_with("<Named at 0x"));
        assert!(locals["inner"].starts_with("<function at 0x"));
        assert!(locals["itself"].starts_with("[[[") && locals["itself"].contains("..."));
        for name in ["long", "numbers"] {
            let value = locals[name];
            assert!(value.len() <= 128 + 5, "{value}");
            assert!(value.contains("..."), "{value}");
        }
        // In the nested function's frame they are somebody else's.
        let inner = of(inner);
        let value = |name: &str| {
            let found = inner.iter().find(|(of, ..)| of == name);
            found.map(|(.., value)| value.as_str())
        };
        assert_eq!(value("free"), Some("([5], \"x\")"));
        assert_eq!(value("in_cell"), Some("[5]"));
        let longer = text_of(&["--pid", &target.pid().to_string(), "-lll"]);
        let long = longer
            .lines()
            .find_map(|line| line.trim().strip_prefix("long: "))
            .expect("a variable");
        assert_eq!(long.len(), 3 * 128 - 5 + "\"...\"".len());
        assert!(longer.contains("        Arguments:\n            a: 5\n"));
        assert!(longer.contains("        Locals:\n"));
    });
}

#[test]
fn what_threads_are_doing() {
    on_each("dump of states", |python| {
        let target = Target::start(python, "states.py", STATES);
        let pid = target.pid();
        // From here on no thread of it can run.
        let waits = || {
            let threads = threads_of_process(pid, &[]);
            let holder = named(&threads, "holds_the_gil");
            holder["state"] == "idle+gil: sleep"
                && named(&threads, "wants_the_gil")["state"] == "idle: gil"
        };
        while !waits() {
            std::thread::yield_now();
        }
        for args in [&[][..], &["--blocking"]] {
            let threads = threads_of_process(pid, args);
            for (name, state, syscall) in [
                ("MainThread", "idle: lock", "futex"),
                ("locks", "idle: lock", "futex"),
                ("receives", "idle: network", "recvfrom"),
                ("reads", "idle: pipe", "read"),
                ("wants_the_gil", "idle: gil", "futex"),
                ("holds_the_gil", "idle+gil: sleep", "clock_nanosleep"),
            ] {
                let thread = named(&threads, name);
                let what = format!("{name} of Python {}, {args:?}", python.version);
                assert_eq!(thread["state"], state, "{what}");
                assert_eq!(thread["syscall"], syscall, "{what}");
                assert_eq!(thread["owns_gil"], name == "holds_the_gil", "{what}");
                assert_eq!(thread["active"], false, "{what}");
            }
            assert_eq!(named(&threads, "sleeps")["state"], "idle: sleep");
        }
    });
}

#[test]
fn a_thread_that_runs() {
    const PROGRAM: &str = "
def leaf(number):
    return number + 1
def turns():
    number = 0
    print('ready')
    while True:
        for _ in range(100):
            number = leaf(number)
def main():
    turns()
main()
";
    on_each("dump of a thread that runs", |python| {
        let target = Target::start(python, "runs.py", PROGRAM);
        let whole = [
            &["turns", "main", "<module>"][..],
            &["leaf", "turns", "main", "<module>"],
        ];
        for args in [&[][..], &["--blocking"], &["--native", "--blocking"]] {
            let threads = threads_of_process(target.pid(), args);
            let thread = &threads[0];
            assert_eq!(thread["state"], "active+gil", "{args:?}");
            let python_frames: Vec<_> = thread["frames"]
                .as_array()
                .expect("frames")
                .iter()
                .filter(|frame| frame["native"] == false)
                .map(|frame| frame["name"].as_str().expect("a name"))
                .collect();
            if thread["consistent"] == true {
                assert!(
                    whole.contains(&&*python_frames),
                    "Python {}: {python_frames:?}",
                    python.version
                );
            } else {
                // It says so, and how to do better.
                assert!(args.is_empty(), "{args:?}");
                assert!(thread["notes"].to_string().contains("--blocking"));
            }
        }
    });
}

/// A sort calls its key function: its native frames stand between two of Python.
fn sorts_in_between(python: &Interpreter, threads: &[Value]) {
    let names = names(named(threads, "sorts-3-ü"));
    let at = |name: &str| {
        let place = names.iter().position(|of| *of == name);
        place.unwrap_or_else(|| panic!("{}: no {name} in {names:?}", python.version))
    };
    let lambda = match python.minor() {
        ..=10 => "<lambda>",
        _ => "sorts.<locals>.<lambda>",
    };
    assert!(at("time_sleep") < at(lambda), "{names:?}");
    assert!(at(lambda) < at("list_sort_impl"), "{names:?}");
    assert!(at("list_sort_impl") < at("sorts"), "{names:?}");
}

#[test]
fn native_frames() {
    on_each("dump --native", |python| {
        let mut target = start_stacks(python, "native.py");
        let truths = truth(&mut target);
        for args in [&["--native"][..], &["--native", "--blocking"]] {
            let threads = threads_of_process(target.pid(), args);
            assert_eq!(threads.len(), truths.len());
            if python.is_built_here() {
                sorts_in_between(python, &threads);
            }
            for thread in &threads {
                let frames = thread["frames"].as_array().expect("frames");
                let (native, others): (Vec<&Value>, Vec<&Value>) =
                    frames.iter().partition(|frame| frame["native"] == true);
                let name = thread["thread_name"].as_str().expect("a name");
                let what = format!("{name} of Python {}, {args:?}", python.version);
                assert!(!native.is_empty(), "{what}");
                assert_eq!(frames[0]["native"], true, "{what}");
                if name == "Listener" {
                    continue;
                }
                let ident = thread["thread_id"].as_u64().expect("a number");
                let python_frames: Vec<_> = others
                    .iter()
                    .map(|frame| frame["name"].as_str().expect("a name"))
                    .filter(|name| !name.starts_with('['))
                    .collect();
                let expected = truths[&ident].frames.iter();
                let expected: Vec<_> = expected.map(|(name, ..)| name.as_str()).collect();
                assert_eq!(python_frames, expected, "{what}");
                if args.contains(&"--blocking") {
                    assert_eq!(others.len(), expected.len(), "{what}: {others:#?}");
                    assert_eq!(thread["notes"], Value::Array(Vec::new()), "{what}");
                }
            }
        }
    });
}

/// State letters of all threads of a process.
fn letters(pid: u32) -> Vec<char> {
    let tids = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    tids.map(|tid| {
        let path = tid.expect("a thread").path().join("stat");
        let stat = fs::read_to_string(path).expect("its state");
        let (_, rest) = stat.rsplit_once(") ").expect("a state");
        rest.chars().next().expect("a letter")
    })
    .collect()
}

#[test]
fn a_process_that_was_stopped_goes_on() {
    on_one("dump --blocking", MINOR, |python| {
        let mut target = start_stacks(python, "stopped.py");
        let pid = target.pid();
        let stopped = Stopped::stop(pid).expect("stopped");
        assert_eq!(letters(pid), ['t'; 8]);
        drop(stopped);
        assert!(!letters(pid).contains(&'t'));
        assert_eq!(truth(&mut target).len(), 8);
        // Who stops it ends without a word, as one that is killed does.
        let ended = std::thread::spawn(move || {
            let stopped = Stopped::stop(pid).expect("stopped");
            assert_eq!(letters(pid), ['t'; 8]);
            std::mem::forget(stopped);
        });
        ended.join().expect("no panic");
        assert_eq!(truth(&mut target).len(), 8);
        assert!(!letters(pid).contains(&'t'));
        // Another tracer has it.
        let _stopped = Stopped::stop(pid).expect("stopped");
        let (code, _, said) = dump(&["--pid", &pid.to_string(), "--blocking"]);
        assert_eq!(code, 1);
        assert!(said.contains("traces it already"), "{said}");
    });
}

#[test]
fn subprocesses() {
    const PROGRAM: &str = "
import os, subprocess, sys, time
def child():
    print('ready')
    sys.stdout.flush()
    time.sleep(1000)
def parent():
    other = subprocess.Popen(['sleep', '1000'])
    pid = os.fork()
    if pid == 0:
        child()
    sys.stdin.readline()
    other.kill()
    other.wait()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    print('ended')
    sys.stdout.flush()
    time.sleep(1000)
parent()
";
    on_one("dump --subprocesses", MINOR, |python| {
        let mut target = Target::start(python, "family.py", PROGRAM);
        let pid = target.pid();
        let threads = threads_of_process(pid, &["--subprocesses"]);
        assert_eq!(threads.len(), 2);
        assert_eq!(threads[0]["pid"], pid);
        assert_eq!(names(&threads[0]), ["parent", "<module>"]);
        assert_eq!(threads[0]["process_info"]["parent"], Value::Null);
        assert_eq!(names(&threads[1]), ["child", "parent", "<module>"]);
        assert_eq!(threads[1]["process_info"]["parent"]["pid"], pid);
        let text = text_of(&["--pid", &pid.to_string(), "--subprocesses"]);
        let line = "-".repeat(80);
        let parts: Vec<_> = text.split(&line).collect();
        assert_eq!(parts.len(), 3, "{text}");
        assert!(text.contains("sleep 1000\nParent Process "), "{text}");
        assert!(text.contains("[no Python]"), "{text}");
        target.tell("end");
        assert_eq!(target.line(), "ended");
        assert_eq!(threads_of_process(pid, &["--subprocesses"]).len(), 1);
    });
}

#[test]
fn the_keys_of_json() {
    on_one("dump --json", MINOR, |python| {
        let target = Target::start(python, "json.py", SLEEPS);
        let threads = threads_of_process(target.pid(), &[]);
        let keys = |value: &Value| {
            let object = value.as_object().expect("an object");
            object.keys().cloned().collect::<Vec<_>>()
        };
        let has = |found: Vec<String>, wanted: &[&str]| {
            for key in wanted {
                assert!(found.iter().any(|of| of == key), "{key} in {found:?}");
            }
        };
        let thread = &threads[0];
        has(
            keys(thread),
            &[
                "pid",
                "thread_id",
                "thread_name",
                "os_thread_id",
                "active",
                "owns_gil",
                "frames",
                "process_info",
                "state",
            ],
        );
        let frame = &thread["frames"][0];
        has(
            keys(frame),
            &[
                "name",
                "filename",
                "module",
                "short_filename",
                "line",
                "locals",
                "is_entry",
                "is_shim_entry",
            ],
        );
        assert_eq!(frame["filename"], target.file.to_str().expect("a path"));
        assert_eq!(frame["short_filename"], "json.py");
        assert_eq!(frame["line"], 3);
        assert_eq!(frame["locals"], Value::Null);
        assert_eq!(frame["is_entry"], true);
    });
}

#[test]
fn text_and_file_names() {
    on_one("dump", MINOR, |python| {
        let target = Target::start(python, "text.py", SLEEPS);
        let pid = target.pid();
        let file = target.file.display();
        let exe = python.exe.display();
        let text = text_of(&["--pid", &pid.to_string()]);
        let expected = format!(
            "Process {pid}: {exe} -u {file}\n\
             Python v{} ({exe})\n\
             \n\
             Thread {pid} (idle: sleep)\n    \
                 <module> (text.py:3)\n",
            python.version
        );
        assert_eq!(text, expected);
        let full = text_of(&["--pid", &pid.to_string(), "--full-filenames"]);
        assert!(full.contains(&format!("<module> ({file}:3)")), "{full}");
        let coloured = run(pyscry()
            .args(["dump", "--pid", &pid.to_string()])
            .env("CLICOLOR_FORCE", "1"));
        assert!(coloured.1.contains("\u{1b}[32m<module>"), "{}", coloured.1);
        let plain = run(pyscry()
            .args(["dump", "--pid", &pid.to_string()])
            .env("NO_COLOR", "1"));
        assert_eq!(plain.1, text);
    });
}

#[test]
fn nobody_reads_to_the_end() {
    on_one("dump into a closed pipe", MINOR, |python| {
        let target = Target::start(python, "closed.py", SLEEPS);
        for more in [&[][..], &["--json"]] {
            let mut child = pyscry()
                .args(["dump", "--pid", &target.pid().to_string()])
                .args(more)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("pyscry runs");
            drop(child.stdout.take());
            let mut said = String::new();
            let mut stderr = child.stderr.take().expect("its messages");
            stderr.read_to_string(&mut said).expect("its messages");
            let status = child.wait().expect("its end");
            assert_eq!((status.code(), said.as_str()), (Some(0), ""));
        }
    });
}

#[test]
fn what_cannot_be_dumped() {
    on_one("dump of nothing", MINOR, |python| {
        let fails = |args: &[&str], words: &[&str], with: i32| {
            let (code, text, said) = dump(args);
            assert_eq!((code, text.as_str()), (with, ""), "{args:?}: {said}");
            for word in words {
                assert!(said.contains(word), "{word} in {said}");
            }
        };
        let nobody = i32::MAX.to_string();
        fails(&["--pid", &nobody], &["no process", &nobody], 1);
        fails(&["--pid", "2"], &["process 2", "not a Python"], 1);
        fails(&[], &["--pid", "--core"], 2);
        fails(
            &["--pid", "1", "--core", "core"],
            &["cannot be used with"],
            2,
        );
        let mut sleep = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let pid = sleep.id().to_string();
        fails(&["--pid", &pid], &[&pid, "not a Python"], 1);
        fails(
            &["--pid", &pid, "-s"],
            &[&pid, "nor one that came from it"],
            1,
        );
        sleep.kill().expect("its end");
        // Ended, and not waited for.
        while fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
            std::thread::yield_now();
        }
        fails(&["--pid", &pid], &[&pid], 1);
        sleep.wait().expect("its end");
        let target = start_stacks(python, "not_ours.py");
        let pid = target.pid();
        let threads = threads_of_process(pid, &[]);
        let tid = named(&threads, "Listener")["os_thread_id"].to_string();
        fails(&["--pid", &tid], &["thread", &format!("--pid {pid}")], 1);
    });
}
