//! Recording files: other formats made from one later are those of the recording, and one that was
//! killed is readable.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use pyscry_tests::native::run_for;
use pyscry_tests::run::{MINOR, Outcome, PATIENCE, Running, SPINS, command, run};
use pyscry_tests::{Folded, Target, on_each, on_one};

/// Threads that run, wait for the lock, and sleep.
const WORKS: &str = "\
import threading
import time

def spins():
    while True:
        sum(range(100))

def naps():
    while True:
        time.sleep(0.005)

print('ready')
threading.Thread(target=naps, name='naps', daemon=True).start()
spins()
";

fn folded(path: &Path) -> Folded {
    let text = fs::read_to_string(path);
    Folded::parse(&text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn report(file: &Path, args: &[&str]) -> Outcome {
    let outcome = run(command(&["report"]).arg(file).args(args));
    outcome.is_good();
    outcome
}

#[test]
fn what_is_reported_later_is_what_was_recorded() {
    on_each("report of a recording", |python| {
        let target = Target::start(python, "works.py", WORKS);
        let pid = target.pid().to_string();
        let mut ways = vec![&["--wall", "-t", "--wakers"][..]];
        if python.minor() == MINOR {
            ways.extend([
                &["-t"][..],
                &["--off-cpu", "--native", "-t"],
                &["--gil", "--function"],
                &["--idle", "-t", "--nolineno", "--full-filenames"],
            ]);
        }
        for options in ways {
            let directory = tempfile::tempdir().expect("a directory");
            let stem = directory.path().join("out");
            let formats = "raw,pyscry,speedscope,chrometrace,pprof,gecko,flamegraph";
            let outcome = run(
                command(&["record", "-p", &pid, "-d", "1", "-f", formats, "-o"])
                    .arg(&stem)
                    .args(options),
            );
            outcome.is_good();
            let direct = folded(&stem.with_extension("txt"));
            assert_ne!(direct.total(), 0, "{options:?}: {outcome:?}");
            for end in [
                "svg",
                "speedscope.json",
                "chrometrace.json",
                "pb.gz",
                "gecko.json",
            ] {
                let written = fs::metadata(stem.with_extension(end)).expect(end);
                assert!(written.len() > 100, "{end} of {outcome:?}");
                assert!(outcome.stderr.contains(end), "{outcome:?}");
            }
            let again = directory.path().join("again.txt");
            // What only says what is recorded is known by the file.
            let shown: Vec<&str> = options
                .iter()
                .copied()
                .filter(|option| !["--wall", "--off-cpu", "--native"].contains(option))
                .collect();
            let path = again.to_str().expect("a path");
            let args = [&["-f", "raw", "-o", path], shown.as_slice()].concat();
            let file = stem.with_extension("pyscry");
            let later = report(&file, &args);
            assert_eq!(folded(&again).stacks, direct.stacks, "{options:?}");
            // What was said then is said again.
            let said = |outcome: &Outcome| {
                let all = outcome.stderr.lines();
                let line =
                    |line: &&str| line.starts_with("Samples: ") || line.starts_with("Stretches: ");
                all.filter(line).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(said(&later), said(&outcome));
            assert!(!said(&later).is_empty(), "{later:?}");
        }
    });
}

#[test]
fn part_of_a_recording() {
    on_one("part of a recording", MINOR, |python| {
        let target = Target::start(python, "works.py", WORKS);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("all.pyscry");
        let pid = target.pid().to_string();
        let args = ["record", "-p", &pid, "--wall", "-d", "3", "-t", "-o"];
        run(command(&args).arg(&file)).is_good();
        let part = |args: &[&str]| {
            let path = directory.path().join("part.txt");
            let name = path.to_str().expect("a path");
            report(&file, &[&["-t", "-o", name], args].concat());
            folded(&path)
        };
        let of = |folded: &Folded, thread: &str| {
            folded.weight(|stack| stack[0].ends_with(thread)) as f64 / 1e6
        };
        let (first, middle, last) = (
            part(&["--to", "1"]),
            part(&["--from", "1", "--to", "2"]),
            part(&["--from", "2"]),
        );
        let whole = part(&[]);
        for thread in ["MainThread", "naps"] {
            // The thread was there all of the time.
            let parts = [&first, &middle, &last].map(|part| of(part, thread));
            let sum: f64 = parts.iter().sum();
            let all = of(&whole, thread);
            assert!((sum - all).abs() < 0.01, "{thread}: {parts:?}, {all}");
        }
        // A thread that sleeps is measured, not sampled: each second of it is a second.
        let second = of(&middle, "naps");
        assert!((second - 1.0).abs() < 0.02, "{second}");
    });
}

#[test]
fn a_recording_that_was_killed_is_readable() {
    on_one("recording that was killed", MINOR, |python| {
        let target = Target::start(python, "works.py", WORKS);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("killed.pyscry");
        let pid = target.pid().to_string();
        let mut command = command(&["record", "-p", &pid, "-r", "500", "-o"]);
        let begin = Instant::now();
        let running = Running::start(command.arg(&file)).has_begun();
        // As much as a block, and more.
        let size = || fs::metadata(&file).map_or(0, |file| file.len());
        let mut sizes = vec![size()];
        while sizes.len() < 4 {
            assert!(begin.elapsed() < PATIENCE, "nothing is written: {sizes:?}");
            thread::sleep(Duration::from_millis(20));
            if sizes.last() != Some(&size()) {
                sizes.push(size());
            }
        }
        running.signal(libc::SIGKILL);
        drop(running);
        let text = directory.path().join("killed.txt");
        let outcome = report(&file, &["-f", "raw", "-o", text.to_str().expect("a path")]);
        assert!(
            outcome.stderr.contains("did not come to its end"),
            "{outcome:?}"
        );
        let whole = folded(&text);
        assert!(whole.in_function("spins") > 100, "{whole:?}");
        // Wherever it is cut off, what is whole is read.
        let content = fs::read(&file).expect("the file");
        let cut = directory.path().join("cut.pyscry");
        let mut totals = Vec::new();
        for keep in [content.len() - 1, content.len() / 2, 300, 25, 19, 5, 0] {
            fs::write(&cut, &content[..keep]).expect("written");
            let name = text.to_str().expect("a path");
            let outcome =
                run(pyscry_tests::run::command(&["report", "-f", "raw", "-o", name]).arg(&cut));
            outcome.is_tidy();
            if outcome.code == 0 {
                totals.push(folded(&text).total());
            } else {
                outcome.is_error(&["cut.pyscry"]);
            }
        }
        assert!(totals.len() >= 2 && totals[0] < whole.total(), "{totals:?}");
        assert!(totals.is_sorted_by(|a, b| a >= b), "{totals:?}");
    });
}

/// Native frames are named on a signal, and stay so.
#[test]
fn native_frames_of_a_recording_that_was_killed() {
    on_one("native frames, killed", MINOR, |python| {
        let target = Target::start(python, "works.py", WORKS);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("killed.pyscry");
        let pid = target.pid().to_string();
        let mut command = command(&["record", "-p", &pid, "--native", "-r", "500", "-o"]);
        let running = Running::start(command.arg(&file)).has_begun();
        run_for(target.pid(), Duration::from_millis(500));
        running.signal(libc::SIGUSR1);
        running.hears("SIGUSR1", 1);
        running.signal(libc::SIGKILL);
        drop(running);
        let text = directory.path().join("killed.txt");
        let name = text.to_str().expect("a path");
        let outcome = report(&file, &["-f", "raw", "-o", name]);
        assert!(
            outcome.stderr.contains("did not come to its end"),
            "{outcome:?}"
        );
        let folded = folded(&text);
        let spins = folded.in_function("spins");
        // It adds numbers nearly all of the time, which is native code.
        let native = folded.weight(|stack| {
            let leaf = stack.last().expect("a frame");
            !leaf.contains(" (works.py:") && !leaf.starts_with('[')
        });
        assert!(spins > 50 && native * 2 > spins, "{native}: {folded:?}");
    });
}

#[test]
fn a_signal_writes_what_is_there_and_the_recording_goes_on() {
    on_one("signal to write", MINOR, |python| {
        for options in [&[][..], &["--wall"], &["--native"]] {
            let target = Target::start(python, "works.py", WORKS);
            let directory = tempfile::tempdir().expect("a directory");
            let pid = target.pid().to_string();
            let text = directory.path().join("out.txt");
            let json = directory.path().join("out.speedscope.json");
            let mut command = command(&["record", "-p", &pid, "-f", "raw,speedscope", "-o"]);
            let running =
                Running::start(command.arg(directory.path().join("out")).args(options)).has_begun();
            let mut totals = Vec::new();
            for _ in 0..2 {
                run_for(target.pid(), Duration::from_millis(200));
                fs::write(&text, "").expect("written");
                running.signal(libc::SIGUSR1);
                let begin = Instant::now();
                while fs::metadata(&text).expect("the file").len() == 0 {
                    assert!(
                        begin.elapsed() < PATIENCE,
                        "{options:?}: nothing is written"
                    );
                    thread::sleep(Duration::from_millis(5));
                }
                running.hears("SIGUSR1", totals.len() + 1);
                totals.push(folded(&text).in_function("spins"));
                assert!(fs::metadata(&json).expect("the file").len() > 100);
            }
            run_for(target.pid(), Duration::from_millis(200));
            running.signal(libc::SIGTERM);
            let outcome = running.end();
            outcome.is_good();
            totals.push(folded(&text).in_function("spins"));
            assert!(totals[0] > 0, "{options:?}: {totals:?} {outcome:?}");
            assert!(totals.is_sorted_by(|a, b| a < b), "{options:?}: {totals:?}");
        }
    });
}

#[test]
fn what_is_no_recording() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("x.pyscry");
    run(command(&["report"]).arg(&file)).is_error(&["x.pyscry"]);
    for content in [
        &b""[..],
        b"pyscry",
        b"<svg>",
        b"pyscry recording 9\n",
        &[0; 4096],
    ] {
        fs::write(&file, content).expect("written");
        run(command(&["report"]).arg(&file)).is_error(&["x.pyscry"]);
        assert!(!directory.path().join("x.svg").exists());
    }
}

#[test]
fn waiting_threads_in_samples() {
    on_one("waiting threads in samples", MINOR, |python| {
        let target = Target::start(python, "works.py", WORKS);
        let directory = tempfile::tempdir().expect("a directory");
        let pid = target.pid().to_string();
        let text = directory.path().join("out.txt");
        let args = [
            "record", "-p", &pid, "--idle", "-r", "200", "-t", "-d", "2", "-f", "raw",
        ];
        let outcome = run(command(&args).arg("-o").arg(&text));
        outcome.is_good();
        let folded = folded(&text);
        // Each thread is there for two seconds.
        for thread in ["MainThread", "naps"] {
            let samples = folded.weight(|stack| stack[0].ends_with(thread));
            assert!(
                samples.abs_diff(400) <= 8,
                "{thread}: {samples} {outcome:?}"
            );
        }
        let sleeps = folded.weight(|stack| stack.last().is_some_and(|leaf| leaf == "[sleep]"));
        assert_ne!(sleeps, 0, "{folded:?}");
    });
}

#[test]
fn how_frames_are_written() {
    on_one("how frames are written", MINOR, |python| {
        let target = Target::start(python, "spins.py", SPINS);
        let pid = target.pid().to_string();
        let frames = |options: &[&str]| {
            let directory = tempfile::tempdir().expect("a directory");
            let text = directory.path().join("out.txt");
            let args = ["record", "-p", &pid, "-d", "0.5", "-f", "raw"];
            run(command(&args).args(options).arg("-o").arg(&text)).is_good();
            let folded = folded(&text);
            let stacks = folded.stacks.keys();
            let leaves: std::collections::BTreeSet<String> =
                stacks.filter_map(|stack| stack.last().cloned()).collect();
            leaves.into_iter().collect::<Vec<_>>()
        };
        let is_line = |leaf: &String| {
            let of = leaf.strip_prefix("spins (spins.py:");
            of.is_some_and(|line| line == "2)" || line == "3)")
        };
        let exact = frames(&[]);
        assert!(!exact.is_empty() && exact.iter().all(is_line), "{exact:?}");
        assert_eq!(frames(&["-F"]), ["spins (spins.py:1)"]);
        assert_eq!(frames(&["--nolineno"]), ["spins (spins.py)"]);
        let full = frames(&["--full-filenames", "--function"]);
        assert!(
            full.len() == 1 && full[0].starts_with("spins (/") && full[0].ends_with("/spins.py:1)"),
            "{full:?}"
        );
    });
}

/// One of the files cannot be written: the others are, and it is said.
#[test]
fn a_disk_that_is_full() {
    on_one("disk full for one file", MINOR, |python| {
        let target = Target::start(python, "works.py", WORKS);
        let pid = target.pid().to_string();
        let directory = tempfile::tempdir().expect("a directory");
        let text = directory.path().join("out.txt");
        for full in [["pyscry", "raw"], ["raw", "pyscry"], ["speedscope", "raw"]] {
            let files = full.map(|format| match format {
                "raw" => text.clone(),
                _ => Path::new("/dev/full").to_owned(),
            });
            let mut command = command(&["record", "-p", &pid, "-d", "0.5"]);
            for (format, file) in full.iter().zip(&files) {
                command.args(["-f", format]).arg("-o").arg(file);
            }
            let outcome = run(&mut command);
            outcome.is_tidy();
            assert_eq!(outcome.code, 1, "{outcome:?}");
            assert!(outcome.stderr.contains("/dev/full"), "{outcome:?}");
            assert_ne!(folded(&text).total(), 0, "{full:?}: {outcome:?}");
            fs::remove_file(&text).expect("the file");
        }
    });
}
