//! Time in the kernel, as its statistics of BPF programs have it.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Bench;
use super::bpf_stats::{self, Enabled, Reading, Runs};
use super::recorder::Recorder;
use super::table::Row;
use super::target::{Target, Worker};

const SETTLE: Duration = Duration::from_millis(300);

/// What samples of a program cost.
pub(super) struct Cost {
    /// Samples of it.
    pub(super) samples: u64,
    /// Runs that met another program.
    others: u64,
    /// Nanoseconds of one of those.
    base: f64,
    /// Microseconds of a sample.
    pub(super) each: f64,
}

impl Cost {
    /// How it was found.
    pub(super) fn note(&self) -> String {
        format!(
            "{} samples; {} runs met another program, at {:.0} ns each (measured apart, taken off)",
            self.samples, self.others, self.base
        )
    }
}

/// Records a program and takes off what runs cost that met another one, `base` each.
pub(super) fn of_sample(bench: &Bench, pid: u32, args: &[&str], base: f64) -> Result<Cost> {
    let (runs, samples) = runs(bench, pid, args, bpf_stats::PERF_EVENT)?;
    ensure!(samples != 0, "nothing was recorded");
    let others = runs.count.saturating_sub(samples);
    let ns = runs.ns as f64 - others as f64 * base;
    Ok(Cost {
        samples,
        others,
        base,
        each: ns / samples as f64 / 1000.0,
    })
}

/// Runs at the switches of every thread while a process is recorded off-CPU.
pub(super) fn of_switches(bench: &Bench, pid: u32, args: &[&str]) -> Result<Runs> {
    let recorder = Recorder::start(&bench.pyscry, pid, args)?;
    thread::sleep(SETTLE);
    let before = Reading::of(recorder.pid())?;
    thread::sleep(bench.stretch * 2);
    let runs = Reading::of(recorder.pid())?.busiest(bpf_stats::TRACING, &before)?;
    bench.seen(&bench.pyscry, &recorder.stop()?);
    Ok(runs)
}

/// A recording's runs from its first to shortly before its end, and the weights it had.
fn runs(bench: &Bench, pid: u32, args: &[&str], kind: u32) -> Result<(Runs, u64)> {
    let recorder = Recorder::start(&bench.pyscry, pid, args)?;
    thread::sleep(bench.stretch * 2);
    let runs = Reading::of(recorder.pid())?.busiest(kind, &Reading::none())?;
    let recording = recorder.stop()?;
    bench.seen(&bench.pyscry, &recording);
    Ok((runs, recording.stacks.total()))
}

/// Nanoseconds of a run that is not of the target: the target sleeps, another program works.
pub(super) fn base(bench: &Bench) -> Result<f64> {
    let target = Target::start(&bench.python, "bench_idle.py", &["4"])?;
    let _other = Worker::start(&bench.python, "bench_deep.py", &["distinct", "20", "0"])?;
    let (runs, _) = runs(
        bench,
        target.pid(),
        &["--rate", "1000"],
        bpf_stats::PERF_EVENT,
    )?;
    Ok(runs.each())
}

/// A sample, below stacks of several kinds.
pub(super) fn samples(bench: &Bench) -> Result<Vec<Row>> {
    let _enabled = Enabled::new()?;
    let base = base(bench)?;
    let mut rows = Vec::new();
    for (kind, depth, goal) in [
        ("distinct", 20, 2.5),
        ("distinct", 200, 14.0),
        ("recursion", 20, 2.5),
        ("recursion", 200, 14.0),
    ] {
        let args = [kind, &depth.to_string(), "0"];
        let worker = Worker::start(&bench.python, "bench_deep.py", &args)?;
        let args = ["--rate", "1000"];
        let cost = of_sample(bench, worker.pid(), &args, base)?;
        let functions = if kind == "distinct" {
            "different functions"
        } else {
            kind
        };
        rows.push(Row {
            what: format!("in-kernel cost per sample, {depth} deep, {functions}"),
            goal: format!("{goal} us"),
            pyscry: format!("{:.2} us", cost.each),
            met: Some(cost.each <= goal),
            note: cost.note(),
            ..Row::default()
        });
    }
    Ok(rows)
}

/// A switch between tasks that are no target, and one of a target.
pub(super) fn switches(bench: &Bench) -> Result<Vec<Row>> {
    let _enabled = Enabled::new()?;
    let pingpong = Worker::start(&bench.python, "bench_pingpong.py", &["20000", "20"])?;
    let idle = Target::start(&bench.python, "bench_idle.py", &["4"])?;
    let mut costs = Vec::new();
    for pid in [idle.pid(), pingpong.pid()] {
        costs.push(of_switches(bench, pid, &["--off-cpu"])?);
    }
    let row = |(what, goal, runs): (&str, Option<f64>, &Runs)| Row {
        what: what.to_owned(),
        goal: goal.map_or_else(String::new, |goal| format!("{goal} ns")),
        pyscry: format!("{:.0} ns", runs.each()),
        met: goal.map(|goal| runs.each() <= goal),
        note: format!("mean of {} runs", runs.count),
        ..Row::default()
    };
    let rows = [
        ("sched_switch cost, task that is not a target", Some(100.0)),
        ("sched_switch cost, threads of the target, 20 deep", None),
    ];
    Ok(rows
        .into_iter()
        .zip(&costs)
        .map(|((what, goal), runs)| row((what, goal, runs)))
        .collect())
}
