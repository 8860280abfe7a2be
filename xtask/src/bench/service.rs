//! Requests per second of a service under load, while its waits are recorded.
//!
//! What limits it is the one CPU that its threads share, which they give on thousands of times a
//! second (`bench_service.py`): so what a switch costs more comes off the requests.

use anyhow::Result;

use super::Bench;
use super::slowdown::{Slowdown, Variant, measure};
use super::table::Row;
use super::target::Worker;
use super::tracers::{self, Tracer};

/// Clients at a time.
const CONNECTIONS: &str = "8";

/// The ways of pyscry to record waits, and the percent of requests that they may cost.
const OURS: [(&[&str], Option<f64>); 4] = [
    (&["--wall"], Some(2.0)),
    (&["--off-cpu"], None),
    (&["--wall", "--wakers"], None),
    (&["--wall", "--native"], None),
];

pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let worker = Worker::start(&bench.python, "bench_service.py", &[CONNECTIONS])?;
    let pid = worker.pid();
    let mut names = Vec::new();
    let mut goals = Vec::new();
    let mut variants = Vec::new();
    for (args, goal) in OURS {
        names.push(format!("pyscry {}", args.join(" ")));
        goals.push(goal);
        variants.push(Variant {
            tool: &bench.pyscry,
            args,
            instead: None,
        });
    }
    let others: Vec<(&str, Tracer)> = [
        ("bpftrace", tracers::bpftrace(pid)),
        ("offcputime", tracers::offcputime(pid)),
    ]
    .into_iter()
    .filter_map(|(name, found)| match found {
        Ok(tracer) => Some((name, tracer)),
        Err(error) => {
            eprintln!("    left out: {error:#}");
            None
        }
    })
    .collect();
    let args: Vec<Vec<&str>> = others
        .iter()
        .map(|(_, tracer)| tracer.args.iter().map(String::as_str).collect())
        .collect();
    for ((name, tracer), args) in others.iter().zip(&args) {
        names.push((*name).to_owned());
        goals.push(None);
        variants.push(Variant {
            tool: &tracer.tool,
            args,
            instead: None,
        });
    }
    let found = measure(bench, &worker, &variants)?;
    let rows = names.iter().zip(goals).zip(&found);
    Ok(rows
        .map(|((name, goal), found)| row(bench, name, goal, found))
        .collect())
}

fn row(bench: &Bench, name: &str, goal: Option<f64>, found: &Slowdown) -> Row {
    // More time for the same work, as fewer requests in the same time.
    let fewer = found.percent.map(|more| more / (100.0 + more) * 100.0);
    let (lower, upper) = fewer.quartiles();
    Row {
        what: format!("fewer requests per second under {name}"),
        goal: goal.map_or_else(String::new, |goal| format!("at most {goal} %")),
        pyscry: format!("{:.2} %", fewer.median()),
        met: goal.map(|goal| fewer.median() <= goal),
        note: format!(
            "median of {} pairs, the middle half from {lower:.2} to {upper:.2} %; {:.2} % more CPU \
             time of the service per request, {:.2} to {:.2} %; {:.0} requests a second without, \
             {:.0} switches with and without; the profiler itself uses {:.1} % of a CPU",
            bench.rounds,
            found.cpu.median(),
            found.cpu.quartiles().0,
            found.cpu.quartiles().1,
            found.free.median(),
            found.switches,
            found.own.median(),
        ),
        ..Row::default()
    }
}
