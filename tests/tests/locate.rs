//! Finding CPython and its threads in live processes: each way to find the runtime alone, the way
//! from every thread to its own thread state, and interpreters whose names were taken away.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol};
use profiler_common::walk::follow_path;
use pyscry::elf::ElfImage;
use pyscry::process::{RemoteMemory, proc_file};
use pyscry::python::inspect::{self, Python};
use pyscry::python::locate::{LocateError, Strategy, locate, locate_by};
use pyscry::python::{Version, threads};
use pyscry::record::snapshot::thread_pointers;
use pyscry_tests::{Interpreter, Target, on_each, record};

/// Threads that wait in different ways, and one that runs. It says where its runtime and
/// `PyCode_Type` are (0 where it does not know), and of each thread its ident and its tid.
const PROGRAM: &str = r#"
import os
import threading
import time
import types

lock = threading.Lock()
lock.acquire()
condition = threading.Condition()
end, other_end = os.pipe()
known = []


def report():
    known.append((threading.get_ident(), threading.get_native_id()))


def sleeps():
    report()
    time.sleep(600)


def waits_for_a_lock():
    report()
    lock.acquire()


def waits_for_a_condition():
    report()
    with condition:
        condition.wait()


def reads():
    report()
    os.read(end, 1)


def runs():
    report()
    while True:
        pass


report()
targets = [
    sleeps, sleeps, waits_for_a_lock, waits_for_a_lock, waits_for_a_condition, reads, reads, runs,
]
for target in targets:
    threading.Thread(target=target, daemon=True).start()
while len(known) < 1 + len(targets):
    time.sleep(0.01)
try:
    import ctypes
    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
except (ImportError, ValueError):
    runtime = 0
print("ready")
print(runtime, id(types.CodeType), len(known))
for ident, tid in known:
    print(ident, tid)
time.sleep(600)
"#;

/// A program that waits to be looked at.
const WAIT: &str = "print('ready')\ninput()\n";

/// The program's threads: one more than it starts.
const THREADS: usize = 9;

/// What the program says of itself.
struct Truth {
    target: Target,
    runtime: u64,
    code_type: u64,
    /// Thread pointers by tid.
    threads: HashMap<u32, u64>,
}

fn numbers<const N: usize>(line: &str) -> [u64; N] {
    let numbers: Vec<u64> = line
        .split(' ')
        .map(|word| {
            word.parse()
                .unwrap_or_else(|_| panic!("no numbers: {line:?}"))
        })
        .collect();
    numbers
        .try_into()
        .unwrap_or_else(|_| panic!("not {N} numbers: {line:?}"))
}

fn start(python: &Interpreter, name: &str) -> Truth {
    let mut target = Target::start(python, name, PROGRAM);
    let [runtime, code_type, count] = numbers(&target.line());
    assert_eq!(count as usize, THREADS);
    let threads = (0..count)
        .map(|_| numbers(&target.line()))
        .map(|[ident, tid]| (tid as u32, ident))
        .collect();
    Truth {
        target,
        runtime,
        code_type,
        threads,
    }
}

/// `said_from` is the first minor version that says its version itself. Before it nothing but the
/// name of a file may tell, which has no micro version.
fn check_version(python: &Interpreter, found: Version, said_from: u8) {
    let version = Version::parse(&python.version).expect("a version");
    let micro = match found.micro {
        None if python.minor() < said_from => None,
        _ => version.micro,
    };
    assert_eq!(found, Version { micro, ..version });
}

/// `Py_Version`.
const SAID_BY_SYMBOL: u8 = 11;
/// `_Py_DebugOffsets`.
const SAID_BY_RUNTIME: u8 = 13;

#[test]
fn each_strategy_alone_finds_the_runtime() {
    on_each("runtime by each strategy", |python| {
        let truth = start(python, "strategies.py");
        assert_ne!(
            truth.runtime, 0,
            "the program does not know its own runtime"
        );
        let pid = truth.target.pid();
        for strategy in Strategy::ALL {
            let found = locate_by(pid, &[strategy]);
            if strategy == Strategy::Section && python.minor() < 10 {
                // The section came with 3.10.
                let error = found.err();
                assert!(
                    matches!(error, Some(LocateError::NotPython { .. })),
                    "{error:?}"
                );
                continue;
            }
            let found = found.unwrap_or_else(|error| panic!("{strategy:?}: {error}"));
            assert_eq!(found.strategy, strategy);
            assert_eq!(found.runtime, truth.runtime, "{strategy:?}");
            check_version(python, found.version, SAID_BY_SYMBOL);
            assert_eq!(found.code_type, Some(truth.code_type), "{strategy:?}");
        }
        assert_eq!(locate(pid).expect("a Python").strategy, Strategy::Symbol);
    });
}

/// Everything that is found out about a process is what the process says of itself.
fn check(python: &Interpreter, truth: &Truth, said_from: u8) -> Python {
    let pid = truth.target.pid();
    let found = inspect::inspect(pid).unwrap_or_else(|error| panic!("{error}"));
    check_version(python, found.version, said_from);
    assert_eq!(found.entry.code_type, truth.code_type);
    if truth.runtime != 0 {
        assert_eq!(found.located.runtime, truth.runtime);
    }

    let mem = RemoteMemory::new(pid);
    let states =
        threads::thread_states(&mem, &found.layout, found.located.runtime).expect("thread states");
    let pointers: BTreeSet<u64> = states.iter().map(|state| state.thread_id).collect();
    let own: BTreeSet<u64> = truth.threads.values().copied().collect();
    assert_eq!(states.len(), THREADS);
    assert_eq!(pointers, own);
    let followed: BTreeMap<u64, u64> = states
        .iter()
        .map(|state| {
            let at = follow_path(&mem, &found.entry.tstate, state.thread_id);
            (state.thread_id, at.expect("a readable way"))
        })
        .collect();
    let addresses: BTreeMap<u64, u64> = states
        .iter()
        .map(|state| (state.thread_id, state.address))
        .collect();
    assert_eq!(followed, addresses, "the way is {:x?}", found.entry.tstate);
    found
}

#[test]
fn every_thread_leads_to_its_own_thread_state() {
    on_each("thread states of all threads", |python| {
        let truth = start(python, "states.py");
        let found = check(python, &truth, SAID_BY_SYMBOL);
        let tids = proc_file::threads(truth.target.pid()).expect("its threads");
        assert_eq!(tids.len(), THREADS);
        assert_eq!(thread_pointers(&found, &tids), truth.threads);
    });
}

/// In a container a thread's number is not the host's.
#[test]
fn threads_of_another_pid_namespace_have_their_pointers() {
    on_each("threads in a pid namespace", |python| {
        let in_namespace = Interpreter {
            exe: script(
                python,
                "namespace.sh",
                "exec unshare --pid --fork --kill-child",
                &python.exe,
            ),
            ..python.clone()
        };
        let truth = start(&in_namespace, "namespace.py");
        let parent = truth.target.pid();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
            .expect("its children");
        let pid = children.trim().parse().expect("one child");
        let tids = proc_file::threads(pid).expect("its threads");
        let inner: BTreeSet<u32> = truth.threads.keys().copied().collect();
        assert_eq!(
            inner,
            (1..=THREADS as u32).collect(),
            "no namespace of its own"
        );

        let found = inspect::inspect(pid).unwrap_or_else(|error| panic!("{error}"));
        let pointers = thread_pointers(&found, &tids);
        // Threads get their numbers in the same order outside.
        let mut tids = tids;
        tids.sort_unstable();
        let expected = (1..)
            .zip(&tids)
            .map(|(inner, tid)| (*tid, truth.threads[&inner]));
        assert_eq!(pointers, expected.collect());
    });
}

/// A script that runs `exe` in a certain way, in the place of an interpreter.
fn script(python: &Interpreter, name: &str, how: &str, exe: &Path) -> PathBuf {
    let text = format!("#!/bin/sh\n{how} {} \"$@\"\n", exe.display());
    let inside = python.place(name, &text);
    make_executable(&outside(python, &inside));
    inside
}

/// A path of an interpreter's, as we see it.
fn outside(python: &Interpreter, inside: &Path) -> PathBuf {
    match &python.root {
        // The kernel says all of what we see.
        Some(root) if inside.starts_with(root) => inside.to_owned(),
        Some(root) => root.join(inside.strip_prefix("/").expect("an absolute path")),
        None => inside.to_owned(),
    }
}

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// A copy of the module that an interpreter is in, and a script that runs it. Removed again when
/// this is dropped.
struct Copy {
    python: Interpreter,
    file: PathBuf,
}

impl Copy {
    /// `change` gets the copy.
    fn new(python: &Interpreter, name: &str, change: impl FnOnce(&Path)) -> Self {
        let module = {
            let target = Target::start(python, &format!("{name}-module.py"), WAIT);
            locate(target.pid()).expect("a Python").module
        };
        let directory = python.place(&format!("{name}.txt"), "").with_extension("d");
        fs::create_dir_all(outside(python, &directory)).expect("a directory");
        let inside = directory.join(module.file_name().expect("a file"));
        let file = outside(python, &inside);
        fs::copy(outside(python, &module), &file).expect("a copy");
        make_executable(&file);
        change(&file);
        // A library is found through the path, an executable is run itself; it then has to be
        // told where its standard library is.
        let is_executable = fs::canonicalize(outside(python, &python.exe)).ok()
            == fs::canonicalize(outside(python, &module)).ok();
        let (how, exe) = if is_executable {
            ("PYTHONHOME=/usr exec".to_owned(), inside)
        } else {
            let how = format!("LD_LIBRARY_PATH={} exec", directory.display());
            (how, python.exe.clone())
        };
        let copied = Interpreter {
            exe: script(python, &format!("{name}.sh"), &how, &exe),
            ..python.clone()
        };
        Self {
            python: copied,
            file,
        }
    }

    /// Records a process of the copy.
    fn check(&self, name: &str, said_from: u8) -> Python {
        let truth = start(&self.python, name);
        let found = check(&self.python, &truth, said_from);
        assert_eq!(
            outside(&self.python, &found.module),
            self.file,
            "not the copy"
        );
        let pid = truth.target.pid().to_string();
        let ended = record(&["--pid", &pid, "--duration", "0.3", "--off-cpu"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        for function in [
            "sleeps",
            "waits_for_a_lock",
            "waits_for_a_condition",
            "reads",
        ] {
            let weight = ended.folded.in_function(function);
            assert_ne!(weight, 0, "{function}: {}{:?}", ended.stderr, ended.folded);
        }
        found
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _gone_already = fs::remove_file(&self.file);
    }
}

fn strip(file: &Path) {
    let status = Command::new("strip").arg(file).status();
    let status =
        status.unwrap_or_else(|error| panic!("this test needs strip of binutils: {error}"));
    assert!(status.success(), "strip ended with {status}");
}

#[test]
fn a_stripped_interpreter_is_found() {
    on_each("stripped interpreter", |python| {
        let copy = Copy::new(python, "stripped", |file| {
            strip(file);
            let image = ElfImage::open(file).expect("the copy");
            let elf = image.parse().expect("an ELF file");
            assert_eq!(elf.section(".symtab"), None);
            assert_eq!(elf.section(".debug_info"), None);
        });
        copy.check("stripped.py", SAID_BY_SYMBOL);
    });
}

/// `Elf64_Sym`.
const SYMBOL_BYTES: usize = 24;
const SYMBOL_INFO: usize = 4;
const SYMBOL_SIZE: usize = 16;

/// What tells where something is.
const NAMES: [&str; 4] = [
    "_PyRuntime",
    "Py_Version",
    "PyCode_Type",
    "PyGILState_GetThisThreadState",
];

/// Makes a file's symbols ones that are not defined to us and are to the loader, which needs
/// them: of no type and no size. The section gets another name.
fn hide(file: &Path) {
    strip(file);
    let mut bytes = fs::read(file).expect("the copy");
    let elf = ElfFile64::<LittleEndian>::parse(&bytes[..]).expect("an ELF file");
    let table = elf.section_by_name(".dynsym").expect("symbols");
    let (table, _) = table.file_range().expect("symbols in the file");
    let hidden: Vec<usize> = elf
        .dynamic_symbols()
        .filter(|symbol| symbol.name().is_ok_and(|name| NAMES.contains(&name)))
        .map(|symbol| table as usize + symbol.index().0 * SYMBOL_BYTES)
        .collect();
    let name = b"\0.PyRuntime\0";
    let section = bytes.windows(name.len()).position(|found| found == name);
    for at in hidden {
        bytes[at + SYMBOL_INFO] &= 0xf0;
        bytes[at + SYMBOL_SIZE..at + SYMBOL_BYTES].fill(0);
    }
    if let Some(at) = section {
        bytes[at + 1] = b'-';
    }
    fs::write(file, bytes).expect("the copy");
    let image = ElfImage::open(file).expect("the copy");
    let elf = image.parse().expect("an ELF file");
    assert_eq!(elf.section(".PyRuntime"), None);
    for name in NAMES {
        assert_eq!(elf.symbol(name), None, "{name}");
    }
}

#[test]
fn an_interpreter_without_names_is_found() {
    on_each("interpreter without names", |python| {
        let copy = Copy::new(python, "nameless", hide);
        let found = copy.check("nameless.py", SAID_BY_RUNTIME);
        assert_eq!(found.located.strategy, Strategy::Search);
        assert_eq!(found.located.code_type, None);
    });
}
