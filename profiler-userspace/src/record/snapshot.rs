//! The stacks of threads that were off-CPU when the recording began: they will not be switched
//! out, so their stacks are read from outside, by the same walk.
//!
//! A stack is valid when the kernel saw no switch of its thread before and after it was read:
//! then the thread did not run in between.

use std::collections::HashMap;

use profiler_common::cause::{Cause, NO_SYSCALL};
use profiler_common::counter::Counter;
use profiler_common::gil::{self, Gil};
use profiler_common::thread::THREAD_UNSEEN;
use profiler_common::unwind::Segments;
use profiler_common::waiting::WaitingThread;
use profiler_common::walk::{self, Frame, MAX_FRAMES, Walk, WalkCache, WalkStatus};

use super::host_unwind::{HostUnwind, kernel_part};
use super::processes::ProcessId;
use super::stacks::{NativePart, Stacks};
use super::target::Target;
use crate::bpf::Programs;
use crate::bpf::counters::Counters;
use crate::native::NativeCode;
use crate::process::{RemoteMemory, proc_file, waiting_on};

pub use crate::python::thread_pointers::of_python as thread_pointers;

/// One thread's stack at the beginning.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotStack {
    /// Hash, as the kernel would give.
    pub stack: u64,
    /// Why it did not run.
    pub cause: Cause,
    /// The number of the system call that it waited in, or `NO_SYSCALL`.
    pub syscall: u16,
    /// Its thread state, or 0.
    pub tstate: u64,
    /// Its interpreter's lock.
    pub gil: Gil,
    /// Whether it held that.
    pub holds_gil: bool,
}

/// Stacks by tid.
#[derive(Debug, Default)]
pub struct Snapshot {
    by_thread: HashMap<u32, SnapshotStack>,
}

impl Snapshot {
    /// Takes out a thread's stack, when it was off-CPU from the beginning until it was read.
    pub fn take(&mut self, tid: u32) -> Option<SnapshotStack> {
        self.by_thread.remove(&tid)
    }

    /// A thread's stack, as [`Snapshot::take`] gives it.
    #[must_use]
    pub fn get(&self, tid: u32) -> Option<&SnapshotStack> {
        self.by_thread.get(&tid)
    }

    /// Whether a thread was blocked when it was read. One that is gone from here, or never was, counts
    /// as one that was: it was not seen to run either.
    #[must_use]
    pub fn waited(&self, tid: u32) -> bool {
        self.by_thread
            .get(&tid)
            .is_none_or(|found| found.cause != Cause::RunQueue)
    }

    /// Threads that were blocked, and of which nobody asked since how that ended.
    pub fn left_blocked(&self) -> impl Iterator<Item = u32> + '_ {
        self.by_thread
            .iter()
            .filter(|(_, found)| found.cause != Cause::RunQueue)
            .map(|(tid, _)| *tid)
    }

    /// Reads the stacks of all threads of a process that the kernel has not seen run. `waiting` is
    /// what the kernel keeps of threads, where frames below Python's are wanted.
    #[expect(clippy::too_many_arguments, reason = "what a walk from outside needs")]
    pub fn read(
        &mut self,
        process: ProcessId,
        target: &mut Target,
        native: Option<&NativeCode>,
        waiting: &HashMap<u32, WaitingThread>,
        programs: &Programs,
        tids: &[u32],
        stacks: &mut Stacks,
        counters: &mut Counters,
    ) {
        let threads = Self::walk_all(process, target, native, waiting, programs, tids, counters);
        // Names take longer than walks, in which other threads would run.
        let generation = target.generation();
        for thread in threads {
            let mut hash = thread.hash;
            if let Some(part) = thread.native {
                hash = part.mix(hash);
                stacks.expect(hash, part);
            }
            if !stacks.contains(hash) {
                let frames = thread.frames.into_iter();
                stacks.insert(hash, thread.status, true, frames, |frame| {
                    target.resolve(generation, frame)
                });
            }
            let found = SnapshotStack {
                stack: hash,
                ..thread.found
            };
            self.by_thread.insert(thread.tid, found);
        }
    }

    fn walk_all(
        process: ProcessId,
        target: &Target,
        native: Option<&NativeCode>,
        waiting: &HashMap<u32, WaitingThread>,
        programs: &Programs,
        tids: &[u32],
        counters: &mut Counters,
    ) -> Vec<Walked> {
        let pid = target.pid;
        let entry = target.entry();
        let pointers = target
            .python()
            .map(|python| thread_pointers(python, tids))
            .unwrap_or_default();
        let mut frames = Box::new([Frame::default(); MAX_FRAMES]);
        let mut cache = WalkCache::default();
        let mut unwinder = native.map(|native| HostUnwind::new(native, process, entry.mappings));
        let mut segments = Box::new(Segments::EMPTY);
        let unseen = |tid: u32| {
            programs
                .thread(tid)
                .is_some_and(|thread| thread.state == THREAD_UNSEEN)
        };
        let mem = RemoteMemory::new(pid);
        let mut threads = Vec::new();
        for tid in tids.iter().copied() {
            if !unseen(tid) {
                continue;
            }
            let state = proc_file::thread_state(pid, tid);
            let runs = state == Some('R');
            let mut walk = Walk::NEW;
            // No thread pointer: no thread state belongs to this thread, and the walk says so.
            let fsbase = pointers.get(&tid).copied().unwrap_or(0);
            let hash = walk::run(
                &mem,
                &entry,
                pid,
                fsbase,
                &mut walk,
                &mut cache,
                &mut frames,
                Some(&mut segments),
            );
            let native = waiting.get(&tid).map(|thread| match &mut unwinder {
                Some(unwinder) => unwinder.run(&mem, thread, &mut segments),
                None => kernel_part(process, thread),
            });
            let mut gil = Gil::default();
            let gil_read = gil::read(&mem, &entry, walk.interp, &mut gil);
            let told = if runs {
                Some((Cause::RunQueue, NO_SYSCALL))
            } else {
                waiting_on::cause(pid, tid, state, |address| {
                    gil::waits_at(&entry.gil, gil.address, address)
                })
            };
            if !unseen(tid) {
                continue;
            }
            let status = WalkStatus::from_u8(walk.status as u8);
            // A thread that runs has not left its registers: if it does, its stack is not used.
            let left = native.as_ref().filter(|_| !runs);
            let unwound = left.and_then(|part| part.status.counter());
            let unread = [
                gil_read.is_err().then_some(Counter::GilUnreadable),
                told.is_none().then_some(Counter::CauseUnreadable),
            ];
            let (cause, syscall) = told.unwrap_or((Cause::Other, NO_SYSCALL));
            let counted = status.counter().into_iter().chain(unwound);
            for counter in counted.chain(unread.into_iter().flatten()) {
                counters.add(counter, 1);
            }
            threads.push(Walked {
                tid,
                hash,
                status,
                frames: frames.iter().take(walk.depth as usize).copied().collect(),
                native,
                found: SnapshotStack {
                    stack: hash,
                    cause,
                    syscall,
                    tstate: walk.tstate,
                    gil,
                    holds_gil: gil.holder != 0 && gil.holder == walk.tstate,
                },
            });
        }
        threads
    }
}

/// One thread that the kernel did not see run.
struct Walked {
    tid: u32,
    hash: u64,
    status: WalkStatus,
    frames: Vec<Frame>,
    native: Option<NativePart>,
    found: SnapshotStack,
}

/// What the kernel keeps of the targets' threads, by tid.
pub fn waiting_threads(
    programs: &mut Programs,
    counters: &mut Counters,
) -> HashMap<u32, WaitingThread> {
    match programs.waiting_threads() {
        Ok(threads) => threads
            .into_iter()
            .map(|thread| (thread.tid, thread))
            .collect(),
        Err(_) => {
            counters.add(Counter::KernelStackUnreadable, 1);
            HashMap::new()
        }
    }
}
