//! Off-CPU time against the program's own clock.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Bench;
use super::recorder::Recorder;
use super::table::Row;
use super::target::Target;

/// Waits of five kinds; all of them begin and end inside the recording.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let seconds = bench.recording_seconds();
    let mut target = Target::start(&bench.python, "bench_waits.py", &[&seconds])?;
    let recorder = Recorder::start(&bench.pyscry, target.pid(), &["--off-cpu"])?;
    let said = target.work()?;
    // What the program's clock saw ends a moment before the last switch does.
    thread::sleep(Duration::from_millis(50));
    let recording = recorder.stop()?;
    bench.seen(&bench.pyscry, &recording);
    let mut worst: f64 = 0.0;
    let mut list = Vec::new();
    for line in &said {
        let mut words = line.split_whitespace().skip(1);
        let function = words.next().context("no function")?;
        let clock = words.next().context("no time")?.parse::<f64>()? / 1e3;
        let recorded = recording.stacks.of(function) as f64;
        let percent = (recorded / clock - 1.0) * 100.0;
        worst = worst.max(percent.abs());
        list.push(format!(
            "{function} {:.1} ms ({percent:+.2} %)",
            recorded / 1e3
        ));
    }
    Ok(vec![Row {
        what: "off-CPU time per function against the program's own clock".to_owned(),
        goal: "within 2 %".to_owned(),
        pyscry: format!("{worst:.2} %"),
        py_spy: "cannot".to_owned(),
        met: Some(worst <= 2.0),
        note: list.join(", "),
    }])
}
