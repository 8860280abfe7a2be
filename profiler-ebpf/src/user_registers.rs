//! The registers that a thread had when it entered the kernel. Called by `on_cpu` where it
//! interrupted the kernel, and by `off_cpu`; for the current thread, in any context.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use profiler_common::unwind::{USER_REGS_BYTES, in_user_mode};

use crate::globals::{STACK_USER_REGS, TASK_STACK};
use crate::scratch::native;

/// Reads them into the scratch of `slot`. Returns 1 when they are those of 64-bit user code.
///
/// They lie at the top of the thread's kernel stack. From 5.15 on a helper says where; before, the
/// top is at a constant distance (`task_pt_regs` in `arch/x86/include/asm/processor.h`).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_user_registers(slot: u32) -> u32 {
    let Some(n) = native(slot) else { return 0 };
    let at = if STACK_USER_REGS.load() == 0 {
        // SAFETY: helpers; the second takes what the first gives.
        unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 }
    } else {
        let mut stack = 0u64;
        // SAFETY: `stack` is valid for 8 bytes; the helper checks the address.
        let failed = unsafe {
            bpf_probe_read_kernel(
                (&raw mut stack).cast(),
                8,
                (bpf_get_current_task() + TASK_STACK.load() as u64) as *const core::ffi::c_void,
            )
        };
        if failed != 0 {
            return 0;
        }
        stack + STACK_USER_REGS.load() as u64
    };
    // SAFETY: as above; `regs` has as many bytes.
    let failed = unsafe {
        bpf_probe_read_kernel(
            n.regs.as_mut_ptr().cast(),
            USER_REGS_BYTES as u32,
            at as *const core::ffi::c_void,
        )
    };
    if failed != 0 || !in_user_mode(&n.regs) {
        return 0;
    }
    n.unwind.registers.set_from_pt_regs(&n.regs);
    1
}
