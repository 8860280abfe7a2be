//! What a recording file contains.

use serde::{Deserialize, Serialize};

use crate::record::frame::FrameText;
use crate::record::group::Group;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// What is recorded: the first.
    About(Box<About>),
    /// A frame. They are numbered from 0 on, as they come.
    Frame(Frame),
    /// A stack: numbers of frames from the root to the leaf. A later one of the same hash takes the
    /// place of the earlier: it has the native frames, too.
    Stack(u64, Vec<u32>),
    /// A process. A later one of the same number says more.
    Process(Box<Process>),
    /// A thread.
    Thread {
        /// Its number in this file.
        thread: u32,
        /// The number of its process in this file.
        process: u32,
        /// As the host numbers it.
        tid: u32,
    },
    /// What a thread is called.
    ThreadName {
        /// The thread.
        thread: u32,
        /// What the program calls it, else the kernel.
        name: String,
    },
    /// A thread was on a CPU.
    Sample {
        /// When, nanoseconds after the event before, or before it.
        after_ns: i64,
        /// The thread.
        thread: u32,
        /// The stack's hash.
        stack: u64,
        /// It held the interpreter's lock.
        holds_gil: bool,
    },
    /// A thread did not run.
    Wait {
        /// When that began, nanoseconds after the event before, or before it.
        after_ns: i64,
        /// How long it was, nanoseconds.
        ns: u64,
        /// The thread.
        thread: u32,
        /// The stack's hash.
        stack: u64,
        /// It held the interpreter's lock.
        holds_gil: bool,
        /// Why, as `profiler_common::cause` numbers causes.
        cause: u8,
        /// The system call that it waited in, or `NO_SYSCALL`.
        syscall: u16,
        /// Who ended it.
        waker: Option<Waker>,
    },
    /// A process that is no target was on a CPU; the stack stands for its command.
    Other {
        /// When, nanoseconds after the event before, or before it.
        after_ns: i64,
        /// The stack's hash.
        stack: u64,
    },
    /// How long a thread was on a CPU in all, nanoseconds, where that was measured.
    OnCpu {
        /// The thread.
        thread: u32,
        /// How long.
        ns: u64,
    },
    /// The recording came to its end: the last.
    End(Box<End>),
}

/// What is recorded, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// pyscry's version.
    pub version: String,
    /// The command line of the recording.
    pub title: String,
    /// The host's name.
    pub host: String,
    /// When it began, nanoseconds since 1970.
    pub began_unix_ns: u64,
    /// The same by `CLOCK_MONOTONIC`, nanoseconds.
    pub began_ns: u64,
    /// Samples per second of CPU time, where there are any.
    pub rate: Option<u32>,
    /// Waits are in it.
    pub waits: bool,
    /// What stacks are kept apart by, outermost first.
    pub groups: Vec<Group>,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// A Python function.
    Python {
        /// Its qualified name.
        name: String,
        /// Its file, as the interpreter has it.
        file: String,
        /// The part of that which is shown.
        short_file: String,
        /// The line; `None` where the instruction has none.
        line: Option<u32>,
        /// The line on which the function begins.
        first_line: u32,
    },
    /// Native code.
    Native {
        /// The function, or what stands for it.
        name: String,
        /// The file with its source, else the module.
        place: Option<String>,
        /// The line in the source.
        line: Option<u32>,
    },
    /// The kernel's code.
    Kernel {
        /// The function.
        name: String,
        /// The kernel, or its module.
        place: Option<String>,
    },
    /// Another process.
    Process(String),
    /// What stands for something that is not known.
    Marker(String),
}

impl From<&FrameText> for Frame {
    fn from(frame: &FrameText) -> Self {
        match frame {
            FrameText::Python {
                name,
                file,
                short_file,
                line,
                first_line,
            } => Self::Python {
                name: name.to_string(),
                file: file.to_string(),
                short_file: short_file.to_string(),
                line: *line,
                first_line: *first_line,
            },
            FrameText::Native { name, place, line } => Self::Native {
                name: name.to_string(),
                place: place.as_deref().map(str::to_owned),
                line: *line,
            },
            FrameText::Kernel { name, place } => Self::Kernel {
                name: name.to_string(),
                place: place.as_deref().map(str::to_owned),
            },
            FrameText::Process(name) => Self::Process(name.to_string()),
            FrameText::Marker(text) => Self::Marker(text.to_string()),
        }
    }
}

impl From<Frame> for FrameText {
    fn from(frame: Frame) -> Self {
        match frame {
            Frame::Python {
                name,
                file,
                short_file,
                line,
                first_line,
            } => Self::Python {
                name: name.into(),
                file: file.into(),
                short_file: short_file.into(),
                line,
                first_line,
            },
            Frame::Native { name, place, line } => Self::Native {
                name: name.into(),
                place: place.map(Into::into),
                line,
            },
            Frame::Kernel { name, place } => Self::Kernel {
                name: name.into(),
                place: place.map(Into::into),
            },
            Frame::Process(name) => Self::Process(name.into()),
            Frame::Marker(text) => Self::Marker(text.into()),
        }
    }
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its number in this file.
    pub process: u32,
    /// As the host numbers it.
    pub pid: u32,
    /// The kernel's name of it.
    pub comm: String,
    /// Its command line.
    pub command: String,
    /// Its user.
    pub user: String,
    /// Its control group.
    pub cgroup: String,
    /// Its container, short.
    pub container: Option<String>,
    /// The version of its Python, if it runs one.
    pub python: Option<String>,
    /// It is one of the kernel's threads.
    pub kernel_thread: bool,
}

/// Who ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waker {
    /// The hash of its stack.
    pub stack: u64,
    /// Its process, as the host numbers it.
    pub pid: u32,
    /// Its thread; 0 where that is not told.
    pub tid: u32,
}

/// What is known at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// How long it took, nanoseconds.
    pub duration_ns: u64,
    /// What was recorded, in some words.
    pub subtitle: String,
    /// What was said at the end.
    pub summary: String,
    /// Counters that are not 0, by name.
    pub counters: Vec<(String, u64)>,
}
