//! Requests per second of a service under load, while its waits are recorded.
//!
//! What limits it is the one CPU that its threads share, which they give on thousands of times a
//! second (`bench_service.py`): so what a switch costs more comes off the requests.

use anyhow::Result;

use super::Bench;
use super::numbers::Samples;
use super::slowdown::{Slowdown, Variant, measure};
use super::table::Row;
use super::target::Worker;
use super::tracers::{self, Tracer};

/// Clients at a time.
const CONNECTIONS: &str = "8";

/// The ways of pyscry to record waits, and the percent of requests that they may cost: less than
/// those of the others, too.
const OURS: [(&[&str], Option<f64>); 4] = [
    (&["--wall"], Some(2.0)),
    (&["--off-cpu"], None),
    (&["--wall", "--wakers"], None),
    (&["--wall", "--native"], None),
];

pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let worker = Worker::start(&bench.python, "bench_service.py", &[CONNECTIONS])?;
    let others = others(worker.pid());
    let args: Vec<Vec<&str>> = others
        .iter()
        .map(|(_, tracer)| tracer.args.iter().map(String::as_str).collect())
        .collect();
    let variant = |tool, args| Variant {
        tool,
        args,
        instead: None,
    };
    let ours = OURS.iter().map(|(args, _)| variant(&bench.pyscry, args));
    let theirs = others.iter().zip(&args);
    let theirs = theirs.map(|((_, tracer), args)| variant(&tracer.tool, args));
    let variants: Vec<_> = ours.chain(theirs).collect();
    let found = measure(bench, &worker, &variants)?;
    let (ours, theirs) = found.split_at(OURS.len());
    let least = theirs.iter().map(|found| fewer(found).median());
    let least = least.fold(f64::INFINITY, f64::min);
    let mut rows = Vec::new();
    for ((args, goal), found) in OURS.iter().zip(ours) {
        let lost = fewer(found).median();
        rows.push(Row {
            what: format!("fewer requests per second under {}", args.join(" ")),
            goal: goal.map_or_else(String::new, |goal| format!("{goal} %, the least of all")),
            pyscry: format!("{lost:.2} %"),
            py_spy: "cannot".to_owned(),
            met: goal.map(|goal| lost <= goal && lost < least),
            note: note(bench, found),
        });
    }
    // Into the notes of the first: the columns are of others.
    for ((name, _), found) in others.iter().zip(theirs) {
        let note = format!(
            "; {name} {:.2} %: {}",
            fewer(found).median(),
            note(bench, found)
        );
        if let Some(row) = rows.first_mut() {
            row.note.push_str(&note);
        }
    }
    Ok(rows)
}

/// Other tools, where they are installed.
fn others(pid: u32) -> Vec<(&'static str, Tracer)> {
    let found = [
        ("bpftrace", tracers::bpftrace(pid)),
        ("offcputime", tracers::offcputime(pid)),
    ];
    let present = found.into_iter().filter_map(|(name, found)| match found {
        Ok(tracer) => Some((name, tracer)),
        Err(error) => {
            eprintln!("    left out: {error:#}");
            None
        }
    });
    present.collect()
}

/// More time for the same work, as fewer requests in the same time.
fn fewer(found: &Slowdown) -> Samples {
    found.percent.map(|more| more / (100.0 + more) * 100.0)
}

fn note(bench: &Bench, found: &Slowdown) -> String {
    let (lower, upper) = fewer(found).quartiles();
    let (cpu_lower, cpu_upper) = found.cpu.quartiles();
    format!(
        "median of {} pairs, the middle half from {lower:.2} to {upper:.2} %; {:.2} % more CPU time of \
         the service per request, {cpu_lower:.2} to {cpu_upper:.2} %; {:.0} requests a second \
         without, {:.0} switches with and without; the profiler itself uses {:.1} % of a CPU",
        bench.rounds,
        found.cpu.median(),
        found.free.median(),
        found.switches,
        found.own.median(),
    )
}
