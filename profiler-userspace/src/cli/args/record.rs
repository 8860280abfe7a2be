//! The options of `record`.

use std::ffi::OsString;
use std::time::Duration;

use clap::ValueEnum;

use super::output::OutputArgs;
use super::{DEFAULT_RATE, MAX_RATE, UNLIMITED, Which, parse_seconds};

/// The options of a recording.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    pyscry record -p 1234 -d 10                        where the CPU time goes, as a picture\n  \
    pyscry record -p 1234 -d 10 --wall -o wall.svg     all of the time: running, queued, waiting\n  \
    pyscry record -p 1234 -d 10 --native               C, C++ and Rust functions as well\n  \
    pyscry record -p 1234 --gil -t                     who holds the GIL, by thread\n  \
    pyscry record -s -- gunicorn app:app               a program and its workers\n  \
    pyscry record -p 1234 -d 60 -o slow.pyscry         a file for pyscry report\n  \
    pyscry record -p 1234 -d 10 -f speedscope,pprof    two formats at once\n  \
    kill -USR1 $(pidof pyscry)                         write what there is, and go on")]
#[command(group = clap::ArgGroup::new("waits").args(["wall", "off_cpu", "idle"]).multiple(true))]
pub struct RecordArgs {
    /// Which processes.
    #[command(flatten)]
    pub which: Which,
    /// Seconds to record; until all targets end or Control-C when not given.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Option<Duration>,
    /// Samples per second of CPU time.
    #[arg(
        short, long, value_name = "HZ", default_value_t = DEFAULT_RATE,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE))
    )]
    pub rate: u32,
    /// What is written.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Keep threads apart: each is a frame at the root, below those of --group-by.
    #[arg(short, long)]
    pub threads: bool,
    /// What is kept apart, each with a frame at the root, outermost first [default: process where
    /// there can be more than one, else none].
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub group_by: Vec<GroupArg>,
    /// Record all of the time, in microseconds: on a CPU, runnable without one, and blocked, each
    /// wait with its cause.
    #[arg(long)]
    pub wall: bool,
    /// Count waiting threads as well, with the cause of each wait: --wall in samples of the chosen
    /// rate instead of microseconds.
    #[arg(short, long, conflicts_with_all = ["off_cpu", "wall"])]
    pub idle: bool,
    /// Record the time off the CPUs: where threads wait, for how long, and why.
    #[arg(long, conflicts_with = "wall")]
    pub off_cpu: bool,
    /// With --wall or --off-cpu: leave out waits shorter than this (such as 50us or 1ms) in the
    /// kernel; how many and how long they were is said at the end.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "waits")]
    pub off_cpu_min: Option<Duration>,
    /// With --wall or --off-cpu: below each wait, show the stack of the thread that ended it.
    #[arg(long, requires = "waits")]
    pub wakers: bool,
    /// Only what threads do while they hold the global interpreter lock (GIL).
    #[arg(short, long)]
    pub gil: bool,
    /// Show native frames as well: C, C++ and Rust code, in the true order with Python's. What the
    /// interpreter does between two functions is left out; --native=all shows it.
    #[arg(
        short, long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true,
        default_missing_value = "folded"
    )]
    pub native: Option<NativeArg>,
    /// Show the kernel's frames as well [default: with --native].
    #[arg(long, overrides_with = "no_kernel")]
    pub kernel: bool,
    /// Leave the kernel's frames out.
    #[arg(long)]
    pub no_kernel: bool,
    /// Sample by events of the target's threads, not of the CPUs.
    #[arg(long, hide = true, conflicts_with_all = ["off_cpu", "all", "subprocesses"])]
    pub per_thread_events: bool,
    /// Accepted for py-spy's users: pyscry never stops a process.
    #[arg(long, hide = true)]
    pub nonblocking: bool,
    /// Accepted for py-spy's users: what a launched program prints is kept, and shown when it fails.
    #[arg(long, hide = true)]
    pub capture: bool,
    /// No progress bar.
    #[arg(long, hide = true)]
    pub hideprogress: bool,
    /// Program to launch and record, with its arguments, after `--`.
    #[arg(last = true, value_name = "PROGRAM", conflicts_with = "pid")]
    pub program: Vec<OsString>,
}

impl RecordArgs {
    /// How long; `None` until the targets end or somebody stops it.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.duration.filter(|duration| *duration != UNLIMITED)
    }

    /// Whether threads are kept apart.
    #[must_use]
    pub fn keeps_threads(&self) -> bool {
        self.threads || self.group_by.contains(&GroupArg::Thread)
    }
}

/// What is kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupArg {
    /// Each process: its number and command line.
    Process,
    /// The name of the program.
    Command,
    /// The container.
    Container,
    /// The control group.
    Cgroup,
    /// The thread.
    Thread,
    /// The user.
    User,
    /// Nothing: all processes as one.
    None,
}

/// Which native frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NativeArg {
    /// Without what the interpreter does between two functions.
    Folded,
    /// All of them.
    All,
}
