//! Off-CPU time: against the program's own clock, before and behind the recording's edges, short
//! stretches, and the run queue.

use std::time::Instant;

use pyscry_tests::stolen::Stolen;
use pyscry_tests::{Recorder, Target, on_each, on_one, record};
use serde_json::Value;

const PROGRAM: &str = include_str!("../programs/waits.py");
const RUN_QUEUE: &str = "[run queue]";

#[test]
fn waits_are_as_long_as_the_programs_clock_says() {
    on_each("off-CPU time against the program's clock", |python| {
        let mut target = Target::start_with(python, "waits.py", PROGRAM, &["script"]);
        let pid = target.pid().to_string();
        let recorder = Recorder::start(&["--pid", &pid, "--off-cpu"]);
        let stolen = Stolen::from_now();
        target.tell("go");
        let spent: Value = serde_json::from_str(&target.line()).expect("what it spent");
        let stolen = stolen.until_now().as_micros() as f64;
        recorder.signal(libc::SIGTERM);
        let ended = recorder.end();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        for (function, spent) in spent.as_object().expect("functions") {
            let clock = |index: usize| spent[index].as_f64().expect("nanoseconds") / 1000.0;
            let (passed, cpu) = (clock(0), clock(1));
            let start = format!("{function} (");
            let inside = |stack: &[String]| stack.iter().any(|frame| frame.starts_with(&start));
            let queued = |stack: &[String]| stack.last().is_some_and(|leaf| leaf == RUN_QUEUE);
            let weight = |queue| {
                let fits = |stack: &[String]| inside(stack) && queued(stack) == queue;
                ended.folded.weight(fits) as f64
            };
            let (blocked, queue) = (weight(false), weight(true));
            // All of the blocking is between the clocks' two readings, and so is no more than what
            // passed. What passed and was no CPU time was spent blocked or queued: some of it may
            // be missing in that difference, since the kernel charges a thread that a timer woke
            // with the time from the timer to the switch; and what a hypervisor takes of a running
            // thread is neither. A thread that is preempted in the
            // function may be so before, between or after the readings.
            let tolerance = passed * 0.02;
            assert!(
                blocked <= passed + tolerance
                    && passed - cpu <= blocked + queue + stolen + tolerance,
                "Python {}: {function} took {passed} us by its clock, {cpu} us of it on a CPU; by \
                 ours {blocked} us blocked and {queue} us queued: {}\n{:#?}",
                python.version,
                ended.stderr,
                ended.folded.stacks
            );
        }
    });
}

#[test]
fn a_thread_that_is_blocked_all_the_time_is_there_with_the_window() {
    on_each("blocked before, during and after", |python| {
        let target = Target::start_with(python, "waits.py", PROGRAM, &["script"]);
        let pid = target.pid().to_string();
        let begin = Instant::now();
        let ended = record(&["--pid", &pid, "--duration", "0.5", "--off-cpu", "--threads"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let most = begin.elapsed().as_micros() as u64;
        let weight = ended.folded.weight(|stack| {
            stack[0].ends_with(": blocked")
                && stack
                    .iter()
                    .any(|frame| frame.starts_with("blocked_forever ("))
        });
        assert!(
            (490_000..=most).contains(&weight),
            "Python {}: {weight} us of 0.5 s, and {most} us with start and end: {}",
            python.version,
            ended.stderr
        );
    });
}

#[test]
fn short_waits_are_left_out_and_counted() {
    on_one("--off-cpu-min", 12, |python| {
        let mut target = Target::start_with(python, "waits.py", PROGRAM, &["script"]);
        let pid = target.pid().to_string();
        let args = ["--pid", &pid, "--off-cpu", "--off-cpu-min", "30ms"];
        let recorder = Recorder::start(&args);
        target.tell("go");
        let _spent = target.line();
        recorder.signal(libc::SIGTERM);
        let ended = recorder.end();
        // On a busy machine a short sleep can take long: then it is no short wait.
        for function in ["sleeps_1_ms", "sleeps_7_ms"] {
            let weight = ended.folded.in_function(function);
            assert!(weight == 0 || weight >= 30_000, "{function}: {weight} us");
        }
        assert!(
            ended.folded.in_function("sleeps_50_ms") >= 30 * 50_000,
            "{}",
            ended.stderr
        );
        let line = ended
            .stderr
            .lines()
            .find(|line| line.starts_with("Left out as too short: "));
        let line = line.unwrap_or_else(|| panic!("not told: {}", ended.stderr));
        let count: u64 = line
            .trim_start_matches("Left out as too short: ")
            .split(',')
            .next()
            .and_then(|count| count.parse().ok())
            .expect("a number");
        assert!(count >= 100, "{line}");
    });
}

#[test]
fn waiting_for_a_cpu_is_the_run_queues() {
    on_one(RUN_QUEUE, 12, |python| {
        let target = Target::start_with(python, "waits.py", PROGRAM, &["spin"]);
        let pid = target.pid().to_string();
        let begin = Instant::now();
        let ended = record(&["--pid", &pid, "--duration", "2", "--off-cpu"]);
        let most = begin.elapsed().as_micros() as u64;
        let queued = ended.folded.weight(|stack| {
            stack.last().is_some_and(|leaf| leaf == RUN_QUEUE)
                && stack.iter().any(|frame| frame.starts_with("spin ("))
        });
        // Half of 2 s, and more where the machine has other work to do.
        assert!(
            (700_000..most).contains(&queued),
            "{queued} us of 2 s, and {most} us with start and end: {}",
            ended.stderr
        );
        assert!(
            queued * 10 > ended.folded.total() * 9,
            "{:?}",
            ended.folded.stacks
        );
    });
}
