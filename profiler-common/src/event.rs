//! The records of the ring buffer: a header, and behind it the frames where they are new.

use crate::unwind::Token;
use crate::walk::Frame;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// An on-CPU sample. `value` is the thread's Python thread state, 0 where it has none.
    Sample = 1,
    /// The frames of a stack that later off-CPU records name. `value` is 0.
    Stack = 2,
    /// A stretch off-CPU that ended; a [`Wait`] follows. `value` is its length in nanoseconds,
    /// `frames` the number of the system call.
    OffCpu = 3,
    /// The process executed another program: what was known of it no longer holds.
    Exec = 4,
    /// A thread of a target began.
    ThreadStart = 5,
    /// A thread of a target ended. Where threads are tracked, `value` is how long it was on a CPU
    /// since then, and `stack` how long it was not, in nanoseconds.
    ThreadEnd = 6,
    /// The native part of a stack, ahead of the record with its frames: tokens follow. `status` is
    /// an [`crate::unwind::UnwindStatus`], `value` the generation of the mappings.
    Native = 7,
    /// The name of a process that is no target: 16 bytes of text follow. `stack` is what stands for
    /// it.
    Command = 8,
    /// Memory of the target that names a code object, ahead of the frames that need it: pieces
    /// follow, each a [`Piece`] and its bytes. `value` is the code object's address, `stack` its
    /// witness.
    Code = 9,
    /// A target made a process, the record's, which is a target, too. `value` is the parent, `stack`
    /// its generation.
    Fork = 10,
    /// The last thread of a target came to its end.
    ProcessEnd = 11,
    /// An on-CPU sample of a process that is no target; `stack` is what stands for it.
    Other = 12,
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
            Self::Command,
            Self::Fork,
            Self::ProcessEnd,
            Self::Other,
            Self::Code,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == raw)
    }
}

/// The stretch began before recording did: the stack is the snapshot's.
pub const EVENT_SINCE_BEFORE: u8 = 1;

/// Some frames were passed by their frame pointers, for want of a rule.
pub const EVENT_BY_FRAME_POINTER: u8 = 2;

/// The thread held the interpreter's lock.
pub const EVENT_HOLDS_GIL: u8 = 4;

/// The thread let the interpreter's lock go, and waits until another has taken it.
pub const EVENT_HANDS_GIL_OVER: u8 = 8;

/// More of this code object follows in another record.
pub const EVENT_CODE_GOES_ON: u8 = 16;

/// Bytes of a process's name in the kernel (`TASK_COMM_LEN`).
pub const COMM_BYTES: usize = 16;

/// What follows the header of an [`EventKind::OffCpu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Wait {
    /// The end of the stretch in which the thread could run and had no CPU, in nanoseconds.
    pub queued_ns: u64,
    /// The thread's Python thread state, 0 where it has none.
    pub tstate: u64,
    /// The thread's interpreter lock, by its address; 0 where it has none.
    pub gil: u64,
    /// The thread state that held that lock as the thread was switched out, or 0.
    pub gil_holder: u64,
    /// Hash of the stack of the one who woke the thread, or a `thread::WAKER_*`.
    pub waker_stack: u64,
    /// Its process, in the initial pid namespace; 0 where nobody did, or it is not known.
    pub waker_tgid: u32,
    /// Its thread.
    pub waker_tid: u32,
}

/// Bytes of a [`Wait`].
pub const WAIT_BYTES: usize = size_of::<Wait>();

const _: () = assert!(WAIT_BYTES == 48);

/// The head of a piece of memory in an [`EventKind::Code`]. Its bytes follow, up to the next multiple
/// of 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Piece {
    /// Where it lies in the target.
    pub address: u64,
    /// Its bytes.
    pub len: u32,
    /// Zero.
    pub pad: u32,
}

/// Bytes of a [`Piece`], without those that follow it.
pub const PIECE_BYTES: usize = size_of::<Piece>();

const _: () = assert!(PIECE_BYTES == 16);

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
    /// A [`crate::cause::Cause`] for off-CPU records.
    pub cause: u16,
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

/// A record of a stretch off-CPU, as it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct OffCpuRecord {
    /// Of kind [`EventKind::OffCpu`].
    pub header: EventHeader,
    /// What follows.
    pub wait: Wait,
}

const _: () = assert!(size_of::<OffCpuRecord>() == HEADER_BYTES + WAIT_BYTES);

impl EventHeader {
    /// A record of a thread, which says nothing yet.
    #[inline(always)]
    #[must_use]
    pub const fn new(kind: EventKind, tgid: u32, tid: u32) -> Self {
        Self {
            kind: kind as u8,
            status: 0,
            frames: 0,
            with_frames: 0,
            flags: 0,
            cause: 0,
            tgid,
            tid,
            generation: 0,
            cpu: 0,
            time_ns: 0,
            value: 0,
            stack: 0,
        }
    }

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

    /// What follows the header of an [`EventKind::OffCpu`]; `None` when it is too short.
    #[must_use]
    pub fn wait(record: &[u8]) -> Option<Wait> {
        let body = record.get(HEADER_BYTES..)?.get(..WAIT_BYTES)?;
        // SAFETY: the length was checked, every bit pattern is a value, the read is unaligned.
        Some(unsafe { core::ptr::read_unaligned(body.as_ptr().cast()) })
    }

    /// The pieces behind the header of an [`EventKind::Code`], each with its address. One that is not
    /// whole ends them.
    pub fn pieces(record: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = record.get(HEADER_BYTES..).unwrap_or_default();
        core::iter::from_fn(move || {
            let (head, body) = rest.split_at_checked(PIECE_BYTES)?;
            // SAFETY: the length was checked, every bit pattern is a value, the read is unaligned.
            let piece: Piece = unsafe { core::ptr::read_unaligned(head.as_ptr().cast()) };
            let bytes = body.get(..piece.len as usize)?;
            let next = (piece.len as usize).next_multiple_of(8);
            rest = body.get(next..).unwrap_or_default();
            Some((piece.address, bytes))
        })
    }

    /// The name behind the header of a [`EventKind::Command`], up to its end.
    #[must_use]
    pub fn comm(record: &[u8]) -> &[u8] {
        let body = record.get(HEADER_BYTES..).unwrap_or_default();
        body.split(|byte| *byte == 0).next().unwrap_or_default()
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
