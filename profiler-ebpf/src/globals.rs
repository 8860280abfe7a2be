//! What userspace sets before the programs are loaded. The section is frozen then, so the
//! verifier sees constants and drops the branches that do not apply.
//!
//! The kernel's own offsets come from the running kernel's BTF, never from here.

use aya_ebpf::Global;

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
