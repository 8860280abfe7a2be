//! pyscry: an eBPF profiler for CPython.
//!
//! The binary is a thin shell over this library:
//! - [`kernel`]: what the running kernel is: its BTF, its offsets.
//! - [`process`]: a target from outside.
//! - [`elf`]: a target's files.
//! - [`unwind`]: rows of rules for the kernel, out of call frame information.
//! - [`python`]: CPython in a target.
//! - [`bpf`]: the programs in the kernel.
//! - [`native`]: native code of a target, and the kernel's tables for it.
//! - [`record`]: a recording.
//! - [`journal`]: the recording file.
//! - [`symbols`]: names of native and kernel code.
//! - [`output`]: the files it writes.
//! - [`top`]: a live view of a recording.
//! - [`dump`]: what the threads of a process are doing now.
//! - [`cli`]: the command line.
#![warn(missing_docs)]

pub mod bpf;
pub mod cli;
pub mod dump;
pub mod elf;
pub mod journal;
pub mod kernel;
pub mod native;
pub mod output;
pub mod privilege;
pub mod process;
pub mod python;
pub mod record;
pub mod symbols;
pub mod top;
pub mod unwind;
