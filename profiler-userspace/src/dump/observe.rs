//! What a thread is doing, as the kernel tells it.

use profiler_common::cause::{Cause, NO_SYSCALL, RESTART_SYSCALL};
use profiler_common::unwind::USER_REGS_WORDS;

use super::model::ThreadState;
use crate::process::{proc_file, waiting_on};

/// One look at a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// What it is doing; who holds the lock is not known here.
    pub(super) state: ThreadState,
    /// Stack pointer and instruction, of one that does not run.
    pub(super) left_at: Option<(u64, u64)>,
    /// How often and how long it has run.
    turns: Option<(u64, u64)>,
}

/// Looks at a thread. `is_gil` tells whether a futex is one of the interpreter's lock. `None` where the
/// thread is gone.
pub(super) fn observe(pid: u32, tid: u32, is_gil: impl FnOnce(u64) -> bool) -> Option<Observed> {
    let turns = proc_file::thread_turns(pid, tid);
    let letter = proc_file::thread_state(pid, tid)?;
    let active = letter == 'R';
    let waits = match active {
        true => None,
        false => waiting_on::cause(pid, tid, Some(letter), is_gil),
    };
    // Between two looks it may have begun to run: then there is nothing that it waits for.
    let waits = waits.filter(|(cause, _)| *cause != Cause::RunQueue);
    Some(Observed {
        state: ThreadState {
            active: Some(active),
            owns_gil: false,
            cause: waits.map(|(cause, _)| cause),
            syscall: waits
                .map(|(_, syscall)| syscall)
                .filter(|syscall| *syscall != NO_SYSCALL),
        },
        left_at: match active {
            true => None,
            false => waiting_on::left_at(pid, tid),
        },
        turns,
    })
}

/// What a thread did as it was stopped, by its registers (`struct pt_regs`): a system call that it waited
/// in was left with an error that says so. `before` is what it did before.
pub(super) fn as_stopped(
    pid: u32,
    before: Option<Observed>,
    words: &[u64; USER_REGS_WORDS],
    is_gil: impl FnOnce(u64) -> bool,
) -> Option<Observed> {
    let syscall = words[ORIG_RAX] as i64;
    let (result, first, second) = (words[RAX] as i64, words[RDI], words[RSI]);
    let told = before.map(|before| before.state);
    let was_stopped = told.is_some_and(|told| told.cause == Some(Cause::Stopped));
    // What was begun anew after an earlier stop does not say what it is.
    let says_nothing = syscall == RESTART_SYSCALL;
    if was_stopped || says_nothing && told.is_some_and(|told| told.active == Some(false)) {
        return before;
    }
    let waited = syscall >= 0 && INTERRUPTED.contains(&result);
    let state = if waited {
        let (cause, number) = waiting_on::cause_in(pid, syscall, [first, second], is_gil);
        ThreadState {
            active: Some(false),
            owns_gil: false,
            cause: Some(cause),
            syscall: Some(number).filter(|number| *number != NO_SYSCALL),
        }
    } else {
        ThreadState {
            active: Some(true),
            ..ThreadState::default()
        }
    };
    Some(Observed {
        state,
        left_at: None,
        turns: None,
    })
}

/// Where `struct pt_regs` has the result of a system call, its arguments and its number.
const RAX: usize = 10;
const RSI: usize = 13;
const RDI: usize = 14;
const ORIG_RAX: usize = 15;

/// How a system call ends that is interrupted: `EINTR`, and what the kernel begins again by itself
/// (`include/linux/errno.h`).
const INTERRUPTED: [i64; 5] = [-4, -512, -513, -514, -516];

impl Observed {
    /// Whether the thread did not run since: what was read meanwhile is of one moment.
    pub(super) fn still_holds(&self, pid: u32, tid: u32) -> bool {
        self.state.active == Some(false)
            && self.turns.is_some()
            && proc_file::thread_state(pid, tid).is_some_and(|letter| letter != 'R')
            && self.turns == proc_file::thread_turns(pid, tid)
    }
}
