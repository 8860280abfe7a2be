//! Rows of rules for the kernel's unwind, out of the call frame information of ELF files.
//!
//! - [`compile`](fn@compile): a file's rows.
//! - [`Table`]: rows in the words that go into the kernel.
//! - [`follow`]: what the code itself says, where that information says nothing.
//! - [`Disk`]: rows that were compiled before.

mod analyze;
mod compile;
mod disk;
mod expression;
mod frames;
mod functions;
mod image;
mod plt;
mod rows;
mod rule;
mod table;
mod trampoline;

pub use analyze::{State, follow};
pub use compile::{CompileError, compile, compile_image, function_ranges};
pub use disk::{Disk, DiskError};
pub use rows::{CompileStats, MAX_ROWS, Row, Rows};
pub use table::{MAX_PAGES, Table, TableError};
