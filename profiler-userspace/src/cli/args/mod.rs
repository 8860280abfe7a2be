//! What can be typed. Names and meanings are py-spy's wherever it has them.

mod dump;
mod output;
#[cfg(test)]
mod py_spy;
mod record;
mod report;
mod top;
mod which;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub use self::dump::DumpArgs;
pub use self::output::{Format, NamingArgs, OutputArgs};
pub use self::record::{GroupArg, NativeArg, RecordArgs};
pub use self::report::ReportArgs;
pub use self::top::TopArgs;
pub use self::which::Which;
use crate::record::criteria::{self, CriterionError};

/// Samples per second when nothing is said: not a round number, so that programs with a
/// rhythm of their own are not sampled in step.
pub const DEFAULT_RATE: u32 = 99;
/// More would be felt.
pub const MAX_RATE: u32 = 10_000;
/// A duration that does not end.
pub const UNLIMITED: Duration = Duration::MAX;
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
    infer_subcommands = true,
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
        pyscry top --pid 1234                           look on: which functions take the time now\n  \
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
    // One letter is py-spy's command, where ours have the same beginning.
    #[command(alias = "r", alias = "re")]
    Record(Box<RecordArgs>),
    /// Show live which functions take the time.
    Top(Box<TopArgs>),
    /// Print the stacks of all threads now.
    #[command(alias = "d")]
    Dump(DumpArgs),
    /// Turn a recording file into any format.
    Report(ReportArgs),
    /// Say what this kernel and this user can and cannot do, and what to run to fix it.
    Doctor(DoctorArgs),
    /// Print what a shell needs to complete pyscry's options.
    #[command(after_help = "Examples:\n  \
        pyscry completions bash > /usr/share/bash-completion/completions/pyscry\n  \
        pyscry completions zsh > \"${fpath[1]}/_pyscry\"\n  \
        pyscry completions fish > ~/.config/fish/completions/pyscry.fish")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages.
    #[command(after_help = "Examples:\n  \
        pyscry man | man -l -                 read pyscry(1)\n  \
        pyscry man /usr/local/share/man/man1  install them all")]
    Man {
        /// Directory to write all of them to; pyscry(1) is printed when not given.
        directory: Option<PathBuf>,
    },
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
    // As py-spy calls it.
    if text == "unlimited" {
        return Ok(UNLIMITED);
    }
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MOST => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a duration is a number of seconds, more than 0 and at most a year".to_owned()),
    }
}

fn parse_moment(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => None,
    }
    .ok_or_else(|| "a moment is a number of seconds since the beginning".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::record::criteria::{Exclude, UserId};

    #[test]
    fn the_definition_holds() {
        Args::command().debug_assert();
    }

    #[test]
    fn record_is_what_no_subcommand_means() {
        let bare = Args::try_parse_from(["pyscry", "--pid", "12", "-d", "1.5"]).expect("valid");
        assert_eq!(bare.record.which.pid, [12]);
        assert_eq!(bare.record.duration, Some(Duration::from_millis(1500)));
        let worded = Args::try_parse_from(["pyscry", "record", "-p", "0x10"]).expect("valid");
        assert!(matches!(worded.command, Some(Command::Record(r)) if r.which.pid == [16]));
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
    fn top_chooses_processes_as_record_does() {
        let line = "pyscry top -p 1,2 -s --comm a --comm b* --user 0 --exclude c --delay 0.5 -i";
        let args = Args::try_parse_from(line.split_whitespace()).expect("valid");
        let Some(Command::Top(top)) = args.command else {
            panic!("another subcommand");
        };
        assert_eq!((top.which.pid.len(), top.which.comm.len()), (2, 2));
        assert_eq!((top.which.user.len(), top.which.exclude.len()), (1, 1));
        assert_eq!((top.delay, top.idle), (Duration::from_millis(500), true));
        for words in [
            &["top", "--all", "--pid", "1"][..],
            &["top", "--delay", "0"],
            &["top", "-p", "1", "--", "python"],
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
        assert_eq!(record.which.pid, [1, 2, 3]);
        assert!(record.which.subprocesses && record.keeps_threads() && !record.threads);
        assert_eq!(
            (record.which.comm.len(), record.which.container.len()),
            (2, 2)
        );
        assert_eq!(record.which.user, [UserId(0), UserId(65534)]);
        assert_eq!(record.which.cgroup[1].to_string(), "/b");
        assert_eq!(record.which.exclude[1], Exclude::Pid(4));
        let expected = [GroupArg::User, GroupArg::Process, GroupArg::Thread];
        assert_eq!(record.group_by, expected);
    }
}
