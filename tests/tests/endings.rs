//! Targets that do not stay what they are, and recordings that end early: nothing recorded is lost.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use pyscry_tests::run::{EARLY, LONG, MINOR, Outcome, Output, Running, run, send};
use pyscry_tests::until_told::{WAYS, until_told};
use pyscry_tests::{Folded, Interpreter, Target, on_one};

/// Records such a program for at most [`LONG`] seconds, and tells it to go on.
fn record_until_told(python: &Interpreter, name: &str, then: &str, seconds: &str) -> Vec<Told> {
    let ways = WAYS.iter().map(|(way, options)| {
        let mut target = Target::start_with(python, name, &until_told(then), &[way]);
        let output = Output::default();
        let pid = target.pid().to_string();
        let args = [&["--pid", &pid, "--duration", seconds], *options].concat();
        let running = Running::start(&mut output.record(&args)).has_begun();
        thread::sleep(Duration::from_millis(500));
        target.tell("go on");
        let outcome = running.end();
        outcome.is_good();
        let folded = output.folded();
        let before = folded.in_function("before");
        assert_ne!(before, 0, "{way}: {outcome:?} {folded:?}");
        Told {
            way,
            outcome,
            folded,
        }
    });
    ways.collect()
}

/// What came of it.
struct Told {
    way: &'static str,
    outcome: Outcome,
    folded: Folded,
}

#[test]
fn a_target_that_ends_is_recorded_until_then() {
    on_one("target that ends", MINOR, |python| {
        for then in ["", "sys.exit(3)", "os._exit(0)", "os.kill(os.getpid(), 9)"] {
            for told in record_until_told(python, "ends.py", then, LONG) {
                let outcome = &told.outcome;
                assert!(outcome.took < EARLY, "{then:?}: {outcome:?}");
            }
        }
    });
}

/// The program that comes after another.
const AFTER: &str = "\
import sys
import time
def after():
    until = time.monotonic() + 1
    while time.monotonic() < until:
        if sys.argv[1] == 'wait':
            time.sleep(0.05)
after()
";

/// A process keeps its number whichever of its threads executes a program.
const DIRECTLY: &str = "goes_on()";
const FROM_A_THREAD: &str = "\
import threading
threading.Thread(target=goes_on).start()
time.sleep(60)
";

fn exec_into(python: &Interpreter, next: &Interpreter, how: &str) {
    let file = next.place("after.py", AFTER);
    let then = format!(
        "def goes_on():\n    os.execv({:?}, ['python', {file:?}, sys.argv[1]])\n{how}",
        next.exe
    );
    let name = format!("before-{}.py", next.version);
    for told in record_until_told(python, &name, &then, LONG) {
        let Told {
            way,
            outcome,
            folded,
        } = &told;
        let after = folded.in_function("after");
        assert_ne!(after, 0, "{way} {}: {outcome:?} {folded:?}", next.version);
        // Frames of one program are not taken for frames of the other.
        let mixed = folded.weight(|stack| {
            let has = |name: &str| stack.iter().any(|frame| frame.starts_with(name));
            has("before (") && has("after (")
        });
        assert_eq!(mixed, 0, "{way}: {folded:?}");
        assert!(
            outcome
                .stderr
                .contains(&format!("Python 3.{}", next.minor())),
            "{outcome:?}"
        );
        assert!(outcome.took < EARLY, "{outcome:?}");
    }
}

#[test]
fn a_target_that_becomes_another_python() {
    on_one("exec of another Python", MINOR, |python| {
        // The same program again, an older one, and a newer one.
        exec_into(python, python, DIRECTLY);
        on_one("exec of another Python", 8, |next| {
            exec_into(python, next, DIRECTLY)
        });
        on_one("exec of another Python", 13, |next| {
            exec_into(python, next, DIRECTLY)
        });
        exec_into(python, python, FROM_A_THREAD);
    });
}

#[test]
fn a_target_that_becomes_something_else() {
    on_one("exec of no Python", MINOR, |python| {
        let then = "os.execvp('sleep', ['sleep', '600'])";
        for told in record_until_told(python, "becomes_sleep.py", then, "2") {
            let outcome = &told.outcome;
            assert!(outcome.took >= Duration::from_secs(2), "{outcome:?}");
            assert!(outcome.stderr.contains("No Python names"), "{outcome:?}");
            assert!(outcome.stderr.contains("not a Python"), "{outcome:?}");
        }
    });
}

#[test]
fn the_exit_code_of_a_launched_program_is_ours() {
    on_one("exit code of a launched program", MINOR, |python| {
        let exe = python.exe.to_str().expect("a path");
        for (program, code) in [
            ("pass", 0),
            ("import sys; sys.exit(3)", 3),
            ("import sys; sys.exit(255)", 255),
            ("1 / 0", 1),
            ("import os; os.kill(os.getpid(), 9)", 137),
            ("import os; os.kill(os.getpid(), 15)", 143),
        ] {
            for (_, options) in WAYS {
                let output = Output::default();
                let args = [options, &["--", exe, "-c", program]].concat();
                let outcome = run(&mut output.record(&args));
                // The program may say of itself what it likes.
                assert!(!outcome.said().contains("pyscry: "), "{outcome:?}");
                assert_eq!(outcome.code, code, "{program}: {outcome:?}");
                assert!(output.path().exists(), "{program}: {outcome:?}");
            }
        }
    });
}

#[test]
fn a_launched_program_that_is_no_python() {
    for (program, code) in [("true", 0), ("false", 1)] {
        let output = Output::default();
        let outcome = run(&mut output.record(&["--", program]));
        outcome.is_tidy();
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(output.path().exists(), "{outcome:?}");
    }
}

/// What a launched program must not do.
fn is_gone(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).expect("the launched program's pid");
    let left = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()));
    let is_ours = left.is_ok_and(|line| line.contains("launched.py"));
    assert!(!is_ours, "process {pid} was left behind");
}

/// A program that runs until somebody ends it, and one that does not want to end.
const ENDLESS: [&str; 2] = [
    "",
    "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
];

fn endless(python: &Interpreter, start: &str) -> PathBuf {
    // Not longer than a minute all the same, should nobody end it.
    let program = format!(
        "{start}import os, sys, time\n\
         def spins():\n    while time.monotonic() < until:\n        pass\n\
         open(sys.argv[1], 'w').write(str(os.getpid()))\n\
         until = time.monotonic() + 60\nspins()\n"
    );
    python.place(&format!("{}launched.py", start.len()), &program)
}

#[test]
fn a_launched_program_ends_with_the_recording() {
    on_one("launched program with a duration", MINOR, |python| {
        for start in ENDLESS {
            let output = Output::default();
            let pid_file = output.directory.path().join("pid");
            let outcome = run(output
                .record(&["--duration", "1", "--"])
                .arg(&python.exe)
                .arg(endless(python, start))
                .arg(&pid_file));
            outcome.is_good();
            assert!(outcome.took >= Duration::from_secs(1), "{outcome:?}");
            assert_ne!(output.folded().in_function("spins"), 0, "{outcome:?}");
            is_gone(&pid_file);
        }
    });
}

#[test]
fn a_signal_ends_a_recording_and_nothing_is_lost() {
    on_one("signals while attached", MINOR, |python| {
        for (name, signal) in [("Control-C", libc::SIGINT), ("SIGTERM", libc::SIGTERM)] {
            for (way, options) in WAYS {
                let target = Target::start_with(python, "until_signal.py", &until_told(""), &[way]);
                let output = Output::default();
                let pid = target.pid().to_string();
                let args = [&["--pid", &pid], options].concat();
                let running = Running::start(&mut output.record(&args)).has_begun();
                thread::sleep(Duration::from_millis(500));
                running.signal(signal);
                let outcome = running.end();
                outcome.is_good();
                assert!(outcome.stderr.contains(name), "{outcome:?}");
                let folded = output.folded();
                assert_ne!(folded.in_function("before"), 0, "{outcome:?} {folded:?}");
                // The target has not noticed.
                send(target.pid(), 0);
            }
        }
    });
}

#[test]
fn a_signal_ends_a_launched_program_too() {
    on_one("signals to a launched program", MINOR, |python| {
        for signal in [libc::SIGINT, libc::SIGTERM] {
            for start in ENDLESS {
                let output = Output::default();
                let pid_file = output.directory.path().join("pid");
                let running = Running::start(
                    output
                        .record(&["--"])
                        .arg(&python.exe)
                        .arg(endless(python, start))
                        .arg(&pid_file),
                )
                .has_begun();
                thread::sleep(Duration::from_millis(700));
                running.signal(signal);
                let outcome = running.end();
                outcome.is_good();
                assert_ne!(output.folded().in_function("spins"), 0, "{outcome:?}");
                is_gone(&pid_file);
            }
        }
    });
}
