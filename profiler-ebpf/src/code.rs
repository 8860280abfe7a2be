//! What names code objects: memory of the target, sent ahead of the frames that need it, so that
//! names outlive the process. Called by `finish_sample`, that is by every program that walks, in any
//! context; may not sleep, fault, or insert into a map.
//!
//! No string is made sense of here, only how long objects are: userspace gets pieces of memory, and
//! reads them as it reads the process.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use profiler_common::counter::Counter;
use profiler_common::event::{EVENT_CODE_GOES_ON, EventHeader, EventKind, PIECE_BYTES};
use profiler_common::layout::NONE;
use profiler_common::mem::Memory;
use profiler_common::walk::{MAX_FRAMES, WITNESS_UNREAD, code_hash};

use crate::count;
use crate::emit::send_pieces;
use crate::maps::{CODE_GATE, CODE_GATE_SLOTS};
use crate::scratch::{CODE_BYTES, codes, scratch};
use crate::user_memory::UserMemory;

const RUN_FRAMES: u32 = 32;
const RUNS: u32 = MAX_FRAMES as u32 / RUN_FRAMES;
const _: () = assert!((RUNS * RUN_FRAMES) as usize == MAX_FRAMES);

/// New code objects of a sample at most.
const MAX_CODES: u64 = 256;
/// Bytes of them at most, after which no other begins: what interrupts the target must end.
const MAX_BYTES: u64 = 256 << 10;
/// Characters of a string at most.
const MAX_STRING: u64 = 4 << 10;
/// Bytes of a line table at most.
const MAX_LINE_TABLE: u64 = 32 << 10;

const PAGE: u64 = 4096;
/// Pieces of an object at most: its pages.
const MAX_PIECES: u32 = (MAX_LINE_TABLE / PAGE) as u32 + 2;

const UNREADABLE: u32 = 0;
const READ: u32 = 1;
const ABSENT: u32 = 2;

/// Sends what names the code objects of the frames in the scratch of `slot`, as far as the gate has
/// not seen them.
///
/// Inlined: eight calls, one in the other, are all that the verifier takes.
#[inline(always)]
pub fn send_new_codes(slot: u32) {
    let (Some(s), Some(c)) = (scratch(slot), codes(slot)) else {
        count::one(Counter::Internal);
        return;
    };
    if s.process.names.code_bytes == 0 {
        return;
    }
    c.last = 0;
    c.sent = 0;
    c.bytes = 0;
    for run in 0..RUNS {
        if codes_run(slot, run * RUN_FRAMES) == 0 {
            break;
        }
    }
}

/// [`RUN_FRAMES`] frames from `first` on. Returns 1 to go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn codes_run(slot: u32, first: u32) -> u32 {
    for index in 0..RUN_FRAMES {
        if send_code(slot, first + index) == 0 {
            return 0;
        }
    }
    1
}

/// Sends what names the code object of frame `index`. Returns 1 to go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_code(slot: u32, index: u32) -> u32 {
    let (Some(s), Some(c)) = (scratch(slot), codes(slot)) else {
        return 0;
    };
    if index >= s.header.frames as u32 {
        return 0;
    }
    // For the verifier: no walk stores more.
    let frame = s.frames[index as usize & (MAX_FRAMES - 1)];
    if frame.witness == WITNESS_UNREAD {
        return 1;
    }
    let hash = code_hash(s.header.tgid, &s.process, &frame);
    // Recursion.
    if hash == c.last {
        return 1;
    }
    c.last = hash;
    let Some(gate) = CODE_GATE.get_ptr_mut(hash as u32 & (CODE_GATE_SLOTS as u32 - 1)) else {
        return 0;
    };
    // SAFETY: the map's value. Another CPU may write it at the same time: either hash is right.
    if unsafe { core::ptr::read_volatile(gate) } == hash {
        return 1;
    }
    if c.sent >= MAX_CODES || c.bytes >= MAX_BYTES {
        count::one(Counter::CodesLeftOut);
        return 1;
    }
    c.sent += 1;
    c.used = 0;
    c.last_type = 0;
    c.lost = 0;
    c.truncated = 0;
    c.header = EventHeader {
        generation: s.header.generation,
        cpu: s.header.cpu,
        time_ns: s.header.time_ns,
        value: frame.code,
        stack: frame.witness as u64,
        ..EventHeader::new(EventKind::Code, s.header.tgid, s.header.tid)
    };
    let layout = &s.process.layout;
    let names = &s.process.names;
    // What cannot be read is left out: userspace reads it from the process.
    add_memory(slot, frame.code, names.code_bytes as u64);
    add_object(slot, layout.code_filename as u32, 0);
    // The interpreter's own shims have no qualified name.
    if names.code_qualname == NONE || add_object(slot, names.code_qualname as u32, 0) == ABSENT {
        add_object(slot, layout.code_name as u32, 0);
    }
    add_object(slot, layout.code_line_table as u32, 1);
    if c.lost != 0 || !send_pieces(c, 0) {
        count::one(Counter::CodesLost);
        // The next would have no room either.
        return 0;
    }
    // Only now: the ring buffer has all of it, and keeps its order.
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(gate, hash) };
    count::one(Counter::CodesSent);
    if c.truncated != 0 {
        count::one(Counter::CodesTruncated);
    }
    1
}

/// Adds the object to which the code object points at `offset`: a `str`, or with `is_bytes` a
/// `bytes`, and what its type says that it is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn add_object(slot: u32, offset: u32, is_bytes: u32) -> u32 {
    let (Some(s), Some(c)) = (scratch(slot), codes(slot)) else {
        return UNREADABLE;
    };
    let names = &s.process.names;
    let Ok(object) = UserMemory.read_u64(c.header.value.wrapping_add(offset as u64)) else {
        return UNREADABLE;
    };
    if object == 0 {
        return ABSENT;
    }
    let (size_at, head, unit, most) = if is_bytes == 0 {
        (names.str_length, names.str_head, 4, MAX_STRING)
    } else {
        (names.bytes_size, names.bytes_head, 1, MAX_LINE_TABLE)
    };
    let (Ok(object_type), Ok(count)) = (
        UserMemory.read_u64(object.wrapping_add(names.ob_type as u64)),
        UserMemory.read_u64(object.wrapping_add(size_at as u64)),
    ) else {
        return UNREADABLE;
    };
    // How many bytes a character has is not looked at; where there are one to each, what lies
    // behind them comes with them.
    if count > most {
        c.truncated = 1;
    }
    let bytes = if count > most { most } else { count } * unit;
    if object_type != c.last_type {
        c.last_type = object_type;
        let flags_at = object_type.wrapping_add(names.type_flags as u64);
        if add_piece(slot, flags_at, 8) == UNREADABLE {
            return UNREADABLE;
        }
    }
    let head = head as u64;
    if is_bytes != 0 {
        return add_memory(slot, object, head + bytes);
    }
    let Ok(state) = UserMemory.read_u32(object.wrapping_add(names.str_state as u64)) else {
        return UNREADABLE;
    };
    if state & names.str_compact as u32 != 0 {
        return add_memory(slot, object, head + bytes);
    }
    // An instance of a subclass of `str`, mostly.
    let Ok(characters) = UserMemory.read_u64(object.wrapping_add(head).wrapping_sub(8)) else {
        return UNREADABLE;
    };
    if add_memory(slot, object, head) == UNREADABLE {
        return UNREADABLE;
    }
    add_memory(slot, characters, bytes)
}

/// Adds memory, each page by itself: a read that faults costs as much as fifty that do not, and
/// takes along what could be read.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn add_memory(slot: u32, address: u64, len: u64) -> u32 {
    let mut at = address;
    let mut left = len;
    for _ in 0..MAX_PIECES {
        if left == 0 {
            break;
        }
        let page = PAGE - (at & (PAGE - 1));
        let piece = if left < page { left } else { page };
        if add_piece(slot, at, piece) == UNREADABLE {
            return UNREADABLE;
        }
        at = at.wrapping_add(piece);
        left -= piece;
    }
    READ
}

/// Adds at most a page of memory, which lies on one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn add_piece(slot: u32, address: u64, len: u64) -> u32 {
    let Some(c) = codes(slot) else {
        return UNREADABLE;
    };
    if c.lost != 0 {
        return UNREADABLE;
    }
    if c.used != 0
        && c.used + PIECE_BYTES as u64 + len > CODE_BYTES as u64
        && !send_pieces(c, EVENT_CODE_GOES_ON)
    {
        c.lost = 1;
        return UNREADABLE;
    }
    // For the verifier, behind that call.
    let used = c.used as usize & (CODE_BYTES - 1);
    if len > PAGE {
        return UNREADABLE;
    }
    // SAFETY: `used` and a piece of a page, its head included, lie inside of the body; a page's
    // piece is aligned as the body is.
    let failed = unsafe {
        let head = c.body.as_mut_ptr().add(used);
        head.cast::<u64>().write_volatile(address);
        head.cast::<u64>().add(1).write_volatile(len);
        bpf_probe_read_user(
            head.add(PIECE_BYTES).cast(),
            len as u32,
            address as *const core::ffi::c_void,
        )
    };
    if failed != 0 {
        return UNREADABLE;
    }
    let bytes = (PIECE_BYTES as u64 + len + 7) & !7;
    c.used = used as u64 + bytes;
    c.bytes += bytes;
    READ
}
