//! What a walk keeps of the memory it has read: in the kernel, in the scratch of its program.

use super::block::FrameBlock;
use super::witness::WitnessCache;

/// Scratch of the walks of one program on one CPU, one after the other.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct WalkCache {
    pub(super) block: FrameBlock,
    pub(super) witnesses: WitnessCache,
}

impl Default for WalkCache {
    fn default() -> Self {
        Self {
            block: FrameBlock::EMPTY,
            witnesses: WitnessCache::EMPTY,
        }
    }
}

impl WalkCache {
    /// A new walk begins; `epoch` is what witnesses of earlier walks must have been read in, to be
    /// believed.
    #[inline(always)]
    pub(super) fn next_walk(&mut self, epoch: Option<u64>) {
        self.block.next_walk();
        self.witnesses.next_walk(epoch);
    }
}
