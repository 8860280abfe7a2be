//! All of a thread's time is in its stacks: on a CPU, on a run queue and blocked add up to the time
//! that it was there, by clocks that are not pyscry's.

use profiler_common::cause::Cause;
use pyscry_tests::run::{Output, Running};
use pyscry_tests::stolen::Stolen;
use pyscry_tests::times::{line, not_reported, now, number, proc_directory, schedstat, time, told};
use pyscry_tests::{Ended, Folded, Interpreter, Recorder, Target, on_each, on_one};
use serde_json::Value;

const PROGRAM: &str = concat!(
    include_str!("../programs/readings.py"),
    include_str!("../programs/wall.py")
);
const WALL: [&str; 2] = ["--wall", "--threads"];
/// The longest tick of a kernel (`CONFIG_HZ=100`), in nanoseconds.
const TICK: f64 = 10e6;

fn start(python: &Interpreter, mode: &str) -> Target {
    Target::start_with(python, "wall.py", PROGRAM, &[mode, proc_directory()])
}

/// All time of a thread, that on CPUs, and that on run queues.
fn parts(folded: &Folded, tid: u32) -> [f64; 3] {
    [
        time(folded, |stretch| stretch.tid == tid),
        time(folded, |stretch| {
            stretch.tid == tid && stretch.cause.is_none()
        }),
        time(folded, |stretch| {
            stretch.tid == tid && stretch.cause == Some(Cause::RunQueue)
        }),
    ]
}

/// How long the main thread waited for the word to go: a recording begins before it says so, and how
/// long before, only this tells. A little of it may be behind the word.
fn until_told(folded: &Folded, tid: u32) -> f64 {
    time(folded, |stretch| {
        stretch.tid == tid && stretch.is_in("waits_for_go")
    })
}

/// `value` is one of `from..=to`, or less than a hundredth of `window` beside it.
fn is_within(value: f64, from: f64, to: f64, window: f64, what: &str) {
    let tolerance = window / 100.0;
    assert!(
        from - tolerance <= value && value <= to + tolerance,
        "{what}: {value} ns, not {from} to {to}, of a window of {window}"
    );
}

/// A thread that said of itself when it began and ended, what it ran and how long it waited for a
/// CPU: its time is no less than between its first and its last line, and no more than from before it
/// was started until it was joined. What a hypervisor took meanwhile, `stolen` nanoseconds at most, is no
/// CPU time by the thread's clock, and is time in which it runs by the switches; the scheduler's clock of
/// the queues stands meanwhile, too.
fn is_whole(ended: &Ended, name: &str, said: &Value, stolen: f64) {
    let folded = &ended.folded;
    let at = |path: &str| number(said, path);
    let inner = at("/inner/1") - at("/inner/0");
    let outer = at("/outer/1") - at("/outer/0");
    let [all, cpu, queued] = parts(folded, at("/tid") as u32);
    let what = |part: &str| format!("{part} of {name}, which says {said}: {folded:#?}");
    is_within(all, inner, outer, inner, &what("all"));
    // What a thread does before its first line, the interpreter's part of its start, is in both; what
    // it does behind its last, in ours alone.
    let edges = outer - inner;
    let most = at("/cpu") + edges + stolen;
    is_within(cpu, at("/cpu"), most, inner, &what("CPU"));
    let tid = at("/tid") as u32;
    let hidden = not_reported(ended, |stretch| stretch.tid == tid);
    is_within(
        queued,
        at("/delay") - stolen - hidden,
        at("/delay") + edges + stolen,
        inner,
        &what("run queue"),
    );
}

/// The summary's own sum leaves no more than a hundredth out.
fn adds_up(ended: &Ended) {
    let line = line(ended, "Threads: ");
    let (head, rest) = line.split_once(" in all = ").expect("a sum");
    let all = told(head.split_once(", ").expect("the whole").1);
    let missing = rest.rsplit(" + ").next().expect("what is missing");
    assert!(missing.contains("not accounted for"), "{line}");
    let missing = told(missing.trim_start_matches('-'));
    assert!(missing * 100.0 <= all, "{}", ended.stderr);
    assert!(!ended.stderr.contains("\nGap: "), "{}", ended.stderr);
}

#[test]
fn threads_that_live_throughout_begin_and_end() {
    on_each("all time of threads", |python| {
        let mut target = start(python, "threads");
        let pid = target.pid().to_string();
        let threads: Value = serde_json::from_str(&target.line()).expect("what it says");
        let goes_on = number(&threads, "/goes_on/tid") as u32;
        let asked = now();
        let recorder = Recorder::start(&[&["--pid", &pid], &WALL[..]].concat());
        let stolen = Stolen::from_now();
        let begin = now();
        let ran_before = schedstat(target.pid(), goes_on)[0];
        let go = now();
        target.tell("go");
        let said: Value = serde_json::from_str(&target.line()).expect("what it says");
        let tid = |name: &str| number(&said, &format!("/{name}/tid")) as u32;
        let throughout = ["main", "goes_on", "is_blocked"].map(tid);
        let ran = schedstat(target.pid(), goes_on)[0] - ran_before;
        let end = now();
        let stolen = stolen.until_now().as_nanos() as f64;
        recorder.signal(libc::SIGTERM);
        let ended = recorder.end();
        let gone = now();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        for name in ["mixes", "forks", "launches"] {
            is_whole(&ended, name, &said[name], stolen);
        }
        let window = end - begin;
        let all = |tid: u32| parts(&ended.folded, tid)[0];
        let main = all(throughout[0]);
        let before = until_told(&ended.folded, throughout[0]);
        let what = |tid: u32| format!("{tid} of {said}: {:#?}", ended.folded);
        let at_most = (gone - go + before).min(gone - asked);
        is_within(main, window, at_most, window, &what(throughout[0]));
        for tid in throughout {
            // The main thread is the first that is looked at, and all are there to one end.
            is_within(all(tid), window, main, window, &what(tid));
        }
        // What is left of it before it says so and behind the signal.
        let edges = main - window;
        // The scheduler's number is as old as the last tick.
        let [_, cpu, _] = parts(&ended.folded, goes_on);
        is_within(
            cpu,
            ran - TICK,
            ran + TICK + edges + stolen,
            window,
            "CPU of goes_on",
        );
        let last = number(&said, "/ends_when_told/inner/1") - begin;
        let gone = number(&said, "/ends_when_told/outer/1") - begin;
        let ends = all(tid("ends_when_told"));
        is_within(ends, last, gone + edges, window, "a thread that ends");
        let first = end - number(&said, "/stays/inner/0");
        let started = end - number(&said, "/stays/outer/0");
        let stays = all(tid("stays"));
        is_within(
            stays,
            first,
            started + edges,
            window,
            "a thread that begins",
        );
        adds_up(&ended);
    });
}

#[test]
fn a_thread_that_executes_a_program_and_a_target_that_ends() {
    on_each("all time over exec and end", |python| {
        let mut target = start(python, "exec from a thread");
        let pid = target.pid().to_string();
        let recorder = Recorder::start(&[&["--pid", &pid], &WALL[..]].concat());
        let stolen = Stolen::from_now();
        let go = now();
        target.tell("go");
        let before: Value = serde_json::from_str(&target.line()).expect("what it says");
        let after: Value = serde_json::from_str(&target.line()).expect("what it says");
        assert_eq!(target.line(), "", "its end");
        let gone = now();
        let stolen = stolen.until_now().as_nanos() as f64;
        let ended = recorder.end();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        // Up to the program that it executes.
        let thread = &before["execs"];
        let [all, ..] = parts(&ended.folded, number(thread, "/tid") as u32);
        let from = number(&before, "/main/inner/1") - number(thread, "/inner/0");
        let to = number(&after, "/main/inner/0") - number(thread, "/outer/0");
        is_within(all, from, to, from, "the thread that executes");
        // From its first line on, the program is the thread that had the process's number before: that
        // one ends somewhere between.
        let [all, ..] = parts(&ended.folded, target.pid());
        let last = number(&after, "/main/inner/1") - go;
        let between = number(&after, "/main/inner/0") - number(&before, "/main/inner/1");
        let to = gone - go + until_told(&ended.folded, target.pid());
        is_within(all, last - between, to, last, "the process");
        for name in ["mixes", "forks", "launches"] {
            is_whole(&ended, name, &after[name], stolen);
        }
        adds_up(&ended);
    });
}

#[test]
fn a_launched_program() {
    on_each("all time of a launched program", |python| {
        let output = Output::default();
        let mut command = output.record(&WALL);
        command.arg("--");
        if let Some(root) = &python.root {
            command.arg("chroot").arg(root);
        }
        let file = python.place("wall.py", PROGRAM);
        command.arg(&python.exe).arg("-u").arg(file);
        let stolen = Stolen::from_now();
        let outcome = Running::start(command.args(["exec", proc_directory()])).end();
        let stolen = stolen.until_now().as_nanos() as f64;
        outcome.is_good();
        let said: Vec<Value> = outcome
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("what it says"))
            .collect();
        let [before, after] = &said[..] else {
            panic!("{outcome:?}");
        };
        let took = outcome.took.as_nanos() as f64;
        let ended = Ended {
            code: outcome.code,
            stderr: outcome.stderr,
            folded: output.folded(),
        };
        for name in ["mixes", "forks", "launches"] {
            is_whole(&ended, name, &after[name], stolen);
        }
        let pid = number(after, "/main/tid") as u32;
        let [all, ..] = parts(&ended.folded, pid);
        let from = number(after, "/main/inner/1") - number(before, "/main/inner/0");
        is_within(all, from, took, from, "the process");
        adds_up(&ended);
    });
}

#[test]
fn what_is_left_out_is_named() {
    on_one("all time but short waits", 12, |python| {
        let mut target = start(python, "threads");
        let pid = target.pid().to_string();
        let _threads = target.line();
        let args = [&["--pid", &pid, "--off-cpu-min", "5ms"], &WALL[..]].concat();
        let recorder = Recorder::start(&args);
        target.tell("go");
        let said: Value = serde_json::from_str(&target.line()).expect("what it says");
        recorder.signal(libc::SIGTERM);
        let ended = recorder.end();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let sum = line(&ended, "Threads: ");
        let left_out = sum
            .split(" + ")
            .find(|part| part.contains("left out or lost"));
        let left_out = told(left_out.unwrap_or_else(|| panic!("nothing left out: {sum}")));
        let short = line(&ended, "Left out as too short: ");
        let short = told(short.rsplit(", ").next().expect("a time"));
        assert!(left_out > 50e6, "{sum}");
        assert!(
            (left_out - short).abs() < 0.01 * left_out,
            "{}",
            ended.stderr
        );
        // The thread whose waits are short is named.
        let gap = line(&ended, "Gap: ");
        let tid = number(&said, "/goes_on/tid");
        assert!(gap.contains(&format!("({tid})")), "{gap}");
        assert!(gap.contains("left out as too short or lost"), "{gap}");
    });
}
