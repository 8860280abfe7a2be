//! Frames that lie together, read together.
//!
//! From 3.11 on a thread's frames stand one behind the other in chunks of memory
//! (`_PyThreadState_PushFrame`, `Python/pystate.c`), a caller's right below its callee's unless one
//! of them belongs to a generator. A read costs more than what it copies, so a frame that lies
//! close below the last one is read with what is below it on its page. Not with more: what is on
//! another page may be another mapping or none, and a read that faults costs as much as fifty.

use crate::layout::WalkLayout;
use crate::mem::{Fault, Memory};

use super::frame::{Fields, INTERPRETER_BYTES, interpreter_fields};

/// Bytes that are read at once: some eight frames of usual size.
const BLOCK_BYTES: usize = 1024;
/// Bytes below a frame that are read with it, at most.
const BELOW: u64 = (BLOCK_BYTES - INTERPRETER_BYTES) as u64;
/// Bytes in the smallest page.
const PAGE: u64 = 4096;

/// What was read in the current walk. Nothing in it changes while that goes on: the thread that
/// owns the frames is the one that walks, or does not run.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct FrameBlock {
    /// The last frame that was no entry frame; those lie on the C stack. 0 before the first.
    last: u64,
    /// Address of the first byte.
    start: u64,
    /// Frames that begin at less than this many bytes from there are in the block; at most
    /// `BELOW + 1`.
    starts: u64,
    bytes: [u8; BLOCK_BYTES],
}

impl FrameBlock {
    pub(super) const EMPTY: Self = Self {
        last: 0,
        start: 0,
        starts: 0,
        bytes: [0; BLOCK_BYTES],
    };

    /// Forgets everything: a new walk begins.
    #[inline(always)]
    pub(super) fn next_walk(&mut self) {
        self.last = 0;
        self.starts = 0;
    }

    /// The frame was a Python frame: its caller may lie close below it.
    #[inline(always)]
    pub(super) fn passed(&mut self, frame: u64) {
        self.last = frame;
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`Fault`] where it cannot be read.
    #[inline(always)]
    pub(super) fn fields<M: Memory>(
        &mut self,
        mem: &M,
        layout: &WalkLayout,
        frame: u64,
    ) -> Result<Fields, Fault> {
        let offset = frame.wrapping_sub(self.start);
        if offset < self.starts
            && let Some(bytes) = self.frame_at(offset)
        {
            return Ok(interpreter_fields(bytes, layout));
        }
        let distance = self.last.wrapping_sub(frame);
        if distance != 0 && distance <= BELOW {
            let below = (frame & (PAGE - 1)).min(BELOW);
            self.start = frame - below;
            self.starts = 0;
            let read = match self.bytes.get_mut(..below as usize + INTERPRETER_BYTES) {
                Some(bytes) => mem.read(frame - below, bytes),
                None => Err(Fault),
            };
            if read.is_ok() {
                self.starts = below + 1;
                if let Some(bytes) = self.frame_at(below) {
                    return Ok(interpreter_fields(bytes, layout));
                }
            }
        }
        let mut block = core::mem::MaybeUninit::uninit();
        let block = mem.read_block::<INTERPRETER_BYTES>(frame, &mut block)?;
        Ok(interpreter_fields(block, layout))
    }

    /// The bytes of the frame at `offset`. The bound is for the verifier: it knows nothing of
    /// `starts`.
    #[inline(always)]
    fn frame_at(&self, offset: u64) -> Option<&[u8; INTERPRETER_BYTES]> {
        if offset > BELOW {
            return None;
        }
        // SAFETY: the frame ends inside of the block; bytes have no alignment to keep.
        Some(unsafe { &*self.bytes.as_ptr().add(offset as usize).cast() })
    }
}
