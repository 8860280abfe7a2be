//! A recording, from the target to the profile.
//!
//! [`selection`] says which processes are recorded, by [`criteria`]; [`group`] what of a process is
//! shown at the root. [`session`] drives, [`closing`] ends it; [`target`] knows the process and its Python; [`collector`] turns the
//! kernel's records into weights of stacks; [`snapshot`] has the stacks of threads that were
//! blocked before the recording began; [`profile`] is the result, [`accounts`] where each thread's
//! time went, [`waits`] what threads waited for, [`gil`] who held the interpreter's lock while others waited for it, [`blame`] who held up
//! those that waited for other locks. [`watch`] shows all of it to somebody while it goes on.

pub mod accounts;
mod arrivals;
pub mod blame;
mod closing;
pub mod collector;
pub mod criteria;
mod discovery;
mod ended;
pub mod frame;
pub mod gil;
pub mod group;
mod host_unwind;
pub mod launch;
pub mod log;
mod looks;
pub mod merge;
pub mod name_native;
pub mod names;
mod native_follow;
mod native_target;
pub mod options;
pub mod processes;
pub mod profile;
pub mod recording;
mod roots;
pub mod selection;
pub mod session;
pub mod snapshot;
pub mod stacks;
mod tally;
pub mod target;
mod tracking;
pub mod waits;
pub mod watch;

pub use group::Group;
pub use options::{Mode, NativeFrames, RecordOptions, TargetChoice};
pub use profile::{Profile, Show};
pub use recording::{RecordError, Recording, Stopped};
pub use selection::Selection;
pub use session::{record, record_for};
