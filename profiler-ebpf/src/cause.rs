//! Why the current thread is switched out. Called by `off_cpu`, with interrupts off and the run
//! queue locked, behind the walk; reads the kernel's and the thread's memory; may not sleep, fault,
//! or insert into a map.

use profiler_common::cause::{Blocked, Cause, FileKind, NO_SYSCALL, SYSCALLS};
use profiler_common::counter::Counter;
use profiler_common::gil;

use crate::count;
use crate::globals::{
    FILE_INODE, FILES_TABLE, INODE_MODE, INODE_SUPER, KINDS, SUPER_MAGIC, TABLE_FILES, TABLE_SIZE,
    TASK_FILES,
};
use crate::kernel_memory::{current_field, read_kernel, user_registers_at};
use crate::scratch::scratch;

/// Words of a `struct pt_regs` before the system call's arguments, the first of which are at its
/// end (`arch/x86/include/asm/ptrace.h`): `rsi`, `rdi`, `orig_ax`.
const ARGS_AT: u64 = 13 * 8;

/// What the current thread entered the kernel with: its second and first argument, and the number
/// of the system call, negative where it is in none.
#[inline(always)]
pub fn entry_words() -> Option<[u64; 3]> {
    // SAFETY: integers.
    unsafe { read_kernel(user_registers_at()? + ARGS_AT) }
}

/// What a system call of that number can wait for.
#[inline(always)]
pub fn syscall_kind(number: u16) -> u8 {
    syscall_kind_of(number as u32) as u8
}

/// A function of its own: inlined, the number may be spilled to the stack between the check and the
/// load, and before 6.1 the verifier does not know the bound of what is read back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn syscall_kind_of(number: u32) -> u32 {
    if number as usize >= SYSCALLS {
        return 0;
    }
    // SAFETY: the index is inside. Volatile, so that it stays a load from the table.
    unsafe { core::ptr::read_volatile((&raw const KINDS).cast::<u8>().add(number as usize)) as u32 }
}

/// What a descriptor of the current thread is open at, a [`FileKind`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn file_kind(descriptor: u64) -> u32 {
    // SAFETY: fields of the kernel's structures, as BTF describes them.
    let kind = unsafe { of_descriptor(descriptor) };
    if kind.is_none() {
        count::one(Counter::CauseUnreadable);
    }
    kind.unwrap_or(FileKind::Other) as u32
}

#[inline(always)]
unsafe fn of_descriptor(descriptor: u64) -> Option<FileKind> {
    // SAFETY: by contract. The table may be replaced meanwhile, as the process opens more files:
    // the old one stays until no CPU can look at it (RCU), and programs are such readers.
    unsafe {
        let files: u64 = current_field(TASK_FILES.load())?;
        let table: u64 = read_kernel(files + FILES_TABLE.load() as u64)?;
        let size: u32 = read_kernel(table + TABLE_SIZE.load() as u64)?;
        if descriptor >= size as u64 {
            return Some(FileKind::Other);
        }
        let array: u64 = read_kernel(table + TABLE_FILES.load() as u64)?;
        let file: u64 = read_kernel(array + descriptor * 8)?;
        if file == 0 {
            // One that is being closed.
            return Some(FileKind::Other);
        }
        let inode: u64 = read_kernel(file + FILE_INODE.load() as u64)?;
        let mode: u16 = read_kernel(inode + INODE_MODE.load() as u64)?;
        FileKind::of_inode(mode as u32, || {
            let at: u64 = read_kernel(inode + INODE_SUPER.load() as u64)?;
            read_kernel(at + SUPER_MAGIC.load() as u64)
        })
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
    const UNKNOWN: u32 = Cause::Other as u32 | (NO_SYSCALL as u32) << 8;
    let Some(s) = scratch(slot) else {
        count::one(Counter::Internal);
        return UNKNOWN;
    };
    let Some([second, first, syscall]) = entry_words() else {
        count::one(Counter::CauseUnreadable);
        return UNKNOWN;
    };
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
