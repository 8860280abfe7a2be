//! The unwind: from a thread's registers through the frames of native code, one step at a time.

mod rule;
mod table;

pub use rule::{CfaKind, REG_RBP, REG_RIP, REG_RSP, REGISTERS, RaKind, RbpKind, Rule};
pub use table::{CHUNK_WORDS, PAGE_BYTES, row, row_low, row_rule};
