//! What unwind tables take: memory, and time until they are there.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

use super::Bench;
use super::numbers::Samples;
use super::recorder::Recorder;
use super::table::Row;
use super::target::Target;
use crate::numpy;

/// What pyscry says of its tables.
#[derive(Clone, Debug)]
struct Tables {
    files: String,
    megabytes: f64,
    rules: String,
    ready_in: f64,
}

impl Tables {
    /// Parses `Unwind tables: 43 files, 5.1 MB, 9321 rules, ready in 210 ms.`
    fn parse(said: &[String]) -> Option<Self> {
        let mut lines = said.iter();
        let line = lines.find_map(|line| line.strip_prefix("Unwind tables: "))?;
        let mut parts = line.trim_end_matches('.').split(", ");
        let number = |text: &str| text.split(' ').find_map(|word| word.parse::<f64>().ok());
        Some(Self {
            files: parts.next()?.to_owned(),
            megabytes: number(parts.next()?)?,
            rules: parts.next()?.to_owned(),
            ready_in: number(parts.next()?)?,
        })
    }
}

fn record(bench: &Bench, pid: u32, cache: &Path) -> Result<Tables> {
    let args = ["--native"];
    let recorder = Recorder::start_with_cache(&bench.pyscry, pid, &args, Some(cache))?;
    thread::sleep(bench.stretch / 10);
    let recording = recorder.stop()?;
    bench.seen(&bench.pyscry, &recording);
    Tables::parse(&recording.said).context("pyscry does not tell of its tables")
}

/// The tables of a Python with numpy: from nothing, and from what was kept.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let modules = numpy::install_for(&bench.python.exe, &bench.python.version)
        .context("cannot install numpy")?;
    let python = bench.python.with_modules(modules);
    let target = Target::start(&python, "bench_numpy.py", &[])?;
    let mut cold = Vec::new();
    let mut warm = Vec::new();
    let mut last = None;
    for _ in 0..bench.rounds {
        let cache = tempfile::tempdir()?;
        cold.push(record(bench, target.pid(), cache.path())?.ready_in);
        let tables = record(bench, target.pid(), cache.path())?;
        warm.push(tables.ready_in);
        last = Some(tables);
    }
    let tables = last.context("nothing was measured")?;
    let mut rows = vec![Row {
        what: "unwind tables in the kernel, CPython with numpy".to_owned(),
        goal: "8 MB".to_owned(),
        pyscry: format!("{:.1} MB", tables.megabytes),
        met: Some(tables.megabytes <= 8.0),
        note: format!("{}, {}", tables.files, tables.rules),
        ..Row::default()
    }];
    for (what, goal, times, note) in [
        ("compiled", 300.0, cold, "the files are in the page cache"),
        (
            "from the cache on disk",
            20.0,
            warm,
            "right after they were kept",
        ),
    ] {
        let times = Samples::new(times);
        rows.push(Row {
            what: format!("time until they are there, {what}"),
            goal: format!("{goal} ms"),
            pyscry: format!("{:.0} ms", times.median()),
            met: Some(times.median() <= goal),
            note: format!(
                "median of {}, {:.0} to {:.0} ms; {note}",
                bench.rounds,
                times.min(),
                times.max()
            ),
            ..Row::default()
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::Tables;

    #[test]
    fn the_line_of_the_tables() {
        let said = ["Unwind tables: 43 files, 5.1 MB, 9321 rules, ready in 210 ms.".to_owned()];
        let tables = Tables::parse(&said).expect("a line");
        assert_eq!((&*tables.files, &*tables.rules), ("43 files", "9321 rules"));
        assert!((tables.megabytes - 5.1).abs() < 1e-9 && (tables.ready_in - 210.0).abs() < 1e-9);
        assert!(Tables::parse(&[]).is_none());
    }
}
