//! The options of `top`.

use std::ffi::OsString;
use std::time::Duration;

use super::{DEFAULT_RATE, MAX_RATE, Which, parse_seconds};

/// The options of `top`: py-spy's, and more.
#[derive(Clone, Debug, clap::Args)]
pub struct TopArgs {
    /// Which processes.
    #[command(flatten)]
    pub which: Which,
    /// Samples per second of CPU time.
    #[arg(
        short, long, value_name = "HZ", default_value_t = DEFAULT_RATE,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE))
    )]
    pub rate: u32,
    /// Seconds between two pictures.
    #[arg(long, value_name = "SECONDS", default_value = "1.0", value_parser = parse_seconds)]
    pub delay: Duration,
    /// Count the time of waiting threads from the beginning, as the key w does; of the host's
    /// processes (--all, --comm and so on), follow their waits at all.
    #[arg(short, long)]
    pub idle: bool,
    /// Only what threads do while they hold the global interpreter lock (GIL).
    #[arg(short, long)]
    pub gil: bool,
    /// Show native functions as well.
    #[arg(short, long)]
    pub native: bool,
    /// Accepted for py-spy's users: pyscry never stops a process.
    #[arg(long)]
    pub nonblocking: bool,
    /// Show full paths of Python files.
    #[arg(long)]
    pub full_filenames: bool,
    /// Program to launch and look at, with its arguments, after `--`.
    #[arg(last = true, value_name = "PROGRAM", conflicts_with = "pid")]
    pub program: Vec<OsString>,
}
