//! What each program that records waits takes of the kernel's time: the target switches often, and
//! the rest of the host more often.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Bench;
use super::bpf_stats::{Enabled, Reading};
use super::recorder::Recorder;
use super::table::Row;
use super::target::{Target, Worker};

const SETTLE: Duration = Duration::from_millis(300);

/// The ways to record, and whether the host's switches are of the target, too.
const WAYS: [(&[&str], bool); 5] = [
    (&["--wall"], true),
    (&["--wall"], false),
    (&["--wall", "--wakers"], true),
    (&["--wall", "--wakers"], false),
    (&["--wall", "--wakers", "--native"], true),
];

pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let target = Worker::start(&bench.python, "bench_pingpong.py", &["20000", "20"])?;
    let _others = Worker::start(
        &bench.python,
        "bench_pingpong.py",
        &["80000", "20", "first"],
    )?;
    let idle = Target::start(&bench.python, "bench_idle.py", &["4"])?;
    let _enabled = Enabled::new()?;
    let mut rows = Vec::new();
    for (args, busy) in WAYS {
        let pid = if busy { target.pid() } else { idle.pid() };
        let recorder = Recorder::start(&bench.pyscry, pid, args)?;
        thread::sleep(SETTLE);
        let (begin, switches) = (Instant::now(), switches()?);
        let before = Reading::of(recorder.pid())?;
        thread::sleep(bench.stretch * 2);
        let runs = Reading::of(recorder.pid())?.by_name(&before)?;
        let seconds = begin.elapsed().as_secs_f64();
        let switches = (self::switches()? - switches) as f64 / seconds;
        bench.seen(&bench.pyscry, &recorder.stop()?);
        let of = if busy {
            "20,000 switches a second of the target"
        } else {
            "a target that sleeps"
        };
        for (name, runs) in runs.iter().filter(|(_, runs)| runs.count != 0) {
            rows.push(Row {
                what: format!("{name}, {}, {of}", args.join(" ")),
                pyscry: format!("{:.0} ns", runs.each()),
                note: format!(
                    "mean of {:.0} runs a second, {:.2} % of a CPU; the host switches {switches:.0} \
                     times a second",
                    runs.count as f64 / seconds,
                    runs.ns as f64 / seconds / 1e7,
                ),
                ..Row::default()
            });
        }
    }
    Ok(rows)
}

/// How often this host switched since its start.
fn switches() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("ctxt "));
    let count = line.context("/proc/stat has no number of switches")?;
    Ok(count.trim().parse()?)
}
