//! Procedure linkage tables that no call frame information describes: those of lld, and of older
//! linkers. What an entry does is told by its code.

use profiler_common::unwind::{CfaKind, REG_RSP, RaKind, RbpKind, Rule};

use super::functions::{Functions, TooMany};

/// Bytes of an entry. Where entries have eight, two of a kind are looked at as one.
const ENTRY: usize = 16;

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// `jmp *disp32(%rip)`, before the displacement.
const JMP_MEMORY: [u8; 2] = [0xff, 0x25];
/// `push disp32(%rip)`, before the displacement.
const PUSH_MEMORY: [u8; 2] = [0xff, 0x35];
/// `push imm32`, before the number.
const PUSH: u8 = 0x68;
/// `jmp rel32`, before the displacement.
const JMP: u8 = 0xe9;
/// `bnd`, a prefix of jumps.
const BND: u8 = 0xf2;

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Jumps.
    Plain,
    /// Pushes the number of its symbol before the byte `0`, and jumps to the first entry.
    Lazy(u8),
    /// The first one: pushes the module before byte 6, and jumps to the linker.
    First,
}

/// What code does; `None` for none that a linker writes.
pub(super) fn entry(code: &[u8]) -> Option<Entry> {
    if let Some(behind) = code.strip_prefix(&PUSH_MEMORY) {
        return is_jump_memory(behind.get(4..)?).then_some(Entry::First);
    }
    let (skipped, code) = match code.strip_prefix(&ENDBR64) {
        Some(behind) => (4, behind),
        None => (0, code),
    };
    if code.first() == Some(&PUSH) {
        return is_jump(code.get(5..)?).then_some(Entry::Lazy(skipped + 5));
    }
    if !is_jump_memory(code) {
        return None;
    }
    match code.get(6..) {
        Some([PUSH, _, _, _, _, jump @ ..]) if is_jump(jump) => Some(Entry::Lazy(skipped + 11)),
        _ => Some(Entry::Plain),
    }
}

fn is_jump_memory(code: &[u8]) -> bool {
    code.strip_prefix(&[BND])
        .unwrap_or(code)
        .starts_with(&JMP_MEMORY)
}

fn is_jump(code: &[u8]) -> bool {
    code.strip_prefix(&[BND]).unwrap_or(code).first() == Some(&JMP)
}

/// Adds a table's entries, those that are known. `end` is where its segment of code ends.
pub(super) fn add(
    address: u64,
    code: &[u8],
    end: u64,
    found: &mut Functions,
) -> Result<(), TooMany> {
    let behind = address.saturating_add(code.len() as u64).min(end);
    if address >= behind {
        return Ok(());
    }
    found.begin(address, behind)?;
    for (at, code) in code.chunks(ENTRY).enumerate() {
        let start = address.saturating_add((at * ENTRY) as u64);
        if start >= behind {
            break;
        }
        match entry(code) {
            Some(Entry::Plain) => found.push(start, at_stack(8))?,
            // Its rule counts from `rip & 15`.
            Some(Entry::Lazy(threshold)) if start.is_multiple_of(ENTRY as u64) => {
                found.push(start, lazy(threshold))?;
            }
            // The entry that jumped here has pushed.
            Some(Entry::First) if at == 0 => {
                found.push(start, at_stack(16))?;
                found.push(start.saturating_add(6), at_stack(24))?;
            }
            _ => found.push(start, Rule::NONE)?,
        }
    }
    Ok(())
}

const fn at_stack(cfa_offset: i32) -> Rule {
    Rule {
        cfa: CfaKind::Register as u8,
        reg: REG_RSP,
        rbp: RbpKind::Same as u8,
        ra: RaKind::AtCfa as u8,
        ra_offset: -8,
        cfa_offset,
        ..Rule::NONE
    }
}

const fn lazy(threshold: u8) -> Rule {
    Rule {
        cfa: CfaKind::Plt as u8,
        cfa_second: threshold as i16,
        ..at_stack(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(hex: &str) -> Vec<u8> {
        hex.split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    }

    #[test]
    fn entries_of_ld() {
        let of = |hex| entry(&code(hex));
        // -z lazy
        let first = "ff 35 ca 2f 00 00 ff 25 cc 2f 00 00 0f 1f 40 00";
        assert_eq!(of(first), Some(Entry::First));
        let entry = "ff 25 ca 2f 00 00 68 00 00 00 00 e9 e0 ff ff ff";
        assert_eq!(of(entry), Some(Entry::Lazy(11)));
        // -z lazy -z ibtplt, as of binutils 2.31 and 2.42
        let first = "ff 35 ca 2f 00 00 f2 ff 25 cb 2f 00 00 0f 1f 00";
        assert_eq!(of(first), Some(Entry::First));
        let entry = "f3 0f 1e fa 68 00 00 00 00 f2 e9 e1 ff ff ff 90";
        assert_eq!(of(entry), Some(Entry::Lazy(9)));
        let entry = "f3 0f 1e fa 68 00 00 00 00 e9 e2 ff ff ff 66 90";
        assert_eq!(of(entry), Some(Entry::Lazy(9)));
        // -z bndplt
        let entry = "68 00 00 00 00 f2 e9 e5 ff ff ff 0f 1f 44 00 00";
        assert_eq!(of(entry), Some(Entry::Lazy(5)));
        // .plt.sec, .plt.got
        let entry = "f3 0f 1e fa f2 ff 25 95 2f 00 00 0f 1f 44 00 00";
        assert_eq!(of(entry), Some(Entry::Plain));
        assert_eq!(of("ff 25 9a 2f 00 00 66 90"), Some(Entry::Plain));
        assert_eq!(of("f2 ff 25 9a 2f 00 00 90"), Some(Entry::Plain));
    }

    #[test]
    fn other_code() {
        let of = |hex| entry(&code(hex));
        // lld's -z retpolineplt
        assert_eq!(of("4c 8b 1d 00 00 00 00 e8 00 00 00 00 e9 00 00 00"), None);
        assert_eq!(of("ff 35 00 00 00 00 90 90"), None);
        assert_eq!(of("ff 35 00"), None);
        assert_eq!(of("68 00"), None);
        assert_eq!(of("f3 0f 1e fa"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_table_without_a_tail() {
        let mut table = code("ff 35 ca 2f 00 00 ff 25 cc 2f 00 00 0f 1f 40 00");
        for _ in 0..3 {
            table.extend(code("ff 25 ca 2f 00 00 68 00 00 00 00 e9 e0 ff ff ff"));
        }
        let mut found = Functions::default();
        add(0x1000, &table, u64::MAX, &mut found).unwrap();
        found.sort();
        let rows: Vec<_> = found
            .flatten(&Functions::default())
            .iter()
            .map(|row| (row.address, row.rule))
            .collect();
        assert_eq!(
            rows,
            [
                (0x1000, at_stack(16)),
                (0x1006, at_stack(24)),
                (0x1010, lazy(11)),
                (0x1040, Rule::NONE)
            ]
        );
    }
}
