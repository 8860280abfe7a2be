//! Which thread of a process has which thread pointer, by which its thread states are known.

use std::collections::{BTreeSet, HashMap};

use super::Python;
use super::threads::{self, ThreadState};
use crate::process::{RemoteMemory, proc_file};

/// Bytes of `struct pthread` in which the tid is searched: glibc has it at 0x2d0, musl at 0x30. Both
/// have more behind it. What is beyond may be another's memory, where a read can wait for as long as
/// a `userfaultfd` leaves it unanswered.
const PTHREAD_BYTES: usize = 0x400;

/// As [`of_states`], of the thread states that a Python has now.
#[must_use]
pub fn of_python(python: &Python, tids: &[u32]) -> HashMap<u32, u64> {
    let mem = RemoteMemory::new(python.pid);
    let states = threads::thread_states(&mem, &python.layout, python.located.runtime);
    of_states(python.pid, &states.unwrap_or_default(), tids)
}

/// Which thread has which thread pointer. Every thread state names a thread pointer; the C
/// library keeps the thread's tid near it, at a place that is found by looking where every
/// thread of this process has a tid of its own.
#[must_use]
pub fn of_states(pid: u32, states: &[ThreadState], tids: &[u32]) -> HashMap<u32, u64> {
    let mem = RemoteMemory::new(pid);
    // What the C library keeps is the number in the process's own pid namespace.
    let own_numbers: HashMap<u32, u32> = tids
        .iter()
        .map(|tid| (proc_file::innermost_tid(pid, *tid), *tid))
        .collect();
    let pointers: BTreeSet<u64> = states
        .iter()
        .map(|state| state.thread_id)
        .filter(|pointer| *pointer != 0)
        .collect();
    let blocks: Vec<(u64, Vec<u8>)> = pointers
        .iter()
        .filter_map(|pointer| Some((*pointer, mem.read_some(*pointer, PTHREAD_BYTES).ok()?)))
        .collect();
    let number = |block: &[u8], offset: usize| {
        let word = block.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(word.try_into().ok()?))
    };
    let distinct_at = |offset: usize| {
        blocks
            .iter()
            .filter_map(|(_, block)| number(block, offset))
            .filter(|found| own_numbers.contains_key(found))
            .collect::<BTreeSet<_>>()
            .len()
    };
    let Some(offset) = (0..PTHREAD_BYTES)
        .step_by(4)
        .max_by_key(|offset| (distinct_at(*offset), PTHREAD_BYTES - offset))
    else {
        return HashMap::new();
    };
    blocks
        .iter()
        .filter_map(|(pointer, block)| Some((*own_numbers.get(&number(block, offset)?)?, *pointer)))
        .collect()
}
