//! What to record.

use std::ffi::OsString;
use std::time::Duration;

/// Whose time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetChoice {
    /// A running process.
    Pid(u32),
    /// A program to launch, with its arguments.
    Launch(Vec<OsString>),
}

/// Which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Time on a CPU, sampled.
    OnCpu {
        /// Samples per second of CPU time.
        rate: u32,
        /// Use events of the target's threads instead of events of the CPUs.
        per_thread_events: bool,
    },
    /// Time off the CPUs, measured.
    OffCpu {
        /// Shorter stretches are counted only.
        min: Duration,
    },
}

/// Which frames below Python's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NativeFrames {
    /// None.
    #[default]
    None,
    /// Native code, without what the interpreter does between two Python functions.
    Folded,
    /// All native code.
    All,
}

/// All choices.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// Whose time.
    pub target: TargetChoice,
    /// Which time.
    pub mode: Mode,
    /// How long; `None` until the target ends or somebody stops it.
    pub duration: Option<Duration>,
    /// Keep threads apart.
    pub threads: bool,
    /// Native frames.
    pub native: NativeFrames,
    /// The kernel's frames.
    pub kernel: bool,
    /// Hears of what takes long.
    pub tell: fn(&str),
}
