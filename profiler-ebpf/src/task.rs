//! Fields of tasks. Called by the programs that a tracepoint gives a task, in any context; reads
//! only, and only what userspace found in the running kernel's BTF.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};

use crate::globals::TASK_FSBASE;

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
    let mut fsbase = 0u64;
    // SAFETY: `fsbase` is valid for 8 bytes; the helper checks the address.
    let failed = unsafe {
        bpf_probe_read_kernel(
            (&raw mut fsbase).cast(),
            8,
            (bpf_get_current_task() + TASK_FSBASE.load() as u64) as *const core::ffi::c_void,
        )
    };
    if failed == 0 { fsbase } else { 0 }
}
