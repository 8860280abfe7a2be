//! One target process from outside: its memory, mappings, threads and end.

pub mod maps;
pub mod memory;
pub mod pidfd;
pub mod proc_file;
pub mod quota;
pub mod waiting_on;

pub use memory::RemoteMemory;
