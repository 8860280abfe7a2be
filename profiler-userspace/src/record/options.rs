//! What to record.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::group::Group;
use super::log::LogFile;
use super::selection::Selection;

/// Whose time.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetChoice {
    /// Running processes, and those that come where the selection is host-wide or has
    /// subprocesses.
    Running(Selection),
    /// A program to launch, with its arguments. The selection says whether its subprocesses are
    /// recorded as well ([`Selection::subprocesses`]) and which ([`Selection::admits`]); it names
    /// no process.
    Launch(Vec<OsString>, Selection),
}

impl TargetChoice {
    /// Which processes.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        match self {
            Self::Running(selection) | Self::Launch(_, selection) => selection,
        }
    }

    /// Whether processes are looked for all over the host.
    #[must_use]
    pub fn is_host_wide(&self) -> bool {
        matches!(self, Self::Running(selection) if selection.is_host_wide())
    }

    /// Whether it can be more than one process.
    #[must_use]
    pub fn can_be_many(&self) -> bool {
        match self {
            Self::Running(selection) => selection.can_be_many(),
            Self::Launch(_, selection) => selection.subprocesses,
        }
    }
}

/// As part of a sentence: `python3 and its subprocesses`.
impl fmt::Display for TargetChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(selection) => selection.fmt(f),
            Self::Launch(words, selection) => {
                let program = words.first().map(Path::new);
                let name = program.and_then(|path| Some(path.file_name()?.to_string_lossy()));
                f.write_str(name.as_deref().unwrap_or("the program"))?;
                if selection.subprocesses {
                    f.write_str(" and its subprocesses")?;
                }
                selection.criteria(f)
            }
        }
    }
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
    /// What stacks are kept apart by, outermost first.
    pub groups: Vec<Group>,
    /// Native frames.
    pub native: NativeFrames,
    /// The kernel's frames.
    pub kernel: bool,
    /// Where everything that is found is written to while it goes on.
    pub log: Option<LogFile>,
    /// Hears of what takes long.
    pub tell: fn(&str),
}

/// Waits from which on it is told who ended them, where not all are wanted: what that costs stays
/// below a hundredth of the wait.
const WAKERS_FROM: Duration = Duration::from_millis(1);

impl RecordOptions {
    /// Whether it is everything that the host does: native frames of all processes.
    #[must_use]
    pub fn is_whole_system(&self) -> bool {
        self.native != NativeFrames::None && self.target.selection().is_everything()
    }

    /// Whether the samples of processes that are no targets count for their commands.
    #[must_use]
    pub fn counts_others(&self) -> bool {
        self.target.selection().is_everything() && self.mode.sampling().is_some()
    }

    /// Whether threads are kept apart.
    #[must_use]
    pub fn threads(&self) -> bool {
        self.groups.contains(&Group::Thread)
    }

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
