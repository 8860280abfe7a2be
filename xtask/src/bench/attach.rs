//! How fast a recording begins, and how much memory it takes.

use anyhow::Result;

use super::Bench;
use super::numbers::Samples;
use super::recorder::{Recorder, Tool};
use super::table::Row;
use super::target::Worker;

/// py-spy takes whole seconds only.
const DURATION: &str = "1";
const DURATION_MS: f64 = 1000.0;

/// Milliseconds of several recordings.
struct Times {
    /// From the start of the profiler until it said that it samples.
    announced: Samples,
    /// The whole time of the profiler, without the time that it was to record.
    rest: Samples,
}

fn time(bench: &Bench, worker: &Worker, tool: &Tool, args: &[&str]) -> Result<Times> {
    let args = [&["--duration", DURATION], args].concat();
    let mut announced = Vec::new();
    let mut rest = Vec::new();
    for _ in 0..bench.rounds {
        let recorder = Recorder::start(tool, worker.pid(), &args)?;
        let recording = recorder.finish()?;
        announced.push(recording.announced.as_secs_f64() * 1000.0);
        rest.push(recording.took.as_secs_f64() * 1000.0 - DURATION_MS);
        bench.seen(tool, &recording);
    }
    Ok(Times {
        announced: Samples::new(announced),
        rest: Samples::new(rest),
    })
}

/// The time from the start to the first sample, without and with native frames.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    const GOAL_MS: f64 = 300.0;
    let plain = row(bench, "attach to first sample", &[], Some(GOAL_MS))?;
    let mut native = row(
        bench,
        "attach to first sample, --native",
        &["--native"],
        None,
    )?;
    native
        .note
        .push_str("; but for the first recording of all, tables come from the cache on disk");
    Ok(vec![plain, native])
}

fn row(bench: &Bench, what: &str, args: &[&str], goal: Option<f64>) -> Result<Row> {
    let worker = Worker::start(&bench.python, "bench_deep.py", &["distinct", "20", "30"])?;
    let times = time(bench, &worker, &bench.pyscry, args)?;
    let py_spy = bench.py_spy.as_ref().ok();
    let other = py_spy
        .map(|tool| time(bench, &worker, tool, args))
        .transpose()?;
    let reached = times.announced.median();
    Ok(Row {
        what: what.to_owned(),
        goal: goal.map_or_else(String::new, |goal| format!("{goal} ms")),
        pyscry: format!("{reached:.0} ms"),
        py_spy: other.map_or_else(
            || bench.no_py_spy(),
            |other| format!("{:.0} ms", other.announced.median()),
        ),
        met: goal.map(|goal| reached <= goal),
        note: format!(
            "from the start until it says that it samples, {:.0} to {:.0} ms; the first sample \
             comes within a period. Beside what it was to record, a whole recording took \
             {:.0} ms, with its end",
            times.announced.min(),
            times.announced.max(),
            times.rest.median(),
        ),
    })
}

/// The most memory that a recording of this benchmark had; to be asked for at the end.
pub(super) fn memory(bench: &Bench) -> Option<Row> {
    const GOAL: f64 = 60.0;
    let (pyscry, py_spy) = bench.peaks();
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    (pyscry != 0).then(|| Row {
        what: "peak memory".to_owned(),
        goal: format!("{GOAL} MB"),
        pyscry: format!("{:.1} MB", megabytes(pyscry)),
        py_spy: if py_spy == 0 {
            bench.no_py_spy()
        } else {
            format!("{:.1} MB", megabytes(py_spy))
        },
        met: Some(megabytes(pyscry) <= GOAL),
        note: "the most of all recordings above".to_owned(),
    })
}
