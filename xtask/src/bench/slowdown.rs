//! How much slower a program is while it is recorded.
//!
//! Stretches with and without a recording alternate, in the same process. Each stretch with one
//! is held against the mean of the two without that stand around it, so what else the machine
//! does counts only where it changes within seconds.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::numbers::{Samples, slowdown, slowdowns};
use super::recorder::{Recorder, Tool};
use super::table::Row;
use super::target::{Target, Worker};
use super::{Bench, kernel};

/// What the start and the end of a recording may disturb.
const SETTLE: Duration = Duration::from_millis(300);

/// A way to record.
#[derive(Debug)]
pub(super) struct Variant<'a> {
    /// The profiler.
    pub(super) tool: &'a Tool,
    /// Its arguments.
    pub(super) args: &'a [&'a str],
    /// The process that is recorded, where it is not the one that is measured.
    pub(super) instead: Option<u32>,
}

/// What came of a way to record.
#[derive(Debug)]
pub(super) struct Slowdown {
    /// Percent more time for the same work, a number for each round.
    pub(super) percent: Samples,
    /// CPU time of the profiler itself, percent of one CPU.
    pub(super) own: Samples,
    /// Percent more CPU time of the program for the same work: what else the machine does counts
    /// less in it.
    pub(super) cpu: Samples,
    /// Units of work per second without a recording.
    pub(super) free: Samples,
    /// How often threads of the target were switched out, per second, with and without.
    pub(super) switches: f64,
}

/// Measures several ways to record, round after round.
pub(super) fn measure(
    bench: &Bench,
    worker: &Worker,
    variants: &[Variant<'_>],
) -> Result<Vec<Slowdown>> {
    let (begin, switches) = (Instant::now(), kernel::switches(worker.pid())?);
    let mut ratios = vec![<[Vec<f64>; 3]>::default(); variants.len()];
    let mut free = Stretch::of(bench, worker)?;
    let mut all_free = vec![free.speed];
    for _ in 0..bench.rounds {
        for (variant, [percent, own, cpu]) in variants.iter().zip(&mut ratios) {
            let pid = variant.instead.unwrap_or(worker.pid());
            let recorder = Recorder::start(variant.tool, pid, variant.args)?;
            thread::sleep(SETTLE);
            let (from, before) = (Instant::now(), cpu_time(&recorder)?);
            let recorded = Stretch::of(bench, worker)?;
            let used = cpu_time(&recorder)?.saturating_sub(before);
            own.push(used as f64 / from.elapsed().as_nanos() as f64 * 100.0);
            bench.seen(variant.tool, &recorder.stop()?);
            thread::sleep(SETTLE);
            let again = Stretch::of(bench, worker)?;
            let without = f64::midpoint(free.speed, again.speed);
            percent.push((without / recorded.speed - 1.0) * 100.0);
            let without = f64::midpoint(free.cpu, again.cpu);
            cpu.push((recorded.cpu / without - 1.0) * 100.0);
            free = again;
            all_free.push(free.speed);
        }
    }
    let switches = kernel::switches(worker.pid())? - switches;
    let switches = switches as f64 / begin.elapsed().as_secs_f64();
    let slowdown = |[percent, own, cpu]: [Vec<f64>; 3]| Slowdown {
        percent: Samples::new(percent),
        own: Samples::new(own),
        cpu: Samples::new(cpu),
        free: Samples::new(all_free.clone()),
        switches,
    };
    Ok(ratios.into_iter().map(slowdown).collect())
}

/// A time in which a program worked.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Units of work per second.
    speed: f64,
    /// Nanoseconds of CPU time of a unit.
    cpu: f64,
}

impl Stretch {
    fn of(bench: &Bench, worker: &Worker) -> Result<Self> {
        let (begin, before) = (Instant::now(), kernel::cpu_times(worker.pid())?);
        let speed = worker.speed(bench.stretch)?;
        let used = kernel::since(&before, &kernel::cpu_times(worker.pid())?);
        let used: u64 = used.values().sum();
        let cpu = used as f64 / (speed * begin.elapsed().as_secs_f64());
        Ok(Self { speed, cpu })
    }
}

fn cpu_time(recorder: &Recorder) -> Result<u64> {
    Ok(kernel::cpu_times(recorder.pid())?.values().sum())
}

/// At 1000 Hz, below a deep stack of different functions.
pub(super) fn deep(bench: &Bench) -> Result<Vec<Row>> {
    let what = "target slowdown at 1000 Hz, 200 deep";
    by_both(bench, what, 2.0, &["distinct", "200", "0"], "1000")
}

/// At 1000 Hz, below a deep recursion.
pub(super) fn recursion(bench: &Bench) -> Result<Vec<Row>> {
    let what = "target slowdown at 1000 Hz, 200 deep, recursion";
    by_both(bench, what, 2.0, &["recursion", "200", "0"], "1000")
}

/// At 100 Hz, beside many threads that wait.
pub(super) fn idle(bench: &Bench) -> Result<Vec<Row>> {
    let what = "target slowdown at 100 Hz, 160 idle threads";
    by_both(bench, what, 0.5, &["distinct", "20", "160"], "100")
}

fn by_both(bench: &Bench, what: &str, goal: f64, args: &[&str], rate: &str) -> Result<Vec<Row>> {
    let worker = Worker::start(&bench.python, "bench_deep.py", args)?;
    let idle = Target::start(&bench.python, "bench_idle.py", &["4"])?;
    let args = ["--rate", rate];
    let variant = |tool, instead| Variant {
        tool,
        args: &args,
        instead,
    };
    // What a clock of this rate costs that finds nothing to walk is the machine's, not ours.
    let ours = [None, Some(idle.pid())].map(|instead| variant(&bench.pyscry, instead));
    // One after the other: what py-spy leaves behind in the target's caches would count for us.
    let pyscry = measure(bench, &worker, &ours)?;
    let py_spy = match &bench.py_spy {
        Ok(tool) => measure(bench, &worker, &[variant(tool, None)])?,
        Err(_) => Vec::new(),
    };
    let [pyscry, clock] = &pyscry[..] else {
        bail!("not every way to record was measured");
    };
    let mut row = row(bench, what, goal, pyscry, py_spy.first());
    row.note = format!(
        "{}; recording another program, so the clock alone, {}",
        row.note,
        slowdowns(&clock.percent)
    );
    Ok(vec![row])
}

/// Off-CPU, many switches a second.
pub(super) fn off_cpu(bench: &Bench) -> Result<Vec<Row>> {
    let worker = Worker::start(&bench.python, "bench_pingpong.py", &["20000", "20"])?;
    let variant = Variant {
        tool: &bench.pyscry,
        args: &["--off-cpu"],
        instead: None,
    };
    let found = measure(bench, &worker, &[variant])?;
    let make = |pyscry: &Slowdown| {
        let what = "target slowdown recording --off-cpu with 20,000 switches a second";
        let mut row = row(bench, what, 5.0, pyscry, None);
        row.py_spy = "cannot".to_owned();
        row.note = format!(
            "two threads on one CPU, 20 deep, {:.0} switches a second; {}",
            pyscry.switches, row.note
        );
        row
    };
    Ok(found.iter().map(make).collect())
}

/// What pyscry and py-spy came to.
pub(super) fn row(
    bench: &Bench,
    what: &str,
    goal: f64,
    pyscry: &Slowdown,
    py_spy: Option<&Slowdown>,
) -> Row {
    let own = py_spy.map_or_else(String::new, |py_spy| {
        format!(", py-spy {:.1} %", py_spy.own.median())
    });
    Row {
        what: what.to_owned(),
        goal: format!("at most {goal} %"),
        pyscry: slowdown(pyscry.percent.median()),
        py_spy: py_spy.map_or_else(
            || bench.no_py_spy(),
            |found| slowdown(found.percent.median()),
        ),
        met: Some(pyscry.percent.median() <= goal),
        note: format!(
            "median of {} pairs, pyscry {}{}; the profiler itself uses {:.1} % of a CPU{own}",
            bench.rounds,
            slowdowns(&pyscry.percent),
            py_spy.map_or_else(String::new, |found| format!(
                ", py-spy {}",
                slowdowns(&found.percent)
            )),
            pyscry.own.median(),
        ),
    }
}
