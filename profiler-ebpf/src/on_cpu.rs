//! `on_cpu`: a sample of the thread that this CPU runs. Called from the software clock's timer
//! interrupt (an NMI where a hardware clock is used), anywhere; may not sleep, fault, take a lock
//! or insert into a map.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns,
};
use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;
use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind};
use profiler_common::unwind::in_user_mode;

use crate::command::command;
use crate::count;
use crate::emit::{finish_sample, send_header};
use crate::globals::OTHERS;
use crate::kernel_stack::{unwind_from_kernel, with_native_frames};
use crate::maps::PROCESSES;
use crate::scratch::{SLOT_ON_CPU, native, scratch};
use crate::task::current_fsbase;
use crate::unwinder::unwind_stack;
use crate::walker::{read_gil, walk_stack};

#[perf_event]
pub fn on_cpu(ctx: PerfEventContext) -> u32 {
    // SAFETY: helpers without arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (pid_tgid >> 32) as u32;
    let Some(process) = PROCESSES.get_ptr(&tgid) else {
        // The idle task's time is nobody's.
        if OTHERS.load() != 0 && pid_tgid as u32 != 0 {
            other(tgid, pid_tgid as u32);
        }
        return 0;
    };
    count::one(Counter::Samples);
    let Some(s) = scratch(SLOT_ON_CPU) else {
        count::one(Counter::Internal);
        return 0;
    };
    let header = EventHeader::new(EventKind::Sample, tgid, pid_tgid as u32);
    // SAFETY: the map's value; a helper without arguments.
    unsafe { s.begin(process, header, bpf_ktime_get_ns()) };
    walk_stack(SLOT_ON_CPU, current_fsbase());
    read_gil(SLOT_ON_CPU);
    s.header.value = s.walk.tstate;
    if with_native_frames() {
        native_stack(&ctx);
    }
    finish_sample(SLOT_ON_CPU);
    0
}

/// A sample of a process that is no target: it counts for its command.
#[inline(always)]
fn other(tgid: u32, tid: u32) {
    count::one(Counter::OtherSamples);
    let Some(s) = scratch(SLOT_ON_CPU) else {
        count::one(Counter::Internal);
        return;
    };
    let Some(stack) = command(SLOT_ON_CPU, s) else {
        return;
    };
    s.header = EventHeader {
        stack,
        // SAFETY: helpers without arguments.
        cpu: unsafe { bpf_get_smp_processor_id() },
        time_ns: unsafe { bpf_ktime_get_ns() },
        ..EventHeader::new(EventKind::Other, tgid, tid)
    };
    if !send_header(&s.header) {
        count::one(Counter::SamplesLost);
    }
}

/// The native stack, from what was interrupted: user code, or the kernel on its behalf.
#[inline(always)]
fn native_stack(ctx: &PerfEventContext) {
    let Some(n) = native(SLOT_ON_CPU) else {
        count::one(Counter::Internal);
        return;
    };
    let interrupted = ctx.as_ptr().cast::<u64>().cast_const();
    for (index, word) in n.regs.iter_mut().enumerate() {
        // SAFETY: the program's context begins with the registers (`struct bpf_perf_event_data`).
        *word = unsafe { core::ptr::read_volatile(interrupted.add(index)) };
    }
    if in_user_mode(&n.regs) {
        n.unwind.registers.set_from_pt_regs(&n.regs);
        unwind_stack(SLOT_ON_CPU, 0, 1);
    } else {
        unwind_from_kernel(SLOT_ON_CPU, ctx.as_ptr());
    }
}
