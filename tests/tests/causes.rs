//! Causes of waits: each kind of wait has the right one, and is as long as the program's own clock
//! says; and so has what waited before the recording began.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pyscry_tests::cgroup::Limits;
use pyscry_tests::slow_disk::slow_disk;
use pyscry_tests::stolen::Stolen;
use pyscry_tests::times::{could_run, not_reported};
use pyscry_tests::until_quiet::until_quiet;
use pyscry_tests::{Ended, Interpreter, Recorder, Target, on_each, record};
use serde_json::Value;

const PROGRAM: &str = include_str!("../programs/causes.py");
const RUN_QUEUE: &str = "[run queue]";
const GIL: &str = "[gil]";
const LOCK: &str = "[lock]";
const SLEEP: &str = "[sleep]";
const NETWORK: &str = "[network]";
const DISK: &str = "[disk]";
const PIPE: &str = "[pipe]";
const POLL: &str = "[poll]";
const CHILD: &str = "[child]";
const PAGE_FAULT: &str = "[page fault]";
const STOPPED: &str = "[stopped]";
const OTHER: &str = "[other]";

/// A function of the program, and what it waits for.
type Way = (&'static str, &'static str);

/// Waits that nothing but another process or thread ends: they can be held for ever.
const HELD: [Way; 36] = [
    ("acquires_lock", LOCK),
    ("acquires_with_timeout", LOCK),
    ("waits_for_condition", LOCK),
    ("waits_for_event", LOCK),
    ("gets_from_queue", LOCK),
    ("acquires_multiprocessing_lock", LOCK),
    ("acquires_multiprocessing_semaphore", LOCK),
    ("waits_for_semaphore", LOCK),
    ("locks_with_flock", LOCK),
    ("locks_with_lockf", LOCK),
    ("sleeps", SLEEP),
    ("selects_nothing", SLEEP),
    ("receives_tcp", NETWORK),
    ("reads_into_from_tcp", NETWORK),
    ("sends_tcp", NETWORK),
    ("accepts_tcp", NETWORK),
    ("connects_unix", NETWORK),
    ("receives_udp", NETWORK),
    ("receives_from_socketpair", NETWORK),
    ("reads_socket_with_os_read", NETWORK),
    ("receives_multiprocessing_pipe", NETWORK),
    ("reads_pipe", PIPE),
    ("writes_full_pipe", PIPE),
    ("opens_fifo", PIPE),
    ("selects", POLL),
    ("polls", POLL),
    ("polls_with_timeout", POLL),
    ("polls_epoll", POLL),
    ("sleeps_in_asyncio", POLL),
    ("reads_eventfd", POLL),
    ("reads_timerfd", POLL),
    ("waits_for_child", CHILD),
    ("runs_child", CHILD),
    ("waits_for_popen", CHILD),
    ("waits_for_signal", OTHER),
    ("pauses", OTHER),
];

/// Waits that end by themselves, or take the whole process along: one behind the other.
const BY_TURNS: [Way; 8] = [
    ("syncs_file", DISK),
    ("reads_dropped_pages", DISK),
    ("reads_directly", DISK),
    ("touches_dropped_pages", PAGE_FAULT),
    ("touches_missing_page", PAGE_FAULT),
    ("stops_itself", STOPPED),
    ("is_traced", STOPPED),
    ("shares_cpu", RUN_QUEUE),
];

/// Threads that need the global lock.
const GREEDY: [Way; 3] = [("spins", GIL), ("spins_as_well", GIL), ("calls_back", GIL)];

/// A connection that is made after a second, which is how often the kernel tries.
const CONNECTS: Way = ("connects_tcp", NETWORK);

/// The ways that an interpreter knows: where the C library is older than 2.32, a named semaphore
/// needs a `tmpfs` at `/dev/shm`, which a root of a package's files is without.
fn known(python: &Interpreter, ways: &[Way]) -> Vec<Way> {
    let without = python.root.is_some() && python.minor() == 9;
    let mut ways = ways.to_vec();
    ways.retain(|(name, _)| !(without && name.starts_with("acquires_multiprocessing_")));
    ways
}

fn start(python: &Interpreter, mode: &str, ways: &[Way]) -> Target {
    let names: Vec<_> = ways.iter().map(|(name, _)| *name).collect();
    Target::start_with(python, "causes.py", PROGRAM, &[mode, &names.join(",")])
}

/// What a thread of that name waited for below `timed`, in microseconds.
#[derive(Debug, Default)]
struct Waited {
    /// In all, but for a CPU.
    blocked: f64,
    /// Of that, for what it should.
    right: f64,
    /// For the global lock, where it should not.
    gil: f64,
    /// For a CPU.
    queued: f64,
    /// For whatever it was, in the line of `timed` between the two readings of the clock.
    between: f64,
}

fn waited(ended: &Ended, (name, cause): Way) -> Waited {
    let thread = format!(": {name}");
    let line = format!("causes.py:{})", line_of_wait());
    let below = |stack: &[String]| {
        stack[0].ends_with(&thread) && stack.iter().any(|frame| frame.starts_with("timed ("))
    };
    let with_leaf = |fits: &dyn Fn(&str) -> bool| {
        ended
            .folded
            .weight(|stack| below(stack) && fits(stack.last().expect("frames"))) as f64
    };
    Waited {
        blocked: with_leaf(&|leaf| leaf != RUN_QUEUE),
        right: with_leaf(&|leaf| leaf == cause),
        gil: with_leaf(&|leaf| leaf == GIL && leaf != cause),
        queued: with_leaf(&|leaf| leaf == RUN_QUEUE),
        between: ended.folded.weight(|stack| {
            let waits = |frame: &String| frame.starts_with("timed (") && frame.ends_with(&line);
            below(stack) && stack.iter().any(waits)
        }) as f64,
    }
}

/// The line of the program in which `timed` waits.
fn line_of_wait() -> usize {
    let found = PROGRAM.lines().position(|line| line == "    wait()");
    1 + found.expect("a call in `timed`")
}

/// The stacks of a thread, for a message.
fn stacks_of<'a>(ended: &'a Ended, name: &str) -> Vec<(&'a str, &'a str, u64)> {
    let thread = format!(": {name}");
    let of_thread = |(stack, weight): (&'a Vec<String>, &u64)| {
        let leaf = stack.last()?;
        let function = stack.get(stack.len().checked_sub(2)?)?;
        stack[0]
            .ends_with(&thread)
            .then_some((&**function, &**leaf, *weight))
    };
    ended.folded.stacks.iter().filter_map(of_thread).collect()
}

/// Collects what is not as it should be, so that one run tells all of it.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.0.push(what());
        }
    }

    fn none(self, python: &Interpreter, ended: &Ended) {
        assert!(
            self.0.is_empty(),
            "Python {}: {:#?}\n{}",
            python.version,
            self.0,
            ended.stderr
        );
    }
}

/// Records the program while it waits in these ways, and compares with its clock.
fn against_the_clock(mut target: Target, python: &Interpreter, ways: &[Way]) {
    let pid = target.pid().to_string();
    let recorder = Recorder::start(&["--pid", &pid, "--off-cpu", "--threads"]);
    let stolen = Stolen::from_now();
    let before = could_run(target.pid());
    target.tell("go");
    let spent: Value = serde_json::from_str(&target.line()).expect("what it spent");
    let stolen = stolen.until_now().as_micros() as f64;
    let could_run = (could_run(target.pid()) - before) / 1000.0;
    recorder.signal(libc::SIGTERM);
    let ended = recorder.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let mut wrong = Wrong::default();
    for way in ways {
        let (name, cause) = *way;
        let clock = |index: usize| spent[name][index].as_f64().expect("nanoseconds") / 1000.0;
        let (passed, cpu) = (clock(0), clock(1));
        let found = waited(&ended, *way);
        let told = || {
            let stacks = stacks_of(&ended, name);
            format!("{name}: {passed} us passed, {cpu} us on a CPU; {found:?} {stacks:?}")
        };
        if cause == RUN_QUEUE {
            wrong.unless(found.blocked <= 0.02 * found.queued, told);
        } else {
            // Who comes back needs the global lock. Another who has it makes it wait, for no longer than
            // that one runs or is to run: long where the CPU is taken from it.
            let right = found.right + found.gil.min(could_run) + stolen;
            wrong.unless(right >= 0.98 * found.blocked && found.right > 0.0, told);
        }
        // What a way does before and behind its wait is no wait. The kernel charges a thread that a
        // timer or a device woke with the time from the interrupt to the switch: that is CPU time by its
        // clock and waiting by ours, so CPU time only bounds from below what was waited.
        let tolerance = 0.02 * passed + 3000.0;
        let off = found.blocked + found.queued;
        // Where it has no CPU in another line, it may be before, between or behind the two readings.
        wrong.unless(
            found.between > 0.0 && found.between <= passed + tolerance,
            told,
        );
        // What a hypervisor takes of a running thread's CPU is neither CPU time nor waiting.
        wrong.unless(passed - cpu <= off + stolen + tolerance, told);
    }
    wrong.none(python, &ended);
}

#[test]
fn waits_that_another_ends() {
    on_each("causes of waits that another ends", |python| {
        let ways: Vec<Way> = HELD.into_iter().chain([CONNECTS]).collect();
        let ways = known(python, &ways);
        against_the_clock(start(python, "together", &ways), python, &ways);
    });
}

#[test]
fn waits_by_turns() {
    on_each("causes of waits by turns", |python| {
        let target = start(python, "by turns", &BY_TURNS);
        // Its files are where its program is.
        let inside = target.file.strip_prefix("/").expect("an absolute path");
        let root = PathBuf::from(format!("/proc/{}/root", target.pid()));
        let group = slow_disk(&root.join(inside));
        group.takes(target.pid());
        against_the_clock(target, python, &BY_TURNS);
    });
}

#[test]
fn waits_for_the_global_lock() {
    on_each("the global lock is a cause", |python| {
        against_the_clock(start(python, "together", &GREEDY), python, &GREEDY);
    });
}

/// A recording of a process of which all threads wait, all of the time.
fn of_waiting(target: &Target) -> (Ended, Duration) {
    let pid = target.pid().to_string();
    let begin = Instant::now();
    let ended = record(&["--pid", &pid, "--duration", "0.5", "--off-cpu", "--threads"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    (ended, begin.elapsed())
}

/// Each thread waited for nothing else, from the beginning to the end.
fn all_the_time(python: &Interpreter, (ended, most): &(Ended, Duration), ways: &[Way]) {
    let most = most.as_micros() as f64;
    let mut wrong = Wrong::default();
    for way in ways {
        let found = waited(ended, *way);
        let told = || format!("{}: {found:?} {:?}", way.0, stacks_of(ended, way.0));
        // The recording begins before its time is counted, and ends after it.
        wrong.unless((490_000.0..=most).contains(&found.right), told);
        wrong.unless(found.right >= 0.98 * (found.blocked + found.queued), told);
    }
    wrong.none(python, ended);
}

#[test]
fn waits_since_before_the_recording() {
    on_each("causes of waits since before the recording", |python| {
        let ways = known(python, &HELD);
        let target = start(python, "hold", &ways);
        until_quiet(target.pid());
        all_the_time(python, &of_waiting(&target), &ways);
        // The same threads, stopped.
        // SAFETY: our own child, which was not waited for.
        unsafe { libc::kill(target.pid() as libc::pid_t, libc::SIGSTOP) };
        until_quiet(target.pid());
        let stopped: Vec<Way> = ways.iter().map(|(name, _)| (*name, STOPPED)).collect();
        all_the_time(python, &of_waiting(&target), &stopped);
    });
}

#[test]
fn a_page_fault_since_before_the_recording() {
    on_each("a page fault since before the recording", |python| {
        let way = ("touches_missing_page", PAGE_FAULT);
        // Says that it is ready once the thread, which holds the global lock, waits.
        let target = start(python, "hold", &[way]);
        // By then the main thread wants the lock: this is longer than it sleeps.
        std::thread::sleep(Duration::from_millis(400));
        let stolen = Stolen::from_now();
        let (ended, most) = of_waiting(&target);
        let stolen = stolen.until_now().as_micros() as u64;
        let is_main = |stack: &[String]| stack[0].ends_with(": MainThread");
        let of_main = |leaf: &str| {
            let fits =
                |stack: &[String]| is_main(stack) && stack.last().is_some_and(|last| last == leaf);
            ended.folded.weight(fits)
        };
        // It looks every 5 ms whether it can have the lock, and needs a CPU for that: it waits while it
        // is on none, nor on one that a hypervisor took. A switch that the kernel does not report hides
        // one of these looks.
        let (main, queued) = (of_main(GIL), of_main(RUN_QUEUE));
        let all = ended.folded.weight(is_main);
        let hidden = not_reported(&ended, |stretch| stretch.thread == "MainThread") as u64 / 1000;
        assert!(
            main > queued && main + queued + hidden >= all * 98 / 100 && all + stolen >= 480_000,
            "Python {}: {main} us and {queued} us in {all} us, {stolen} us stolen: {}{:#?}",
            python.version,
            ended.stderr,
            ended.folded.stacks
        );
        all_the_time(python, &(ended, most), &[way]);
    });
}

/// What goes on after a signal is still the wait that it was.
#[test]
fn waits_that_a_stop_interrupts() {
    on_each("causes of waits that a stop interrupts", |python| {
        let ways = known(python, &HELD);
        let target = start(python, "hold", &ways);
        until_quiet(target.pid());
        let pid = target.pid().to_string();
        let recorder = Recorder::start(&["--pid", &pid, "--off-cpu", "--threads"]);
        // Behind each of the two signals, in microseconds.
        let mut passed = [0.0; 2];
        for _ in 0..3 {
            for (signal, passed) in [libc::SIGSTOP, libc::SIGCONT].into_iter().zip(&mut passed) {
                let begin = Instant::now();
                // SAFETY: as above.
                unsafe { libc::kill(target.pid() as libc::pid_t, signal) };
                std::thread::sleep(Duration::from_millis(100));
                *passed += begin.elapsed().as_micros() as f64;
            }
        }
        recorder.signal(libc::SIGTERM);
        let ended = recorder.end();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let mut wrong = Wrong::default();
        for way in ways {
            let found = waited(&ended, way);
            let stopped = waited(&ended, (way.0, STOPPED)).right;
            let told = || {
                let stacks = stacks_of(&ended, way.0);
                format!("{found:?} {stopped} of {passed:?} {stacks:?}")
            };
            wrong.unless(found.right + stopped >= 0.98 * found.blocked, told);
            // A thread may come late to either, as it needs a CPU to be stopped and to go on.
            let least = passed.map(|passed| 0.9 * passed - found.queued);
            wrong.unless(stopped >= least[0] && found.right >= least[1], told);
        }
        wrong.none(python, &ended);
    });
}

/// One thread that runs, and is frozen for a while, in the recording and as it begins.
#[test]
fn frozen_control_groups() {
    let groups = Limits::that_freeze();
    on_each("frozen control groups", |python| {
        let way = ("spins_until_told", STOPPED);
        let mut target = start(python, "together", &[way]);
        let pid = target.pid();
        let number = pid.to_string();
        let args = ["--pid", &number, "--off-cpu", "--threads"];
        target.tell("go");
        assert_eq!(target.line(), "spins");
        for group in &groups {
            group.takes(pid);
            let recorder = Recorder::start(&args);
            let frozen = group.freeze();
            let begin = Instant::now();
            std::thread::sleep(Duration::from_millis(300));
            let least = begin.elapsed().as_micros() as f64;
            drop(frozen);
            let most = begin.elapsed().as_micros() as f64;
            recorder.signal(libc::SIGTERM);
            let ended = recorder.end();
            assert_eq!(ended.code, 0, "{}", ended.stderr);
            let found = waited(&ended, way);
            let mut wrong = Wrong::default();
            // Freezing is an order, that the thread follows as it comes to a CPU.
            wrong.unless(
                found.right + found.queued >= 0.98 * least - 5000.0
                    && found.right <= most * 1.02 + 5000.0,
                || format!("version {}: {found:?} {least} {most}", group.version),
            );
            wrong.unless(found.right >= 0.98 * found.blocked, || format!("{found:?}"));
            wrong.none(python, &ended);
            let frozen = group.freeze();
            until_quiet(pid);
            all_the_time(python, &of_waiting(&target), &[way]);
            drop(frozen);
            group.leaves(pid);
        }
    });
}
