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
use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind};
use profiler_common::thread::{OffReason, Stretch, ThreadEntry, tracked_slot};

use crate::count;
use crate::emit::{finish_sample, send_header};
use crate::globals::{OFF_CPU_MIN_NS, TASK_FSBASE, TASK_PID, TASK_RAN, TASK_STATE};
use crate::kernel_stack::{kernel_stack, with_native_frames};
use crate::maps::{PROCESSES, THREADS, TRACKED};
use crate::scratch::{SLOT_OFF_CPU, copy_words, native, scratch};
use crate::task::field;
use crate::unwinder::unwind_stack;
use crate::user_registers::read_user_registers;
use crate::walker::walk_stack;

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
        let runnable = preempted as u8 != 0 || state == 0;
        let reason = if runnable {
            OffReason::RunQueue
        } else {
            OffReason::Blocked
        };
        // SAFETY: the map's value; the run queue's lock keeps others off this thread.
        switched_out(
            ctx.as_ptr(),
            unsafe { &mut *thread },
            prev_tid,
            prev,
            reason,
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

/// The entry of a thread, where it is a target's.
#[inline(always)]
fn tracked(tid: u32) -> Option<*mut ThreadEntry> {
    let hint = TRACKED.get_ptr(tracked_slot(tid))?;
    // SAFETY: the map's value; others only ever set it.
    if unsafe { core::ptr::read_volatile(hint) } == 0 {
        return None;
    }
    THREADS.get_ptr_mut(&tid)
}

#[inline(always)]
fn switched_out(
    ctx: *mut core::ffi::c_void,
    thread: &mut ThreadEntry,
    tid: u32,
    prev: *const u8,
    reason: OffReason,
    now: u64,
) {
    let tgid = thread.tgid;
    let Some(process) = PROCESSES.get_ptr(&tgid) else {
        // A thread is tracked for a target only, and no target is ever taken out.
        count::one(Counter::Internal);
        return;
    };
    let Some(s) = scratch(SLOT_OFF_CPU) else {
        count::one(Counter::Internal);
        return;
    };
    // SAFETY: see `on_cpu`.
    unsafe { copy_words(&mut s.process, process) };
    s.header = EventHeader {
        kind: EventKind::Stack as u8,
        status: 0,
        frames: 0,
        with_frames: 0,
        flags: 0,
        reason: reason as u16,
        tgid,
        tid,
        generation: s.process.generation,
        // SAFETY: a helper without arguments.
        cpu: unsafe { bpf_get_smp_processor_id() },
        time_ns: now,
        value: 0,
        stack: 0,
    };
    // SAFETY: `prev` is a task, these are fields of it. What it ran was brought up to date when
    // the scheduler put it away (kernel/sched/core.c, __schedule).
    let (fsbase, ran_ns) = unsafe {
        (
            field::<u64>(prev, TASK_FSBASE.load()),
            field::<u64>(prev, TASK_RAN.load()),
        )
    };
    walk_stack(SLOT_OFF_CPU, fsbase);
    if with_native_frames() {
        native_stack(ctx);
    }
    if let Some(ended) = thread.switched_out(now, ran_ns) {
        send_stretch(tgid, tid, now, &ended);
    }
    thread.generation = s.header.generation;
    thread.stack = s.header.stack;
    thread.reason = reason as u32;
    finish_sample(SLOT_OFF_CPU);
}

/// The native stack of a thread that waits: the kernel's part, and what it was entered from.
#[inline(always)]
fn native_stack(ctx: *mut core::ffi::c_void) {
    let Some(n) = native(SLOT_OFF_CPU) else {
        count::one(Counter::Internal);
        return;
    };
    let kernel = kernel_stack(ctx, n);
    let user = read_user_registers(SLOT_OFF_CPU);
    unwind_stack(SLOT_OFF_CPU, kernel, user);
}

#[inline(always)]
fn switched_in(thread: &mut ThreadEntry, tid: u32, next: *const u8, now: u64) {
    // SAFETY: `next` is a task, this is a field of it; it does not change while the task waits.
    let ran_ns = unsafe { field::<u64>(next, TASK_RAN.load()) };
    let ended = thread.switched_in(now, ran_ns);
    send_stretch(thread.tgid, tid, now, &ended);
}

#[inline(never)]
fn send_stretch(tgid: u32, tid: u32, now: u64, stretch: &Stretch) {
    count::one(Counter::OffCpuStretches);
    if stretch.missed {
        count::one(Counter::SwitchesMissed);
    }
    if stretch.length_ns < OFF_CPU_MIN_NS.load() {
        count::one(Counter::OffCpuShort);
        count::add(Counter::OffCpuShortNs, stretch.length_ns);
        return;
    }
    let header = EventHeader {
        kind: EventKind::OffCpu as u8,
        status: 0,
        frames: 0,
        with_frames: 0,
        flags: stretch.flags,
        reason: stretch.reason as u16,
        tgid,
        tid,
        generation: stretch.generation,
        // SAFETY: a helper without arguments.
        cpu: unsafe { bpf_get_smp_processor_id() },
        time_ns: now,
        value: stretch.length_ns,
        stack: stretch.stack,
    };
    if !send_header(&header) {
        count::one(Counter::OffCpuLost);
        count::add(Counter::OffCpuLostNs, stretch.length_ns);
    }
}
