//! The life of threads and processes. Called in process context by `fork`, `exec` and `exit`,
//! with preemption off; may insert into and remove from `THREADS`, may not sleep.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind, OffCpuRecord};
use profiler_common::layout::{PROCESS_READY, PROCESS_WITHOUT_PYTHON};
use profiler_common::thread::{THREAD_NEW, THREAD_ON, ThreadEntry, tracked_slot};

use crate::count;
use crate::emit::send_header;
use crate::globals::{TASK_PID, TASK_RAN, TASK_TGID, TRACK_THREADS};
use crate::maps::{PROCESSES, THREADS, TRACKED};
use crate::off_cpu::send_stretch;
use crate::task::field;
use crate::tracked::tracked;

struct Ids {
    tgid: u32,
    tid: u32,
}

#[inline(always)]
fn ids(task: *const u8) -> Ids {
    // SAFETY: a task from a typed argument, and two of its fields.
    unsafe {
        Ids {
            tgid: field(task, TASK_TGID.load()),
            tid: field(task, TASK_PID.load()),
        }
    }
}

#[inline(always)]
fn send(kind: EventKind, ids: &Ids, generation: u32, now: u64) {
    send_with(kind, ids, generation, now, 0, 0);
}

#[inline(always)]
fn send_with(kind: EventKind, ids: &Ids, generation: u32, now: u64, value: u64, stack: u64) {
    let header = EventHeader {
        generation,
        // SAFETY: a helper without arguments.
        cpu: unsafe { bpf_get_smp_processor_id() },
        time_ns: now,
        value,
        stack,
        ..EventHeader::new(kind, ids.tgid, ids.tid)
    };
    if !send_header(&header) {
        count::one(Counter::LifecycleLost);
    }
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn track(ids: &Ids, state: u16, generation: u32, now: u64, ran_ns: u64) {
    if TRACK_THREADS.load() == 0 {
        return;
    }
    let thread = ThreadEntry::new(ids.tgid, state, generation, now, ran_ns);
    // First, so that no switch of a tracked thread passes by.
    if let Some(hint) = TRACKED.get_ptr_mut(tracked_slot(ids.tid)) {
        // SAFETY: the map's value, which others only ever set to the same.
        unsafe { core::ptr::write_volatile(hint, 1) };
    }
    if THREADS.insert(&ids.tid, &thread, 0).is_err() {
        count::one(Counter::ThreadsUntracked);
    }
}

/// The thread `ids`, which runs, is tracked no more: says so, and how long it ran and waited.
#[inline(always)]
fn ends(ids: &Ids, generation: u32, now: u64, ran_ns: u64) {
    let (mut on_ns, mut off_ns) = (0, 0);
    if let Some(thread) = tracked(ids.tid) {
        // SAFETY: the map's value; the thread runs here, so that nobody switches it.
        let thread = unsafe { &mut *thread };
        let mut record = OffCpuRecord::EMPTY;
        if thread.switched_out(now, ran_ns, &mut record) {
            send_stretch(&mut record, ids.tid, true);
        }
        (on_ns, off_ns) = (thread.on_ns, thread.off_ns);
        let _absent = THREADS.remove(&ids.tid);
    }
    send_with(EventKind::ThreadEnd, ids, generation, now, on_ns, off_ns);
}

/// `sched_process_fork(parent, child)`: the child has not run yet.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn thread_fork(ctx: BtfTracePointContext) -> i32 {
    let child = ids(ctx.arg(1));
    // A new process has a tgid of its own, which is no target's.
    let Some(process) = PROCESSES.get_ptr(&child.tgid) else {
        return 0;
    };
    // SAFETY: the map's value.
    let generation = unsafe { (*process).generation };
    let now = now_ns();
    // It has run nothing (kernel/sched/core.c, __sched_fork).
    track(&child, THREAD_NEW, generation, now, 0);
    send(EventKind::ThreadStart, &child, generation, now);
    0
}

/// `sched_process_exec(task, old_pid, bprm)`: the new program is in place, nothing of it ran.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = ids(ctx.arg(0));
    let Some(process) = PROCESSES.get_ptr_mut(&task.tgid) else {
        return 0;
    };
    // SAFETY: the map's value. What was known of the old program must not be used again.
    let generation = unsafe {
        (*process).flags &= !(PROCESS_READY | PROCESS_WITHOUT_PYTHON);
        (*process).mappings.table = 0;
        (*process).generation += 1;
        (*process).generation
    };
    let now = now_ns();
    let old_tid: u32 = ctx.arg(1);
    if old_tid == task.tid {
        send(EventKind::Exec, &task, generation, now);
        return 0;
    }
    // A thread that was not the leader took the leader's place, and its tid (fs/exec.c, de_thread):
    // the leader's entry went with its exit.
    // SAFETY: a task from a typed argument, and one of its fields.
    let ran_ns = unsafe { field(ctx.arg(0), TASK_RAN.load()) };
    let before = Ids {
        tgid: task.tgid,
        tid: old_tid,
    };
    ends(&before, generation, now, ran_ns);
    track(&task, THREAD_ON, generation, now, ran_ns);
    send(EventKind::Exec, &task, generation, now);
    send(EventKind::ThreadStart, &task, generation, now);
    0
}

/// `sched_process_exit(task)`: the thread runs no more user code.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn thread_exit(ctx: BtfTracePointContext) -> i32 {
    let task = ids(ctx.arg(0));
    let Some(process) = PROCESSES.get_ptr(&task.tgid) else {
        return 0;
    };
    // SAFETY: the map's value.
    let generation = unsafe { (*process).generation };
    // SAFETY: a task from a typed argument, and one of its fields.
    let ran_ns = unsafe { field(ctx.arg(0), TASK_RAN.load()) };
    ends(&task, generation, now_ns(), ran_ns);
    0
}
