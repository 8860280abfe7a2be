//! What can be typed. Names and meanings are py-spy's wherever it has them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::record::criteria::{self, Cgroup, Comm, Container, CriterionError, Exclude, UserId};

/// Samples per second when nothing is said: not a round number, so that programs with a
/// rhythm of their own are not sampled in step.
pub const DEFAULT_RATE: u32 = 99;
/// More would be felt.
pub const MAX_RATE: u32 = 10_000;
/// Where help lists what chooses processes.
const PROCESSES: &str = "What to record";

/// See into every running Python, from the kernel.
#[derive(Debug, Parser)]
#[command(
    name = "pyscry",
    version,
    about,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        pyscry record --pid 1234 --duration 10          where the CPU time goes\n  \
        pyscry record --pid 1234 --wall -o wall.svg     all of the time: running, queued, waiting\n  \
        pyscry record --pid 1234 --off-cpu -o off.svg   where threads wait\n  \
        pyscry record -- python app.py                  launch a program\n  \
        pyscry record --pid 1234 --subprocesses         a server and its workers\n  \
        pyscry record --all --duration 30               every process of the host\n  \
        pyscry record --comm 'gunicorn*'                all that are called so\n  \
        pyscry record --container 3f2a91bc07de -t       one container, its threads apart\n  \
        pyscry record --all --group-by container,command --exclude user=root\n  \
        pyscry --pid 1234                               the same as pyscry record --pid 1234"
)]
pub struct Args {
    /// What to do; recording, when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of a recording without its word.
    #[command(flatten)]
    pub record: RecordArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record where a Python program spends its time, and write a flame graph.
    Record(Box<RecordArgs>),
    /// Say what this kernel and this user can and cannot do, and what to run to fix it.
    Doctor(DoctorArgs),
    /// What a launched program is before it is itself.
    #[command(name = crate::record::launch::SUBCOMMAND, hide = true)]
    ExecWhenTold {
        /// Descriptor to wait at.
        wait: i32,
        /// Descriptor to report to.
        report: i32,
        /// The program and its arguments.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

/// The formats of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A picture (SVG) to open in a browser.
    Flamegraph,
    /// Folded stacks, a line each: samples, or microseconds with --wall or --off-cpu.
    Raw,
}

impl Format {
    /// What file names end with.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Flamegraph => "svg",
            Self::Raw => "txt",
        }
    }
}

/// The options of a recording.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("waits").args(["wall", "off_cpu"]))]
pub struct RecordArgs {
    /// Process to record; several with commas, or by more of this option.
    #[arg(
        short, long, value_name = "PID", value_parser = parse_pid, value_delimiter = ',',
        help_heading = PROCESSES
    )]
    pub pid: Vec<u32>,
    /// Record every process of the host, those that come included.
    #[arg(short, long, conflicts_with_all = ["pid", "program"], help_heading = PROCESSES)]
    pub all: bool,
    /// Also the subprocesses of --pid or of PROGRAM, those that come included.
    #[arg(short, long, help_heading = PROCESSES)]
    pub subprocesses: bool,
    /// Processes whose program has this name, or one like this pattern ('python3*'). Repeat it for
    /// more names; --comm, --user, --cgroup and --container together: those that agree with each.
    #[arg(long, value_name = "NAME", help_heading = PROCESSES)]
    pub comm: Vec<Comm>,
    /// Processes of this user, by name or number. Can be repeated.
    #[arg(long, value_name = "USER", help_heading = PROCESSES)]
    pub user: Vec<UserId>,
    /// Processes in this control group and those below it, such as /system.slice/app.service. Can
    /// be repeated.
    #[arg(long, value_name = "PATH", help_heading = PROCESSES)]
    pub cgroup: Vec<Cgroup>,
    /// Processes in this container: the beginning of its id, 4 digits or more (docker ps), or the
    /// name of an LXC container or of a machine. Can be repeated.
    #[arg(long, value_name = "ID", help_heading = PROCESSES)]
    pub container: Vec<Container>,
    /// Leave out what would be recorded: a program's name or pattern, or KIND=VALUE with KIND pid,
    /// comm, user, cgroup or container. Can be repeated.
    #[arg(long, value_name = "[KIND=]VALUE", help_heading = PROCESSES)]
    pub exclude: Vec<Exclude>,
    /// Seconds to record; until all targets end or Control-C when not given.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Option<Duration>,
    /// Samples per second of CPU time.
    #[arg(
        short, long, value_name = "HZ", default_value_t = DEFAULT_RATE,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE))
    )]
    pub rate: u32,
    /// File to write [default: WHAT-TIME.svg, as in python3-TIME.svg, 1234-TIME.svg, all-TIME.svg].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What to write.
    #[arg(short, long, value_enum, ignore_case = true, default_value_t = Format::Flamegraph)]
    pub format: Format,
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
    /// Program to launch and record, with its arguments, after `--`.
    #[arg(last = true, value_name = "PROGRAM", conflicts_with = "pid")]
    pub program: Vec<OsString>,
}

impl RecordArgs {
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

/// The options of doctor.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DoctorArgs {
    /// Load every program and print its verified instructions.
    #[arg(long, hide = true)]
    pub programs: bool,
}

fn parse_pid(text: &str) -> Result<u32, CriterionError> {
    criteria::pid(text).ok_or(CriterionError::NoPid)
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    // The kernel's clock of a process does not go further, and neither does patience.
    const MOST: f64 = 31_536_000.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MOST => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a duration is a number of seconds, more than 0 and at most a year".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds() {
        Args::command().debug_assert();
    }

    #[test]
    fn record_is_what_no_subcommand_means() {
        let bare = Args::try_parse_from(["pyscry", "--pid", "12", "-d", "1.5"]).expect("valid");
        assert_eq!(bare.record.pid, [12]);
        assert_eq!(bare.record.duration, Some(Duration::from_millis(1500)));
        let worded = Args::try_parse_from(["pyscry", "record", "-p", "0x10"]).expect("valid");
        assert!(matches!(worded.command, Some(Command::Record(r)) if r.pid == [16]));
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &["record", "--pid", "0"][..],
            &["record", "--pid", "me"],
            &["record", "-p", "1", "-d", "foo"],
            &["record", "-p", "1", "-d", "0"],
            &["record", "-p", "1", "-r", "0"],
            &["record", "-p", "1", "-r", "1000000"],
            &["record", "-p", "1", "--", "python"],
            &["record", "-p", "1", "-f", "gif"],
            &["record", "-p", "1", "--wall", "--off-cpu"],
            &["record", "-p", "1", "--wakers"],
            &["record", "-p", "1", "--off-cpu-min", "1ms"],
            &["record", "-p", "1,"],
            &["record", "-p", "1,me"],
            &["record", "-p", "1", "--all"],
            &["record", "--all", "--", "python"],
            &["record", "--all", "--per-thread-events"],
            &["record", "--comm", ""],
            &["record", "--user", "no such user"],
            &["record", "--cgroup", ""],
            &["record", "--cgroup", "../here"],
            &["record", "--container", "a/b"],
            &["record", "-a", "--exclude", "pid=me"],
            &["record", "-a", "--exclude", "user=no such user"],
            &["record", "-a", "--group-by", "colour"],
            &["record", "-a", "--group-by", ""],
        ] {
            let line = std::iter::once("pyscry").chain(words.iter().copied());
            assert!(Args::try_parse_from(line).is_err(), "{words:?}");
        }
    }

    #[test]
    fn options_that_can_be_repeated() {
        let line = "pyscry -p 1,2 --pid 3 -s --comm a --comm b* --user 0 --user 65534 --cgroup /a \
                    --cgroup b --container ab12 --container web --exclude c --exclude pid=4 \
                    --group-by user,process --group-by thread";
        let args = Args::try_parse_from(line.split_whitespace()).expect("valid");
        let record = args.record;
        assert_eq!(record.pid, [1, 2, 3]);
        assert!(record.subprocesses && record.keeps_threads() && !record.threads);
        assert_eq!((record.comm.len(), record.container.len()), (2, 2));
        assert_eq!(record.user, [UserId(0), UserId(65534)]);
        assert_eq!(record.cgroup[1].to_string(), "/b");
        assert_eq!(record.exclude[1], Exclude::Pid(4));
        let expected = [GroupArg::User, GroupArg::Process, GroupArg::Thread];
        assert_eq!(record.group_by, expected);
    }
}
