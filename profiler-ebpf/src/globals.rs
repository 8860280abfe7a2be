//! What userspace sets before the programs are loaded. The section is frozen then, so the
//! verifier sees constants and drops the branches that do not apply.
//!
//! The kernel's own offsets come from the running kernel's BTF, never from here.

use aya_ebpf::Global;
use profiler_common::cause::{SYSCALL_KINDS, SYSCALLS};

/// `task_struct.thread.fsbase`, bytes.
#[unsafe(no_mangle)]
pub static TASK_FSBASE: Global<u32> = Global::new(0);
/// `task_struct.pid` (a tid), bytes.
#[unsafe(no_mangle)]
pub static TASK_PID: Global<u32> = Global::new(0);
/// `task_struct.tgid`, bytes.
#[unsafe(no_mangle)]
pub static TASK_TGID: Global<u32> = Global::new(0);
/// `task_struct.__state` (`state` before 5.14), bytes.
#[unsafe(no_mangle)]
pub static TASK_STATE: Global<u32> = Global::new(0);
/// `task_struct.se.sum_exec_runtime`, bytes.
#[unsafe(no_mangle)]
pub static TASK_RAN: Global<u32> = Global::new(0);
/// Off-CPU stretches shorter than this, in nanoseconds, are only counted.
#[unsafe(no_mangle)]
pub static OFF_CPU_MIN_NS: Global<u64> = Global::new(0);
/// Bytes in the ring buffer from which on a record wakes the reader.
#[unsafe(no_mangle)]
pub static RING_WAKE_BYTES: Global<u64> = Global::new(0);
/// 1 when off-CPU time is recorded: only then are threads tracked.
#[unsafe(no_mangle)]
pub static TRACK_THREADS: Global<u32> = Global::new(0);
/// `task_struct.stack`, bytes.
#[unsafe(no_mangle)]
pub static TASK_STACK: Global<u32> = Global::new(0);
/// Where on a kernel stack the registers of user code begin, in bytes, for kernels without
/// `bpf_task_pt_regs` (before 5.15); 0 where it is there.
#[unsafe(no_mangle)]
pub static STACK_USER_REGS: Global<u32> = Global::new(0);
/// 1 when native frames are recorded.
#[unsafe(no_mangle)]
pub static NATIVE: Global<u32> = Global::new(0);
/// 1 when kernel frames are recorded.
#[unsafe(no_mangle)]
pub static KERNEL: Global<u32> = Global::new(0);
/// `task_struct.jobctl`, bytes.
#[unsafe(no_mangle)]
pub static TASK_JOBCTL: Global<u32> = Global::new(0);
/// `task_struct.files`, bytes.
#[unsafe(no_mangle)]
pub static TASK_FILES: Global<u32> = Global::new(0);
/// `files_struct.fdt`, bytes.
#[unsafe(no_mangle)]
pub static FILES_TABLE: Global<u32> = Global::new(0);
/// `fdtable.max_fds`, bytes.
#[unsafe(no_mangle)]
pub static TABLE_SIZE: Global<u32> = Global::new(0);
/// `fdtable.fd`, bytes.
#[unsafe(no_mangle)]
pub static TABLE_FILES: Global<u32> = Global::new(0);
/// `file.f_inode`, bytes.
#[unsafe(no_mangle)]
pub static FILE_INODE: Global<u32> = Global::new(0);
/// `inode.i_mode`, bytes.
#[unsafe(no_mangle)]
pub static INODE_MODE: Global<u32> = Global::new(0);
/// `inode.i_sb`, bytes.
#[unsafe(no_mangle)]
pub static INODE_SUPER: Global<u32> = Global::new(0);
/// `super_block.s_magic`, bytes.
#[unsafe(no_mangle)]
pub static SUPER_MAGIC: Global<u32> = Global::new(0);
/// Bytes of a thread's kernel stack.
#[unsafe(no_mangle)]
pub static STACK_BYTES: Global<u64> = Global::new(0);
/// Who ends a wait is of interest when the wait lasted so long, in nanoseconds.
#[unsafe(no_mangle)]
pub static WAKER_MIN_NS: Global<u64> = Global::new(0);
/// `task_struct.group_leader`, bytes.
#[unsafe(no_mangle)]
pub static TASK_LEADER: Global<u32> = Global::new(0);
/// `task_struct.comm`, bytes.
#[unsafe(no_mangle)]
pub static TASK_COMM: Global<u32> = Global::new(0);
/// `task_struct.signal`, bytes.
#[unsafe(no_mangle)]
pub static TASK_SIGNAL: Global<u32> = Global::new(0);
/// `signal_struct.live`, bytes.
#[unsafe(no_mangle)]
pub static SIGNAL_LIVE: Global<u32> = Global::new(0);
/// 1 when the processes that a target makes are targets, too.
#[unsafe(no_mangle)]
pub static FOLLOW_CHILDREN: Global<u32> = Global::new(0);
/// 1 when every process that executes a program may be a target.
#[unsafe(no_mangle)]
pub static WATCH_EXEC: Global<u32> = Global::new(0);
/// 1 when processes that are no targets are sampled, too, by their commands.
#[unsafe(no_mangle)]
pub static OTHERS: Global<u32> = Global::new(0);
/// What each system call can wait for (`profiler_common::cause`). A constant of ours, not set.
#[unsafe(no_mangle)]
pub static KINDS: [u8; SYSCALLS] = SYSCALL_KINDS;
