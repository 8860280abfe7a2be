//! Time in the kernel with native frames.

use std::thread;

use anyhow::Result;

use super::Bench;
use super::bpf_stats::Enabled;
use super::cost;
use super::folded::Folded;
use super::python::Python;
use super::recorder::Recorder;
use super::table::Row;
use super::target::{Target, Worker};

/// Python frames of the stacks.
const PYTHON: usize = 20;
/// Native frames of those where C code calls Python functions.
const NATIVE: usize = 40;
/// A function that is on the stacks of all programs here.
const OUTERMOST: &str = "level_0";
const GOAL_US: f64 = 8.0;
const RATE: [&str; 2] = ["--rate", "1000"];
const NATIVE_FRAMES: [&str; 3] = ["--rate", "1000", "--native"];
const ALL_FRAMES: [&str; 3] = ["--rate=1000", "--native=all", "--no-kernel"];

/// How many functions C code calls: functools.reduce, sorted and min.
type Calls = [usize; 3];

/// What a stack is made of.
#[derive(Clone, Copy, Debug)]
struct Depth {
    native: usize,
    python: usize,
    /// Percent of the samples whose stack is whole.
    complete: f64,
}

impl Depth {
    fn of(stacks: &Folded) -> Self {
        let is_python = |frame: &str| frame.contains(".py:");
        Self {
            native: stacks.depth(OUTERMOST, |frame| !is_python(frame)),
            python: stacks.depth(OUTERMOST, is_python),
            complete: stacks.percent(|stack| !stack.contains("[incomplete")),
        }
    }

    fn note(self) -> String {
        format!(
            "{} native and {} Python frames by --native=all, {:.1} % of the stacks complete",
            self.native, self.python, self.complete
        )
    }
}

fn start(python: &Python, calls: Calls) -> Result<Target> {
    let args = [PYTHON].into_iter().chain(calls);
    let args: Vec<String> = args.map(|number| number.to_string()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Target::start(python, "bench_native.py", &args)
}

fn depth(bench: &Bench, pid: u32, args: &[&str]) -> Result<Depth> {
    let recorder = Recorder::start(&bench.pyscry, pid, args)?;
    thread::sleep(bench.stretch / 2);
    let recording = recorder.stop()?;
    bench.seen(&bench.pyscry, &recording);
    Ok(Depth::of(&recording.stacks))
}

/// How many functions must be called how for [`NATIVE`] frames, or as near to it as can be. How
/// many frames a call takes depends on the interpreter and how it was compiled.
fn find_calls(bench: &Bench, python: &Python) -> Result<Calls> {
    let native = |calls| -> Result<usize> {
        let target = start(python, calls)?;
        Ok(depth(bench, target.pid(), &ALL_FRAMES)?.native)
    };
    let none = native([0; 3])?;
    let mut frames = [0; 3];
    for (kind, frames) in frames.iter_mut().enumerate() {
        let mut calls = [0; 3];
        calls[kind] = 1;
        *frames = native(calls)?.saturating_sub(none);
    }
    // The module and the function that works are called by none of them.
    let most = PYTHON - 2;
    let upto = |left: usize| 0..=left;
    let all = upto(most).flat_map(|first| {
        upto(most - first).flat_map(move |second| {
            upto(most - first - second).map(move |third| [first, second, third])
        })
    });
    let off = |calls: &Calls| {
        let pairs = calls.iter().zip(&frames);
        let there = none + pairs.map(|(calls, frames)| calls * frames).sum::<usize>();
        // Rather more than fewer.
        (there.abs_diff(NATIVE), there < NATIVE)
    };
    Ok(all.min_by_key(off).unwrap_or_default())
}

/// A sample, and a switch of a thread.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let python = bench.python.stripped(&dir.path().join("python3"))?;
    let calls = find_calls(bench, &python)?;
    let mixed = format!("{NATIVE} native and {PYTHON} Python frames");
    let pure = format!("{PYTHON} Python functions that call each other");
    let mut rows = samples(bench, &python, calls, &mixed, Some(GOAL_US))?;
    rows.extend(samples(bench, &python, [0; 3], &pure, None)?);
    rows.extend(switches(bench)?);
    Ok(rows)
}

fn samples(
    bench: &Bench,
    python: &Python,
    calls: Calls,
    stack: &str,
    goal: Option<f64>,
) -> Result<Vec<Row>> {
    let target = start(python, calls)?;
    let depth = depth(bench, target.pid(), &ALL_FRAMES)?;
    let _enabled = Enabled::new()?;
    let base = cost::base(bench)?;
    let mut rows = Vec::new();
    for (how, args, goal) in [
        ("--native", &NATIVE_FRAMES[..], goal),
        ("without", &RATE, None),
    ] {
        let cost = cost::of_sample(bench, target.pid(), args, base)?;
        rows.push(Row {
            what: format!("in-kernel cost per sample, {stack}, {how}"),
            goal: goal.map_or_else(String::new, |goal| format!("{goal} us")),
            pyscry: format!("{:.2} us", cost.each),
            met: goal.map(|goal| cost.each <= goal),
            note: format!(
                "{}, {} of the Python functions called by functools.reduce, {} by sorted, {} by \
                 min; {}",
                depth.note(),
                calls[0],
                calls[1],
                calls[2],
                cost.note()
            ),
            ..Row::default()
        });
    }
    Ok(rows)
}

fn switches(bench: &Bench) -> Result<Vec<Row>> {
    let depth_arg = PYTHON.to_string();
    let worker = Worker::start(&bench.python, "bench_pingpong.py", &["20000", &depth_arg])?;
    let all = ["--off-cpu", "--native=all"];
    let depth = depth(bench, worker.pid(), &all)?;
    let _enabled = Enabled::new()?;
    let mut rows = Vec::new();
    for (how, args) in [
        ("--native", &["--off-cpu", "--native"][..]),
        ("without", &["--off-cpu"]),
    ] {
        let runs = cost::of_switches(bench, worker.pid(), args)?;
        rows.push(Row {
            what: format!(
                "sched_switch cost, threads of the target, {PYTHON} deep, --off-cpu, {how}"
            ),
            pyscry: format!("{:.2} us", runs.each() / 1000.0),
            note: format!(
                "mean of {} runs; the kernel's among them, {}",
                runs.count,
                depth.note()
            ),
            ..Row::default()
        });
    }
    Ok(rows)
}
