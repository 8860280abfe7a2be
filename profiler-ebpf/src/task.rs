//! Fields of tasks. Called by the programs that a tracepoint gives a task, in any context; reads
//! only, and only what userspace found in the running kernel's BTF.

use crate::globals::TASK_FSBASE;
use crate::kernel_memory::current_field;

/// A field of a task that the program got as a typed pointer: a plain load, which the kernel
/// guards, and which the verifier checks against its own BTF.
///
/// # Safety
/// `T` must be the field's type.
#[inline(always)]
pub unsafe fn field<T: Copy>(task: *const u8, offset: u32) -> T {
    // SAFETY: by contract.
    unsafe { core::ptr::read_volatile(task.add(offset as usize).cast::<T>()) }
}

/// The current thread's pointer to its own data. The kernel stores it at `clone` and
/// `arch_prctl`, and again at each switch-out (`arch/x86/kernel/process_64.c`).
#[inline(always)]
pub fn current_fsbase() -> u64 {
    // SAFETY: an integer.
    unsafe { current_field(TASK_FSBASE.load()) }.unwrap_or(0)
}
