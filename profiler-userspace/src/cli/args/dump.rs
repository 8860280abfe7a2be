//! The options of `dump`.

use std::path::PathBuf;

use super::parse_pid;

/// The options of `dump`: py-spy's, and more.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("of").args(["pid", "core"]).required(true))]
pub struct DumpArgs {
    /// Process whose stacks to print.
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub pid: Option<u32>,
    /// Core file to read instead of a process.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["native", "subprocesses"])]
    pub core: Option<PathBuf>,
    /// Show arguments and local variables; twice, thrice: longer values.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub locals: u8,
    /// Print JSON.
    #[arg(short, long)]
    pub json: bool,
    /// Also the subprocesses.
    #[arg(short, long)]
    pub subprocesses: bool,
    /// Show native frames as well: C, C++ and Rust code.
    #[arg(short, long)]
    pub native: bool,
    /// Stop the process while it is read.
    #[arg(long, conflicts_with = "nonblocking")]
    pub blocking: bool,
    /// Do not stop the process: what is done anyway.
    #[arg(long)]
    pub nonblocking: bool,
    /// Show full paths of Python files, not only the part below the package's directory.
    #[arg(long)]
    pub full_filenames: bool,
}
