//! Names outlive the process: the kernel sends what names a code object while a frame holds it
//! alive, and nobody has to read it from outside.

use std::path::Path;
use std::thread;
use std::time::Duration;

use profiler_common::counter::Counter;
use pyscry::record::launch::Terminal;
use pyscry::record::options::{Sampling, Waits};
use pyscry::record::{
    Mode, NativeFrames, RecordOptions, Recording, Selection, Stopped, TargetChoice,
};
use pyscry_tests::{Ended, Folded, Interpreter, Recorder, Target, on_each, record};
use serde_json::Value;

const PROGRAM: &str = include_str!("../programs/names_outlive.py");
const LONG_TABLE: &str = include_str!("../programs/names_long_table.py");
const ABSENT: &str = include_str!("../programs/names_absent.py");
/// Its own file is not ASCII either.
const FILE: &str = "überdauert_名.py";

/// What the frame of one function must be: on one of these lines.
struct Function {
    name: String,
    frames: Vec<String>,
}

/// What the program in a file says of its functions.
fn functions(python: &Interpreter, file: &Path) -> Vec<Function> {
    let output = python.command().arg(file).arg("describe").output();
    let output = output.expect("it runs");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let functions = said.as_array().expect("functions").iter().map(|said| {
        let text = |index: usize| said[index].as_str().expect("text");
        let (name, file) = (text(0), text(1));
        let lines = said[2].as_array().expect("lines");
        Function {
            name: name.to_owned(),
            frames: lines
                .iter()
                .map(|line| format!("{name} ({file}:{line})"))
                .collect(),
        }
    });
    functions.collect()
}

/// All of the functions are there, with their lines, and nothing without a name.
fn all_are_named(python: &Interpreter, functions: &[Function], ended: &Ended) {
    let Ended { folded, stderr, .. } = ended;
    for Function { name, frames } in functions {
        let found = folded.weight(|stack| stack.iter().any(|frame| frames.contains(frame)));
        assert_ne!(
            found, 0,
            "Python {}: no {name}: {:?} {stderr}",
            python.version, folded.stacks
        );
    }
    nothing_is_freed(python, folded);
}

fn nothing_is_freed(python: &Interpreter, folded: &Folded) {
    for stack in folded.stacks.keys() {
        assert!(
            !stack.iter().any(|frame| frame == "[freed code]"),
            "Python {}: {stack:?}",
            python.version
        );
    }
}

/// Waits until a process is stopped.
fn until_stopped(pid: u32) {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        let state = stat.rsplit_once(") ").expect("its state").1;
        if state.starts_with('T') {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Lets the target work and end while the recorder stands still: whatever that says of the target's
/// names was sent by the kernel.
fn outlived(mut target: Target, args: &[&str]) -> Ended {
    let pid = target.pid().to_string();
    let recorder = Recorder::start(&[&["--pid", &pid], args].concat());
    // What it looks at before it begins to wait.
    thread::sleep(Duration::from_millis(50));
    recorder.signal(libc::SIGSTOP);
    until_stopped(recorder.pid());
    target.tell("go");
    // A process's memory is gone before its files are closed (kernel/exit.c, do_exit).
    assert_eq!(target.line(), "", "it ends without a word");
    recorder.signal(libc::SIGCONT);
    let ended = recorder.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    ended
}

#[test]
fn names_are_sent_while_the_process_lives() {
    on_each("names outlive the process", |python| {
        for (mode, args) in [
            ("spin", &["--rate", "999"][..]),
            ("sleep", &["--off-cpu"]),
            ("sleep", &["--wall", "--wakers", "--native"]),
        ] {
            let target = Target::start_with(python, FILE, PROGRAM, &[mode, "told"]);
            let functions = functions(python, &target.file);
            let ended = outlived(target, args);
            all_are_named(python, &functions, &ended);
        }
    });
}

#[test]
fn a_program_that_is_launched_and_gone_has_names() {
    on_each("a short program has names", |python| {
        let file = python.place(FILE, PROGRAM);
        let functions = functions(python, &file);
        let command = python.command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let mut args = vec!["--rate", "999", "--"];
        args.extend(words.map(|word| word.to_str().expect("text")));
        args.extend([file.to_str().expect("text"), "spin"]);
        let ended = record(&args);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        all_are_named(python, &functions, &ended);
    });
}

/// Records a process from this one, for its counters.
fn recorded(pid: u32, on_start: impl FnOnce()) -> Recording {
    let options = RecordOptions {
        target: TargetChoice::Running(Selection {
            pids: vec![pid],
            ..Selection::default()
        }),
        mode: Mode::OnCpu(Sampling {
            rate: 999,
            per_thread_events: false,
        }),
        waits: Waits::default(),
        only_gil: false,
        duration: None,
        groups: Vec::new(),
        native: NativeFrames::None,
        kernel: false,
        log: None,
        tell: |_| (),
    };
    let recording = pyscry::record::record(options, &Terminal::Shared, |_| on_start(), &mut ());
    let recording = recording.expect("a recording");
    assert_eq!(recording.stopped, Stopped::TargetExited);
    recording
}

#[test]
fn names_are_sent_once_and_not_read_as_well() {
    on_each("names are sent once", |python| {
        let mut target = Target::start_with(python, FILE, PROGRAM, &["spin", "told"]);
        let counters = recorded(target.pid(), || target.tell("go")).counters;
        let of = |counter| counters.get(counter);
        assert_eq!(of(Counter::CodesRead), 0, "Python {}", python.version);
        assert_eq!(of(Counter::CodesLost), 0, "Python {}", python.version);
        assert_eq!(of(Counter::CodesLeftOut), 0, "Python {}", python.version);
        // `main`, the module, and the functions; on several CPUs, some at the same time.
        let sent = of(Counter::CodesSent);
        assert!(
            (13..=26).contains(&sent),
            "Python {}: {sent}",
            python.version
        );
    });
}

#[test]
fn what_the_kernel_cannot_read_is_read_from_the_process() {
    on_each("names that the kernel cannot read", |python| {
        let absent = |ended: &Ended| ended.folded.in_function("absent");
        // Nobody can read it: that page was not there, and then the process was not.
        let target = Target::start_with(python, "names_absent.py", ABSENT, &["0.1"]);
        let ended = outlived(target, &["--rate", "999"]);
        assert_eq!(absent(&ended), 0, "Python {}", python.version);
        let freed = |stack: &[String]| stack.last().is_some_and(|leaf| leaf == "[freed code]");
        assert_ne!(ended.folded.weight(freed), 0, "Python {}", python.version);
        assert!(ended.stderr.contains("code_gone"), "{}", ended.stderr);
        // From a process that lives, it is read and counted.
        let mut target = Target::start_with(python, "names_absent.py", ABSENT, &["0.3"]);
        let recording = recorded(target.pid(), || target.tell("go"));
        let counters = &recording.counters;
        assert_ne!(
            counters.get(Counter::CodesRead),
            0,
            "Python {}",
            python.version
        );
        assert_eq!(
            counters.get(Counter::CodeGone),
            0,
            "Python {}",
            python.version
        );
    });
}

#[test]
fn a_line_table_that_is_too_long_tells_its_beginning() {
    on_each("a line table that is too long", |python| {
        let run = |alive: bool| {
            let mut target = Target::start_with(python, "long_table.py", LONG_TABLE, &[]);
            if alive {
                let pid = target.pid().to_string();
                let recorder = Recorder::start(&["--pid", &pid, "--rate", "999"]);
                target.tell("go");
                recorder.end()
            } else {
                outlived(target, &["--rate", "999"])
            }
        };
        for alive in [false, true] {
            let ended = run(alive);
            let at = |frame: &str| ended.folded.ending_in(&[frame]);
            let (first, last) = (at("long (long.py:4)"), at("long (long.py:20006)"));
            let context = || format!("Python {}: {:?}", python.version, ended.folded.stacks);
            assert_ne!(first, 0, "{}", context());
            assert_eq!(last != 0, alive, "{}", context());
            assert_eq!(at("long (long.py)") != 0, !alive, "{}", context());
            let said = ended.stderr.contains("code_lines_gone");
            assert_eq!(said, !alive, "{}", ended.stderr);
            nothing_is_freed(python, &ended.folded);
        }
    });
}
