//! Processes that are no targets, by their names. Called by `on_cpu` and `thread_waking`, in any
//! context; reads the current task's name only.

use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind};
use profiler_common::hash;

use crate::count;
use crate::emit::send_command;
use crate::globals::{TASK_COMM, TASK_LEADER};
use crate::kernel_memory::{current_field, read_kernel};
use crate::scratch::Scratch;

/// What stands for the current process, by its name, which goes out ahead of it when it is new.
/// `s` is the scratch of `slot`.
#[inline(always)]
pub fn command(slot: u32, s: &mut Scratch) -> Option<u64> {
    // Threads may have names of their own: the process's is that of its first.
    // SAFETY: an address, and text.
    let comm: Option<[u64; 2]> = unsafe {
        current_field::<u64>(TASK_LEADER.load())
            .and_then(|leader| read_kernel(leader + TASK_COMM.load() as u64))
    };
    let Some([first, second]) = comm else {
        count::one(Counter::Internal);
        return None;
    };
    let to = s.frames.as_mut_ptr().cast::<u64>();
    // SAFETY: the frames are longer.
    unsafe {
        to.write(first);
        to.add(1).write(second);
    }
    s.header = EventHeader {
        stack: hash::of_command_words(first, second),
        ..EventHeader::new(EventKind::Command, 0, 0)
    };
    let stack = s.header.stack;
    send_command(slot);
    Some(stack)
}
