//! Samples against what the kernel knows of threads.
//!
//! The programs work only between two moments that both lie in the recording, so that the CPU
//! time that they have more than before is what was recorded, to the nanosecond.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::recorder::{Recorder, Recording, Tool};
use super::table::Row;
use super::target::Target;
use super::{Bench, kernel};

/// Kinds of threads of `bench_shares.py`, and the functions that they run.
const KINDS: [&str; 3] = ["busy", "napper", "sleeper"];
/// Py-spy says that it samples a little before it does.
const SETTLE: Duration = Duration::from_millis(300);

/// A recording and the CPU time of the threads in it.
struct Held {
    recording: Recording,
    /// Nanoseconds by thread.
    cpu: BTreeMap<u32, u64>,
}

fn record(bench: &Bench, tool: &Tool, target: &mut Target, rate: u32) -> Result<Held> {
    let recorder = Recorder::start(tool, target.pid(), &["--rate", &rate.to_string()])?;
    thread::sleep(SETTLE);
    let before = kernel::cpu_times(target.pid())?;
    target.work()?;
    let cpu = kernel::since(&before, &kernel::cpu_times(target.pid())?);
    let recording = recorder.stop()?;
    bench.seen(tool, &recording);
    Ok(Held { recording, cpu })
}

impl Held {
    fn cpu_ns(&self) -> f64 {
        self.cpu.values().sum::<u64>() as f64
    }

    /// Percent of samples too many.
    fn excess(&self, rate: u32) -> f64 {
        let expected = self.cpu_ns() / 1e9 * f64::from(rate);
        (self.recording.stacks.total() as f64 / expected - 1.0) * 100.0
    }

    /// For each kind, percent of the CPU time and percent of the samples.
    fn shares(&self, kinds: &BTreeMap<u32, String>) -> Vec<(f64, f64)> {
        let stacks = &self.recording.stacks;
        let share = |kind: &&str| {
            let threads = self
                .cpu
                .iter()
                .filter(|(tid, _)| kinds.get(tid).is_some_and(|of_thread| of_thread == kind));
            let cpu = threads.map(|(_, ns)| *ns).sum::<u64>() as f64 / self.cpu_ns();
            let samples = stacks.of(kind) as f64 / stacks.total().max(1) as f64;
            (cpu * 100.0, samples * 100.0)
        };
        KINDS.iter().map(share).collect()
    }
}

fn worst(shares: &[(f64, f64)]) -> f64 {
    shares
        .iter()
        .map(|(cpu, samples)| (cpu - samples).abs())
        .fold(0.0, f64::max)
}

fn list(shares: &[(f64, f64)]) -> String {
    let one = |(kind, (cpu, samples)): (&&str, &(f64, f64))| {
        format!("{kind} {samples:.1} (kernel {cpu:.1})")
    };
    KINDS
        .iter()
        .zip(shares)
        .map(one)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Shares and numbers of samples of 36 threads.
pub(super) fn shares(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for rate in [100, 500] {
        let (held, kinds) = record_shares(bench, &bench.pyscry, rate)?;
        let shares = held.shares(&kinds);
        let py_spy = bench.py_spy.as_ref().ok();
        let other = py_spy
            .map(|tool| record_shares(bench, tool, rate))
            .transpose()?;
        let other_shares = other.as_ref().map(|(held, kinds)| held.shares(kinds));
        let theirs = other_shares
            .as_ref()
            .map_or_else(String::new, |shares| format!("; py-spy {}", list(shares)));
        rows.push(Row {
            what: format!("share of CPU per function, 36 threads, {rate} Hz"),
            goal: "within 2 points".to_owned(),
            pyscry: format!("{:.1} points", worst(&shares)),
            py_spy: other_shares.map_or_else(
                || bench.no_py_spy(),
                |shares| format!("{:.1} points", worst(&shares)),
            ),
            met: Some(worst(&shares) <= 2.0),
            note: format!("pyscry {}{theirs}", list(&shares)),
        });
        let what = format!("samples against CPU time x rate, 36 threads, {rate} Hz");
        rows.push(samples_row(
            bench,
            what,
            rate,
            &held,
            other.map(|(held, _)| held).as_ref(),
        ));
    }
    Ok(rows)
}

fn record_shares(bench: &Bench, tool: &Tool, rate: u32) -> Result<(Held, BTreeMap<u32, String>)> {
    let seconds = bench.recording_seconds();
    let mut target = Target::start(&bench.python, "bench_shares.py", &[&seconds])?;
    let kind = |line: &String| {
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next()?.to_owned();
        Some((words.next()?.parse().ok()?, kind))
    };
    let kinds = target
        .said
        .iter()
        .map(|line| kind(line).context("not a thread"));
    let kinds = kinds.collect::<Result<_>>()?;
    Ok((record(bench, tool, &mut target, rate)?, kinds))
}

/// Numbers of samples of threads that fight for the interpreter's lock.
pub(super) fn samples(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for rate in [100, 1000] {
        let held = record_fight(bench, &bench.pyscry, rate)?;
        let py_spy = bench.py_spy.as_ref().ok();
        let other = py_spy
            .map(|tool| record_fight(bench, tool, rate))
            .transpose()?;
        let what = format!("samples against CPU time x rate, 4 threads, one lock, {rate} Hz");
        rows.push(samples_row(bench, what, rate, &held, other.as_ref()));
    }
    Ok(rows)
}

fn record_fight(bench: &Bench, tool: &Tool, rate: u32) -> Result<Held> {
    let seconds = bench.recording_seconds();
    let mut target = Target::start(&bench.python, "bench_gil.py", &["4", &seconds])?;
    record(bench, tool, &mut target, rate)
}

fn samples_row(bench: &Bench, what: String, rate: u32, held: &Held, other: Option<&Held>) -> Row {
    let excess = held.excess(rate);
    Row {
        what,
        goal: "within 3 %".to_owned(),
        pyscry: format!("{excess:+.1} %"),
        py_spy: other.map_or_else(
            || bench.no_py_spy(),
            |held| format!("{:+.1} %", held.excess(rate)),
        ),
        met: Some(excess.abs() <= 3.0),
        note: format!(
            "{} samples in {:.3} s of CPU time",
            held.recording.stacks.total(),
            held.cpu_ns() / 1e9,
        ),
    }
}
