//! Counters. Called by every program, in any context; per CPU, so a plain addition will do (an
//! NMI between its load and its store can lose one count, never corrupt it).

use profiler_common::counter::Counter;
use profiler_common::walk::WalkStatus;

use crate::maps::COUNTERS;

#[inline(always)]
pub fn add(counter: Counter, amount: u64) {
    if let Some(cell) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the map's value, for as long as the program runs.
        unsafe { *cell += amount };
    }
}

#[inline(always)]
pub fn one(counter: Counter) {
    add(counter, 1);
}

/// Counts a walk's end, if it is not the good one.
#[inline(always)]
pub fn walk_end(status: u32) {
    if status == WalkStatus::Complete as u32 {
        return;
    }
    if let Some(counter) = WalkStatus::from_u8(status as u8).counter() {
        one(counter);
    }
}
