//! The registers that a thread had when it entered the kernel. Called by `on_cpu` where it
//! interrupted the kernel, by `off_cpu` and by `thread_waking`; for the current thread, in any context.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use profiler_common::unwind::{USER_REGS_BYTES, in_user_mode};

use crate::kernel_memory::user_registers_at;
use crate::scratch::native;

/// Reads them into the scratch of `slot`. Returns 1 when they are those of 64-bit user code.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_user_registers(slot: u32) -> u32 {
    let Some(n) = native(slot) else { return 0 };
    let Some(at) = user_registers_at() else {
        return 0;
    };
    // SAFETY: `regs` has as many bytes; the helper checks the address.
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
