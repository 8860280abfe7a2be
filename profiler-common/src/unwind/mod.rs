//! The unwind: from a thread's registers through the frames of native code, one step at a time.
//!
//! The driver puts the registers into an [`Unwind`] with [`begin`] and calls [`step`] until it says
//! to stop. Each step finds the rule of the code at hand ([`Tables`]), works out where the frame
//! ends, and leaves the caller's registers. In the kernel the driver is a loop over a BPF global
//! function; on the host it is [`run`].
//!
//! What a step passes goes into a list of [`Token`]s, leaf first: addresses of native code, and
//! between them the places of Python frames, which the walk has found before ([`Segments`]).

mod lookup;
mod registers;
mod rule;
mod segments;
mod stack;
mod step;
mod table;
mod token;

pub use lookup::{Found, find};
pub use registers::{ALL_REGISTERS, Registers, USER_REGS_BYTES, USER_REGS_WORDS, in_user_mode};
pub use rule::{CfaKind, REG_RBP, REG_RIP, REG_RSP, REGISTERS, RaKind, RbpKind, Rule};
pub use segments::{MAX_SEGMENTS, Segments};
pub use stack::StackBlock;
pub use step::{Anchor, MAX_TOKENS, Tokens, Unwind, UnwindStatus, begin, fold_tokens, run, step};
pub use table::{
    CHUNK_WORDS, Chunk, HEADER_WORDS, MAPPING_WORDS, Mapping, PAGE_BYTES, TABLE_PENDING, Tables,
    find_mapping, find_row, row, row_low, row_rule, rule_key,
};
pub use token::{Token, TokenKind};
