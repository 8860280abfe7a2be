//! The options of `report`.

use std::path::PathBuf;
use std::time::Duration;

use super::output::{OUTPUT, OutputArgs};
use super::record::GroupArg;

/// The options of `report`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    pyscry record -p 1234 -d 60 -o slow.pyscry            record now\n  \
    pyscry report slow.pyscry                             slow.svg, and what was said at the end\n  \
    pyscry report slow.pyscry -f speedscope,pprof         two other formats\n  \
    pyscry report slow.pyscry -o part.svg --from 10 --to 12  what happened in two of its seconds\n  \
    pyscry report slow.pyscry --summary                   no file")]
pub struct ReportArgs {
    /// Recording file, as `record --format pyscry` or `record --output NAME.pyscry` writes it.
    pub file: PathBuf,
    /// What is written.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Write no file: only say what was said at the end of the recording.
    #[arg(long, conflicts_with_all = ["files", "formats"], help_heading = OUTPUT)]
    pub summary: bool,
    /// Keep threads apart: each is a frame at the root, below those of --group-by.
    #[arg(short, long)]
    pub threads: bool,
    /// What is kept apart, each with a frame at the root, outermost first [default: as it was
    /// recorded].
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub group_by: Vec<GroupArg>,
    /// Only what threads did while they held the global interpreter lock (GIL).
    #[arg(short, long)]
    pub gil: bool,
    /// Below each wait, show the stack of the thread that ended it, where that was recorded.
    #[arg(long)]
    pub wakers: bool,
    /// Count waits in samples of the rate of the recording instead of microseconds.
    #[arg(short, long)]
    pub idle: bool,
    /// Only what happened later than so many seconds after the beginning.
    #[arg(long, value_name = "SECONDS", value_parser = super::parse_moment)]
    pub from: Option<Duration>,
    /// Only what happened earlier than so many seconds after the beginning.
    #[arg(long, value_name = "SECONDS", value_parser = super::parse_moment)]
    pub to: Option<Duration>,
}
