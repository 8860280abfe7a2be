//! From a thread's `fsbase` to its newest frame.
//!
//! The thread state is found the same way whether or not the thread holds the GIL: through the
//! gilstate key's slot in the thread's pthread data up to 3.14, through `_Py_tss_gilstate` in
//! 3.15 (`Python/pystate.c`). `_Py_tss_tstate` would be NULL exactly when a thread waits.

use core::mem::MaybeUninit;

use super::witness::lasting_epoch;
use super::{Walk, WalkStatus};
use crate::layout::{
    NONE, PROCESS_COUNT_OF_INTERPRETER, PROCESS_COUNT_OF_PROCESS, PROCESS_READY,
    PROCESS_WITHOUT_PYTHON, ProcessEntry, TSTATE_PATH_MAX, TstatePath,
};
use crate::mem::{Fault, Memory, u64_at};

/// Offset of the bytes read of a thread state: `prev`, `next` come before, in every version.
const TSTATE_FROM: u16 = 16;
/// Bytes read of a thread state: `interp` up to `thread_id` (at 0xb0 at most).
const TSTATE_BYTES: usize = 0xb8 - 16;

/// Reads the pointer at the end of `path` from `base`. 0 is "nothing there".
///
/// # Errors
/// [`Fault`] where a pointer on the way could not be read.
#[inline(always)]
pub fn follow_path<M: Memory>(mem: &M, path: &TstatePath, base: u64) -> Result<u64, Fault> {
    let mut addr = base;
    for index in 0..TSTATE_PATH_MAX {
        if index as u32 >= path.len {
            break;
        }
        // The first pointers of a slot that was never used are NULL: no thread state.
        if addr == 0 {
            return Ok(0);
        }
        addr = mem.read_u64(addr.wrapping_add(path.offsets[index] as i64 as u64))?;
    }
    Ok(addr)
}

/// Where a walk begins.
pub(super) struct Newest {
    /// The thread's newest frame.
    pub(super) frame: u64,
    /// The newest `CFrame`, 0 where there are none.
    pub(super) cframe: u64,
    /// The epoch of witnesses, where the interpreter tells.
    pub(super) epoch: Option<u64>,
}

/// The newest frame of the thread. Its thread state is in `walk` then, also where it has no frame.
#[inline(always)]
pub(super) fn newest_frame<M: Memory>(
    mem: &M,
    process: &ProcessEntry,
    fsbase: u64,
    walk: &mut Walk,
) -> Result<Newest, WalkStatus> {
    if process.flags & PROCESS_READY == 0 || process.tstate.len == 0 {
        return Err(if process.flags & PROCESS_WITHOUT_PYTHON == 0 {
            WalkStatus::NotReady
        } else {
            WalkStatus::NoThreadState
        });
    }
    // A thread between clone() and its first instruction has no thread pointer.
    if fsbase == 0 {
        return Err(WalkStatus::NoThreadState);
    }
    let tstate = follow_path(mem, &process.tstate, fsbase)
        .map_err(|Fault| WalkStatus::ThreadStateUnreadable)?;
    if tstate == 0 {
        return Err(WalkStatus::NoThreadState);
    }
    let layout = &process.layout;
    let mut block = MaybeUninit::uninit();
    let block = mem
        .read_block::<TSTATE_BYTES>(tstate.wrapping_add(TSTATE_FROM as u64), &mut block)
        .map_err(|Fault| WalkStatus::ThreadStateUnreadable)?;
    if u64_at(block, layout.tstate_thread_id.wrapping_sub(TSTATE_FROM)) != fsbase {
        return Err(WalkStatus::ThreadStateForeign);
    }
    let interp = u64_at(block, layout.tstate_interp.wrapping_sub(TSTATE_FROM));
    walk.tstate = tstate;
    walk.interp = interp;
    let newest = u64_at(block, layout.tstate_frame.wrapping_sub(TSTATE_FROM));
    let cframe = if layout.tstate_cframe == NONE {
        0
    } else {
        u64_at(block, layout.tstate_cframe.wrapping_sub(TSTATE_FROM))
    };
    let frame = if layout.cframe_frame == NONE || newest == 0 {
        newest
    } else {
        mem.read_u64(newest.wrapping_add(layout.cframe_frame as u64))
            .map_err(|Fault| WalkStatus::ThreadStateUnreadable)?
    };
    if frame == 0 {
        // A thread state without a frame: the thread runs C code that was not called by Python.
        return Err(WalkStatus::NoThreadState);
    }
    let epoch = code_epoch(mem, process, walk.tgid, interp);
    Ok(Newest {
        frame,
        cframe,
        epoch,
    })
}

/// The epoch of the witnesses that this walk reads, where the interpreter tells.
#[inline(always)]
fn code_epoch<M: Memory>(mem: &M, process: &ProcessEntry, tgid: u32, interp: u64) -> Option<u64> {
    let at = if process.flags & PROCESS_COUNT_OF_INTERPRETER != 0 {
        interp.wrapping_add(process.code_count)
    } else if process.flags & PROCESS_COUNT_OF_PROCESS != 0 {
        process.code_count
    } else {
        return None;
    };
    match mem.read_u32(at) {
        // A count of what is made stays at 0 when it has passed the last number.
        Ok(0) | Err(Fault) => None,
        Ok(count) => Some(lasting_epoch(process, tgid, interp, count)),
    }
}
