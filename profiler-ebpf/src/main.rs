//! The BPF programs of pyscry.
//!
//! - `on_cpu` (`perf_event`): a sample of the thread that a CPU runs.
//! - `off_cpu_*` (`tp_btf/sched_switch`): how long, and at which stack, a thread did not run.
//! - `thread_woken` (`tp_btf/sched_wakeup`): when a thread can run again.
//! - `thread_waking` (`tp_btf/sched_waking`): who wakes it, and at which stack.
//! - `waiting_threads` (`iter/task`): what the kernel keeps of threads that wait.
//! - `thread_fork`, `process_exec`, `thread_exit` (`tp_btf`): the life of threads and processes.
//!
//! # Design constraints
//!
//! - Loads on 5.10: no `bpf_loop`, no `bpf_get_current_task_btf`, scalar arguments only to global
//!   functions.
//! - `on_cpu`, `off_cpu_*` and `thread_wak*` look maps up, write per-CPU scratch and the ring buffer, and insert
//!   nothing: an insert takes a bucket's lock, and these run with interrupts off or inside of any
//!   other code.
//! - Each that walks has scratch of its own: a sample may interrupt a switch.
#![no_std]
#![no_main]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "keys are passed by reference, as the next aya-ebpf asks"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the programs and maps are described where they stand"
)]

mod cause;
mod code;
mod command;
mod count;
mod emit;
mod globals;
mod kernel_memory;
mod kernel_stack;
mod life;
mod maps;
mod off_cpu;
mod on_cpu;
mod scratch;
mod task;
mod tracked;
mod unwinder;
mod user_memory;
mod user_registers;
mod waiting;
mod wake;
mod walker;

/// The verifier proves that no path reaches it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
