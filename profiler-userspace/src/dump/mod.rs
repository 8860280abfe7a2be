//! `pyscry dump`: what all threads of a process, or of a core file, are doing now. Without BPF: memory
//! is read from outside, and walked and unwound by the same steps as in the kernel.
//!
//! - [`live`]: a process that runs. Nothing stops it unless that is asked for ([`stop`]); a stack
//!   counts when its thread did not run while it was read, or when two reads in a row agree.
//! - [`core`]: a process that ended, by its core file.
//! - [`walk`]: a whole stack, however deep. [`reader`]: what its frames are called and hold.
//! - [`native`]: native frames.
//! - [`text`], [`json`]: how it is written.

pub mod children;
pub mod core;
mod error;
mod host_code;
mod interpreters;
pub mod json;
pub mod live;
mod model;
pub mod native;
mod observe;
pub mod reader;
pub mod stop;
pub mod text;
mod unwinder;
pub mod walk;

pub use error::DumpError;
pub use model::{DumpOptions, Frame, Parent, ProcessDump, Thread, ThreadState};
