//! The searches, against naive ones.

use profiler_common::unwind::{
    HEADER_WORDS, MAPPING_WORDS, Mapping, PAGE_BYTES, TABLE_PENDING, find_mapping, find_row, row,
    row_low, row_rule,
};
use proptest::prelude::*;

use crate::support::native::{MAPPINGS, ROWS, Words, mappings_table, rows_table};

fn with_table(number: u32, words: Vec<u32>) -> Words {
    let mut tables = Words::default();
    tables.tables.insert(number, words);
    tables
}

fn naive_row(rows: &[(u64, u16)], address: u64) -> u16 {
    let Some(last) = rows.last() else { return 0 };
    if address / PAGE_BYTES > last.0 / PAGE_BYTES {
        return 0;
    }
    let holds = rows.iter().rev().find(|(at, _)| *at <= address);
    holds.map_or(0, |(_, rule)| *rule)
}

fn check_row(rows: &[(u64, u16)], words: &Words, address: u64) {
    let found = find_row(words, ROWS, address);
    assert_eq!(found, Some(naive_row(rows, address)), "{address:#x}");
}

#[test]
fn a_row_is_its_address_and_its_rule() {
    for (low, rule) in [(0, 0), (1, 2), (0xffff, 0), (0, 0xffff), (0xffff, 0xffff)] {
        let word = row(low, rule);
        assert_eq!((row_low(word), row_rule(word)), (low, rule));
    }
}

#[test]
fn a_table_without_rows_covers_nothing() {
    let words = with_table(ROWS, rows_table(&[]));
    for address in [0, 1, PAGE_BYTES, u64::MAX] {
        assert_eq!(find_row(&words, ROWS, address), Some(0));
    }
    // Nor does one that is not there, and it says so.
    assert_eq!(find_row(&words, ROWS + 1, 0), None);
}

#[test]
fn rows_on_pages_at_the_edges() {
    let page = PAGE_BYTES;
    let rows = [
        (3 * page + 0x10, 5),
        (4 * page - 1, 6),
        // Pages without a row of their own, and none holds: a hole.
        (4 * page, 0),
        (7 * page + 2, 7),
        // Pages without a row of their own that one holds in.
        (10 * page, 8),
        (10 * page + 0xffff, 0),
    ];
    let words = with_table(ROWS, rows_table(&rows));
    for border in [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(|number| number * page) {
        for offset in [0, 1, 2, 3, 0xf, 0x10, 0x11, 0x8000, 0xfffe, 0xffff] {
            check_row(&rows, &words, border + offset);
        }
    }
    for address in [u64::MAX, 1 << 47, (1 << 48) - 1] {
        check_row(&rows, &words, address);
    }
}

/// What is too far away for the number of a page is not what lies nearer.
#[test]
fn addresses_beyond_all_pages_are_not_covered() {
    let rows = [(0x1000, 5), (0x2000, 0)];
    let words = with_table(ROWS, rows_table(&rows));
    for bit in 13..64 {
        check_row(&rows, &words, (1 << bit) + 0x1800);
    }
}

/// A page has at most 65,536 rows: one for each address.
#[test]
fn a_full_page() {
    let rows: Vec<_> = (0..PAGE_BYTES)
        .map(|low| (PAGE_BYTES + low, low as u16 ^ 0x5555))
        .collect();
    let words = with_table(ROWS, rows_table(&rows));
    let step = if cfg!(miri) { 4099 } else { 1 };
    for (address, rule) in rows.iter().step_by(step) {
        assert_eq!(find_row(&words, ROWS, *address), Some(*rule));
    }
}

#[test]
fn words_that_are_cut_off_are_no_rule() {
    let page = PAGE_BYTES;
    let rows = [(0x10, 3), (page + 5, 4), (page + 9, 5), (2 * page, 6)];
    let table = rows_table(&rows);
    for length in 0..table.len() {
        let words = with_table(ROWS, table[..length].to_vec());
        for address in [0, 0x10, page, page + 5, page + 9, 2 * page, 2 * page + 9] {
            let found = find_row(&words, ROWS, address);
            // What is left may be enough.
            let whole = Some(naive_row(&rows, address));
            assert!(found.is_none() || found == whole, "{length}, {address:#x}");
        }
        let beyond = if length < HEADER_WORDS as usize {
            None
        } else {
            Some(0)
        };
        assert_eq!(find_row(&words, ROWS, 3 * page), beyond, "{length}");
    }
}

fn naive_mapping(mappings: &[Mapping], pc: u64) -> Option<Mapping> {
    let holds = |mapping: &&Mapping| mapping.start <= pc && pc < mapping.end;
    mappings.iter().find(holds).copied()
}

fn check_mapping(mappings: &[Mapping], words: &Words, pc: u64) {
    let found = find_mapping(words, MAPPINGS, mappings.len() as u32, pc);
    assert_eq!(found, naive_mapping(mappings, pc), "{pc:#x}");
}

#[test]
fn mappings_hold_from_their_start_up_to_their_end() {
    let mapping = |start: u64, end, table| Mapping {
        start,
        end,
        bias: start.wrapping_sub(0xabcd_0000_1234),
        table,
    };
    let mappings = [
        mapping(0x1000, 0x2000, 0),
        // Right behind it.
        mapping(0x2000, 0x3000, TABLE_PENDING),
        // Across what 32 bits hold.
        mapping(0xffff_f000, 0x1_0000_1000, 7),
        mapping(0x7fff_ffff_e000, 0x7fff_ffff_f000, 9),
        mapping(0xffff_ffff_ff60_0000, u64::MAX, 0),
    ];
    let words = with_table(MAPPINGS, mappings_table(&mappings));
    for mapping in mappings {
        for edge in [mapping.start, mapping.end] {
            for pc in [edge - 1, edge, edge.saturating_add(1)] {
                check_mapping(&mappings, &words, pc);
            }
        }
    }
    for pc in [0, u64::MAX, 1 << 47, 1 << 32] {
        check_mapping(&mappings, &words, pc);
    }
}

#[test]
fn mappings_that_are_none_or_cut_off_hold_nothing() {
    let mapping = |index: u64| Mapping {
        start: index * 0x1000,
        end: (index + 1) * 0x1000,
        bias: 0,
        table: index as u32,
    };
    let mappings: Vec<_> = (1..6).map(mapping).collect();
    let table = mappings_table(&mappings);
    assert_eq!(table.len(), 5 * MAPPING_WORDS as usize);
    let whole = with_table(MAPPINGS, table.clone());
    assert_eq!(find_mapping(&whole, MAPPINGS, 0, 0x1800), None);
    assert_eq!(find_mapping(&whole, MAPPINGS + 1, 5, 0x1800), None);
    for length in 0..table.len() {
        let words = with_table(MAPPINGS, table[..length].to_vec());
        for pc in (0..0x7000).step_by(0x800) {
            let found = find_mapping(&words, MAPPINGS, 5, pc);
            let naive = naive_mapping(&mappings, pc);
            assert!(found.is_none() || found == naive, "{length}, {pc:#x}");
        }
    }
}

/// As many as there can be.
#[test]
fn sixty_five_thousand_mappings() {
    let count = if cfg!(miri) { 700 } else { 0xffff };
    let mappings: Vec<_> = (0..count)
        .map(|index| Mapping {
            start: 0x1_0000_0000 + index * 0x2000,
            end: 0x1_0000_1000 + index * 0x2000,
            bias: index,
            table: index as u32,
        })
        .collect();
    let words = with_table(MAPPINGS, mappings_table(&mappings));
    for (index, mapping) in mappings.iter().enumerate() {
        let found = |pc| find_mapping(&words, MAPPINGS, count as u32, pc);
        assert_eq!(found(mapping.start), Some(*mapping), "{index}");
        assert_eq!(found(mapping.end - 1), Some(*mapping), "{index}");
        assert_eq!(found(mapping.end), None, "{index}");
    }
}

const CASES: u32 = if cfg!(miri) { 4 } else { 500 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_are_found(
        gaps in proptest::collection::vec(
            (prop_oneof![
                4 => 1u64..64,
                2 => 1u64..0x8000,
                1 => 1u64..5 * PAGE_BYTES,
                1 => Just(PAGE_BYTES),
            ], prop_oneof![1 => Just(0u16), 4 => any::<u16>()]),
            1..80,
        ),
        first in 0u64..0x4000_0000,
        others in proptest::collection::vec(any::<u64>(), 10),
    ) {
        let mut address = first;
        let mut rows = Vec::new();
        for (gap, rule) in gaps {
            rows.push((address, rule));
            address += gap;
        }
        let words = with_table(ROWS, rows_table(&rows));
        for (at, _) in &rows {
            for near in [at.saturating_sub(1), *at, at + 1, at + PAGE_BYTES, at & !0xffff, at | 0xffff] {
                check_row(&rows, &words, near);
            }
        }
        for other in others {
            check_row(&rows, &words, first + other % (address - first + 2 * PAGE_BYTES));
            check_row(&rows, &words, other);
        }
    }

    #[test]
    fn any_mapping_is_found(
        sizes in proptest::collection::vec((0u64..4, 1u64..9, any::<u64>(), any::<u32>()), 0..200),
        first in 0u64..1 << 46,
        others in proptest::collection::vec(any::<u64>(), 10),
    ) {
        let mut start = first;
        let mut mappings = Vec::new();
        for (gap, size, bias, table) in sizes {
            start += gap * 0x1000;
            let end = start + size * 0x1000;
            mappings.push(Mapping { start, end, bias, table });
            start = end;
        }
        let words = with_table(MAPPINGS, mappings_table(&mappings));
        for mapping in &mappings {
            for edge in [mapping.start, mapping.end] {
                check_mapping(&mappings, &words, edge.wrapping_sub(1));
                check_mapping(&mappings, &words, edge);
            }
        }
        for other in others {
            check_mapping(&mappings, &words, other);
            check_mapping(&mappings, &words, first + other % 0x100_0000);
        }
    }

    /// Words of any kind give something or nothing, and an end.
    #[test]
    fn no_words_hang_or_panic(
        words in proptest::collection::vec(prop_oneof![0u32..40, any::<u32>(), (u32::MAX - 9)..=u32::MAX], 0..60),
        count in any::<u32>(),
        addresses in proptest::collection::vec(prop_oneof![0u64..0x40_0000, any::<u64>()], 20),
    ) {
        let words = with_table(1, words);
        for address in addresses {
            let _ = find_row(&words, 1, address);
            let _ = find_mapping(&words, 1, count, address);
        }
    }
}
