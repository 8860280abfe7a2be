//! The driver of the walk. Called by `on_cpu` (any context) and `off_cpu` (interrupts off); reads
//! the current thread's memory; may not sleep, fault, or insert into a map.
//!
//! The verifier looks at a global function once, however often it is called, so the step is one,
//! and a run of steps is another: a walk of 2,112 steps costs a few hundred verified instructions
//! in the caller. Their arguments are scalars: each finds the scratch by its slot again.

use profiler_common::counter::Counter;
use profiler_common::event::EVENT_HOLDS_GIL;
use profiler_common::gil::{self, Gil};
use profiler_common::walk::{self, MAX_STEPS};

use crate::count;
use crate::globals::NATIVE;
use crate::scratch::{native, scratch};
use crate::user_memory::UserMemory;

const RUN_STEPS: u32 = 33;
const RUNS: u32 = MAX_STEPS / RUN_STEPS;
const _: () = assert!(RUNS * RUN_STEPS == MAX_STEPS);

/// One step of the walk in `slot`. Returns 1 to go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_step(slot: u32) -> u32 {
    let Some(scratch) = scratch(slot) else {
        return 0;
    };
    let segments = if NATIVE.load() == 0 {
        None
    } else {
        match native(slot) {
            Some(native) => Some(&mut native.segments),
            None => return 0,
        }
    };
    let more = walk::step(
        &UserMemory,
        &scratch.process,
        &mut scratch.walk,
        &mut scratch.cache,
        &mut scratch.frames,
        segments,
    );
    more as u32
}

/// At most [`RUN_STEPS`] steps of the walk in `slot`. Returns 1 to go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_run(slot: u32) -> u32 {
    for _ in 0..RUN_STEPS {
        if walk_step(slot) == 0 {
            return 0;
        }
    }
    1
}

/// Finds the thread's newest frame. Returns 1 when there is a stack to walk.
///
/// A function of its own, so that its stack is not below the steps': 512 bytes are for all of a
/// chain of calls.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_begin(slot: u32, fsbase: u64) -> u32 {
    let Some(s) = scratch(slot) else { return 0 };
    if NATIVE.load() != 0
        && let Some(native) = native(slot)
    {
        native.segments.clear();
    }
    walk::begin(
        &UserMemory,
        &s.process,
        s.header.tgid,
        fsbase,
        &mut s.walk,
        &mut s.cache,
    ) as u32
}

/// Walks the Python stack of the current thread into the scratch of `slot`, where the process's
/// entry was put, and sets the header's stack hash, status and number of frames.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_stack(slot: u32, fsbase: u64) -> u32 {
    if walk_begin(slot, fsbase) != 0 {
        for _ in 0..RUNS {
            if walk_run(slot) == 0 {
                break;
            }
        }
    }
    let Some(s) = scratch(slot) else { return 0 };
    s.header.stack = walk::finish(&mut s.walk);
    s.header.status = s.walk.status as u8;
    s.header.frames = s.walk.depth as u16;
    count::walk_end(s.walk.status);
    if s.walk.unread != 0 {
        count::add(Counter::CodeUnreadable, s.walk.unread as u64);
    }
    0
}

/// Reads the interpreter's lock as the current thread sees it, whose walk is in the scratch of
/// `slot`; says in the header whether the thread holds it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_gil(slot: u32) -> u32 {
    let Some(s) = scratch(slot) else { return 0 };
    if s.walk.tstate == 0 {
        // It has nothing to do with the lock, and there may be none yet.
        s.gil = Gil::default();
        return 0;
    }
    if gil::read(&UserMemory, &s.process, s.walk.interp, &mut s.gil).is_err() {
        count::one(Counter::GilUnreadable);
    }
    if s.gil.holder != 0 && s.gil.holder == s.walk.tstate {
        s.header.flags |= EVENT_HOLDS_GIL;
    }
    0
}
