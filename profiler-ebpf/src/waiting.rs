//! `waiting_threads`: what is needed for the stacks of the target's threads that do not run. Called
//! in process context, once for each task, when userspace reads the iterator; may not sleep.
//!
//! A thread may run meanwhile, and then what is written is worth nothing: userspace knows, since it
//! asks before and after whether the thread was switched.

use aya_ebpf::bindings::{seq_file, task_struct};
use aya_ebpf::helpers::generated::{
    bpf_get_task_stack, bpf_probe_read_kernel, bpf_seq_write, bpf_task_pt_regs,
};
use profiler_common::unwind::USER_REGS_BYTES;
use profiler_common::waiting::{WAITING_BYTES, WAITING_KERNEL_FRAMES};

use crate::globals::{KERNEL, STACK_USER_REGS, TASK_PID, TASK_STACK, TASK_TGID};
use crate::maps::PROCESSES;
use crate::scratch::waiting;
use crate::task::field;

/// The context: `struct bpf_iter__task` (`kernel/bpf/task_iter.c`), part of the ABI.
#[repr(C)]
pub struct TaskContext {
    meta: *const *mut seq_file,
    task: *const u8,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn waiting_threads(ctx: *const TaskContext) -> i32 {
    // SAFETY: the program's context.
    let (meta, task) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*ctx).meta),
            core::ptr::read_volatile(&raw const (*ctx).task),
        )
    };
    // The last call is for no task.
    if task.is_null() {
        return 0;
    }
    // SAFETY: a task, and one of its fields.
    let tgid: u32 = unsafe { field(task, TASK_TGID.load()) };
    if PROCESSES.get_ptr(&tgid).is_none() {
        return 0;
    }
    let Some(thread) = waiting() else { return 0 };
    // SAFETY: as above.
    thread.tid = unsafe { field(task, TASK_PID.load()) };
    let at = if STACK_USER_REGS.load() == 0 {
        // SAFETY: a task.
        unsafe { bpf_task_pt_regs(task.cast_mut().cast::<task_struct>()) as u64 }
    } else {
        // SAFETY: as above.
        unsafe { field::<u64>(task, TASK_STACK.load()) + STACK_USER_REGS.load() as u64 }
    };
    // SAFETY: `regs` has as many bytes; the helper checks the address, and writes zeros when it
    // fails.
    let _zeros = unsafe {
        bpf_probe_read_kernel(
            thread.regs.as_mut_ptr().cast(),
            USER_REGS_BYTES as u32,
            at as *const core::ffi::c_void,
        )
    };
    thread.kernel_frames = 0;
    if KERNEL.load() != 0 {
        // SAFETY: a task, and a buffer of as many bytes.
        let bytes = unsafe {
            bpf_get_task_stack(
                task.cast_mut().cast::<task_struct>(),
                thread.kernel.as_mut_ptr().cast(),
                (WAITING_KERNEL_FRAMES * 8) as u32,
                0,
            )
        };
        if bytes > 0 {
            thread.kernel_frames = (bytes as u32) >> 3;
        }
    }
    // SAFETY: the iterator's own file, and a record of as many bytes.
    unsafe {
        bpf_seq_write(
            core::ptr::read_volatile(meta),
            core::ptr::from_mut(thread).cast(),
            WAITING_BYTES as u32,
        );
    }
    0
}
