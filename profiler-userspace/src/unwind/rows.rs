//! What is compiled: rows.

use profiler_common::unwind::Rule;

/// Rows that a file may have. OpenBLAS has 420,000, CPython 70,000.
pub const MAX_ROWS: usize = 4_000_000;

/// A rule, and the address from which on it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// First address, as the file states it.
    pub address: u64,
    /// What holds there, until the next row.
    pub rule: Rule,
}

/// A file's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// In the order of their addresses, each of which occurs once. No row has the rule of the one
    /// before it, and the last one has none.
    pub rows: Vec<Row>,
    /// What they were compiled from.
    pub stats: CompileStats,
}

/// What the compiler saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileStats {
    /// Rows that came out.
    pub rows: usize,
    /// Functions that the call frame information covers.
    pub functions: usize,
    /// Functions that it does not cover, whose rows are found by following their code.
    pub analyzed: usize,
    /// Rows of those functions that cannot be said as a [`Rule`], and functions that could not be
    /// read to their end. [`Rule::NONE`] holds there.
    pub unsupported: usize,
}
