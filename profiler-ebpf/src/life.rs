//! The life of threads and processes. Called in process context by `fork`, `exec` and `exit`,
//! with preemption off; may insert into and remove from `THREADS` and `PROCESSES`, may not sleep.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind, OffCpuRecord};
use profiler_common::layout::{PROCESS_READY, PROCESS_WITHOUT_PYTHON, ProcessEntry, generation_at};
use profiler_common::thread::{THREAD_NEW, THREAD_ON, ThreadEntry, tracked_slot};

use crate::count;
use crate::emit::{send_header, send_header_now};
use crate::globals::{
    FOLLOW_CHILDREN, SIGNAL_LIVE, TASK_PID, TASK_RAN, TASK_SIGNAL, TASK_TGID, TRACK_THREADS,
    WATCH_EXEC,
};
use crate::kernel_memory::read_kernel;
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

/// Tells of a program that is new to a process, and wakes the reader for it: until userspace has
/// looked at it, its Python is not known.
#[inline(always)]
fn send_exec(ids: &Ids, generation: u32, now: u64) {
    if !send_header_now(&header(EventKind::Exec, ids, generation, now)) {
        count::one(Counter::LifecycleLost);
    }
}

#[inline(always)]
fn header(kind: EventKind, ids: &Ids, generation: u32, now: u64) -> EventHeader {
    EventHeader {
        generation,
        // SAFETY: a helper without arguments.
        cpu: unsafe { bpf_get_smp_processor_id() },
        time_ns: now,
        ..EventHeader::new(kind, ids.tgid, ids.tid)
    }
}

#[inline(always)]
fn send_with(kind: EventKind, ids: &Ids, generation: u32, now: u64, value: u64, stack: u64) {
    let header = EventHeader {
        value,
        stack,
        ..header(kind, ids, generation, now)
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
    if let Some(process) = PROCESSES.get_ptr(&child.tgid)
        && child.tid != child.tgid
    {
        // SAFETY: the map's value.
        let generation = unsafe { (*process).generation };
        begins(&child, generation, now_ns());
        return 0;
    }
    if FOLLOW_CHILDREN.load() == 0 || child.tid != child.tgid {
        return 0;
    }
    let parent = ids(ctx.arg(0));
    let Some(process) = PROCESSES.get_ptr(&parent.tgid) else {
        return 0;
    };
    let now = now_ns();
    // What is known of the parent holds of a copy of its memory.
    // SAFETY: the map's value. Userspace may replace it meanwhile: what is torn of it does not lead
    // to frames that prove their identity.
    let mut entry = unsafe { core::ptr::read(process) };
    let parents = entry.generation;
    entry.generation = generation_at(now);
    if PROCESSES.insert(&child.tgid, &entry, 0).is_err() {
        count::one(Counter::ProcessesUnknown);
        return 0;
    }
    send_with(
        EventKind::Fork,
        &child,
        entry.generation,
        now,
        parent.tgid as u64,
        parents as u64,
    );
    begins(&child, entry.generation, now);
    0
}

/// A thread of a target begins. It has run nothing (kernel/sched/core.c, __sched_fork).
#[inline(always)]
fn begins(thread: &Ids, generation: u32, now: u64) {
    track(thread, THREAD_NEW, generation, now, 0);
    send(EventKind::ThreadStart, thread, generation, now);
}

/// `sched_process_exec(task, old_pid, bprm)`: the new program is in place, nothing of it ran.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = ids(ctx.arg(0));
    let now = now_ns();
    let generation = generation_at(now);
    // SAFETY: a task from a typed argument, and one of its fields.
    let ran_ns = unsafe { field(ctx.arg(0), TASK_RAN.load()) };
    let Some(process) = PROCESSES.get_ptr_mut(&task.tgid) else {
        if WATCH_EXEC.load() != 0 {
            new_process(&task, generation, now, ran_ns);
        }
        return 0;
    };
    // SAFETY: the map's value. What was known of the old program must not be used again.
    let old_generation = unsafe {
        let old = (*process).generation;
        (*process).flags &= !(PROCESS_READY | PROCESS_WITHOUT_PYTHON);
        (*process).mappings.table = 0;
        (*process).generation = generation;
        old
    };
    // The old program's last thread ends, and the new one's first begins: its time is another's. A
    // thread that was not the leader took the leader's place, and its tid (fs/exec.c, de_thread): the
    // leader's entry went with its exit.
    let before = Ids {
        tgid: task.tgid,
        tid: ctx.arg(1),
    };
    ends(&before, old_generation, now, ran_ns);
    track(&task, THREAD_ON, generation, now, ran_ns);
    send_exec(&task, generation, now);
    send(EventKind::ThreadStart, &task, generation, now);
    0
}

/// A process that nobody knew executed a program: it may be a target.
#[inline(always)]
fn new_process(task: &Ids, generation: u32, now: u64, ran_ns: u64) {
    let entry = ProcessEntry {
        generation,
        ..ProcessEntry::EMPTY
    };
    if PROCESSES.insert(&task.tgid, &entry, 0).is_err() {
        count::one(Counter::ProcessesUnknown);
        return;
    }
    track(task, THREAD_ON, generation, now, ran_ns);
    send_exec(task, generation, now);
    send(EventKind::ThreadStart, task, generation, now);
}

/// `sched_process_exit(task)`: the thread runs no more user code.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn thread_exit(ctx: BtfTracePointContext) -> i32 {
    let task = ids(ctx.arg(0));
    // Of two threads that end at once, the first to come here may take the process out.
    let generation = if let Some(process) = PROCESSES.get_ptr(&task.tgid) {
        // SAFETY: the map's value.
        unsafe { (*process).generation }
    } else if let Some(thread) = tracked(task.tid) {
        // SAFETY: as above.
        unsafe { (*thread).generation }
    } else {
        return 0;
    };
    let now = now_ns();
    // SAFETY: a task from a typed argument, and fields of it.
    let (ran_ns, signal) = unsafe {
        (
            field(ctx.arg(0), TASK_RAN.load()),
            field::<u64>(ctx.arg(0), TASK_SIGNAL.load()),
        )
    };
    ends(&task, generation, now, ran_ns);
    // How many threads have not come to their end, this one not among them (kernel/exit.c, do_exit).
    // SAFETY: an integer.
    let live: Option<u32> = unsafe { read_kernel(signal + SIGNAL_LIVE.load() as u64) };
    if live == Some(0) {
        let _gone_already = PROCESSES.remove(&task.tgid);
        send(EventKind::ProcessEnd, &task, generation, now);
    }
    0
}
