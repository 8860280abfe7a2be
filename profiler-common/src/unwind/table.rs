//! The form in which rows of rules go into the kernel: words in chunks.
//!
//! A table covers the pages of [`PAGE_BYTES`] from its first page on. Word `p` of it is the index
//! of the word of page `p`'s first row, and word `pages` that of the end; a row is one word, the
//! low half of its address and the number of its rule in the table of all rules. A row holds until
//! the next one; each page that has any begins with a row of its own at 0.

/// Words in a chunk, which is a value of an inner map.
pub const CHUNK_WORDS: usize = 128;
/// Bytes of address space in a page.
pub const PAGE_BYTES: u64 = 1 << 16;

/// A row: what holds from `low` on in its page.
#[inline(always)]
#[must_use]
pub const fn row(low: u16, rule: u16) -> u32 {
    low as u32 | (rule as u32) << 16
}

/// The low half of a row's address.
#[inline(always)]
#[must_use]
pub const fn row_low(row: u32) -> u16 {
    row as u16
}

/// The number of a row's rule.
#[inline(always)]
#[must_use]
pub const fn row_rule(row: u32) -> u16 {
    (row >> 16) as u16
}
