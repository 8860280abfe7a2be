//! What the kernel keeps of a thread that does not run: for the stacks of threads that waited
//! already when a recording began.

use crate::unwind::USER_REGS_WORDS;

/// Frames of the kernel at most.
pub const WAITING_KERNEL_FRAMES: usize = 127;

/// One thread, as the program `waiting_threads` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct WaitingThread {
    /// The thread, in the initial pid namespace.
    pub tid: u32,
    /// How many frames of the kernel there are.
    pub kernel_frames: u32,
    /// A `struct pt_regs`; all zero where it could not be read.
    pub regs: [u64; USER_REGS_WORDS],
    /// Addresses in the kernel, leaf first.
    pub kernel: [u64; WAITING_KERNEL_FRAMES],
}

/// Bytes of a [`WaitingThread`].
pub const WAITING_BYTES: usize = size_of::<WaitingThread>();

const _: () = assert!(WAITING_BYTES == 8 + 8 * USER_REGS_WORDS + 8 * WAITING_KERNEL_FRAMES);

impl WaitingThread {
    /// Those that were written.
    pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes.chunks_exact(WAITING_BYTES).map(|bytes| {
            // SAFETY: as long as one, every bit pattern is a value, the read is unaligned.
            unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast()) }
        })
    }
}
