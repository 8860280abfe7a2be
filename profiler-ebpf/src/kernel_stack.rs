//! The kernel's own frames. Called by the programs themselves, since it needs their context: by
//! `on_cpu` where it interrupted the kernel, by `off_cpu` and `thread_waking` always.

use aya_ebpf::helpers::generated::bpf_get_stack;
use profiler_common::counter::Counter;

use crate::count;
use crate::globals::{KERNEL, NATIVE};
use crate::scratch::{Native, native};
use crate::unwinder::{KERNEL_FRAMES, unwind_stack};
use crate::user_registers::read_user_registers;

/// Whether frames below Python's are wanted.
#[inline(always)]
pub fn with_native_frames() -> bool {
    NATIVE.load() != 0 || KERNEL.load() != 0
}

/// Puts the kernel's frames in front of the tokens, leaf first, if they are wanted. Returns how
/// many there are.
#[inline(always)]
fn kernel_stack(ctx: *mut core::ffi::c_void, native: &mut Native) -> u32 {
    if KERNEL.load() == 0 {
        return 0;
    }
    // SAFETY: the context is the program's own, and the tokens are longer.
    let bytes = unsafe {
        bpf_get_stack(
            ctx.cast(),
            native.tokens.as_mut_ptr().cast(),
            KERNEL_FRAMES * 8,
            0,
        )
    };
    if bytes < 0 {
        count::one(Counter::KernelStackUnreadable);
        return 0;
    }
    (bytes as u32) >> 3
}

/// Unwinds the native stack of a thread that is in the kernel: the kernel's frames, if they are wanted,
/// and what it was entered from.
#[inline(always)]
pub fn unwind_from_kernel(slot: u32, ctx: *mut core::ffi::c_void) {
    let Some(native) = native(slot) else {
        count::one(Counter::Internal);
        return;
    };
    let kernel = kernel_stack(ctx, native);
    let user = read_user_registers(slot);
    unwind_stack(slot, kernel, user);
}
