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

/// How time on a CPU is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Samples per second of CPU time.
    pub rate: u32,
    /// Use events of the target's threads instead of events of the CPUs.
    pub per_thread_events: bool,
}

/// Which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Time on a CPU, sampled: weights are samples.
    OnCpu(Sampling),
    /// Time off the CPUs, measured: weights are time.
    OffCpu,
    /// All time: weights are time.
    Wall(Sampling),
}

impl Mode {
    /// How time on a CPU is sampled, if it is.
    #[must_use]
    pub fn sampling(self) -> Option<Sampling> {
        match self {
            Self::OnCpu(sampling) | Self::Wall(sampling) => Some(sampling),
            Self::OffCpu => None,
        }
    }

    /// Whether waits have weight.
    #[must_use]
    pub fn has_waits(self) -> bool {
        !matches!(self, Self::OnCpu(_))
    }
}

/// What is wanted of waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Shorter ones are counted only.
    pub min: Duration,
    /// Show who ended them.
    pub wakers: bool,
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
    /// What is wanted of waits.
    pub waits: Waits,
    /// Only what threads do while they hold the interpreter's lock.
    pub only_gil: bool,
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

/// Waits from which on it is told who ended them, where not all are wanted: what that costs stays
/// below a hundredth of the wait.
const WAKERS_FROM: Duration = Duration::from_millis(1);

impl RecordOptions {
    /// Whether the switches of threads are followed.
    #[must_use]
    pub fn follows_threads(&self) -> bool {
        self.mode.has_waits() || self.only_gil
    }

    /// Waits from which on it is of interest who ended them.
    #[must_use]
    pub fn wakers_from(&self) -> Duration {
        if self.waits.wakers {
            Duration::ZERO
        } else {
            WAKERS_FROM
        }
    }
}
