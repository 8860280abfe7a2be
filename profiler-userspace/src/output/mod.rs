//! Files.

pub mod file;
pub mod flamegraph;
pub mod folded;
pub mod text;
