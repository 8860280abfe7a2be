//! Waits for a CPU: as long as the scheduler says, and why.

use std::fs;
use std::path::{Path, PathBuf};

use profiler_common::cause::Cause;
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

/// A control group with a CPU quota, and nothing else.
struct Group {
    directory: PathBuf,
}

const QUOTA_US: u32 = 20_000;
const PERIOD_US: u32 = 50_000;

impl Group {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let find = |kind: &str, option: &str| {
            mounts.lines().find_map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let fits = words[2] == kind
                    && (option.is_empty() || words[3].split(',').any(|word| word == option));
                fits.then(|| PathBuf::from(words[1]))
            })
        };
        let name = format!("pyscry-tests-{}", std::process::id());
        let (directory, file, quota) = if let Some(mount) = find("cgroup", "cpu") {
            let directory = mount.join(name);
            fs::create_dir(&directory).expect("a control group");
            write(&directory, "cpu.cfs_period_us", &PERIOD_US.to_string());
            (directory, "cpu.cfs_quota_us", QUOTA_US.to_string())
        } else if let Some(mount) = find("cgroup2", "") {
            // It may have been handed on already.
            let _handed_on = fs::write(mount.join("cgroup.subtree_control"), "+cpu");
            let directory = mount.join(name);
            fs::create_dir(&directory).expect("a control group");
            (directory, "cpu.max", format!("{QUOTA_US} {PERIOD_US}"))
        } else {
            panic!("control groups are not mounted: the test of CPU quotas needs them");
        };
        write(&directory, file, &quota);
        Self { directory }
    }

    fn take(&self, pid: u32) {
        write(&self.directory, "cgroup.procs", &pid.to_string());
    }

    /// How often its threads were held up so far.
    fn throttled(&self) -> u64 {
        let text = fs::read_to_string(self.directory.join("cpu.stat")).expect("its statistics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "));
        line.and_then(|count| count.parse().ok()).expect("a number")
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    let file = directory.join(name);
    fs::write(&file, text).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: CPU quotas need the kernel's CFS_BANDWIDTH and the controller `cpu`",
            file.display()
        )
    });
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process is gone, maybe not quite.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn a_cpu_quota_is_named() {
    on_one("CPU quota", 12, |python| {
        let group = Group::new();
        let mut target = start(python, 2);
        group.take(target.pid());
        let before = group.throttled();
        let (_, ended) = agrees(&mut target);
        let times = group.throttled() - before;
        drop(target);
        let line = line(&ended, "Run queue: the CPU quota of the control group ");
        let name = group
            .directory
            .file_name()
            .expect("a name")
            .to_string_lossy();
        assert!(line.contains(&format!("/{name} ")), "{line}");
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
