//! What a format is made from: the events of a recording in the order of time, with everything that
//! they name. Formats are pure functions of it.

use std::sync::Arc;

use profiler_common::cause::Cause;

use super::flamegraph::Subject;

/// A recording as formats see it.
#[derive(Clone, Debug)]
pub struct View {
    /// What was recorded, and how.
    pub about: About,
    /// Processes.
    pub processes: Vec<ProcessView>,
    /// Threads, those of one process one after the other.
    pub threads: Vec<ThreadView>,
    /// Frames.
    pub frames: Vec<FrameView>,
    /// Stacks: indices of frames, from the root to the leaf. A wait's cause is its leaf.
    pub stacks: Vec<Vec<u32>>,
    /// What happened, by the time at which it began.
    pub events: Vec<EventView>,
}

/// What was recorded, and how.
#[derive(Clone, Debug)]
pub struct About {
    /// The command line of the recording.
    pub title: String,
    /// One line: what, how long, how.
    pub subtitle: String,
    /// pyscry's version.
    pub version: String,
    /// Name of the host.
    pub host: String,
    /// When it began, nanoseconds since 1970.
    pub began_unix_ns: u64,
    /// How long it took, nanoseconds.
    pub duration_ns: u64,
    /// Samples per second of CPU time; 0 where there are none.
    pub rate: u32,
    /// What it is of.
    pub subject: Subject,
}

/// A process.
#[derive(Clone, Debug)]
pub struct ProcessView {
    /// As the host numbers it; 0 stands for several together.
    pub pid: u32,
    /// The program's name.
    pub name: String,
    /// The command line.
    pub command: String,
    /// Its first frame, where processes are told apart: `process 12:"python app.py"`.
    pub label: String,
    /// Python's version.
    pub python: Option<String>,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct ThreadView {
    /// Index of its process.
    pub process: u32,
    /// As the host numbers it.
    pub tid: u32,
    /// What the program calls it, else the kernel.
    pub name: Option<String>,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A Python function.
    Python,
    /// Native code.
    Native,
    /// The kernel's.
    Kernel,
    /// The cause of a wait.
    Waiting,
    /// Something that stands for what is not known, or for a process, a thread or another group.
    Marker,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrameView {
    /// What it is.
    pub kind: FrameKind,
    /// The function.
    pub name: Arc<str>,
    /// Its file, whole, or the module of native code.
    pub file: Option<Arc<str>>,
    /// Its file as it is shown.
    pub short_file: Option<Arc<str>>,
    /// The line.
    pub line: Option<u32>,
}

/// What a thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventView {
    /// When: a sample's moment, a wait's beginning; nanoseconds since the recording began.
    pub at_ns: u64,
    /// How much time it stands for, nanoseconds: the period of a sample, the length of a wait. A
    /// sample stands for time before and after it that is not known better.
    pub ns: u64,
    /// Index of the thread.
    pub thread: u32,
    /// Index of the stack.
    pub stack: u32,
    /// Why it waited; `None` of a sample on a CPU.
    pub cause: Option<Cause>,
    /// The name of the system call that it waited in.
    pub syscall: Option<&'static str>,
    /// It held the interpreter's lock.
    pub holds_gil: bool,
}

impl FrameView {
    /// As folded stacks and pictures have it: `name (file:line)`.
    #[must_use]
    pub fn text(&self) -> String {
        match (&self.short_file, self.line) {
            (Some(file), Some(line)) => format!("{} ({file}:{line})", self.name),
            (Some(file), None) => format!("{} ({file})", self.name),
            (None, _) => self.name.to_string(),
        }
    }
}
