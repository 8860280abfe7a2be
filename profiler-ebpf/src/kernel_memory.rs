//! The kernel's memory, from any context: what cannot be read is `None`.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
};

use crate::globals::{STACK_USER_REGS, TASK_STACK};

/// A value in the kernel's memory.
///
/// # Safety
/// Every bit pattern must be a value of `T`.
#[inline(always)]
pub unsafe fn read_kernel<T: Copy + Default>(at: u64) -> Option<T> {
    let mut value = T::default();
    // SAFETY: `value` is valid for its size; the helper checks the address.
    let failed = unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            at as *const core::ffi::c_void,
        )
    };
    (failed == 0).then_some(value)
}

/// A field of the current task.
///
/// # Safety
/// As for [`read_kernel`].
#[inline(always)]
pub unsafe fn current_field<T: Copy + Default>(offset: u32) -> Option<T> {
    // SAFETY: a helper without arguments; by contract.
    unsafe { read_kernel(bpf_get_current_task() + offset as u64) }
}

/// Where the registers lie that the current thread had when it entered the kernel: a `struct
/// pt_regs` at the top of its kernel stack. From 5.15 on a helper says where; before, the top is at a
/// constant distance (`task_pt_regs` in `arch/x86/include/asm/processor.h`).
#[inline(always)]
pub fn user_registers_at() -> Option<u64> {
    if STACK_USER_REGS.load() == 0 {
        // SAFETY: helpers; the second takes what the first gives.
        return Some(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 });
    }
    // SAFETY: an address.
    let stack: u64 = unsafe { current_field(TASK_STACK.load()) }?;
    Some(stack + STACK_USER_REGS.load() as u64)
}
