//! The BPF side as userspace sees it: the embedded object, its programs and maps.

pub mod counters;
pub mod loader;
pub mod object;
pub mod perf;
pub mod tables;
pub mod verified;

pub use loader::LoadError;
pub use loader::LoadOptions;
pub use loader::Programs;
