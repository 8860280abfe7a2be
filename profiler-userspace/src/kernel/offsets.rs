//! The running kernel's own offsets, read from its BTF and set as constants of the BPF programs.

use profiler_common::unwind::USER_REGS_BYTES;

use super::btf::{ArgType, Btf, BtfError};

/// How `sched_switch` passes its arguments (`include/trace/events/sched.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchForm {
    /// `(preempt, prev, next)`, up to 5.17.
    PrevNext,
    /// `(preempt, prev_state, prev, next)`, 5.18.
    StatePrevNext,
    /// `(preempt, prev, next, prev_state)`, after it.
    PrevNextState,
}

/// What the BPF programs read of kernel structures, in bytes, and where tracepoints pass what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelOffsets {
    /// `task_struct.thread.fsbase`.
    pub task_fsbase: u32,
    /// `task_struct.pid`.
    pub task_pid: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.__state`, `state` before 5.14.
    pub task_state: u32,
    /// `task_struct.se.sum_exec_runtime`.
    pub task_ran: u32,
    /// `task_struct.stack`.
    pub task_stack: u32,
    /// Where on a kernel stack the registers of user code begin; 0 where a helper tells.
    pub stack_user_regs: u32,
    /// `task_struct.jobctl`.
    pub task_jobctl: u32,
    /// `task_struct.files`.
    pub task_files: u32,
    /// `files_struct.fdt`.
    pub files_table: u32,
    /// `fdtable.max_fds`.
    pub table_size: u32,
    /// `fdtable.fd`.
    pub table_files: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `inode.i_mode`.
    pub inode_mode: u32,
    /// `inode.i_sb`.
    pub inode_super: u32,
    /// `super_block.s_magic`.
    pub super_magic: u32,
    /// `task_struct.group_leader`.
    pub task_leader: u32,
    /// `task_struct.comm`.
    pub task_comm: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `signal_struct.live`.
    pub signal_live: u32,
    /// Bytes of a thread's kernel stack.
    pub stack_bytes: u32,
    /// Where `sched_switch` passes what.
    pub switch: SwitchForm,
}

/// Bytes of a kernel stack: `THREAD_SIZE` without KASAN (`arch/x86/include/asm/page_64_types.h`).
const STACK_BYTES: u32 = 16 << 10;

impl KernelOffsets {
    /// Finds them.
    ///
    /// # Errors
    /// [`BtfError::NotFound`] with the name of what this kernel does not have.
    pub fn from_btf(btf: &Btf) -> Result<Self, BtfError> {
        let args = btf.tracepoint_args("sched_switch")?;
        let is_task = |arg: &ArgType| *arg == ArgType::StructPtr("task_struct".to_owned());
        let tasks: Vec<bool> = args.iter().map(is_task).collect();
        let switch = match tasks[..] {
            [false, true, true] => SwitchForm::PrevNext,
            [false, false, true, true] => SwitchForm::StatePrevNext,
            [false, true, true, false, ..] => SwitchForm::PrevNextState,
            _ => return Err(BtfError::NotFound("known form of sched_switch".to_owned())),
        };
        Ok(Self {
            task_fsbase: btf.offset_of("task_struct", &["thread", "fsbase"])?,
            task_pid: btf.offset_of("task_struct", &["pid"])?,
            task_tgid: btf.offset_of("task_struct", &["tgid"])?,
            task_state: btf
                .offset_of("task_struct", &["__state"])
                .or_else(|_| btf.offset_of("task_struct", &["state"]))?,
            task_ran: btf.offset_of("task_struct", &["se", "sum_exec_runtime"])?,
            task_stack: btf.offset_of("task_struct", &["stack"])?,
            stack_user_regs: if btf.has_enumerator("bpf_func_id", "BPF_FUNC_task_pt_regs")? {
                0
            } else {
                STACK_BYTES - USER_REGS_BYTES as u32
            },
            task_jobctl: btf.offset_of("task_struct", &["jobctl"])?,
            task_files: btf.offset_of("task_struct", &["files"])?,
            files_table: btf.offset_of("files_struct", &["fdt"])?,
            table_size: btf.offset_of("fdtable", &["max_fds"])?,
            table_files: btf.offset_of("fdtable", &["fd"])?,
            file_inode: btf.offset_of("file", &["f_inode"])?,
            inode_mode: btf.offset_of("inode", &["i_mode"])?,
            inode_super: btf.offset_of("inode", &["i_sb"])?,
            super_magic: btf.offset_of("super_block", &["s_magic"])?,
            task_leader: btf.offset_of("task_struct", &["group_leader"])?,
            task_comm: btf.offset_of("task_struct", &["comm"])?,
            task_signal: btf.offset_of("task_struct", &["signal"])?,
            signal_live: btf.offset_of("signal_struct", &["live"])?,
            stack_bytes: STACK_BYTES,
            switch,
        })
    }
}
