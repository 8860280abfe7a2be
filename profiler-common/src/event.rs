//! The records of the ring buffer: a header, and behind it the frames where they are new.

use crate::unwind::Token;
use crate::walk::Frame;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// An on-CPU sample. `value` is 1.
    Sample = 1,
    /// The frames of a stack that later off-CPU records name. `value` is 0.
    Stack = 2,
    /// A stretch off-CPU that ended. `value` is its length in nanoseconds.
    OffCpu = 3,
    /// The process executed another program: what was known of it no longer holds.
    Exec = 4,
    /// A thread of a target began.
    ThreadStart = 5,
    /// A thread of a target ended.
    ThreadEnd = 6,
    /// The native part of a stack, ahead of the record with its frames: tokens follow. `status` is
    /// an [`crate::unwind::UnwindStatus`], `value` the generation of the mappings.
    Native = 7,
}

impl EventKind {
    /// From the wire, `None` for what this version does not know.
    #[must_use]
    pub fn from_u8(raw: u8) -> Option<Self> {
        [
            Self::Sample,
            Self::Stack,
            Self::OffCpu,
            Self::Exec,
            Self::ThreadStart,
            Self::ThreadEnd,
            Self::Native,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == raw)
    }
}

/// The stretch began before recording did: the stack is the snapshot's.
pub const EVENT_SINCE_BEFORE: u8 = 1;

/// Some frames were passed by their frame pointers, for want of a rule.
pub const EVENT_BY_FRAME_POINTER: u8 = 2;

/// The head of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EventHeader {
    /// An [`EventKind`].
    pub kind: u8,
    /// A [`crate::walk::WalkStatus`], where the record has a stack.
    pub status: u8,
    /// Frames of the stack; they follow only when `with_frames` is set.
    pub frames: u16,
    /// 1 when the frames follow, leaf first.
    pub with_frames: u8,
    /// `EVENT_*` bits.
    pub flags: u8,
    /// An [`crate::thread::OffReason`] for off-CPU records.
    pub reason: u16,
    /// Process, in the initial pid namespace.
    pub tgid: u32,
    /// Thread, in the initial pid namespace.
    pub tid: u32,
    /// The process's generation.
    pub generation: u32,
    /// CPU that wrote the record.
    pub cpu: u32,
    /// `CLOCK_MONOTONIC`, in nanoseconds: of the sample, or of the end of the stretch.
    pub time_ns: u64,
    /// See [`EventKind`].
    pub value: u64,
    /// Hash of the stack, or one of `thread::STACK_*`; 0 when there is none.
    pub stack: u64,
}

/// Bytes of an [`EventHeader`].
pub const HEADER_BYTES: usize = size_of::<EventHeader>();

const _: () = assert!(HEADER_BYTES == 48);
const _: () = assert!(size_of::<Frame>() == 16);

impl EventHeader {
    /// Reads the header at the start of a record; `None` when it is too short.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<Self> {
        let head = record.get(..HEADER_BYTES)?;
        // SAFETY: the length was checked, every bit pattern is a value, the read is unaligned.
        Some(unsafe { core::ptr::read_unaligned(head.as_ptr().cast()) })
    }

    /// The frames behind the header, leaf first; empty when they were not sent.
    pub fn frames(record: &[u8]) -> impl Iterator<Item = Frame> + '_ {
        let body = record.get(HEADER_BYTES..).unwrap_or_default();
        body.chunks_exact(size_of::<Frame>()).map(|bytes| {
            // SAFETY: `chunks_exact` gives whole frames, every bit pattern is a value.
            unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast()) }
        })
    }

    /// The tokens behind the header of a [`EventKind::Native`], leaf first.
    pub fn tokens(record: &[u8]) -> impl Iterator<Item = Token> + '_ {
        let body = record.get(HEADER_BYTES..).unwrap_or_default();
        body.chunks_exact(size_of::<Token>()).map(|bytes| {
            // SAFETY: as above.
            unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast()) }
        })
    }
}
