//! One frame: read it, skip it or store it, and say who called it.

use core::mem::MaybeUninit;

use super::cache::WalkCache;
use super::witness::WITNESS_UNREAD;
use super::{Frame, MAX_FRAMES, Walk, WalkStatus, is_root_cframe};
use crate::hash;
use crate::layout::{EntryKind, FrameKind, NONE, ProcessEntry, WalkLayout};
use crate::mem::{Fault, Memory, u8_at, u32_at, u64_at};
use crate::unwind::Segments;

/// `PyFrameObject` from `f_back` (after the object's head) to `f_lasti`, 3.8 to 3.10.
const OBJECT_FROM: u16 = 24;
const OBJECT_BYTES: usize = 88;
/// `_PyInterpreterFrame` up to `localsplus`, 3.11 on.
pub(super) const INTERPRETER_BYTES: usize = 80;
/// From 3.14 the code's reference carries a tag in its low bits (`_PyStackRef`); objects are
/// aligned to 16 bytes, so clearing them is right in every version.
const TAG_MASK: u64 = !3;

/// What one frame says, whatever its version.
pub(super) struct Fields {
    back: u64,
    code: u64,
    instr: u64,
    owner: u8,
    /// 3.11: the oldest frame of an activation of the interpreter's loop.
    is_entry: bool,
}

/// A `PyFrameObject`: they lie anywhere, so each is read alone.
#[inline(always)]
fn object_fields<M: Memory>(mem: &M, layout: &WalkLayout, frame: u64) -> Result<Fields, Fault> {
    let mut block = MaybeUninit::uninit();
    let block =
        mem.read_block::<OBJECT_BYTES>(frame.wrapping_add(OBJECT_FROM as u64), &mut block)?;
    Ok(Fields {
        back: u64_at(block, layout.frame_back.wrapping_sub(OBJECT_FROM)),
        code: u64_at(block, layout.frame_code.wrapping_sub(OBJECT_FROM)),
        instr: u32_at(block, layout.frame_instr.wrapping_sub(OBJECT_FROM)) as u64,
        owner: 0,
        is_entry: false,
    })
}

/// A `_PyInterpreterFrame`.
#[inline(always)]
pub(super) fn interpreter_fields(bytes: &[u8; INTERPRETER_BYTES], layout: &WalkLayout) -> Fields {
    Fields {
        back: u64_at(bytes, layout.frame_back),
        code: u64_at(bytes, layout.frame_code) & TAG_MASK,
        instr: u64_at(bytes, layout.frame_instr),
        owner: if layout.frame_owner == NONE {
            0
        } else {
            u8_at(bytes, layout.frame_owner)
        },
        is_entry: layout.frame_is_entry != NONE && u8_at(bytes, layout.frame_is_entry) != 0,
    }
}

#[inline(always)]
fn lasti(layout: &WalkLayout, fields: &Fields) -> i32 {
    if layout.code_instrs == NONE {
        // An `int`: -1 before the first instruction.
        (fields.instr as i32).wrapping_mul(layout.lasti_unit as i32)
    } else {
        let first = fields.code.wrapping_add(layout.code_instrs as u64);
        fields.instr.wrapping_sub(first) as i32
    }
}

/// The frames up to here, from the last `CFrame` on, are run by the activation that the next one
/// lies on.
#[inline(always)]
fn pass_cframe<M: Memory>(mem: &M, layout: &WalkLayout, walk: &mut Walk, segments: &mut Segments) {
    if walk.cframe == 0 {
        return;
    }
    segments.push(walk.cframe, walk.depth);
    if is_root_cframe(walk) {
        walk.cframe = 0;
        return;
    }
    let previous = walk.cframe.wrapping_add(layout.cframe_previous as u64);
    walk.cframe = mem.read_u64(previous).unwrap_or(0);
}

/// Takes the frame that `walk` stands at. Returns its caller, 0 at the outermost frame.
#[inline(always)]
pub(super) fn take<M: Memory>(
    mem: &M,
    process: &ProcessEntry,
    walk: &mut Walk,
    cache: &mut WalkCache,
    frames: &mut [Frame; MAX_FRAMES],
    segments: Option<&mut Segments>,
) -> Result<u64, WalkStatus> {
    let layout = &process.layout;
    let read = if layout.frame_kind == FrameKind::Object as u8 {
        object_fields(mem, layout, walk.frame)
    } else {
        cache.block.fields(mem, layout, walk.frame)
    };
    let fields = read.map_err(|Fault| WalkStatus::FrameUnreadable)?;
    if layout.frame_owner != NONE && fields.owner >= layout.entry_owner {
        if let Some(segments) = segments {
            segments.push(walk.frame, walk.depth);
        }
        return Ok(fields.back);
    }
    cache.block.passed(walk.frame);
    let witness = cache.witnesses.lookup(mem, process, fields.code)?;
    // Right before the frame is stored: verifiers up to 6.1 forget the bound of what lies on the
    // stack meanwhile.
    let depth = walk.depth as usize;
    if depth >= MAX_FRAMES {
        return Err(WalkStatus::Truncated);
    }
    if witness == WITNESS_UNREAD {
        walk.unread += 1;
    }
    let lasti = lasti(layout, &fields);
    frames[depth] = Frame {
        code: fields.code,
        lasti,
        witness,
    };
    walk.depth = depth as u32 + 1;
    walk.hash = hash::fold(walk.hash, fields.code);
    walk.hash = hash::fold(walk.hash, ((witness as u64) << 32) | lasti as u32 as u64);
    if let Some(segments) = segments
        && (fields.is_entry || layout.entry_kind == EntryKind::EveryFrame as u8)
    {
        pass_cframe(mem, layout, walk, segments);
    }
    Ok(fields.back)
}
