//! What several test programs build their targets from.

#![allow(clippy::unwrap_used, reason = "what a test built is there")]
#![allow(dead_code, reason = "each program uses its part")]

pub(crate) mod memory;
pub(crate) mod native;
pub(crate) mod python;
