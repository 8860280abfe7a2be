//! What is known of the code at an address: its mapping, and there its row.

use super::table::{TABLE_PENDING, Tables, find_mapping, find_row};

/// What is known of the code at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The number of its rule; 0 is that no rule covers it.
    Rule(u16),
    /// It lies in no executable mapping.
    NoMapping,
    /// The table of its file is not there yet.
    Pending,
}

/// Looks up `pc` in the `count` mappings of a process's `table`.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, table: u32, count: u32, pc: u64) -> Found {
    match find_mapping(tables, table, count, pc) {
        None => Found::NoMapping,
        Some(mapping) if mapping.table == 0 => Found::Rule(0),
        Some(mapping) if mapping.table == TABLE_PENDING => Found::Pending,
        Some(mapping) => {
            let address = pc.wrapping_sub(mapping.bias);
            Found::Rule(find_row(tables, mapping.table, address).unwrap_or(0))
        }
    }
}
