//! Memory of targets that do not exist.

use std::cell::Cell;
use std::collections::BTreeMap;

use profiler_common::mem::{Fault, Memory};

/// A target's memory: blocks with nothing between them.
#[derive(Clone, Default)]
pub(crate) struct Space {
    pub(crate) blocks: BTreeMap<u64, Vec<u8>>,
}

impl Memory for Space {
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        let (start, block) = self.blocks.range(..=addr).next_back().ok_or(Fault)?;
        let from = usize::try_from(addr - start).map_err(|_| Fault)?;
        let to = from.checked_add(dst.len()).ok_or(Fault)?;
        dst.copy_from_slice(block.get(from..to).ok_or(Fault)?);
        Ok(())
    }
}

impl Space {
    /// A new block, aligned as CPython's objects are, all bytes `0xa5`: what is not meant to be
    /// read is not zero either.
    pub(crate) fn alloc(&mut self, len: usize) -> u64 {
        let end = self.blocks.last_key_value();
        let next = end.map_or(0x7f00_0000_0000, |(start, block)| {
            (start + block.len() as u64 + 64).next_multiple_of(16)
        });
        self.blocks.insert(next, vec![0xa5; len]);
        next
    }

    pub(crate) fn put(&mut self, addr: u64, bytes: &[u8]) {
        let (start, block) = self.blocks.range_mut(..=addr).next_back().unwrap();
        let from = (addr - start) as usize;
        block[from..from + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn put_u64(&mut self, addr: u64, value: u64) {
        self.put(addr, &value.to_le_bytes());
    }

    pub(crate) fn unmap(&mut self, addr: u64) {
        self.blocks.remove(&addr).unwrap();
    }
}

/// `splitmix64`: a word of garbage for an address.
pub(crate) fn mix(seed: u64, addr: u64) -> u64 {
    let mut word = seed ^ addr.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Memory in which every address holds something.
#[derive(Clone, Debug)]
pub(crate) struct Garbage {
    pub(crate) seed: u64,
    /// Every word is one of these; any word at all where there is none.
    pub(crate) words: Vec<u64>,
    /// How many of 256 pages cannot be read.
    pub(crate) holes: u8,
    /// Words that are what they have to be.
    pub(crate) fixed: BTreeMap<u64, u64>,
    pub(crate) reads: Cell<u32>,
}

impl Garbage {
    pub(crate) fn word(&self, aligned: u64) -> u64 {
        let random = mix(self.seed, aligned);
        match (self.fixed.get(&aligned), self.words.len()) {
            (Some(word), _) => *word,
            (None, 0) => random,
            (None, count) => self.words[random as usize % count],
        }
    }
}

impl Memory for Garbage {
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        self.reads.set(self.reads.get() + 1);
        // Nothing is mapped across the end of memory.
        let end = addr.checked_add(dst.len() as u64).ok_or(Fault)?;
        let hole = |page: &u64| (mix(!self.seed, *page) as u8) < self.holes;
        if (addr >> 12..=(end - 1) >> 12).any(|page| hole(&page)) {
            return Err(Fault);
        }
        for aligned in (addr & !7..end).step_by(8) {
            for (index, byte) in self.word(aligned).to_le_bytes().iter().enumerate() {
                let at = (aligned + index as u64).checked_sub(addr);
                if let Some(to) = at.and_then(|at| dst.get_mut(at as usize)) {
                    *to = *byte;
                }
            }
        }
        Ok(())
    }
}
