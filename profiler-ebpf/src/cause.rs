//! Why the current thread is switched out. Called by `off_cpu`, with interrupts off and the run
//! queue locked, behind the walk; reads the kernel's and the thread's memory; may not sleep, fault,
//! or insert into a map.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use profiler_common::cause::{Blocked, Cause, FileKind, NO_SYSCALL, SYSCALLS};
use profiler_common::gil;

use crate::globals::{
    FILE_INODE, FILES_TABLE, INODE_MODE, INODE_SUPER, KINDS, STACK_USER_REGS, SUPER_MAGIC,
    TABLE_FILES, TABLE_SIZE, TASK_FILES, TASK_STACK,
};
use crate::scratch::scratch;

/// Words of a `struct pt_regs` before the system call's arguments, the first of which are at its
/// end (`arch/x86/include/asm/ptrace.h`): `rsi`, `rdi`, `orig_ax`.
const ARGS_AT: u64 = 13 * 8;

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

/// What the current thread entered the kernel with: its second and first argument, and the number
/// of the system call, negative where it is in none.
#[inline(always)]
pub fn entry_words() -> Option<[u64; 3]> {
    let registers = if STACK_USER_REGS.load() == 0 {
        // SAFETY: helpers; the second takes what the first gives.
        unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 }
    } else {
        // SAFETY: a helper without arguments, and a field of what it gives.
        let stack: u64 = unsafe { read_kernel(bpf_get_current_task() + TASK_STACK.load() as u64) }?;
        stack + STACK_USER_REGS.load() as u64
    };
    // SAFETY: integers.
    unsafe { read_kernel(registers + ARGS_AT) }
}

/// What a system call of that number can wait for.
#[inline(always)]
pub fn syscall_kind(number: u16) -> u8 {
    if number as usize >= SYSCALLS {
        return 0;
    }
    // SAFETY: the index is inside. Volatile, so that it stays a load from the table.
    unsafe { core::ptr::read_volatile((&raw const KINDS).cast::<u8>().add(number as usize)) }
}

/// What a descriptor of the current thread is open at, a [`FileKind`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn file_kind(descriptor: u64) -> u32 {
    // SAFETY: fields of the kernel's structures, as BTF describes them.
    let kind = unsafe { of_descriptor(descriptor) };
    kind.unwrap_or(FileKind::Other) as u32
}

#[inline(always)]
unsafe fn of_descriptor(descriptor: u64) -> Option<FileKind> {
    // SAFETY: by contract. The table may be replaced meanwhile, as the process opens more files:
    // the old one stays until no CPU can look at it (RCU), and programs are such readers.
    unsafe {
        let files: u64 = read_kernel(bpf_get_current_task() + TASK_FILES.load() as u64)?;
        let table: u64 = read_kernel(files + FILES_TABLE.load() as u64)?;
        let size: u32 = read_kernel(table + TABLE_SIZE.load() as u64)?;
        if descriptor >= size as u64 {
            return None;
        }
        let array: u64 = read_kernel(table + TABLE_FILES.load() as u64)?;
        let file: u64 = read_kernel(array + descriptor * 8)?;
        let inode: u64 = read_kernel(file + FILE_INODE.load() as u64)?;
        let mode: u16 = read_kernel(inode + INODE_MODE.load() as u64)?;
        let at: u64 = read_kernel(inode + INODE_SUPER.load() as u64)?;
        let magic: u64 = read_kernel(at + SUPER_MAGIC.load() as u64)?;
        Some(FileKind::of_inode(mode as u32, magic))
    }
}

/// Where [`blocked_cause`] says that the thread hands the interpreter's lock over.
pub const HANDS_OVER_BIT: u32 = 24;

/// Why the current thread, whose walk is in the scratch of `slot`, waits: a [`Cause`], and above its
/// 8 bits the number of the system call. `state` is the task's, `earlier` the number of the system
/// call that it was in before.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn blocked_cause(slot: u32, state: u32, jobctl: u64, earlier: u32) -> u32 {
    let Some(s) = scratch(slot) else {
        return Cause::Other as u32 | (NO_SYSCALL as u32) << 8;
    };
    let [second, first, syscall] = entry_words().unwrap_or([0, 0, u64::MAX]);
    let blocked = Blocked {
        state,
        earlier,
        jobctl,
        syscall: syscall as i64,
        args: [first, second],
    };
    let number = blocked.number();
    let layout = s.process.gil;
    let address = s.gil.address;
    let cause = blocked.cause(
        syscall_kind(number),
        |descriptor| FileKind::from_u32(file_kind(descriptor & 0xffff_ffff)),
        |futex| gil::waits_at(&layout, address, futex),
    );
    let hands_over = cause as u32 == Cause::Gil as u32 && gil::hands_over(&layout, address, first);
    cause as u32 | (number as u32) << 8 | (hands_over as u32) << HANDS_OVER_BIT
}
