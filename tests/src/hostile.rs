//! What reads bytes that anybody may have written, and what must hold of it whatever they are.
//! The fuzzer calls these, and so does a test with the fuzzer's seeds.

use profiler_common::unwind::{CfaKind, PAGE_BYTES, REG_RIP, RaKind, RbpKind, Rule};
use pyscry::unwind::{Disk, MAX_PAGES, MAX_ROWS, Rows, Table, compile_image};

/// Takes a function of bytes.
pub type Reader = fn(&[u8]);

/// The readers, each with the name of the directory of its seeds.
pub const READERS: [(&str, Reader); 3] = [("compile", compile), ("plt", plt), ("disk", disk)];

/// An ELF file.
///
/// # Panics
/// When its rows are not what rows have to be.
pub fn compile(data: &[u8]) {
    if let Ok(rows) = compile_image(data) {
        ordered(&rows);
        assert_eq!(rows.rows.len(), rows.stats.rows);
        let last = rows.rows.last();
        assert!(last.is_none_or(|row| row.rule == Rule::NONE));
        pack(&rows);
    }
}

/// A procedure linkage table.
///
/// # Panics
/// When its rows are not what rows have to be.
pub fn plt(code: &[u8]) {
    compile(&file_of_plt(code));
}

/// A file of the cache on disk.
///
/// # Panics
/// When its rows are not what rows have to be.
pub fn disk(data: &[u8]) {
    if let Some(rows) = Disk::decode(data) {
        ordered(&rows);
        pack(&rows);
    }
}

fn ordered(rows: &Rows) {
    assert!(rows.rows.len() <= MAX_ROWS);
    assert!(rows.rows.is_sorted_by(|a, b| a.address < b.address));
    for row in &rows.rows {
        let rule = row.rule;
        assert!(rule.cfa <= CfaKind::Signal as u8, "{rule:?}");
        assert!(rule.rbp <= RbpKind::Unknown as u8, "{rule:?}");
        assert!(rule.ra <= RaKind::End as u8, "{rule:?}");
        assert!(rule.reg < REG_RIP && rule.index < REG_RIP, "{rule:?}");
        assert_eq!(rule.pad, 0, "{rule:?}");
    }
}

/// Each index in a table is within it, and in order.
fn pack(rows: &Rows) {
    let number = |rule: &Rule| Some(rule.cfa_offset as u16).filter(|number| *number < 100);
    let Ok(table) = Table::pack(&rows.rows, number) else {
        let span = rows.rows.first().zip(rows.rows.last());
        let (first, last) = span.unwrap_or_else(|| panic!("no rows fit everywhere"));
        let pages = last.address / PAGE_BYTES - first.address / PAGE_BYTES + 1;
        assert!(pages > MAX_PAGES.into() || first.address / PAGE_BYTES > u32::MAX.into());
        return;
    };
    let pages = table.pages as usize;
    assert!(pages <= MAX_PAGES as usize);
    assert!(table.words.len() <= 2 * rows.rows.len() + 2 * pages + 1);
    let indices = &table.words[..=pages];
    assert!(indices.is_sorted());
    assert_eq!(indices[0] as usize, pages + 1);
    assert_eq!(indices[pages] as usize, table.words.len());
}

/// A file that has nothing but a procedure linkage table.
fn file_of_plt(code: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.plt\0.names\0";
    const ADDRESS: u64 = 0x1000;
    let len = code.len() as u64;
    let code_at = 64 + 56_u64;
    let names_at = code_at + len;
    let sections_at = names_at + NAMES.len() as u64;

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_DYN for EM_X86_64, without an entry point.
    put(&mut file, &[(3, 2), (62, 2), (1, 4), (0, 8), (64, 8)]);
    put(&mut file, &[(sections_at, 8), (0, 4), (64, 2)]);
    put(&mut file, &[(56, 2), (1, 2), (64, 2), (3, 2), (2, 2)]);
    // PT_LOAD, readable and executable.
    put(&mut file, &[(1, 4), (5, 4), (code_at, 8), (ADDRESS, 8)]);
    put(&mut file, &[(ADDRESS, 8), (len, 8), (len, 8), (1, 8)]);
    file.extend(code);
    file.extend(NAMES);
    file.extend([0; 64]);
    section(&mut file, 1, 1, (ADDRESS, code_at, len));
    section(&mut file, 6, 3, (0, names_at, NAMES.len() as u64));
    file
}

/// A section header: its name, type, and address, offset and size.
fn section(file: &mut Vec<u8>, name: u64, kind: u64, place: (u64, u64, u64)) {
    put(file, &[(name, 4), (kind, 4), (0, 8), (place.0, 8)]);
    put(file, &[(place.1, 8), (place.2, 8), (0, 8), (1, 8), (0, 8)]);
}

/// Little-endian numbers and their sizes in bytes.
fn put(file: &mut Vec<u8>, numbers: &[(u64, usize)]) {
    for (number, size) in numbers {
        file.extend(number.to_le_bytes().iter().take(*size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_table_is_compiled() {
        let mut code = vec![0xff, 0x35, 0, 0, 0, 0, 0xff, 0x25, 0, 0, 0, 0, 0, 0, 0, 0];
        code.extend([0xff, 0x25, 0, 0, 0, 0, 0x68, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0]);
        let rows = compile_image(&file_of_plt(&code)).expect("rows");
        let addresses: Vec<_> = rows.rows.iter().map(|row| row.address).collect();
        assert_eq!(addresses, [0x1000, 0x1006, 0x1010, 0x1020]);
    }
}
