//! Threads that are tracked. Called by all that a thread's switches and wakeups are told, with
//! interrupts off; looks up only. For a thread that is no target's it costs two loads.

use profiler_common::thread::{ThreadEntry, tracked_slot};

use crate::maps::{THREADS, TRACKED};

/// The entry of a thread, where it is a target's.
#[inline(always)]
pub fn tracked(tid: u32) -> Option<*mut ThreadEntry> {
    let hint = TRACKED.get_ptr(tracked_slot(tid))?;
    // SAFETY: the map's value; others only ever set it.
    if unsafe { core::ptr::read_volatile(hint) } == 0 {
        return None;
    }
    THREADS.get_ptr_mut(&tid)
}
