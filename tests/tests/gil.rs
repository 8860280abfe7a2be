//! The interpreter's lock: how long threads wait for it, who holds it, and what they do with it.

use std::cell::Cell;

use profiler_common::cause::Cause;
use pyscry_tests::stolen::Stolen;
use pyscry_tests::times::{line, now, number, proc_directory, time, told};
use pyscry_tests::{Ended, Interpreter, Recorder, Target, on_each};
use serde_json::Value;

const PROGRAM: &str = concat!(
    include_str!("../programs/readings.py"),
    include_str!("../programs/between_readings.py"),
    include_str!("../programs/gil.py")
);
const INTERPRETERS: &str = concat!(
    include_str!("../programs/readings.py"),
    include_str!("../programs/between_readings.py"),
    include_str!("../programs/interpreters.py")
);
const WALL: [&str; 2] = ["--wall", "--threads"];

/// What a thread said of the time between its two readings, in nanoseconds.
#[derive(Debug)]
struct Said {
    name: String,
    tid: u32,
    window: f64,
    cpu: f64,
    delay: f64,
}

fn said(threads: &Value) -> Vec<Said> {
    let all = threads.as_object().expect("threads").iter();
    all.map(|(name, facts)| {
        let at = |index: usize| facts[index].as_f64().expect("a number");
        Said {
            name: name.clone(),
            tid: at(0) as u32,
            window: at(1),
            cpu: at(2),
            delay: at(3),
        }
    })
    .collect()
}

/// Records the program for so many seconds, and returns what it said, and the recordings with how long
/// they took from when they said that they had begun, in nanoseconds. The last is what a hypervisor took
/// meanwhile: of a running thread, that is no CPU time by its clock.
fn record(
    python: &Interpreter,
    mode: &str,
    seconds: f64,
    recordings: &[&[&str]],
) -> (Value, Vec<(Ended, f64)>, f64) {
    let mut target = Target::start_with(python, "gil.py", PROGRAM, &[mode, proc_directory()]);
    let pid = target.pid().to_string();
    let recorders: Vec<_> = recordings
        .iter()
        .map(|options| {
            let recorder = Recorder::start(&[&["--pid", &pid], &WALL[..], options].concat());
            (recorder, now())
        })
        .collect();
    let stolen = Stolen::from_now();
    target.tell("go");
    std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
    target.tell("stop");
    let said = serde_json::from_str(&target.line()).expect("what it says");
    let stolen = stolen.until_now().as_nanos() as f64;
    let ended = recorders.into_iter().map(|(recorder, begin)| {
        recorder.signal(libc::SIGTERM);
        let window = now() - begin;
        let ended = recorder.end();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        (ended, window)
    });
    let ended = ended.collect();
    (said, ended, stolen)
}

/// `name (12) 1.25 s, thread 13 3.4 ms`: time by thread; "nobody yet" and the like are left out.
fn listed(ended: &Ended, what: &str) -> Vec<(u32, f64)> {
    let line = line(ended, what);
    let mut found = Vec::new();
    for part in line[what.len()..].split(", ") {
        let part = part.trim();
        if let Some((who, rest)) = part.split_once(") ") {
            let (_, tid) = who.rsplit_once('(').expect("a number");
            found.push((tid.parse().expect("a number"), told(rest)));
        }
    }
    found
}

const HELD: &str = "  held while others waited:";
const LOST: &str = "  lost by waiting for it:";

#[test]
fn threads_that_spin_wait_for_each_other() {
    on_each("waits for the GIL", |python| {
        let (all, ended, stolen) = record(python, "spin", 1.5, &[&[]]);
        let (ended, _) = &ended[0];
        let threads = said(&all["threads"]);
        assert_eq!(threads.len(), 4);
        let (held, lost) = (listed(ended, HELD), listed(ended, LOST));
        for said in &threads {
            let of = |fits: &dyn Fn(Option<Cause>) -> bool| {
                time(&ended.folded, |stretch| {
                    stretch.tid == said.tid
                        && fits(stretch.cause)
                        && stretch.is_in("works")
                        && !stretch.is_in("reads_last")
                        && !stretch.is_in("wait")
                        && !stretch.is_in("opens")
                })
            };
            let gil = of(&|cause| cause == Some(Cause::Gil));
            let (truth, tolerance) = (said.window - said.cpu - said.delay, 0.02 * said.window);
            assert!(
                truth - stolen - tolerance < gil && gil < truth + tolerance,
                "Python {}: {gil} ns of {said:?}, {stolen} ns stolen: {}",
                python.version,
                ended.stderr
            );
            let find = |list: &[(u32, f64)]| {
                let found = list.iter().find(|(tid, _)| *tid == said.tid);
                found
                    .unwrap_or_else(|| panic!("no {said:?}: {}", ended.stderr))
                    .1
            };
            // Of the time between the readings, the holder has what it runs, and what it is kept
            // from running meanwhile: a part of its run queue.
            let (held, tolerance) = (find(&held), 0.03 * said.window);
            assert!(
                said.cpu - tolerance <= held && held <= said.cpu + said.delay + stolen + tolerance,
                "Python {}: holds for {held} ns, {said:?}, {stolen} ns stolen: {}",
                python.version,
                ended.stderr
            );
            // All of its waits, those outside of the readings too.
            let waits = time(&ended.folded, |stretch| {
                stretch.tid == said.tid && stretch.cause == Some(Cause::Gil)
            });
            let lost = find(&lost);
            assert!((lost - waits).abs() < 0.01 * said.window, "{lost} {waits}");
        }
        // Nobody else.
        let tids: Vec<u32> = threads.iter().map(|said| said.tid).collect();
        for list in [&held, &lost] {
            let first: Vec<u32> = list.iter().take(4).map(|(tid, _)| *tid).collect();
            assert!(
                first.iter().all(|tid| tids.contains(tid)),
                "{}",
                ended.stderr
            );
        }
    });
}

#[test]
fn who_holds_the_lock_long_is_the_first_holder() {
    on_each("long holder of the GIL", |python| {
        let (all, ended, _) = record(python, "long", 1.0, &[&[]]);
        let (ended, _) = &ended[0];
        let threads = said(&all["threads"]);
        let holds = threads.iter().find(|said| said.name == "holds_long-0");
        let holds = holds.expect("it says");
        let held = listed(ended, HELD);
        assert_eq!(held[0].0, holds.tid, "{}", ended.stderr);
        // The light ones run for next to nothing.
        assert!(
            held[0].1 > 0.9 * held.iter().map(|(_, time)| time).sum::<f64>(),
            "{}",
            ended.stderr
        );
    });
}

/// `--gil`, and how long the lock was held.
#[test]
fn calls_without_the_lock_are_left_out() {
    on_each("only with the GIL", |python| {
        let (all, ended, stolen) =
            record(python, "release", 1.5, &[&["--gil", "--rate", "999"], &[]]);
        let [(with, _), (whole, window)] = &ended[..] else {
            panic!("two recordings");
        };
        let threads = said(&all["threads"]);
        let find = |name: &str| {
            let found = threads.iter().find(|said| said.name == name);
            found.expect("it says")
        };
        let (hashes, half) = (find("hashes-0"), find("half-1"));
        let cpu = |ended: &Ended, said: &Said, function: &str| {
            time(&ended.folded, |stretch| {
                stretch.tid == said.tid && stretch.cause.is_none() && stretch.is_in(function)
            })
        };
        // Some microseconds a call are with the lock.
        let (left, all_of_it) = (cpu(with, hashes, "hashes"), cpu(whole, hashes, "hashes"));
        assert!(all_of_it > 0.9 * hashes.cpu, "{all_of_it} {hashes:?}");
        assert!(
            left < 0.02 * hashes.cpu,
            "{left} ns with the lock: {:#?}",
            with.folded
        );
        let (kept, all_of_it) = (cpu(with, half, "half"), cpu(whole, half, "half"));
        assert!(
            (kept - half.cpu).abs() < 0.03 * half.cpu + stolen,
            "{kept} ns of {half:?} have the lock, {all_of_it} without --gil: {:#?}",
            with.folded
        );
        let shares = |ended: &Ended| {
            let line = line(ended, "GIL: held ");
            ["held ", "free "].map(|after| -> f64 {
                let rest = line.split_once(after).expect("a share").1;
                let word = rest.split(' ').next().and_then(|word| word.parse().ok());
                word.unwrap_or_else(|| panic!("no number: {line}"))
            })
        };
        for ended in [with, whole] {
            let [held, free] = shares(ended);
            assert!((held + free - 100.0).abs() < 0.11, "{held} {free}");
        }
        // The main thread is there as long as the recording, which is a bit longer than we know of.
        let all_time = time(&whole.folded, |stretch| {
            stretch.tid == number(&all, "/pid") as u32
        });
        assert!(
            (0.99 * window..1.3 * window).contains(&all_time),
            "{all_time} of {window}"
        );
        // It waits for the lock now and then while it spins.
        let gil = time(&whole.folded, |stretch| {
            stretch.tid == half.tid && stretch.cause == Some(Cause::Gil) && stretch.is_in("half")
        });
        let truth = (number(&all, "/held") - gil) / all_time * 100.0;
        let [held, _] = shares(whole);
        assert!(
            (held - truth).abs() < 3.0,
            "{held} %, not {truth}: {}",
            whole.stderr
        );
    });
}

#[test]
fn interpreters_have_locks_of_their_own() {
    let ran = Cell::new(0);
    on_each("a GIL per interpreter", |python| {
        if python.minor() < 12 {
            return;
        }
        let args = [proc_directory()];
        let mut target = Target::start_with(python, "interpreters.py", INTERPRETERS, &args);
        let pid = target.pid().to_string();
        let recorder = Recorder::start(&[&["--pid", &pid], &WALL[..]].concat());
        let stolen = Stolen::from_now();
        target.tell("go");
        let all: Value = serde_json::from_str(&target.line()).expect("what it says");
        recorder.signal(libc::SIGTERM);
        let ended = recorder.end();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let stolen = stolen.until_now().as_nanos() as f64;
        let threads = said(&all);
        assert_eq!(threads.len(), 2);
        for said in &threads {
            let gil = time(&ended.folded, |stretch| {
                stretch.tid == said.tid && stretch.cause == Some(Cause::Gil)
            });
            let spins = time(&ended.folded, |stretch| {
                stretch.tid == said.tid && stretch.is_in("spins_apart")
            });
            assert!(
                gil < 0.02 * said.window,
                "{gil} ns of {said:?}: {}",
                ended.stderr
            );
            // One lock for both would keep each of them waiting for half of the time.
            let had = said.cpu + said.delay + stolen;
            assert!(had > 0.98 * said.window, "{said:?}");
            assert!(
                (spins - 1.2e9).abs() < 0.05 * said.window,
                "{spins} {said:?}"
            );
        }
        ran.set(ran.get() + 1);
    });
    assert_ne!(ran.get(), 0, "needs a Python 3.12 or newer");
}
