//! Processes that live for a tenth of a second are in the profile with names and lines, whoever had
//! their number before.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyscry_tests::host::works;
use pyscry_tests::interpreters::{all, note_all};
use pyscry_tests::{Crowd, Folded, Host, HostRecorder, Interpreter};

const RATE: f64 = 499.0;
/// Processes a second, and nanoseconds of CPU time of each, its start included: together less than
/// two CPUs have.
const A_SECOND: usize = 20;
const CPU: u64 = 75_000_000;
/// The last process number that was given (`pid_namespaces(7)`).
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Both tests need the CPUs for themselves.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds of processes that come and go; `PYSCRY_LONG` for the long form.
fn seconds() -> usize {
    std::env::var_os("PYSCRY_LONG").map_or(8, |_| 30)
}

/// The number of a function: those of other tests, and of the other one here, have others.
fn name(number: usize) -> usize {
    std::process::id() as usize * 1000 + number
}

/// A program with a function of its own name.
fn source(number: usize) -> String {
    let name = name(number);
    format!(
        "\
import os, time
first = time.process_time_ns()
def work_{name}():
    while time.process_time_ns() < {CPU}:
        sum(range(500))
work_{name}()
os.write(1, b'{number} %d %d\\n' % (first, time.process_time_ns()))
"
    )
}

/// What became of the processes that were started.
struct Started {
    /// Process numbers, by the number in the function's name.
    pids: Vec<u32>,
    /// Nanoseconds of CPU time before the first line and at the end, and after the end.
    used: Vec<[u64; 3]>,
}

/// Starts them one after the other, at an even pace; each may be preceded by something.
fn start(pythons: &[Interpreter], count: usize, before: impl Fn()) -> Started {
    let mut crowd = Crowd::default();
    let begin = Instant::now();
    let mut started = Started {
        pids: Vec::new(),
        used: vec![[0; 3]; count],
    };
    for number in 0..count {
        let due = Duration::from_secs(1) * number as u32 / A_SECOND as u32;
        thread::sleep(due.saturating_sub(begin.elapsed()));
        // Numbers of processes are free once somebody has waited for them.
        started.end(crowd.ended());
        let mut command = pythons[number % pythons.len()].command();
        command.args(["-S", "-E", "-c", &source(number)]);
        before();
        started.pids.push(crowd.add(&mut command));
    }
    for _ in 0..count {
        let line = crowd.line();
        let numbers: Vec<u64> = line
            .split(' ')
            .map(|word| word.parse().unwrap_or_else(|_| panic!("not said: {line}")))
            .collect();
        started.used[numbers[0] as usize][..2].copy_from_slice(&numbers[1..]);
    }
    while started.used.iter().any(|used| used[2] == 0) {
        started.end(crowd.ended());
        thread::sleep(Duration::from_millis(5));
    }
    started
}

impl Started {
    /// Keeps what the kernel says of processes that ended.
    fn end(&mut self, ended: Vec<(u32, Duration)>) {
        for (pid, used) in ended {
            // The last one with this number.
            let number = self.pids.iter().rposition(|own| *own == pid);
            self.used[number.expect("one of ours")][2] = used.as_nanos() as u64;
        }
    }
}

/// Weight of a process: in its own function, with other names of Python, and without any.
fn parts(folded: &Folded, number: usize) -> [u64; 3] {
    let own = folded.in_function(&format!("work_{}", name(number)));
    let is_marker = |frame: &String| frame.starts_with('[');
    let unnamed = folded.weight(|stack| stack.iter().all(is_marker));
    [own, folded.total() - own - unnamed, unnamed]
}

/// Which frames stand where Python's should, and how often.
fn markers(host: &Host, started: &Started) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for pid in &started.pids {
        for (stack, weight) in host.of_pid(*pid).stacks {
            for marker in stack.iter().filter(|frame| frame.starts_with('[')) {
                *found.entry(marker.clone()).or_default() += weight;
            }
        }
    }
    found
}

/// The profile of each process, by the number in its function's name: its number may have been
/// another's, too, but that one has another command line.
fn by_number(host: &Host, started: &Started) -> Vec<Folded> {
    let own = |(number, pid): (usize, &u32)| {
        let mut own = Folded::default();
        for (process, folded) in &host.processes {
            let is_own = process
                .command
                .contains(&format!("def work_{}():", name(number)));
            // What it was before it executed the interpreter has the same words in its command line.
            if process.pid == *pid && is_own {
                for (stack, weight) in &folded.stacks {
                    *own.stacks.entry(stack.clone()).or_default() += weight;
                }
            }
        }
        own
    };
    started.pids.iter().enumerate().map(own).collect()
}

/// No function is in a process that is not its own.
fn are_all_their_own(host: &Host, started: &Started) {
    for (process, folded) in &host.processes {
        for (stack, weight) in &folded.stacks {
            let own = works(stack).filter_map(|work| work.checked_sub(name(0)));
            for number in own.filter(|number| *number < started.pids.len()) {
                let is_own = started.pids.get(number) == Some(&process.pid)
                    && process
                        .command
                        .contains(&format!("def work_{}():", name(number)));
                assert!(is_own, "{process:?}: {weight} x {stack:?}");
            }
        }
    }
}

/// Of what Python ran by the processes' own clocks, nearly all has its name.
fn have_names(what: &str, host: &Host, started: &Started) {
    let count = started.pids.len();
    let [mut work, mut other, mut unnamed] = [0; 3];
    let [mut due, mut all_due, mut begins] = [0.0; 3];
    let mut absent = Vec::new();
    for (number, folded) in by_number(host, started).iter().enumerate() {
        let own = parts(folded, number);
        work += own[0];
        other += own[1];
        unnamed += own[2];
        let [first, last, end] = started.used[number].map(|ns| ns as f64 / 1e9 * RATE);
        due += last - first;
        all_due += end;
        begins += first;
        if own[0] == 0 {
            let pid = started.pids[number];
            let all = host
                .processes
                .iter()
                .filter(|(process, _)| process.pid == pid);
            absent.push((pid, started.used[number], all.collect::<Vec<_>>()));
        }
    }
    println!(
        "{what}: {count} processes, {} samples of {all_due:.0} due: {work} in their functions of \
         {due:.0} due, {other} with other names, {unnamed} without Python ({begins:.0} before the \
         first line): {:?}",
        work + other + unnamed,
        markers(host, started)
    );
    assert!(absent.is_empty(), "not seen at work: {absent:#?}");
    let deviation = 4.0 * due.sqrt();
    assert!(work as f64 >= 0.95 * due - deviation, "{work} of {due:.0}");
    assert!(work as f64 <= 1.02 * due + deviation, "{work} of {due:.0}");
    // What has no name lies before the first line and behind the last one.
    let outside = all_due - due;
    assert!(
        unnamed as f64 <= outside + 0.05 * due + deviation,
        "{unnamed} without names, {outside:.0} outside of the program"
    );
}

#[test]
fn short_processes_have_names() {
    let _alone = alone();
    let pythons = all();
    let recorder = HostRecorder::start(&["--all", "--rate", "499"]);
    let started = start(&pythons, seconds() * A_SECOND, || {});
    let recorded = recorder.stop();
    println!("{}", recorded.stderr);
    are_all_their_own(&recorded.host, &started);
    have_names("short processes", &recorded.host, &started);
    note_all("short processes");
}

/// Lets the kernel give process numbers as it likes again.
struct LastPid(String);

impl Drop for LastPid {
    fn drop(&mut self) {
        let _as_before = fs::write(LAST_PID, self.0.trim());
    }
}

#[test]
fn numbers_of_processes_are_used_again() {
    let _alone = alone();
    let pythons = all();
    let _restored = LastPid(fs::read_to_string(LAST_PID).expect("the last process number"));
    // A number that was just free: those behind it are, mostly.
    let free = Command::new("true").spawn().expect("a process");
    let from = free.id();
    let _ended = { free }.wait();
    let recorder = HostRecorder::start(&["--all", "--rate", "499"]);
    let started = start(&pythons, seconds() * A_SECOND / 2, || {
        fs::write(LAST_PID, (from - 1).to_string()).expect("a process number");
    });
    let recorded = recorder.stop();
    println!("{}", recorded.stderr);
    let mut pids = started.pids.clone();
    pids.sort_unstable();
    pids.dedup();
    println!("{} processes, {} numbers", started.pids.len(), pids.len());
    assert!(
        pids.len() * 5 < started.pids.len() * 4,
        "hardly a number was used again, and nothing is tested: {pids:?}"
    );
    are_all_their_own(&recorded.host, &started);
    have_names("numbers used again", &recorded.host, &started);
    note_all("numbers of processes used again");
}
