//! What a recording gives: what was recorded, and why it ended, or why nothing was.

use std::io;
use std::time::Duration;

use super::collector::Collector;
use super::group::Group;
use super::launch::{LaunchError, Launched};
use super::names::ThreadNames;
use super::options::Mode;
use super::processes::Processes;
use crate::bpf::LoadError;
use crate::bpf::counters::Counters;
use crate::bpf::tables::TablesError;
use crate::kernel::stolen::Stolen;
use crate::process::quota::Throttled;
use crate::python::{InspectError, Version};

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// There is no such process.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// The pid is a thread's.
    #[error("{tid} is a thread of process {pid}: pass --pid {pid}")]
    IsThread {
        /// What was given.
        tid: u32,
        /// The process.
        pid: u32,
    },
    /// The process cannot be profiled.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The program cannot be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The kernel side failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The unwind tables could not be loaded.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The system failed.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The time was up.
    Duration,
    /// The target ended, or the last of them.
    TargetExited,
    /// Control-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// It goes on: this is what was recorded until now.
    NotYet,
    /// Its watcher had seen enough.
    Enough,
}

/// What is left of a recording that was only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Why it ended.
    pub stopped: Stopped,
    /// The exit code of a launched program that ended by itself.
    pub exit_code: Option<i32>,
}

/// What is told while recording.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the beginning.
    pub elapsed: Duration,
    /// Samples or stretches so far.
    pub events: u64,
}

/// A finished recording.
#[derive(Debug)]
pub struct Recording {
    /// Stacks and weights.
    pub collector: Collector,
    /// Names of threads.
    pub names: ThreadNames,
    /// The kernel's counters and ours.
    pub counters: Counters,
    /// Why it ended.
    pub stopped: Stopped,
    /// How long it took.
    pub elapsed: Duration,
    /// From the beginning to the first sample or stretch.
    pub first_event: Option<Duration>,
    /// The processes.
    pub processes: Processes,
    /// What was asked for, where it is one process only.
    pub single: Option<Single>,
    pub(super) launched: Option<Launched>,
    /// What somebody should know of its native frames.
    pub notes: Vec<String>,
    /// The unwind tables, where there are native frames.
    pub tables: Option<UnwindTables>,
    /// What was recorded.
    pub mode: Mode,
    /// What stacks are kept apart by, outermost first.
    pub groups: Vec<Group>,
    /// What the CPU quotas of its control groups did meanwhile.
    pub throttled: Vec<Throttled>,
    /// What a hypervisor took of the CPUs meanwhile.
    pub stolen: Stolen,
}

/// The only process of a recording, at its end.
#[derive(Debug)]
pub struct Single {
    /// The process.
    pub pid: u32,
    /// Its version, if it had a Python at the end.
    pub version: Option<Version>,
    /// Why its Python was not known at the end.
    pub not_ready: Option<InspectError>,
    /// Its command line.
    pub command: String,
}

/// The unwind tables of a recording, at its end.
#[derive(Clone, Copy, Debug)]
pub struct UnwindTables {
    /// Files that have one.
    pub files: usize,
    /// Bytes in the kernel, those of the mappings included.
    pub bytes: usize,
    /// Distinct rules that they name.
    pub rules: usize,
    /// How long the recording waited for them before it began; a program that was launched has
    /// none at its beginning.
    pub ready_in: Option<Duration>,
}

impl Recording {
    /// Ends a launched program that still runs. Returns the exit code of one that ended by
    /// itself while it was recorded. To be called when the profile is safe on disk.
    pub fn end_launched(&mut self) -> Option<i32> {
        self.stopped.end(self.launched.as_mut()?)
    }
}

impl Stopped {
    /// Ends a launched program that still runs, for this reason. Returns the exit code of one that
    /// ended by itself.
    pub(super) fn end(self, launched: &mut Launched) -> Option<i32> {
        match self {
            Self::TargetExited => launched.wait().ok(),
            // A terminal sends Control-C to the program as well: let it end as it likes.
            Self::Interrupted => {
                launched.end(true);
                None
            }
            Self::NotYet => None,
            Self::Duration | Self::Terminated | Self::Enough => {
                launched.end(false);
                None
            }
        }
    }
}
