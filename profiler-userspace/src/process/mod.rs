//! One target process from outside: who it is, its memory, mappings, threads and end.

pub mod cgroup;
pub mod container;
pub mod file_key;
pub mod identity;
pub mod maps;
pub mod memory;
pub mod pidfd;
pub mod precedence;
pub mod proc_file;
pub mod quota;
pub mod users;
pub mod waiting_on;

pub use memory::{RemoteMemory, Searchable};
