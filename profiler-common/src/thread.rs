//! What the kernel keeps of each target thread while off-CPU time is recorded.

/// No event of this thread was seen yet.
pub const THREAD_UNSEEN: u32 = 0;
/// The thread runs.
pub const THREAD_ON: u32 = 1;
/// The thread was switched out.
pub const THREAD_OFF: u32 = 2;
/// The thread was made while recording and has not run yet.
pub const THREAD_NEW: u32 = 3;

/// Why a thread is off-CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum OffReason {
    /// It waits for something.
    Blocked = 0,
    /// It could run: preempted, or out of its quota.
    RunQueue = 1,
}

impl OffReason {
    /// From the wire; what is not known counts as blocked.
    #[must_use]
    pub fn from_u32(raw: u32) -> Self {
        if raw == Self::RunQueue as u32 {
            Self::RunQueue
        } else {
            Self::Blocked
        }
    }
}

/// One thread: the value of the map `THREADS`, by tid. Userspace and the fork program insert it;
/// `sched_switch` only changes it in place. A thread is switched on one CPU at a time, under the
/// run queue's lock, so no two writers meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ThreadEntry {
    /// The process.
    pub tgid: u32,
    /// One of `THREAD_*`.
    pub state: u32,
    /// `CLOCK_MONOTONIC` of the switch-out, in nanoseconds.
    pub off_since_ns: u64,
    /// Hash of the stack it was switched out at.
    pub stack: u64,
    /// An [`OffReason`].
    pub reason: u32,
    /// Generation of the process at the switch-out.
    pub generation: u32,
    /// Switch-ins seen; a thread that shows the same number twice did not run in between.
    pub runs: u64,
}

const _: () = assert!(size_of::<ThreadEntry>() == 40);

// SAFETY: no padding (the size above), every bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for ThreadEntry {}
