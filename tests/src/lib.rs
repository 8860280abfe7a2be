//! What the tests on real interpreters share.
//!
//! `cargo xtask test` brings up the interpreters and names them in a file (`PYSCRY_PYTHONS`); a
//! test runs on each of them, and fails loudly where there is none. numpy, for Python 3.12, is in the
//! directory that `PYSCRY_SITE` names, what opens files in the one that `PYSCRY_READERS` names.

pub mod agree;
pub mod cgroup;
pub mod compiled;
pub mod crowd;
pub mod family;
pub mod folded;
pub mod frames;
pub mod gdb;
pub mod host;
pub mod hostile;
pub mod interpreters;
pub mod native;
pub mod pyscry;
pub mod run;
pub mod screen;
pub mod slow_disk;
pub mod stolen;
pub mod symbol;
pub mod target;
pub mod times;
pub mod until_quiet;
pub mod until_told;
pub mod view;

pub use crowd::Crowd;
pub use family::Family;
pub use folded::Folded;
pub use frames::Frame;
pub use host::{Host, HostRecorder, Process, Recorded};
pub use interpreters::{Interpreter, on_each, on_each_built_here, on_one};
pub use native::{Native, Workshop};
pub use pyscry::{Ended, Recorder, pyscry, record, sampled};
pub use screen::Screen;
pub use target::Target;
pub use times::Stretch;
