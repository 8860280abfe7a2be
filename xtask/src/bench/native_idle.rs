//! Slowdown with native frames, beside idle threads.

use anyhow::{Result, bail};

use super::Bench;
use super::numbers::slowdowns;
use super::perf;
use super::slowdown::{self, Variant};
use super::table::Row;
use super::target::{Target, Worker};

const IDLE_THREADS: &str = "32";
const OURS: [&str; 3] = ["--rate", "100", "--native"];
const PERF: [&str; 4] = ["--call-graph", "dwarf", "-F", "100"];

/// At 100 Hz: pyscry, the clock alone, py-spy and perf.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let args = ["distinct", "20", IDLE_THREADS];
    let worker = Worker::start(&bench.python, "bench_deep.py", &args)?;
    let idle = Target::start(&bench.python, "bench_idle.py", &["4"])?;
    let variant = |tool, args, instead| Variant {
        tool,
        args,
        instead,
    };
    // What a clock of this rate costs that finds nothing to walk is the machine's, not ours.
    let ours = [None, Some(idle.pid())].map(|instead| variant(&bench.pyscry, &OURS, instead));
    // One after the other, as without native frames.
    let found = slowdown::measure(bench, &worker, &ours)?;
    let [pyscry, clock] = &found[..] else {
        bail!("not every way to record was measured");
    };
    let py_spy = match &bench.py_spy {
        Ok(tool) => slowdown::measure(bench, &worker, &[variant(tool, &OURS, None)])?,
        Err(_) => Vec::new(),
    };
    let perf = match perf::find() {
        Ok(tool) => {
            let found = slowdown::measure(bench, &worker, &[variant(&tool, &PERF, None)])?;
            let said = |found: &slowdown::Slowdown| slowdowns(&found.percent);
            found.first().map_or_else(String::new, said)
        }
        Err(error) => format!("{error:#}"),
    };
    let what = format!("target slowdown at 100 Hz with --native, {IDLE_THREADS} idle threads");
    let mut row = slowdown::row(bench, &what, 0.5, pyscry, py_spy.first());
    row.note = format!(
        "{}; recording another program, so the clock alone, {}; perf record {}: {perf}",
        row.note,
        slowdowns(&clock.percent),
        PERF.join(" "),
    );
    Ok(vec![row])
}
