//! A recording, from the target to the profile.
//!
//! [`session`] drives; [`target`] knows the process and its Python; [`collector`] turns the
//! kernel's records into weights of stacks; [`snapshot`] has the stacks of threads that were
//! blocked before the recording began; [`profile`] is the result, [`accounts`] where each thread's
//! time went, [`gil`] who held the interpreter's lock while others waited for it, [`blame`] who held up
//! those that waited for other locks.

pub mod accounts;
pub mod blame;
pub mod collector;
pub mod gil;
mod host_unwind;
pub mod launch;
mod looks;
pub mod merge;
pub mod name_native;
pub mod names;
mod native_target;
pub mod options;
pub mod profile;
pub mod session;
pub mod snapshot;
pub mod stacks;
pub mod target;

pub use options::{Mode, NativeFrames, RecordOptions, TargetChoice};
pub use profile::{Profile, Show};
pub use session::{RecordError, Recording, Stopped, record};
