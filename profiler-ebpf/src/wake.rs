//! Who wakes a thread, and when it can run.
//!
//! `thread_woken`: the thread is on a run queue again. Called with that queue locked, on whatever
//! CPU, so that it meets no switch of the thread. `thread_waking`: somebody wakes it. Called in the
//! context of who does, with interrupts off and a lock of the thread held, maybe while the CPU on
//! which it blocks has not finished to switch; it writes what `off_cpu` only reads. Both may not
//! sleep, fault, wake anybody up through the scheduler, or insert into a map. For a task that is no
//! target they cost two loads.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::cause::{Cause, SyscallKind};
use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind};
use profiler_common::thread::{WAKER_INTERRUPT, WAKER_UNKNOWN};

use crate::cause::{entry_words, syscall_kind};
use crate::command::command;
use crate::count;
use crate::emit::finish_sample;
use crate::globals::{STACK_BYTES, TASK_PID, TASK_STACK, WAKER_MIN_NS};
use crate::kernel_memory::current_field;
use crate::kernel_stack::{unwind_from_kernel, with_native_frames};
use crate::maps::PROCESSES;
use crate::scratch::{SLOT_WAKING, Scratch, scratch};
use crate::task::{current_fsbase, field};
use crate::tracked::tracked;
use crate::walker::walk_stack;

/// `sched_wakeup(task)`.
#[btf_tracepoint(function = "sched_wakeup")]
pub fn thread_woken(ctx: BtfTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    // SAFETY: a task from a typed argument, and one of its fields.
    let tid = unsafe { field::<u32>(task, TASK_PID.load()) };
    if let Some(thread) = tracked(tid) {
        // SAFETY: the map's value, under the run queue's lock; a helper without arguments.
        unsafe { (*thread).woken(bpf_ktime_get_ns()) };
    }
    0
}

/// `sched_waking(task)`.
#[btf_tracepoint(function = "sched_waking")]
pub fn thread_waking(ctx: BtfTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    // SAFETY: as above.
    let tid = unsafe { field::<u32>(task, TASK_PID.load()) };
    let Some(thread) = tracked(tid) else {
        return 0;
    };
    // SAFETY: the map's value. The CPU on which the thread blocks may write all but the waker: what
    // is read of that is a hint.
    let thread = unsafe { &mut *thread };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // What ends a sleep is a timer, and that is no news. Of the interpreter's lock all changes are
    // of interest, of other waits the stack of who ended them, if it is worth its cost.
    let short = now.wrapping_sub(thread.since_ns) < WAKER_MIN_NS.load();
    let cause = thread.cause;
    if cause == Cause::Sleep as u8 || (short && cause != Cause::Gil as u8) {
        return 0;
    }
    // SAFETY: a helper without arguments.
    let mut waker = unsafe { bpf_get_current_pid_tgid() };
    let Some(s) = scratch(SLOT_WAKING) else {
        count::one(Counter::Internal);
        return 0;
    };
    // A short wait for the interpreter's lock is none that a timer ended, and only threads of the
    // process have it: no need to look at stacks.
    let interrupt = if short {
        (waker >> 32) as u32 != thread.tgid
    } else {
        waker as u32 == 0 || is_interrupt(ctx.as_ptr(), s, cause)
    };
    thread.waker_stack = if interrupt {
        waker = 0;
        WAKER_INTERRUPT
    } else if short {
        WAKER_UNKNOWN
    } else {
        waker_stack(ctx.as_ptr(), s, waker, now)
    };
    thread.waker_tgid = (waker >> 32) as u32;
    thread.waker_tid = waker as u32;
    // Last: it makes the others count.
    thread.waker_ns = now;
    0
}

/// The stack of the current thread, which wakes another: its hash, or what stands for it.
#[inline(always)]
fn waker_stack(ctx: *mut core::ffi::c_void, s: &mut Scratch, waker: u64, now: u64) -> u64 {
    let tgid = (waker >> 32) as u32;
    let header = EventHeader::new(EventKind::Stack, tgid, waker as u32);
    let Some(process) = PROCESSES.get_ptr(&tgid) else {
        return command(SLOT_WAKING, s).unwrap_or(WAKER_UNKNOWN);
    };
    // SAFETY: the map's value.
    unsafe { s.begin(process, header, now) };
    walk_stack(SLOT_WAKING, current_fsbase());
    if with_native_frames() {
        unwind_from_kernel(SLOT_WAKING, ctx);
    }
    finish_sample(SLOT_WAKING);
    s.header.stack
}

/// Whether an interrupt runs on the current thread's CPU, which has nothing to do with it. `cause`
/// is what the woken thread waits for.
///
/// Interrupts of the kernel run on a stack of the CPU, those of user code on the thread's own, which
/// is empty then (`run_irq_on_irqstack_cond` in `arch/x86/include/asm/irq_stack.h`). So do those
/// that the thread's own system call brings about, such as the delivery of what it sends to a
/// socket of this host: that is its doing.
#[inline(always)]
fn is_interrupt(ctx: *const core::ffi::c_void, s: &mut Scratch, cause: u8) -> bool {
    // Of a kernel thread there is nothing, or zeros (arch/x86/kernel/process.c, copy_thread).
    let [second, first, syscall] = entry_words().unwrap_or_default();
    if (syscall as i64) < 0 {
        return true;
    }
    // The tracepoint's arguments lie on the stack that is in use (kernel/trace/bpf_trace.c,
    // bpf_trace_run1); the program's own may be elsewhere (from 6.13 on). An address is a number
    // where it was stored.
    s.walk.frame = ctx as u64;
    // SAFETY: just written.
    let here = unsafe { core::ptr::read_volatile(&raw const s.walk.frame) };
    // SAFETY: an address.
    let stack: Option<u64> = unsafe { current_field(TASK_STACK.load()) };
    let own = stack.is_some_and(|stack| here.wrapping_sub(stack) < STACK_BYTES.load());
    if own {
        return false;
    }
    // Nothing else is delivered so: what ends the wait for a lock here is a timer.
    let delivered = cause == Cause::Network as u8 || cause == Cause::Poll as u8;
    let kernel_thread = first | second | syscall == 0;
    if !delivered || kernel_thread {
        return true;
    }
    let kind = syscall_kind(if syscall > 0xffff {
        0xffff
    } else {
        syscall as u16
    });
    kind != SyscallKind::Network as u8 && kind != SyscallKind::Descriptor as u8
}
