//! `cargo xtask bench`: cost and truth of a recording, side by side with py-spy in one run,
//! and with perf, bpftrace and offcputime where there are any.
//!
//! It prints a table and judges nothing else: timings are no tests.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::run;

mod attach;
mod bpf_stats;
mod cost;
mod events;
mod folded;
mod host;
mod kernel;
mod native_cost;
mod native_idle;
mod numbers;
mod perf;
mod precedence;
mod program_cost;
mod py_spy;
pub(crate) mod python;
mod recorder;
mod service;
mod slowdown;
mod table;
mod tables;
mod target;
mod tracers;
mod truth;
mod waits;

use python::Python;
use recorder::{Format, Recording, Tool};
use table::Row;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Interpreter of the programs that are measured [default: python3].
    #[arg(long)]
    python: Option<PathBuf>,
    /// py-spy [default: the one on PATH, else one that is installed into the cache].
    #[arg(long)]
    py_spy: Option<PathBuf>,
    /// pyscry [default: built from the sources here].
    #[arg(long)]
    pyscry: Option<PathBuf>,
    /// Measure this; can be given again.
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Measurement>,
    /// Seconds of a stretch with or without a recording; recordings for their content take four.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Pairs of stretches with and without a recording.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Share of CPU per function of 36 threads, and the number of samples.
    Shares,
    /// The number of samples of threads that fight for one lock.
    Samples,
    /// Slowdown at 1000 Hz, 200 different functions deep.
    Deep,
    /// Slowdown at 1000 Hz, in a recursion 200 deep.
    Recursion,
    /// Slowdown at 100 Hz beside 160 idle threads.
    Idle,
    /// Slowdown recording off-CPU with 20,000 switches a second.
    OffCpu,
    /// Time of a sample in the kernel.
    Cost,
    /// Time of a switch in the kernel.
    SwitchCost,
    /// Off-CPU time per function.
    Waits,
    /// Time to the first sample.
    Attach,
    /// Events by CPU against events by thread.
    Events,
    /// Time of a sample and of a switch in the kernel, with native frames.
    NativeCost,
    /// Slowdown at 100 Hz beside 32 idle threads, with native frames.
    NativeIdle,
    /// Memory of unwind tables, and the time until they are there.
    Tables,
    /// Requests per second of a service while its waits are recorded.
    Service,
    /// Time in the kernel of each program that records waits.
    ProgramCost,
    /// What a recording of 1,100 interpreters takes.
    Host,
}

impl Measurement {
    fn rows(self, bench: &Bench) -> Result<Vec<Row>> {
        match self {
            Self::Shares => truth::shares(bench),
            Self::Samples => truth::samples(bench),
            Self::Deep => slowdown::deep(bench),
            Self::Recursion => slowdown::recursion(bench),
            Self::Idle => slowdown::idle(bench),
            Self::OffCpu => slowdown::off_cpu(bench),
            Self::Cost => cost::samples(bench),
            Self::SwitchCost => cost::switches(bench),
            Self::Waits => waits::rows(bench),
            Self::Attach => attach::rows(bench),
            Self::Events => events::rows(bench),
            Self::NativeCost => native_cost::rows(bench),
            Self::NativeIdle => native_idle::rows(bench),
            Self::Tables => tables::rows(bench),
            Self::Service => service::rows(bench),
            Self::ProgramCost => program_cost::rows(bench),
            Self::Host => host::rows(bench),
        }
    }
}

/// What the measurements share.
struct Bench {
    python: Python,
    pyscry: Tool,
    /// Or why there is none.
    py_spy: Result<Tool>,
    stretch: Duration,
    rounds: u32,
    pyscry_peak: Cell<u64>,
    py_spy_peak: Cell<u64>,
}

impl Bench {
    fn new(args: &Args, pyscry: PathBuf) -> Result<Self> {
        let python = Python::find(args.python.as_deref())?;
        let py_spy = py_spy::find(args.py_spy.as_deref(), &python).map(|exe| Tool {
            exe,
            format: Format::Folded {
                announces: "Sampling process",
            },
        });
        if let Err(error) = &py_spy {
            eprintln!("WARNING: there is no py-spy {}: {error:#}", py_spy::VERSION);
        }
        Ok(Self {
            python,
            pyscry: Tool {
                exe: pyscry,
                format: Format::Folded {
                    announces: "Recording ",
                },
            },
            py_spy,
            stretch: Duration::try_from_secs_f64(args.seconds)?,
            rounds: args.rounds.max(1),
            pyscry_peak: Cell::new(0),
            py_spy_peak: Cell::new(0),
        })
    }

    /// Seconds of a recording for its content, as the programs take them.
    fn recording_seconds(&self) -> String {
        (4.0 * self.stretch.as_secs_f64()).to_string()
    }

    /// What stands in py-spy's column when it was not measured.
    fn no_py_spy(&self) -> String {
        self.py_spy
            .as_ref()
            .map_or("not installed", |_| "")
            .to_owned()
    }

    /// Keeps what every recording has to say.
    fn seen(&self, tool: &Tool, recording: &Recording) {
        let peak = if tool.exe == self.pyscry.exe {
            &self.pyscry_peak
        } else if self
            .py_spy
            .as_ref()
            .is_ok_and(|known| known.exe == tool.exe)
        {
            &self.py_spy_peak
        } else {
            return;
        };
        peak.set(peak.get().max(recording.peak));
        for line in &recording.said {
            if line.starts_with("Missing:") || line.starts_with("Incomplete:") {
                eprintln!("    {line}");
            }
        }
    }

    /// The most memory of recordings by pyscry and by py-spy, bytes.
    fn peaks(&self) -> (u64, u64) {
        (self.pyscry_peak.get(), self.py_spy_peak.get())
    }
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let pyscry = run::build_then_as_root(args.pyscry.as_deref())?;
    let bench = Bench::new(args, pyscry)?;
    if bpf_stats::always_on() {
        eprintln!(
            "WARNING: kernel.bpf_stats_enabled is 1, which makes every BPF program slower; \
             `sysctl kernel.bpf_stats_enabled=0` is how kernels come"
        );
    }
    eprintln!("Python {}, {} rounds", bench.python.version, bench.rounds);
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for measurement in Measurement::value_variants() {
        if !args.only.is_empty() && !args.only.contains(measurement) {
            continue;
        }
        let name = measurement
            .to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned());
        eprintln!("measuring: {name}");
        match measurement.rows(&bench) {
            Ok(found) => rows.extend(found),
            Err(error) => {
                eprintln!("    failed: {error:#}");
                failed.push(name);
            }
        }
    }
    rows.extend(attach::memory(&bench));
    println!("{}", table::print(&rows));
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}
