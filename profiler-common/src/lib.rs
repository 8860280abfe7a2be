//! The pure parts of pyscry, shared by the BPF programs, the userspace side and the tests.
//!
//! - [`mem`]: the memory-read trait that everything below reads a target through.
//! - [`layout`]: where CPython's structures keep what the walk needs.
//! - [`walk`]: from a thread's registers to its Python frames, one step at a time.
//! - [`lines`]: from an instruction to its source line, all three table formats.
//! - [`cause`]: why a thread does not run.
//! - [`gil`]: who holds the interpreter's lock, and what is waited at for it.
//! - [`event`]: the records that the kernel sends through the ring buffer.
//! - [`thread`]: what the kernel keeps of each target thread.
//! - [`unwind`]: from a thread's registers through its native frames, one step at a time.
//! - [`waiting`]: what the kernel says of a thread that does not run.
//! - [`counter`]: every way in which something can be lost, named.
//!
//! # Design constraints
//!
//! - `no_std`, no allocation, no I/O, no panic: the same code is compiled into the BPF programs,
//!   runs over `process_vm_readv`, and runs in host unit tests over synthetic memory.
//! - No kernel offset and no CPython offset is a constant here: they arrive in a
//!   [`layout::ProcessEntry`].
#![no_std]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod cause;
pub mod counter;
pub mod event;
pub mod gil;
pub mod hash;
pub mod layout;
pub mod lines;
pub mod mem;
pub mod thread;
pub mod unwind;
pub mod waiting;
pub mod walk;
