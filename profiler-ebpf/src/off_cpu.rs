//! `off_cpu`: the switches. Called by the scheduler for every switch on every CPU, with
//! interrupts off and the run queue locked; may not sleep, fault, wake anybody up through the
//! scheduler, or insert into a map. For a task that is no target it costs two loads.
//!
//! At switch-out the thread is still current, so its stack is walked now; at switch-in the length
//! of the stretch is known, and goes out with the stack's hash. What a thread was switched out
//! with lies in its own entry, so it may come back on any CPU.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::cause::{Cause, NO_SYSCALL};
use profiler_common::counter::Counter;
use profiler_common::event::{
    EVENT_HANDS_GIL_OVER, EVENT_HOLDS_GIL, EventHeader, EventKind, OffCpuRecord,
};
use profiler_common::thread::{STACK_UNKNOWN, ThreadEntry};

use crate::cause::{HANDS_OVER_BIT, blocked_cause};
use crate::count;
use crate::emit::{finish_sample, send_wait};
use crate::globals::{OFF_CPU_MIN_NS, TASK_FSBASE, TASK_JOBCTL, TASK_PID, TASK_RAN, TASK_STATE};
use crate::kernel_stack::{unwind_from_kernel, with_native_frames};
use crate::maps::PROCESSES;
use crate::scratch::{SLOT_OFF_CPU, scratch, wait_record};
use crate::task::field;
use crate::tracked::tracked;
use crate::walker::{read_gil, walk_stack};

/// Where `sched_switch` passes `prev_state`; `NO_STATE` where it does not.
const NO_STATE: usize = usize::MAX;

// The tracepoint's arguments moved in 5.18 and again after it. A program may read its context at
// constant offsets only, so there is one for each form; userspace finds in BTF which one fits,
// and loads that.

/// `(preempt, prev, next)`, up to 5.17.
#[btf_tracepoint(function = "sched_switch")]
pub fn off_cpu_prev_next(ctx: BtfTracePointContext) -> i32 {
    switch::<1, NO_STATE>(&ctx)
}

/// `(preempt, prev_state, prev, next)`, 5.18.
#[btf_tracepoint(function = "sched_switch")]
pub fn off_cpu_state_prev_next(ctx: BtfTracePointContext) -> i32 {
    switch::<2, 1>(&ctx)
}

/// `(preempt, prev, next, prev_state)`, after it.
#[btf_tracepoint(function = "sched_switch")]
pub fn off_cpu_prev_next_state(ctx: BtfTracePointContext) -> i32 {
    switch::<1, 3>(&ctx)
}

#[inline(always)]
fn switch<const PREV: usize, const STATE: usize>(ctx: &BtfTracePointContext) -> i32 {
    let prev: *const u8 = ctx.arg(PREV);
    // SAFETY: `prev` is a task, `pid` one of its fields.
    let prev_tid = unsafe { field::<u32>(prev, TASK_PID.load()) };
    // One moment for both threads: what the walk of the first takes is no time off the CPU of the
    // second, which the scheduler has picked before this is called.
    let mut now = 0;
    if let Some(thread) = tracked(prev_tid) {
        // SAFETY: a helper without arguments.
        now = unsafe { bpf_ktime_get_ns() };
        let preempted: u64 = ctx.arg(0);
        let state: u32 = if STATE == NO_STATE {
            // SAFETY: before 5.14 a `long`, whose low half holds every state.
            unsafe { field::<u64>(prev, TASK_STATE.load()) as u32 }
        } else {
            ctx.arg(STATE)
        };
        // A preempted task may be on its way to sleep: it is still runnable
        // (kernel/sched/core.c, __trace_sched_switch_state).
        let state = if preempted as u8 != 0 { 0 } else { state };
        // SAFETY: the map's value; the run queue's lock keeps others off this thread.
        switched_out(
            ctx.as_ptr(),
            unsafe { &mut *thread },
            prev_tid,
            prev,
            state,
            now,
        );
    }
    let next: *const u8 = ctx.arg(PREV + 1);
    // SAFETY: `next` is a task, `pid` one of its fields.
    let next_tid = unsafe { field::<u32>(next, TASK_PID.load()) };
    if let Some(thread) = tracked(next_tid) {
        if now == 0 {
            // SAFETY: a helper without arguments.
            now = unsafe { bpf_ktime_get_ns() };
        }
        // SAFETY: as above.
        switched_in(unsafe { &mut *thread }, next_tid, next, now);
    }
    0
}

#[inline(always)]
fn switched_out(
    ctx: *mut core::ffi::c_void,
    thread: &mut ThreadEntry,
    tid: u32,
    prev: *const u8,
    state: u32,
    now: u64,
) {
    let tgid = thread.tgid;
    let Some(process) = PROCESSES.get_ptr(&tgid) else {
        without_process(thread, tid, prev, now);
        return;
    };
    let Some(s) = scratch(SLOT_OFF_CPU) else {
        count::one(Counter::Internal);
        return;
    };
    // SAFETY: the map's value.
    unsafe { s.begin(process, EventHeader::new(EventKind::Stack, tgid, tid), now) };
    // SAFETY: `prev` is a task, these are fields of it. What it ran was brought up to date when
    // the scheduler put it away (kernel/sched/core.c, __schedule).
    let (fsbase, ran_ns) = unsafe {
        (
            field::<u64>(prev, TASK_FSBASE.load()),
            field::<u64>(prev, TASK_RAN.load()),
        )
    };
    walk_stack(SLOT_OFF_CPU, fsbase);
    read_gil(SLOT_OFF_CPU);
    if with_native_frames() {
        unwind_from_kernel(SLOT_OFF_CPU, ctx);
    }
    let Some(record) = wait_record() else {
        count::one(Counter::Internal);
        return;
    };
    if thread.switched_out(now, ran_ns, record) {
        send_stretch(record, tid, true);
    }
    let cause = if state == 0 {
        Cause::RunQueue as u32 | (NO_SYSCALL as u32) << 8
    } else {
        // SAFETY: as above.
        let jobctl = unsafe { field::<u64>(prev, TASK_JOBCTL.load()) };
        blocked_cause(SLOT_OFF_CPU, state, jobctl, thread.earlier as u32)
    };
    thread.cause = cause as u8;
    thread.syscall = (cause >> 8) as u16;
    if thread.syscall != NO_SYSCALL {
        thread.earlier = thread.syscall;
    }
    thread.generation = s.header.generation;
    thread.stack = s.header.stack;
    let hands_over = (cause >> HANDS_OVER_BIT & 1) as u8 * EVENT_HANDS_GIL_OVER;
    thread.flags = s.header.flags & EVENT_HOLDS_GIL | hands_over;
    thread.tstate = s.walk.tstate;
    thread.gil = s.gil.address;
    thread.gil_holder = s.gil.holder;
    finish_sample(SLOT_OFF_CPU);
}

/// A thread of a process that is no target any more, or came to its end: another of its threads was
/// the last to say so, and took the process out. Its time goes on to be counted.
#[inline(always)]
fn without_process(thread: &mut ThreadEntry, tid: u32, prev: *const u8, now: u64) {
    // SAFETY: `prev` is a task, this is a field of it.
    let ran_ns = unsafe { field::<u64>(prev, TASK_RAN.load()) };
    let Some(record) = wait_record() else {
        count::one(Counter::Internal);
        return;
    };
    if thread.switched_out(now, ran_ns, record) {
        send_stretch(record, tid, true);
    }
    thread.cause = Cause::Other as u8;
    thread.syscall = NO_SYSCALL;
    thread.stack = STACK_UNKNOWN;
    thread.flags = 0;
    thread.tstate = 0;
    thread.gil = 0;
    thread.gil_holder = 0;
}

#[inline(always)]
fn switched_in(thread: &mut ThreadEntry, tid: u32, next: *const u8, now: u64) {
    // SAFETY: `next` is a task, this is a field of it; it does not change while the task waits.
    let ran_ns = unsafe { field::<u64>(next, TASK_RAN.load()) };
    let Some(record) = wait_record() else {
        count::one(Counter::Internal);
        return;
    };
    let missed = thread.switched_in(now, ran_ns, record);
    send_stretch(record, tid, missed);
}

/// Sends the stretch in `record`, of the thread `tid`.
#[inline(never)]
pub fn send_stretch(record: &mut OffCpuRecord, tid: u32, missed: bool) {
    count::one(Counter::OffCpuStretches);
    if missed {
        count::one(Counter::SwitchesMissed);
    }
    let length_ns = record.header.value;
    if length_ns < OFF_CPU_MIN_NS.load() {
        count::one(Counter::OffCpuShort);
        count::add(Counter::OffCpuShortNs, length_ns);
        return;
    }
    record.header.tid = tid;
    // SAFETY: a helper without arguments.
    record.header.cpu = unsafe { bpf_get_smp_processor_id() };
    if !send_wait(record) {
        count::one(Counter::OffCpuLost);
        count::add(Counter::OffCpuLostNs, length_ns);
    }
}
