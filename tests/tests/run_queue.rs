//! Waits for a CPU: as long as the scheduler says, and why.

use profiler_common::cause::Cause;
use pyscry_tests::cgroup::Limits;
use pyscry_tests::times::{line, proc_directory, time, told};
use pyscry_tests::{Ended, Interpreter, Recorder, Target, on_one};
use serde_json::Value;

const PROGRAM: &str = concat!(
    include_str!("../programs/readings.py"),
    include_str!("../programs/between_readings.py"),
    include_str!("../programs/run_queue.py")
);

fn start(python: &Interpreter, cpus: usize) -> Target {
    let cpus = cpus.to_string();
    Target::start_with(python, "run_queue.py", PROGRAM, &[&cpus, proc_directory()])
}

/// Records eight threads that want a CPU for 2 s, and compares each one's time on the run queue with
/// what the scheduler says of the same time. Returns the sum of those.
fn agrees(target: &mut Target) -> (f64, Ended) {
    let pid = target.pid().to_string();
    let recorder = Recorder::start(&["--pid", &pid, "--wall", "--threads"]);
    target.tell("go");
    let all: Value = serde_json::from_str(&target.line()).expect("what it says");
    recorder.signal(libc::SIGTERM);
    let ended = recorder.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let threads = all.as_object().expect("threads");
    assert_eq!(threads.len(), 8);
    let mut sum = 0.0;
    for facts in threads.values() {
        let [tid, window, delay] = [0, 1, 3].map(|index| facts[index].as_f64().expect("a number"));
        let queued = |reads: bool| {
            time(&ended.folded, |stretch| {
                f64::from(stretch.tid) == tid
                    && stretch.cause == Some(Cause::RunQueue)
                    && stretch.is_in("competes")
                    && stretch.is_in("reading") == reads
                    && !stretch.is_in("wait")
                    && !stretch.is_in("opens")
            })
        };
        // What the thread waited for while it read the statistics may be in them or not: with a quota
        // that is as much as a period.
        let (sure, reading) = (queued(false), queued(true));
        let tolerance = 0.02 * window;
        assert!(
            sure <= delay + tolerance && delay <= sure + reading + tolerance,
            "{sure} ns, {reading} ns while it read, of {facts}: {}\n{:#?}",
            ended.stderr,
            ended.folded
        );
        sum += delay;
    }
    (sum, ended)
}

#[test]
fn as_long_as_the_scheduler_says() {
    for cpus in [1, 2] {
        on_one("time on run queues", 12, |python| {
            let mut target = start(python, cpus);
            let (sum, ended) = agrees(&mut target);
            // Eight threads that want one or two CPUs for 2 s wait for 14 or 12 of 16 s.
            assert!(sum > (16.0 - 2.0 * cpus as f64) * 0.9e9, "{sum}");
            assert!(!ended.stderr.contains("CPU quota"), "{}", ended.stderr);
        });
    }
}

const QUOTA_US: u32 = 20_000;
const PERIOD_US: u32 = 50_000;

/// A control group with a CPU quota.
fn with_quota() -> Limits {
    let group = Limits::of("cpu", "cpu");
    if group.version == 1 {
        group.set("cpu.cfs_period_us", &PERIOD_US.to_string());
        group.set("cpu.cfs_quota_us", &QUOTA_US.to_string());
    } else {
        group.set("cpu.max", &format!("{QUOTA_US} {PERIOD_US}"));
    }
    group
}

/// How often its threads were held up so far.
fn throttled(group: &Limits) -> u64 {
    let text = group.get("cpu.stat");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "));
    line.and_then(|count| count.parse().ok()).expect("a number")
}

#[test]
fn a_cpu_quota_is_named() {
    on_one("CPU quota", 12, |python| {
        let group = with_quota();
        let mut target = start(python, 2);
        group.takes(target.pid());
        let before = throttled(&group);
        let (_, ended) = agrees(&mut target);
        let times = throttled(&group) - before;
        drop(target);
        let line = line(&ended, "Run queue: the CPU quota of the control group ");
        assert!(line.contains(&format!("/{} ", group.name())), "{line}");
        assert!(line.contains("(20.0 ms each 50.0 ms)"), "{line}");
        let (_, rest) = line.split_once("held threads up ").expect("how often");
        let (count, rest) = rest.split_once(" times, ").expect("how often");
        let count: u64 = count.parse().expect("a number");
        // Before and behind the recording the program does next to nothing.
        assert!(count.abs_diff(times) <= 2, "{line}, not {times}");
        // 2 s are 40 periods; two CPUs use up 20 ms in the first fifth of each.
        assert!(count >= 30, "{line}");
        assert!(told(rest) > 0.5e9, "{line}");
    });
}
