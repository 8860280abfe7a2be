//! The one place where records leave. Called by all programs, in any context; may not sleep or
//! insert into a map. A full ring buffer is told to the caller, who counts what was lost.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query};
use profiler_common::counter::Counter;
use profiler_common::event::{
    COMM_BYTES, EVENT_BY_FRAME_POINTER, EventHeader, EventKind, HEADER_BYTES, OffCpuRecord,
    PIECE_BYTES, WAIT_BYTES,
};
use profiler_common::unwind::MAX_TOKENS;
use profiler_common::walk::{Frame, MAX_FRAMES};

use crate::code::send_new_codes;
use crate::count;
use crate::globals::RING_WAKE_BYTES;
use crate::kernel_stack::with_native_frames;
use crate::maps::{GATE, GATE_SLOTS, events};
use crate::scratch::{CODE_BYTES, Codes, native, scratch};

/// Wakes the reader from the fill mark on; below it a timer of its own does.
#[inline(always)]
fn wakeup() -> u64 {
    // SAFETY: the map exists for as long as the program.
    let filled = unsafe { bpf_ringbuf_query(events(), BPF_RB_AVAIL_DATA as u64) };
    if filled >= RING_WAKE_BYTES.load() {
        BPF_RB_FORCE_WAKEUP as u64
    } else {
        BPF_RB_NO_WAKEUP as u64
    }
}

/// Sends a record without frames. Returns whether the ring buffer took it.
#[inline(always)]
pub fn send_header(header: &EventHeader) -> bool {
    send_header_with(header, wakeup())
}

/// The same for what the reader must hear of at once.
#[inline(always)]
pub fn send_header_now(header: &EventHeader) -> bool {
    send_header_with(header, BPF_RB_FORCE_WAKEUP as u64)
}

#[inline(always)]
fn send_header_with(header: &EventHeader, wakeup: u64) -> bool {
    // SAFETY: the header is valid for its size.
    let failed = unsafe {
        bpf_ringbuf_output(
            events(),
            core::ptr::from_ref(header).cast_mut().cast(),
            HEADER_BYTES as u64,
            wakeup,
        )
    };
    failed == 0
}

/// Sends a stretch off-CPU. Returns whether the ring buffer took it.
#[inline(always)]
pub fn send_wait(record: &OffCpuRecord) -> bool {
    // SAFETY: the record is valid for its size.
    let failed = unsafe {
        bpf_ringbuf_output(
            events(),
            core::ptr::from_ref(record).cast_mut().cast(),
            (HEADER_BYTES + WAIT_BYTES) as u64,
            wakeup(),
        )
    };
    failed == 0
}

/// Sends the pieces of memory of a code object that were read. Returns whether the ring buffer took
/// them.
#[inline(always)]
pub fn send_pieces(codes: &mut Codes, flags: u8) -> bool {
    let used = codes.used;
    codes.used = 0;
    codes.header.flags = flags;
    // For the verifier: no piece ends behind that.
    if used > (CODE_BYTES + PIECE_BYTES) as u64 {
        return false;
    }
    // SAFETY: header and pieces lie together in the scratch, the bytes end inside them.
    let failed = unsafe {
        bpf_ringbuf_output(
            events(),
            core::ptr::from_mut(&mut codes.header).cast(),
            HEADER_BYTES as u64 + used,
            wakeup(),
        )
    };
    failed == 0
}

/// Finishes the sample in the scratch of `slot`: sends the record, with its frames when the gate
/// has not seen the stack. A record of kind [`EventKind::Stack`] is not sent without.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn finish_sample(slot: u32) -> u32 {
    let Some(s) = scratch(slot) else {
        count::one(Counter::Internal);
        return 0;
    };
    let hash = s.header.stack;
    let Some(gate) = GATE.get_ptr_mut(hash as u32 & (GATE_SLOTS as u32 - 1)) else {
        count::one(Counter::Internal);
        return 0;
    };
    // SAFETY: the map's value. Another CPU may write it at the same time: either hash is right.
    let known = unsafe { core::ptr::read_volatile(gate) } == hash;
    let stack_only = s.header.kind == EventKind::Stack as u8;
    if known && stack_only {
        return 0;
    }
    let mut bytes = HEADER_BYTES as u64;
    s.header.with_frames = 0;
    if !known {
        // Ahead of the frames: the ring keeps its order.
        send_new_codes(slot);
        if with_native_frames() && send_native(slot) == 0 {
            count::one(Counter::NativeStacksLost);
            return lost(stack_only);
        }
        // Behind that call: verifiers up to 6.1 forget the bound of what lies on the stack meanwhile.
        let frames = s.header.frames as u64;
        // For the verifier: no walk stores more.
        if frames > MAX_FRAMES as u64 {
            count::one(Counter::Internal);
            return 0;
        }
        s.header.with_frames = 1;
        bytes += frames * size_of::<Frame>() as u64;
    }
    // SAFETY: header and frames lie together in the scratch, `bytes` ends inside them.
    let failed = unsafe {
        bpf_ringbuf_output(
            events(),
            core::ptr::from_mut(&mut s.header).cast(),
            bytes,
            wakeup(),
        )
    };
    if failed != 0 {
        return lost(stack_only);
    }
    if !known {
        // Only now: the ring buffer has the frames, and keeps its order.
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(gate, hash) };
        count::one(Counter::StacksSent);
    }
    0
}

/// Counts what the full ring buffer did not take.
#[inline(always)]
fn lost(stack_only: bool) -> u32 {
    count::one(if stack_only {
        Counter::StacksLost
    } else {
        Counter::SamplesLost
    });
    0
}

/// Sends the native part of the stack in the scratch of `slot`. Returns 1 when the ring buffer took
/// it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_native(slot: u32) -> u32 {
    let (Some(s), Some(n)) = (scratch(slot), native(slot)) else {
        return 0;
    };
    let tokens = n.unwind.count as u64;
    // For the verifier: no unwind stores more.
    if tokens > MAX_TOKENS as u64 {
        return 0;
    }
    n.header = EventHeader {
        status: n.unwind.status as u8,
        frames: tokens as u16,
        with_frames: 1,
        flags: if n.unwind.by_frame_pointer == 0 {
            0
        } else {
            EVENT_BY_FRAME_POINTER
        },
        generation: s.header.generation,
        cpu: s.header.cpu,
        time_ns: s.header.time_ns,
        value: s.process.mappings.generation as u64,
        stack: s.header.stack,
        ..EventHeader::new(EventKind::Native, s.header.tgid, s.header.tid)
    };
    // SAFETY: header and tokens lie together in the scratch, the bytes end inside them.
    let failed = unsafe {
        bpf_ringbuf_output(
            events(),
            core::ptr::from_mut(&mut n.header).cast(),
            HEADER_BYTES as u64 + tokens * 8,
            wakeup(),
        )
    };
    if failed != 0 {
        return 0;
    }
    count::one(Counter::NativeStacksSent);
    1
}

/// Sends the name of a process that is no target, which lies in the frames of the scratch of `slot`,
/// when the gate has not seen it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_command(slot: u32) -> u32 {
    let Some(s) = scratch(slot) else {
        count::one(Counter::Internal);
        return 0;
    };
    let hash = s.header.stack;
    let Some(gate) = GATE.get_ptr_mut(hash as u32 & (GATE_SLOTS as u32 - 1)) else {
        count::one(Counter::Internal);
        return 0;
    };
    // SAFETY: as in `finish_sample`.
    if unsafe { core::ptr::read_volatile(gate) } == hash {
        return 0;
    }
    // SAFETY: header and frames lie together in the scratch, and the name in the first frame.
    let failed = unsafe {
        bpf_ringbuf_output(
            events(),
            core::ptr::from_mut(&mut s.header).cast(),
            (HEADER_BYTES + COMM_BYTES) as u64,
            wakeup(),
        )
    };
    if failed != 0 {
        return lost(true);
    }
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(gate, hash) };
    0
}
