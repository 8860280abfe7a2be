//! The trampolines of `-X perf`: copies of a few instructions in anonymous memory, one for each
//! Python function, without call frame information (`Objects/asm_trampoline.S`, 3.12 on).

use profiler_common::unwind::{CfaKind, REG_RSP, RaKind, RbpKind, Rule};

use crate::unwind::{Row, Rows};

/// What may be at the start of an arena of trampolines before its first one ends.
const NEAR: usize = 256;

/// A form of the trampoline: its bytes, and where which rule begins.
struct Form {
    code: &'static [u8],
    /// Offset in bytes, bytes from `rsp` to the CFA, and whether `rbp` is saved.
    rows: &'static [(u64, i32, bool)],
}

const FORMS: [Form; 2] = [
    // sub $8,%rsp; call *%rcx; add $8,%rsp; ret
    Form {
        code: &[
            0x48, 0x83, 0xec, 0x08, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3,
        ],
        rows: &[(0, 8, false), (4, 16, false), (10, 8, false)],
    },
    // push %rbp; mov %rsp,%rbp; call *%rcx; pop %rbp; ret
    Form {
        code: &[0x55, 0x48, 0x89, 0xe5, 0xff, 0xd1, 0x5d, 0xc3],
        rows: &[(0, 8, false), (1, 16, true), (7, 8, false)],
    },
];

/// Behind a trampoline's first instruction where the processor wants to see one (CET).
const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Whether anonymous code begins with trampolines.
#[must_use]
pub(super) fn is_arena(start: &[u8]) -> bool {
    let near = start.get(..NEAR.min(start.len())).unwrap_or_default();
    FORMS
        .iter()
        .any(|form| memchr::memmem::find(near, form.code).is_some())
}

/// How many bytes tell [`is_arena`].
#[must_use]
pub(super) fn bytes_to_tell() -> usize {
    NEAR
}

fn rule(cfa_offset: i32, saved: bool) -> Rule {
    Rule {
        cfa: CfaKind::Register as u8,
        reg: REG_RSP,
        index: 0,
        rbp: if saved {
            RbpKind::AtCfa as u8
        } else {
            RbpKind::Same as u8
        },
        ra: RaKind::AtCfa as u8,
        pad: 0,
        ra_offset: -8,
        cfa_offset,
        cfa_second: 0,
        rbp_offset: if saved { -16 } else { 0 },
    }
}

/// Rows of an arena; addresses count from its start.
#[must_use]
pub(super) fn rows(arena: &[u8]) -> Rows {
    let mut rows: Vec<Row> = Vec::new();
    for form in &FORMS {
        for at in memchr::memmem::find_iter(arena, form.code) {
            let start = at as u64;
            let before = at.checked_sub(ENDBR.len());
            if before.is_some_and(|before| arena.get(before..at) == Some(&ENDBR[..])) {
                rows.push(Row {
                    address: start - ENDBR.len() as u64,
                    rule: rule(8, false),
                });
            }
            rows.extend(form.rows.iter().map(|(offset, cfa, saved)| Row {
                address: start + offset,
                rule: rule(*cfa, *saved),
            }));
            rows.push(Row {
                address: start + form.code.len() as u64,
                rule: Rule::NONE,
            });
        }
    }
    rows.sort_by_key(|row| row.address);
    rows.dedup_by(|next, row| next.address == row.address || next.rule == row.rule);
    Rows {
        rows,
        ..Rows::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_one_behind_the_other() {
        let mut arena = Vec::new();
        for _ in 0..3 {
            arena.extend_from_slice(FORMS[0].code);
            arena.resize(arena.len().next_multiple_of(16), 0x90);
        }
        assert!(is_arena(&arena));
        let rows = rows(&arena).rows;
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.address, row.rule.cfa_offset))
            .collect();
        assert_eq!(seen[..5], [(0, 8), (4, 16), (10, 8), (11, 0), (16, 8)]);
        assert_eq!(rows.len(), 12);
    }

    #[test]
    fn with_a_frame_pointer_and_a_landing_pad() {
        let mut arena = ENDBR.to_vec();
        arena.extend_from_slice(FORMS[1].code);
        let rows = rows(&arena).rows;
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.address, row.rule.cfa_offset, row.rule.rbp_offset))
            .collect();
        assert_eq!(seen, [(0, 8, 0), (5, 16, -16), (11, 8, 0), (12, 0, 0)]);
    }

    #[test]
    fn other_code() {
        assert!(!is_arena(&[0x90; 4096]));
        assert!(rows(&[]).rows.is_empty());
    }
}
