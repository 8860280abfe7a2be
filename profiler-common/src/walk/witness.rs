//! The proof of a code object's identity.
//!
//! An address alone is not one: a code object that was freed lends its address to the next of
//! its size, and a profile would show the old one's name. Since 3.12 the interpreter numbers its
//! code objects (`co_version`, `Include/cpython/code.h`; new objects never repeat a number before
//! 2^32 of them were made, then all get 0). Before that, a digest of what names and lines come
//! from: pointers, the first line, the name's own hash, the line table's length and first bytes.
//! Userspace computes the same digest when it reads the names, and drops what does not agree.

use core::mem::MaybeUninit;

use super::WalkStatus;
use crate::hash;
use crate::layout::{ProcessEntry, WitnessKind};
use crate::mem::{Fault, Memory, u32_at, u64_at};

/// The witness of a frame whose code object could not be read in the kernel, where a page that
/// is not resident cannot be waited for.
pub const WITNESS_UNREAD: u32 = u32::MAX;

/// Offset of `ob_type` in every object, and of the bytes read of a code object.
const OB_TYPE: u16 = 8;
/// `ob_type` to `co_version`, 3.12 on (at 0x5c).
const VERSION_BYTES: usize = 88;
/// `ob_type` to `co_linetable`, up to 3.11 (at 0x88).
const CONTENT_BYTES: usize = 136;
/// A `str`'s `length`, `hash`: the same place in every version up to 3.11.
const STR_FROM: u64 = 16;
/// A `bytes`'s `ob_size`, `ob_shash`, and the first 16 bytes of `ob_sval`.
const BYTES_FROM: u64 = 16;

/// Reads a code object's witness.
///
/// # Errors
/// [`WalkStatus::CodeInvalid`] when `code` is readable and no code object.
#[inline(always)]
pub fn witness<M: Memory>(mem: &M, process: &ProcessEntry, code: u64) -> Result<u32, WalkStatus> {
    let read = if process.layout.witness_kind == WitnessKind::Version as u8 {
        by_version(mem, process, code)
    } else {
        by_content(mem, process, code)
    };
    match read {
        Ok(Some(witness)) if witness == WITNESS_UNREAD => Ok(0),
        Ok(Some(witness)) => Ok(witness),
        Ok(None) => Err(WalkStatus::CodeInvalid),
        Err(Fault) => Ok(WITNESS_UNREAD),
    }
}

#[inline(always)]
fn is_code(process: &ProcessEntry, ob_type: u64) -> bool {
    process.code_type == 0 || ob_type == process.code_type
}

#[inline(always)]
fn by_version<M: Memory>(mem: &M, process: &ProcessEntry, code: u64) -> Result<Option<u32>, Fault> {
    let mut block = MaybeUninit::uninit();
    let block = mem.read_block::<VERSION_BYTES>(code.wrapping_add(OB_TYPE as u64), &mut block)?;
    if !is_code(process, u64_at(block, 0)) {
        return Ok(None);
    }
    Ok(Some(u32_at(
        block,
        process.layout.code_version.wrapping_sub(OB_TYPE),
    )))
}

#[inline(always)]
fn by_content<M: Memory>(mem: &M, process: &ProcessEntry, code: u64) -> Result<Option<u32>, Fault> {
    let layout = &process.layout;
    let mut block = MaybeUninit::uninit();
    let block = mem.read_block::<CONTENT_BYTES>(code.wrapping_add(OB_TYPE as u64), &mut block)?;
    if !is_code(process, u64_at(block, 0)) {
        return Ok(None);
    }
    let name = u64_at(block, layout.code_name.wrapping_sub(OB_TYPE));
    let table = u64_at(block, layout.code_line_table.wrapping_sub(OB_TYPE));
    let mut digest = hash::fold(
        0,
        u32_at(block, layout.code_first_line.wrapping_sub(OB_TYPE)) as u64,
    );
    digest = hash::fold(
        digest,
        u64_at(block, layout.code_filename.wrapping_sub(OB_TYPE)),
    );
    digest = hash::fold(digest, name);
    digest = hash::fold(digest, table);
    let mut text = MaybeUninit::uninit();
    let text = mem.read_block::<16>(name.wrapping_add(STR_FROM), &mut text)?;
    digest = hash::fold(digest, u64_at(text, 0));
    digest = hash::fold(digest, u64_at(text, 8));
    // ob_size, then ob_shash, which the interpreter may fill in later: not part of the digest.
    let mut head = MaybeUninit::uninit();
    let head = mem.read_block::<32>(table.wrapping_add(BYTES_FROM), &mut head)?;
    let len = u64_at(head, 0);
    digest = hash::fold(digest, len);
    digest = hash::fold(digest, u64_at(head, 16) & low_bytes(len));
    digest = hash::fold(digest, u64_at(head, 24) & low_bytes(len.saturating_sub(8)));
    Ok(Some(hash::half(digest)))
}

/// A mask of the lowest `count` bytes: what lies behind a short table is not its own.
#[inline(always)]
fn low_bytes(count: u64) -> u64 {
    if count >= 8 {
        u64::MAX
    } else {
        (1 << (count * 8)) - 1
    }
}

/// Entries of a [`WitnessCache`]: two places for each code object, next to each other.
const CACHE_SLOTS: usize = 512;
/// Set in epochs that outlast a walk, and in no others.
const LASTING: u64 = 1 << 63;

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct CacheSlot {
    code: u64,
    /// When it was read; 0 is never.
    epoch: u64,
    witness: u32,
    pad: u32,
}

/// Witnesses that were read, each with the epoch in which it holds.
///
/// During one walk every code object on the stack is held alive by its frame, so a second look at
/// the same address is the same object: recursion pays for one read. Up to 3.11 that is an epoch.
/// From 3.12 on the interpreter numbers the code objects that it makes (the source of `co_version`,
/// `init_code` in `Objects/codeobject.c`), from 3.14 on it counts those that it frees
/// (`interp->_code_object_generation`, `code_dealloc`). As long as such a count stays, no address
/// was used again, and later walks need no read at all.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct WitnessCache {
    walks: u64,
    epoch: u64,
    slots: [CacheSlot; CACHE_SLOTS],
}

/// The epoch of an interpreter whose code objects are counted as `count`.
#[inline(always)]
pub(super) fn lasting_epoch(process: &ProcessEntry, tgid: u32, interp: u64, count: u32) -> u64 {
    // Forked processes have their interpreters at one address.
    let program = hash::fold(super::program(tgid, process), interp);
    hash::fold(program, count as u64) | LASTING
}

impl WitnessCache {
    pub(super) const EMPTY: Self = Self {
        walks: 0,
        epoch: 0,
        slots: [CacheSlot {
            code: 0,
            epoch: 0,
            witness: 0,
            pad: 0,
        }; CACHE_SLOTS],
    };

    /// A new walk begins: what was read in another epoch is not believed. Without an epoch, the
    /// walk is one of its own.
    #[inline(always)]
    pub(super) fn next_walk(&mut self, epoch: Option<u64>) {
        self.walks += 1;
        self.epoch = epoch.unwrap_or(self.walks & !LASTING);
    }

    #[inline(always)]
    pub(super) fn lookup<M: Memory>(
        &mut self,
        mem: &M,
        process: &ProcessEntry,
        code: u64,
    ) -> Result<u32, WalkStatus> {
        if code == 0 {
            return Err(WalkStatus::CodeInvalid);
        }
        let first = hash::fold(0, code) as usize & (CACHE_SLOTS - 1);
        let mut place = first;
        for index in [first, first ^ 1] {
            let slot = &self.slots[index];
            if slot.epoch != self.epoch {
                place = index;
            } else if slot.code == code {
                return Ok(slot.witness);
            }
        }
        let witness = witness(mem, process, code)?;
        // What could not be read now may be readable in the next walk.
        if witness != WITNESS_UNREAD {
            self.slots[place] = CacheSlot {
                code,
                epoch: self.epoch,
                witness,
                pad: 0,
            };
        }
        Ok(witness)
    }
}
