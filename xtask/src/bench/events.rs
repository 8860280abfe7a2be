//! Events of the CPUs against events of the target's threads.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Bench;
use super::bpf_stats::{Enabled, Reading};
use super::numbers::slowdowns;
use super::recorder::Recorder;
use super::slowdown::{self, Slowdown, Variant};
use super::table::Row;
use super::target::Worker;

const PER_CPU: [&str; 2] = ["--rate", "100"];
const PER_THREAD: [&str; 3] = ["--rate", "100", "--per-thread-events"];

/// Beside many threads that wait, and with many switches.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let idle = Worker::start(&bench.python, "bench_deep.py", &["distinct", "20", "160"])?;
    let first = row(bench, "160 idle threads", &idle)?;
    drop(idle);
    let pingpong = Worker::start(&bench.python, "bench_pingpong.py", &["20000", "20"])?;
    let second = row(bench, "20,000 switches a second", &pingpong)?;
    Ok([first, second].into_iter().flatten().collect())
}

fn row(bench: &Bench, what: &str, worker: &Worker) -> Result<Option<Row>> {
    let variants = [
        Variant {
            tool: &bench.pyscry,
            args: &PER_CPU,
            instead: None,
        },
        Variant {
            tool: &bench.pyscry,
            args: &PER_THREAD,
            instead: None,
        },
    ];
    let found = slowdown::measure(bench, worker, &variants)?;
    let in_kernel = [
        in_kernel(bench, worker, &PER_CPU)?,
        in_kernel(bench, worker, &PER_THREAD)?,
    ];
    let [per_cpu, per_thread] = &found[..] else {
        return Ok(None);
    };
    Ok(Some(Row {
        what: format!("on-CPU sampling at 100 Hz by CPU or by thread, {what}"),
        goal: "the cheaper one".to_owned(),
        pyscry: cheaper(per_cpu, per_thread).to_owned(),
        note: format!(
            "slowdown by CPU {}, by thread {}; in BPF programs {:.0} and {:.0} us per second",
            slowdowns(&per_cpu.percent),
            slowdowns(&per_thread.percent),
            in_kernel[0],
            in_kernel[1],
        ),
        ..Row::default()
    }))
}

/// Which slows the target less, if that can be told from noise.
fn cheaper(per_cpu: &Slowdown, per_thread: &Slowdown) -> &'static str {
    let difference = per_thread.percent.median() - per_cpu.percent.median();
    let noise = per_cpu
        .percent
        .middle_half()
        .max(per_thread.percent.middle_half());
    match difference {
        _ if difference.abs() <= noise => "no difference beyond noise",
        _ if difference > 0.0 => "by CPU",
        _ => "by thread",
    }
}

/// Microseconds in BPF programs per second of recording. What the kernel itself does for the
/// events of threads at every switch is not in it.
fn in_kernel(bench: &Bench, worker: &Worker, args: &[&str]) -> Result<f64> {
    let _enabled = Enabled::new()?;
    let recorder = Recorder::start(&bench.pyscry, worker.pid(), args)?;
    thread::sleep(Duration::from_millis(300));
    let (begin, before) = (Instant::now(), Reading::of(recorder.pid())?);
    thread::sleep(bench.stretch);
    let ns = Reading::of(recorder.pid())?.total_ns(&before);
    let seconds = begin.elapsed().as_secs_f64();
    bench.seen(&bench.pyscry, &recorder.stop()?);
    Ok(ns as f64 / 1000.0 / seconds)
}
