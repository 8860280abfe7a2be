//! The form in which rows of rules and the mappings of a process go into the kernel: words in
//! chunks, a map for each table.
//!
//! A table of rows covers pages of [`PAGE_BYTES`] from its first page on. Its words are the number
//! of the first page, the count of pages, one word for each page (the index of its first row's
//! word, counted from behind this header) and one for the end, and the rows. A row is one word, the
//! low half of its address and the number of its rule in the table of all rules. A row holds until
//! the next one; each page that has any begins with a row of its own at 0.
//!
//! The table of a process holds its executable mappings, [`MAPPING_WORDS`] words each, by address.

use super::rule::Rule;
use crate::hash;

/// Words in a chunk, which is a value of an inner map.
pub const CHUNK_WORDS: usize = 128;
/// A value of an inner map.
pub type Chunk = [u32; CHUNK_WORDS];
/// Bytes of address space in a page.
pub const PAGE_BYTES: u64 = 1 << 16;
/// Words in front of a table of rows: its first page, and how many it has.
pub const HEADER_WORDS: u32 = 2;
/// Words of one mapping.
pub const MAPPING_WORDS: u32 = 8;

/// In place of the number of a table: it will come.
pub const TABLE_PENDING: u32 = u32::MAX;

/// Steps of the search for a row: a page has at most 65,536.
const ROW_STEPS: u32 = 17;
/// Steps of the search for a mapping: at most 65,535 of them.
const MAPPING_STEPS: u32 = 16;

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

/// Tables as the unwind reads them: maps in the kernel, vectors on the host.
pub trait Tables {
    /// A word of a table, `None` where there is none.
    fn word(&self, table: u32, index: u32) -> Option<u32>;

    /// A rule of the table of all rules.
    fn rule(&self, number: u16) -> Option<Rule>;
}

/// An executable mapping of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// What the loader added to the addresses that the file states: the load bias.
    pub bias: u64,
    /// Its table of rows; 0 when it has none, [`TABLE_PENDING`] when it is not there yet.
    pub table: u32,
}

impl Mapping {
    /// Its words.
    #[must_use]
    pub fn words(&self) -> [u32; MAPPING_WORDS as usize] {
        [
            self.start as u32,
            (self.start >> 32) as u32,
            self.end as u32,
            (self.end >> 32) as u32,
            self.bias as u32,
            (self.bias >> 32) as u32,
            self.table,
            0,
        ]
    }
}

#[inline(always)]
fn long<T: Tables>(tables: &T, table: u32, index: u32) -> Option<u64> {
    let low = tables.word(table, index)?;
    let high = tables.word(table, index + 1)?;
    Some(low as u64 | (high as u64) << 32)
}

/// The mapping that holds `pc`, of `count` ones in the process's `table`.
#[inline(always)]
pub fn find_mapping<T: Tables>(tables: &T, table: u32, count: u32, pc: u64) -> Option<Mapping> {
    let mut low = 0;
    let mut high = count & 0xffff;
    for _ in 0..MAPPING_STEPS {
        if low >= high {
            break;
        }
        let middle = (low + high) >> 1;
        if long(tables, table, middle * MAPPING_WORDS)? <= pc {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if low == 0 {
        return None;
    }
    let at = (low - 1) * MAPPING_WORDS;
    let mapping = Mapping {
        start: long(tables, table, at)?,
        end: long(tables, table, at + 2)?,
        bias: long(tables, table, at + 4)?,
        table: tables.word(table, at + 6)?,
    };
    (pc < mapping.end).then_some(mapping)
}

/// The number of the rule that holds at `address`, as the file states addresses; 0, which is no
/// rule, where no row covers it.
#[inline(always)]
pub fn find_row<T: Tables>(tables: &T, table: u32, address: u64) -> Option<u16> {
    let first = tables.word(table, 0)?;
    let pages = tables.word(table, 1)?;
    // Not cut to 32 bits before it is compared: pages far away are not those of the table.
    let page = (address / PAGE_BYTES).wrapping_sub(first as u64);
    if page >= pages as u64 {
        return Some(0);
    }
    let page = page as u32;
    // Sums wrap: words that are no table must not stop what reads them.
    let word = |index: u32| tables.word(table, HEADER_WORDS.wrapping_add(index));
    let mut low = word(page)?;
    let mut high = word(page.wrapping_add(1))?;
    let end = high;
    let wanted = address as u16;
    for _ in 0..ROW_STEPS {
        if low >= high {
            break;
        }
        let middle = low.wrapping_add(high) >> 1;
        if row_low(word(middle)?) <= wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let start = word(page)?;
    if low == start || low > end {
        return Some(0);
    }
    Some(row_rule(word(low.wrapping_sub(1))?))
}

/// The key of a rule in the cache of rules: an address in one state of a process's mappings.
#[inline(always)]
#[must_use]
pub fn rule_key(generation: u32, pc: u64) -> u64 {
    hash::fold(hash::fold(0, pc), generation as u64)
}
