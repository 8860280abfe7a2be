//! Files.

pub mod chrometrace;
pub mod file;
pub mod flamegraph;
pub mod folded;
pub mod from_view;
pub mod gecko;
mod kinds;
mod labels;
mod nesting;
pub mod pprof;
pub mod speedscope;
pub mod text;
mod timeline;
pub mod view;
pub mod weights;

#[cfg(test)]
mod sample;
