//! The memory-read trait: the one way in which the pure code sees a target.

use core::mem::MaybeUninit;

/// The bytes could not be read: unmapped, paged out (the kernel side may not fault pages in), or
/// the target is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Reads a target's memory. The BPF side implements it with `bpf_probe_read_user`, the userspace
/// side with `process_vm_readv`, tests with a map of bytes.
pub trait Memory {
    /// Fills `dst` from the target's address `addr`.
    ///
    /// # Errors
    /// [`Fault`] when not every byte could be read; `dst` then holds nothing of use.
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault>;

    /// Fills a block of a size that is known when this is compiled, and gives it out. The BPF
    /// side does it without clearing the block first.
    ///
    /// # Errors
    /// [`Fault`] as for [`Memory::read`].
    #[inline(always)]
    fn read_block<'block, const N: usize>(
        &self,
        addr: u64,
        block: &'block mut MaybeUninit<[u8; N]>,
    ) -> Result<&'block [u8; N], Fault> {
        let block = block.write([0; N]);
        self.read(addr, block)?;
        Ok(block)
    }

    /// Reads one little-endian `u64`.
    ///
    /// # Errors
    /// [`Fault`] as for [`Memory::read`].
    #[inline(always)]
    fn read_u64(&self, addr: u64) -> Result<u64, Fault> {
        let mut word = MaybeUninit::uninit();
        self.read_block::<8>(addr, &mut word)
            .map(|word| u64::from_le_bytes(*word))
    }

    /// Reads one little-endian `u32`.
    ///
    /// # Errors
    /// [`Fault`] as for [`Memory::read`].
    #[inline(always)]
    fn read_u32(&self, addr: u64) -> Result<u32, Fault> {
        let mut word = MaybeUninit::uninit();
        self.read_block::<4>(addr, &mut word)
            .map(|word| u32::from_le_bytes(*word))
    }
}

/// The `u64` at byte `off` of a block; 0 when it does not lie inside.
///
/// The bound is written so that the verifier keeps it: the offset comes from a map.
#[inline(always)]
#[must_use]
pub fn u64_at<const N: usize>(block: &[u8; N], off: u16) -> u64 {
    let off = off as usize;
    if off > N - 8 {
        return 0;
    }
    // SAFETY: `off + 8 <= N`, and an unaligned read has no alignment to keep.
    unsafe { core::ptr::read_unaligned(block.as_ptr().add(off).cast::<u64>()) }
}

/// The `u32` at byte `off` of a block; 0 when it does not lie inside.
#[inline(always)]
#[must_use]
pub fn u32_at<const N: usize>(block: &[u8; N], off: u16) -> u32 {
    let off = off as usize;
    if off > N - 4 {
        return 0;
    }
    // SAFETY: `off + 4 <= N`, and an unaligned read has no alignment to keep.
    unsafe { core::ptr::read_unaligned(block.as_ptr().add(off).cast::<u32>()) }
}

/// The byte at `off` of a block; 0 when it does not lie inside.
#[inline(always)]
#[must_use]
pub fn u8_at<const N: usize>(block: &[u8; N], off: u16) -> u8 {
    let off = off as usize;
    if off >= N {
        return 0;
    }
    // SAFETY: `off < N`.
    unsafe { *block.as_ptr().add(off) }
}
