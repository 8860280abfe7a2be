//! What the view is sent of a recording: what changed since the last time.

use std::sync::Arc;
use std::time::Duration;

use profiler_common::cause::Cause;

use crate::record::Stopped;
use crate::record::accounts::ThreadId;
use crate::record::frame::FrameText;
use crate::record::processes::ProcessId;
use crate::record::stacks::FrameId;

/// The number of a stack in the view.
pub type StackId = u32;

/// What time is kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The thread.
    pub thread: ThreadId,
    /// Its stack.
    pub stack: StackId,
    /// Why it waited; `None` on a CPU.
    pub waits: Option<Cause>,
    /// Whether it held the interpreter's lock meanwhile.
    pub holds_gil: bool,
}

/// A process, to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessName {
    /// The kernel's number of it.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Its Python, `3.11.7`, where that is known.
    pub version: Option<String>,
}

/// What a recording has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples on a CPU.
    pub samples: u64,
    /// Waits, where they are followed.
    pub waits: Option<u64>,
    /// Samples and waits that were lost.
    pub lost: u64,
    /// Threads that there are.
    pub threads: usize,
    /// Processes that there are.
    pub processes: usize,
    /// Interpreters' locks that there are, as far as is known.
    pub locks: usize,
}

/// What changed since the last reading.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// How long that was.
    pub interval: Duration,
    /// Frames that were not seen before: their numbers go on from the last.
    pub frames: Vec<FrameText>,
    /// Stacks that were not seen before, from the root to the leaf, numbered likewise.
    pub stacks: Vec<Arc<[FrameId]>>,
    /// Nanoseconds that came to each.
    pub changes: Vec<(Cell, u64)>,
    /// How long each thread was on a CPU, nanoseconds. Changes have it later, where a thread was not
    /// sampled.
    pub on_cpu: Vec<(ThreadId, u64)>,
    /// Names of threads that are new or others than before.
    pub threads: Vec<(ThreadId, String)>,
    /// The same of processes.
    pub processes: Vec<(ProcessId, ProcessName)>,
    /// So far.
    pub counts: Counts,
    /// Why the recording is over, if it is.
    pub over: Option<Stopped>,
}
