//! Words of the stack, read many at a time: a read costs more than what it copies.

use crate::mem::{Fault, Memory};

/// Bytes that are read at once: frames of C code take some hundred each.
const BLOCK_BYTES: usize = 1024;

/// The part of the stack that was read last.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct StackBlock {
    start: u64,
    /// 1 when `words` is what lies at `start`.
    valid: u64,
    words: [u64; BLOCK_BYTES / 8],
}

impl StackBlock {
    /// Nothing read.
    pub const EMPTY: Self = Self {
        start: 0,
        valid: 0,
        words: [0; BLOCK_BYTES / 8],
    };

    /// Forgets what was read: another stack, or another moment.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.valid = 0;
    }

    #[inline(always)]
    fn held(&self, addr: u64) -> Option<u64> {
        let offset = addr.wrapping_sub(self.start);
        // In this form the verifier keeps the bound.
        if self.valid == 0 || offset > BLOCK_BYTES as u64 - 8 {
            return None;
        }
        // SAFETY: inside of the block; the read has no alignment to keep.
        Some(unsafe {
            core::ptr::read_unaligned(
                self.words
                    .as_ptr()
                    .cast::<u8>()
                    .add(offset as usize)
                    .cast::<u64>(),
            )
        })
    }

    /// Reads what lies at `from` and above, if it is all there.
    #[inline(always)]
    pub fn fill<M: Memory>(&mut self, mem: &M, from: u64) {
        self.start = from;
        self.valid = 0;
        // SAFETY: words are as many bytes, and every bit pattern is a value.
        let bytes = unsafe {
            core::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast::<u8>(), BLOCK_BYTES)
        };
        if mem.read(from, bytes).is_ok() {
            self.valid = 1;
        }
    }

    /// Reads the first bytes at `from`, and nothing else, into the block, which is worth nothing
    /// afterwards: room for what would not fit on a BPF program's stack.
    ///
    /// # Errors
    /// [`Fault`] where they cannot be read.
    #[inline(always)]
    pub(super) fn borrow<const N: usize, M: Memory>(
        &mut self,
        mem: &M,
        from: u64,
    ) -> Result<&[u8; N], Fault> {
        const { assert!(N <= BLOCK_BYTES) };
        self.forget();
        let first = self.words.as_mut_ptr().cast::<u8>();
        // SAFETY: as in `fill`, and not more.
        mem.read(from, unsafe { core::slice::from_raw_parts_mut(first, N) })?;
        // SAFETY: as above.
        Ok(unsafe { &*first.cast::<[u8; N]>() })
    }

    /// The word at `addr`. `around` is where to read a new block from, if it takes one: callers
    /// lie above.
    ///
    /// # Errors
    /// [`Fault`] where it cannot be read.
    #[inline(always)]
    pub fn word<M: Memory>(&mut self, mem: &M, addr: u64, around: u64) -> Result<u64, Fault> {
        if let Some(word) = self.held(addr) {
            return Ok(word);
        }
        if addr.wrapping_sub(around) <= BLOCK_BYTES as u64 - 8 {
            self.fill(mem, around);
            if let Some(word) = self.held(addr) {
                return Ok(word);
            }
        }
        mem.read_u64(addr)
    }
}
