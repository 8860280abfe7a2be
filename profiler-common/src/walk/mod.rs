//! The walk: from a thread's `fsbase` to its Python frames, leaf first, one step at a time.
//!
//! The driver calls [`begin`] once and [`step`] until it says to stop, or for at most
//! [`MAX_STEPS`]; [`finish`] then gives the stack's hash. In the kernel the driver is a loop
//! over a BPF global function; on the host it is [`run`].
//!
//! A thread walks its own frames (the sample interrupted it, or it is being switched out), so
//! nothing moves during a walk in the kernel. From outside, frames can change under the walk:
//! the userspace caller must prove that the thread did not run.

mod block;
mod cache;
mod frame;
mod tstate;
mod witness;

use crate::counter::Counter;
use crate::hash;
use crate::layout::{EntryKind, ProcessEntry};
use crate::mem::Memory;
use crate::unwind::{MAX_SEGMENTS, Segments};

pub use cache::WalkCache;
pub use tstate::follow_path;
pub use witness::WITNESS_UNREAD;
pub use witness::witness;

/// Python frames that a stack holds at most.
pub const MAX_FRAMES: usize = 1024;
/// Steps of a walk at most: every frame may be followed by one entry frame (with perf
/// trampolines it is), and a chain ends with one.
pub const MAX_STEPS: u32 = 2 * MAX_FRAMES as u32 + 64;

/// One Python frame as the kernel sees it. Names and lines are found from it in userspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Frame {
    /// Address of the code object.
    pub code: u64,
    /// Byte offset of the instruction in the bytecode; negative before the first one.
    pub lasti: i32,
    /// Proof of the code object's identity, see [`witness`]; [`WITNESS_UNREAD`] without proof.
    pub witness: u32,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum WalkStatus {
    /// Not yet.
    Running = 0,
    /// At the thread's outermost frame.
    Complete = 1,
    /// The thread has no Python thread state (yet, any more, or ever).
    NoThreadState = 2,
    /// At [`MAX_FRAMES`] frames; the root side is missing.
    Truncated = 3,
    /// The way to the thread state could not be read.
    ThreadStateUnreadable = 4,
    /// The thread state belongs to another thread.
    ThreadStateForeign = 5,
    /// A frame could not be read; the root side is missing.
    FrameUnreadable = 6,
    /// A frame's code is no code object; the root side is missing.
    CodeInvalid = 7,
    /// The frames form a ring; what was seen of it is kept.
    Cycle = 8,
    /// The process's Python is not known.
    NotReady = 9,
    /// A defect of ours: no scratch.
    Internal = 10,
}

impl WalkStatus {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Running,
        Self::Complete,
        Self::NoThreadState,
        Self::Truncated,
        Self::ThreadStateUnreadable,
        Self::ThreadStateForeign,
        Self::FrameUnreadable,
        Self::CodeInvalid,
        Self::Cycle,
        Self::NotReady,
        Self::Internal,
    ];

    /// What counts such an end; `None` for the good one.
    #[inline(always)]
    #[must_use]
    pub fn counter(self) -> Option<Counter> {
        match self {
            Self::Complete => None,
            Self::NoThreadState => Some(Counter::NoThreadState),
            Self::Truncated => Some(Counter::Truncated),
            Self::ThreadStateUnreadable => Some(Counter::ThreadStateUnreadable),
            Self::ThreadStateForeign => Some(Counter::ThreadStateForeign),
            Self::FrameUnreadable => Some(Counter::FrameUnreadable),
            Self::CodeInvalid => Some(Counter::CodeInvalid),
            Self::Cycle => Some(Counter::FrameCycle),
            Self::NotReady => Some(Counter::ProcessNotReady),
            Self::Running | Self::Internal => Some(Counter::Internal),
        }
    }

    /// From the wire; what is not known is a defect of ours.
    #[must_use]
    pub fn from_u8(raw: u8) -> Self {
        Self::ALL
            .get(raw as usize)
            .copied()
            .unwrap_or(Self::Internal)
    }
}

/// Where a walk stands.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Walk {
    /// The next frame's address.
    pub frame: u64,
    /// A frame passed earlier: meeting it again proves a ring (Brent).
    pub landmark: u64,
    /// Content hash so far.
    pub hash: u64,
    /// The newest `CFrame` that was not passed; 0 behind the last, and where there are none.
    pub cframe: u64,
    /// The thread state, 0 where the thread has none.
    pub tstate: u64,
    /// Its interpreter.
    pub interp: u64,
    /// Steps done.
    pub steps: u32,
    /// The landmark moves to the current frame at this step.
    pub next_landmark: u32,
    /// Frames stored.
    pub depth: u32,
    /// A [`WalkStatus`].
    pub status: u32,
    /// Frames whose code could not be read.
    pub unread: u32,
    /// The process, in the initial pid namespace.
    pub tgid: u32,
}

impl Walk {
    /// A walk that has not begun.
    pub const NEW: Self = Self {
        frame: 0,
        landmark: 0,
        hash: 0,
        cframe: 0,
        tstate: 0,
        interp: 0,
        steps: 0,
        next_landmark: 1,
        depth: 0,
        status: WalkStatus::Running as u32,
        unread: 0,
        tgid: 0,
    };
}

/// Starts a walk at the thread of process `tgid` whose thread pointer is `fsbase`. Returns whether to
/// step on.
#[inline(always)]
pub fn begin<M: Memory>(
    mem: &M,
    process: &ProcessEntry,
    tgid: u32,
    fsbase: u64,
    walk: &mut Walk,
    cache: &mut WalkCache,
) -> bool {
    *walk = Walk::NEW;
    walk.tgid = tgid;
    walk.hash = hash::fold(0, program(tgid, process));
    match tstate::newest_frame(mem, process, fsbase, walk) {
        Ok(newest) => {
            cache.next_walk(newest.epoch);
            walk.frame = newest.frame;
            walk.landmark = newest.frame;
            walk.cframe = newest.cframe;
            true
        }
        Err(status) => {
            walk.status = status as u32;
            false
        }
    }
}

/// One program in one process, among all that are recorded.
#[inline(always)]
fn program(tgid: u32, process: &ProcessEntry) -> u64 {
    (tgid as u64) << 32 | process.generation as u64
}

/// The hash of a code object of process `tgid`, which names it among all that are recorded.
#[inline(always)]
#[must_use]
pub fn code_hash(tgid: u32, process: &ProcessEntry, frame: &Frame) -> u64 {
    let hash = hash::fold(hash::fold(0, program(tgid, process)), frame.code);
    hash::finish(hash::fold(hash, frame.witness as u64))
}

/// Takes one frame: stores it in `frames`, or skips it where it is an entry frame, and goes on
/// to its caller. Where on the C stack it belongs is noted in `segments`, if they are asked for.
/// Returns whether to step on; if not, `walk.status` says why.
#[inline(always)]
pub fn step<M: Memory>(
    mem: &M,
    process: &ProcessEntry,
    walk: &mut Walk,
    cache: &mut WalkCache,
    frames: &mut [Frame; MAX_FRAMES],
    segments: Option<&mut Segments>,
) -> bool {
    let status = match frame::take(mem, process, walk, cache, frames, segments) {
        Ok(0) => {
            walk.frame = 0;
            WalkStatus::Complete
        }
        Ok(back) if back == walk.landmark => WalkStatus::Cycle,
        Ok(back) => {
            walk.frame = back;
            walk.steps += 1;
            if walk.steps == walk.next_landmark {
                walk.next_landmark <<= 1;
                walk.landmark = back;
            }
            return true;
        }
        Err(status) => status,
    };
    walk.status = status as u32;
    false
}

/// Ends a walk: a walk that ran out of steps is truncated. Returns the stack's hash, which its
/// status is part of; never one below [`hash::FIRST`].
#[inline(always)]
pub fn finish(walk: &mut Walk) -> u64 {
    if walk.status == WalkStatus::Running as u32 {
        walk.status = WalkStatus::Truncated as u32;
    }
    hash::finish(hash::fold(
        walk.hash,
        ((walk.depth as u64) << 32) | walk.status as u64,
    ))
}

/// Brings the segments of a complete walk in line with its frames.
///
/// In 3.10 `CFrame` and frame are linked, and unlinked, one shortly after the other
/// (`_PyEval_EvalFrameDefault` in `Python/ceval.c`): a thread that is met in between has one more
/// of the one than of the other. The oldest belong together, always.
#[inline(always)]
pub fn align_segments(process: &ProcessEntry, walk: &Walk, segments: &mut Segments) {
    let layout = &process.layout;
    if layout.entry_kind != EntryKind::EveryFrame as u8
        || walk.status != WalkStatus::Complete as u32
    {
        return;
    }
    if walk.cframe == 0 {
        // The last one passed is the thread state's own, which no frame belongs to.
        // Where there was no room for all, it is not among them.
        if walk.depth < MAX_SEGMENTS as u32 + 1 {
            segments.pop();
        }
        segments.shift(1);
    } else if !is_root_cframe(walk) {
        segments.push(walk.cframe, walk.depth + 1);
        segments.shift(-1);
    }
}

/// Bytes of a thread state in which its own `CFrame` lies.
const TSTATE_CFRAME: u64 = 0x400;

/// Whether the chain of `CFrame`s has come to the thread state's own, which ends it: what it says of
/// the one before it is not set in every thread (`new_threadstate` in `Python/pystate.c`, 3.10).
#[inline(always)]
fn is_root_cframe(walk: &Walk) -> bool {
    walk.cframe.wrapping_sub(walk.tstate) < TSTATE_CFRAME
}

/// A whole walk in one call, for the host.
#[allow(clippy::too_many_arguments, reason = "as many as a walk has parts")]
pub fn run<M: Memory>(
    mem: &M,
    process: &ProcessEntry,
    tgid: u32,
    fsbase: u64,
    walk: &mut Walk,
    cache: &mut WalkCache,
    frames: &mut [Frame; MAX_FRAMES],
    mut segments: Option<&mut Segments>,
) -> u64 {
    if let Some(segments) = segments.as_deref_mut() {
        segments.clear();
    }
    if begin(mem, process, tgid, fsbase, walk, cache) {
        for _ in 0..MAX_STEPS {
            let more = step(mem, process, walk, cache, frames, segments.as_deref_mut());
            if !more {
                break;
            }
        }
    }
    if let Some(segments) = segments {
        align_segments(process, walk, segments);
    }
    finish(walk)
}
