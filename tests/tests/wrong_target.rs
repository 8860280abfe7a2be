//! Targets that cannot be recorded: one clear line, at once, and no file left behind.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use pyscry_tests::run::{Ending, LONG, MINOR, PATIENCE, SLEEPS, fails};
use pyscry_tests::{Interpreter, Target, on_one};

#[test]
fn no_such_process() {
    let pid = i32::MAX.to_string();
    for more in [&[][..], &["--off-cpu"]] {
        fails(
            &[&["--pid", &pid, "-d", LONG], more].concat(),
            &["no process", &pid],
        );
    }
}

/// A process that ended and that nobody waited for.
#[test]
fn a_process_that_ended() {
    let child = Ending::start(&mut Command::new("true"));
    let pid = child.pid().to_string();
    let is_zombie = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
        stat.contains(") Z ")
    };
    let begin = Instant::now();
    while !is_zombie() {
        assert!(begin.elapsed() < PATIENCE, "true does not end");
        thread::sleep(Duration::from_millis(5));
    }
    fails(&["--pid", &pid, "-d", LONG], &[&pid]);
}

#[test]
fn a_kernel_thread() {
    // kthreadd.
    fails(&["--pid", "2", "-d", LONG], &["process 2", "not a Python"]);
}

#[test]
fn a_thread_of_a_process() {
    const PROGRAM: &str = "\
import threading
import time
def work():
    print('ready')
    print(threading.get_native_id())
    time.sleep(600)
threading.Thread(target=work).start()
";
    on_one("pid of a thread", MINOR, |python| {
        let mut target = Target::start(python, "thread_id.py", PROGRAM);
        let tid = target.line();
        let pid = target.pid().to_string();
        assert_ne!(tid, pid);
        fails(
            &["--pid", &tid, "-d", LONG],
            &[&tid, "thread", &format!("--pid {pid}")],
        );
    });
}

#[test]
fn something_else_than_python() {
    let sleep = Ending::start(Command::new("sleep").arg("600"));
    let pid = sleep.pid().to_string();
    for more in [&[][..], &["--off-cpu"]] {
        let args = [&["--pid", &pid, "-d", LONG], more].concat();
        fails(&args, &[&pid, "sleep", "not a Python"]);
    }
}

/// pyenv's directory of versions.
fn pyenv_versions() -> PathBuf {
    let root = Command::new("pyenv").arg("root").output().ok();
    let root = root
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        .filter(|root| root.is_dir())
        .or_else(|| std::env::var_os("PYENV_ROOT").map(PathBuf::from))
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    root.expect("a place for pyenv").join("versions")
}

/// pyenv's interpreters that are too old.
fn old_pythons() -> Vec<Interpreter> {
    let versions = pyenv_versions();
    let entries = fs::read_dir(&versions);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", versions.display()));
    let old = entries.filter_map(|entry| {
        let entry = entry.expect("a version");
        let version = entry.file_name().into_string().ok()?;
        let (minor, exe) = ["2.7", "3.6", "3.7"].into_iter().find_map(|minor| {
            let exe = entry.path().join(format!("bin/python{minor}"));
            (version.starts_with(&format!("{minor}.")) && exe.is_file()).then_some((minor, exe))
        })?;
        Some(Interpreter {
            version: minor.to_owned(),
            exe,
            root: None,
        })
    });
    old.collect()
}

#[test]
fn a_python_that_is_too_old() {
    let pythons = old_pythons();
    assert!(
        !pythons.is_empty(),
        "this test needs a Python 2.7, 3.6 or 3.7: `pyenv install 3.7` installs one"
    );
    for python in pythons {
        let target = Target::start(&python, "old.py", SLEEPS);
        let pid = target.pid().to_string();
        let words = [&pid, &format!("Python {}", python.version), "3.8 to 3.15"];
        fails(
            &["--pid", &pid, "-d", LONG],
            &words.map(|word| word as &str),
        );
    }
}
