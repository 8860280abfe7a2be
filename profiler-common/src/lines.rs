//! From an instruction to its source line, as tracebacks show it.
//!
//! A code object keeps a table of line deltas, in one of three formats. What is computed here is
//! what `PyCode_Addr2Line` (`Objects/codeobject.c`) of the same version returns. Tables come out
//! of another process's memory: any bytes are accepted, and the answer for a damaged table is
//! some line or none.

/// The format of a code object's line table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTable {
    /// `co_lnotab`, 3.8 and 3.9 (`Objects/lnotab_notes.txt`).
    Lnotab,
    /// `co_linetable`, 3.10 (`Objects/lnotab_notes.txt`).
    Lines310,
    /// `co_linetable`, 3.11 to 3.15 (`Objects/locations.md`, later `InternalDocs/code_objects.md`).
    Locations,
}

impl LineTable {
    /// The format that Python 3.`minor` uses; `None` outside 3.8 to 3.15.
    #[must_use]
    pub fn of_minor(minor: u8) -> Option<Self> {
        match minor {
            8 | 9 => Some(Self::Lnotab),
            10 => Some(Self::Lines310),
            11..=15 => Some(Self::Locations),
            _ => None,
        }
    }

    /// The line of the instruction at byte offset `lasti` of a code object whose
    /// `co_firstlineno` is `first_line`. Before the first instruction (`lasti` negative) it is
    /// the first line.
    ///
    /// `None` where the interpreter says that the instruction has no line. Line 0 is a line: a
    /// module's first instruction is there from 3.11 on.
    #[must_use]
    pub fn line_at(self, table: &[u8], first_line: i32, lasti: i32) -> Option<u32> {
        let Ok(lasti) = u32::try_from(lasti) else {
            return u32::try_from(first_line).ok();
        };
        self.ranges(table, first_line)
            .find(|range| range.end > lasti)
            .and_then(|range| range.line)
    }

    /// As [`LineTable::line_at`], where `table` is only the beginning of one: `None` where that does
    /// not tell.
    #[must_use]
    pub fn line_at_beginning(self, table: &[u8], first_line: i32, lasti: i32) -> Option<u32> {
        let Ok(lasti) = u32::try_from(lasti) else {
            return u32::try_from(first_line).ok();
        };
        let mut ranges = self.ranges(table, first_line);
        let found = ranges.find(|range| range.end > lasti)?;
        // The last one may be cut, and what follows the last line of `co_lnotab` is not known.
        ranges.next().and(found.line)
    }

    /// The whole table: ranges of bytecode that follow each other from offset 0. Some are empty,
    /// and neighbours can have the same line.
    fn ranges(self, table: &[u8], first_line: i32) -> Ranges<'_> {
        Ranges {
            format: self,
            rest: table,
            end: 0,
            line: first_line,
        }
    }
}

/// Bytecode with one line; it begins where the range before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    /// Byte offset behind its last instruction; `u32::MAX` for "up to the end".
    end: u32,
    /// Its line; `None` where the interpreter says that there is none.
    line: Option<u32>,
}

/// See [`LineTable::ranges`].
#[derive(Clone, Debug)]
struct Ranges<'a> {
    format: LineTable,
    rest: &'a [u8],
    /// Where the last range ended.
    end: u32,
    /// The line that the next delta adds to.
    line: i32,
}

impl Iterator for Ranges<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        match self.format {
            LineTable::Lnotab => self.next_lnotab(),
            LineTable::Lines310 => self.next_lines310(),
            LineTable::Locations => self.next_location(),
        }
    }
}

/// A line delta of 3.10 that says "no line" and leaves the line that the next delta adds to.
const NO_LINE_310: i8 = -128;

impl Ranges<'_> {
    fn range(&mut self, bytes: u32, line: Option<i32>) -> Option<Range> {
        self.end = self.end.saturating_add(bytes);
        let line = line.and_then(|line| u32::try_from(line).ok());
        Some(Range {
            end: self.end,
            line,
        })
    }

    /// Pairs of (bytes since the last pair, `i8` lines since the last pair). A step that does not
    /// fit is several pairs, with 255 or 0 bytes and 127, -128 or 0 lines. The last line has no
    /// end.
    fn next_lnotab(&mut self) -> Option<Range> {
        let line = self.line;
        if let [bytes, delta, rest @ ..] = self.rest {
            self.rest = rest;
            self.line = line.wrapping_add(*delta as i8 as i32);
            return self.range(*bytes as u32, Some(line));
        }
        if self.end == u32::MAX {
            return None;
        }
        self.range(u32::MAX, Some(line))
    }

    /// Pairs of (bytes that the line covers, `i8` lines since the last pair). A pair may cover
    /// nothing.
    fn next_lines310(&mut self) -> Option<Range> {
        let [bytes, delta, rest @ ..] = self.rest else {
            return None;
        };
        self.rest = rest;
        let delta = *delta as i8;
        if delta == NO_LINE_310 {
            return self.range(*bytes as u32, None);
        }
        self.line = self.line.wrapping_add(delta as i32);
        self.range(*bytes as u32, Some(self.line))
    }

    /// Entries of one byte `0x80 | code << 3 | units - 1` and, by its code, more bytes without
    /// the high bit.
    fn next_location(&mut self) -> Option<Range> {
        while let [head, rest @ ..] = self.rest {
            self.rest = rest;
            if head & ENTRY == 0 {
                continue;
            }
            let code = (head & !ENTRY) >> 3;
            let delta = match code {
                ONE_LINE0..=ONE_LINE2 => (code - ONE_LINE0) as i32,
                NO_COLUMNS | LONG => signed_varint(rest),
                _ => 0,
            };
            self.line = self.line.wrapping_add(delta);
            let bytes = ((head & 7) as u32 + 1) * UNIT;
            return self.range(bytes, (code != NONE).then_some(self.line));
        }
        None
    }
}

/// Set in the first byte of an entry, and in no other byte.
const ENTRY: u8 = 0x80;
/// Bytes in an instruction unit (`_Py_CODEUNIT`), which entries count in.
const UNIT: u32 = 2;
/// Entry codes (`_PyCodeLocationInfoKind`, `Include/cpython/code.h` or
/// `Include/internal/pycore_code.h`). Those below `ONE_LINE0` have columns only.
const ONE_LINE0: u8 = 10;
const ONE_LINE2: u8 = 12;
const NO_COLUMNS: u8 = 13;
const LONG: u8 = 14;
const NONE: u8 = 15;

/// The varint at the start of `bytes`: 6 bits a byte, low bits first, 0x40 where more follow. Its
/// lowest bit is the sign, the rest the magnitude.
fn signed_varint(bytes: &[u8]) -> i32 {
    let mut value = 0u32;
    let mut shift = 0;
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        if byte & ENTRY != 0 || shift >= u32::BITS {
            break;
        }
        value |= ((byte & 0x3f) as u32) << shift;
        if byte & 0x40 == 0 {
            break;
        }
        shift += 6;
        rest = tail;
    }
    let magnitude = (value >> 1) as i32;
    if value & 1 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::LineTable::{Lines310, Lnotab, Locations};
    use super::{LineTable, signed_varint};
    use proptest::prelude::*;
    use std::vec::Vec;

    const ALL: [LineTable; 3] = [Lnotab, Lines310, Locations];

    #[test]
    fn formats_by_version() {
        let formats: Vec<_> = (0..=u8::MAX)
            .filter(|m| LineTable::of_minor(*m).is_some())
            .collect();
        assert_eq!(formats, (8..=15).collect::<Vec<_>>());
        assert_eq!(LineTable::of_minor(9), Some(Lnotab));
        assert_eq!(LineTable::of_minor(10), Some(Lines310));
        assert_eq!(LineTable::of_minor(11), Some(Locations));
    }

    /// However short a beginning is, it tells no other line than the whole.
    #[test]
    fn a_beginning_does_not_lie() {
        let lnotab: &[u8] = &[0, 1, 6, 1, 44, 5, 255, 0, 45, 127, 0, 73, 11, 1];
        let lines: &[u8] = &[2, 1, 8, 1, 255, 0, 20, 127, 4, 128, 6, 200];
        // Long entries, without columns, and short ones.
        let locations: &[u8] = &[
            0xf0, 0x42, 0x01, 0x01, 0x03, 0x80, 0x05, 0xea, 0x7f, 0x04, 0xd9, 0x01, 0x02, 0xfa,
            0x08,
        ];
        for (format, table) in [(Lnotab, lnotab), (Lines310, lines), (Locations, locations)] {
            let mut told = 0;
            for len in 0..=table.len() {
                for lasti in -1..400 {
                    let found = format.line_at_beginning(&table[..len], 9, lasti);
                    let whole = format.line_at(table, 9, lasti);
                    assert!(
                        found.is_none() || found == whole,
                        "{format:?} {len} {lasti}"
                    );
                    told += u32::from(lasti >= 0 && found.is_some());
                }
            }
            assert!(told > 0, "{format:?}");
        }
    }

    /// The example of `Objects/lnotab_notes.txt` of 3.9: offsets 0, 6, 50, 350, 361 are at lines
    /// 1, 2, 7, 207, 208.
    #[test]
    fn lnotab_of_the_notes() {
        let table = [0, 1, 6, 1, 44, 5, 255, 0, 45, 127, 0, 73, 11, 1];
        for (lasti, line) in [
            (-1, 0),
            (0, 1),
            (5, 1),
            (6, 2),
            (49, 2),
            (50, 7),
            (305, 7),
            (349, 7),
            (350, 207),
            (360, 207),
            (361, 208),
            (i32::MAX, 208),
        ] {
            assert_eq!(Lnotab.line_at(&table, 0, lasti), Some(line), "at {lasti}");
        }
    }

    #[test]
    fn lnotab_goes_back() {
        let table = [2, 0x80, 0, 0xff, 4, 3, 9];
        for (lasti, line) in [(0, 200), (2, 71), (4, 71), (6, 74), (100, 74)] {
            assert_eq!(Lnotab.line_at(&table, 200, lasti), Some(line), "at {lasti}");
        }
    }

    #[test]
    fn lines310_ranges() {
        let table = [
            6, 1, 44, 1, 254, 5, 46, 0, 10, 127, 0, 73, 2, 0x80, 4, 1, 0, 0xff, 8, 0,
        ];
        for (lasti, line) in [
            (-1, Some(10)),
            (0, Some(11)),
            (4, Some(11)),
            (6, Some(12)),
            (48, Some(12)),
            (50, Some(17)),
            (348, Some(17)),
            (350, Some(144)),
            (358, Some(144)),
            // After a pair that covers nothing: no line, and the next goes on from there.
            (360, None),
            (362, Some(218)),
            (366, Some(217)),
            (372, Some(217)),
            (374, None),
            (i32::MAX, None),
        ] {
            assert_eq!(Lines310.line_at(&table, 10, lasti), line, "at {lasti}");
        }
    }

    #[test]
    fn every_location_code() {
        let table = [
            0x80, 0x21, // Short form 0: one unit.
            0xd1, 0x02, 0x03, // One line, delta 0: two units.
            0xd8, 0x02, 0x03, // Delta 1.
            0xe0, 0x02, 0x03, // Delta 2.
            0xe8, 0x0b, // No columns, delta -5.
            0xf0, 0x50, 0x02, 0x00, 0x01, 0x02, // Long, delta 72.
            0xff, // None: eight units.
            0xcf, 0x7f, // Short form 9: eight units.
        ];
        for (lasti, line) in [
            (-1, Some(100)),
            (0, Some(100)),
            (1, Some(100)),
            (2, Some(100)),
            (5, Some(100)),
            (6, Some(101)),
            (8, Some(103)),
            (10, Some(98)),
            (12, Some(170)),
            (14, None),
            (29, None),
            (30, Some(170)),
            (45, Some(170)),
            (46, None),
            (i32::MAX, None),
        ] {
            assert_eq!(Locations.line_at(&table, 100, lasti), line, "at {lasti}");
        }
    }

    /// From 3.11 on a module begins at line 1, its `RESUME` is at line 0.
    #[test]
    fn line_zero_is_a_line() {
        assert_eq!(
            Locations.line_at(&[0xf0, 0x03, 0x01, 0x01, 0x01], 1, 0),
            Some(0)
        );
    }

    #[test]
    fn varints() {
        for (bytes, value) in [
            (&[][..], 0),
            (&[0x02], 1),
            (&[0x03], -1),
            (&[0x01], 0),
            (&[0x7e, 0x01], 63),
            (&[0x7f, 0x01], -63),
            (&[0x40, 0x40, 0x40, 0x40, 0x40, 0x02], 1 << 30),
            (&[0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x03], -i32::MAX),
            // Longer than an `int`, cut short, or with the next entry in it.
            (&[0x42, 0x40, 0x40, 0x40, 0x40, 0x40, 0x01], 1),
            (&[0x42], 1),
            (&[0x42, 0x81], 1),
        ] {
            assert_eq!(signed_varint(bytes), value, "{bytes:x?}");
        }
    }

    #[test]
    fn lines_below_zero_are_none() {
        assert_eq!(Lnotab.line_at(&[0, 0xff], 0, 0), None);
        assert_eq!(Lines310.line_at(&[2, 0xff], 0, 0), None);
        assert_eq!(Locations.line_at(&[0xe8, 0x03], 0, 0), None);
        for table in ALL {
            assert_eq!(table.line_at(&[], -1, -1), None);
            assert_eq!(table.line_at(&[0, 1], i32::MAX, -1), Some(i32::MAX as u32));
        }
        assert_eq!(Lnotab.line_at(&[0, 1], i32::MAX, 0), None);
    }

    #[test]
    fn empty_tables() {
        assert_eq!(Lnotab.line_at(&[], 7, 0), Some(7));
        assert_eq!(Lines310.line_at(&[], 7, 0), None);
        assert_eq!(Locations.line_at(&[], 7, 0), None);
    }

    /// Writes a table as the compiler does: `runs` are (bytes of bytecode, line delta or none).
    fn encode(format: LineTable, runs: &[(u32, Option<i32>)]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut gap = 0;
        for &(bytes, delta) in runs {
            match format {
                Lnotab => {
                    encode_lnotab(&mut out, gap, delta.unwrap_or(0));
                    gap = bytes;
                }
                Lines310 => encode_lines310(&mut out, bytes, delta),
                Locations => encode_locations(&mut out, bytes, delta),
            }
        }
        out
    }

    fn encode_lnotab(out: &mut Vec<u8>, mut gap: u32, mut delta: i32) {
        while gap > 255 {
            out.extend([255, 0]);
            gap -= 255;
        }
        while gap > 0 || delta != 0 {
            let part = delta.clamp(-128, 127);
            out.extend([gap as u8, part as i8 as u8]);
            gap = 0;
            delta -= part;
        }
    }

    fn encode_lines310(out: &mut Vec<u8>, mut bytes: u32, delta: Option<i32>) {
        let mut left = delta.unwrap_or(0);
        while left.abs() > 127 {
            let part = left.clamp(-127, 127);
            out.extend([0, part as i8 as u8]);
            left -= part;
        }
        while bytes > 0 {
            let part = bytes.min(254);
            out.extend([
                part as u8,
                if delta.is_some() {
                    left as i8 as u8
                } else {
                    0x80
                },
            ]);
            left = 0;
            bytes -= part;
        }
    }

    fn encode_locations(out: &mut Vec<u8>, bytes: u32, delta: Option<i32>) {
        let mut units = bytes / 2;
        let mut left = delta.unwrap_or(0);
        while units > 0 {
            let part = units.min(8);
            let code = match left {
                _ if delta.is_none() => 15,
                0 => units as u8 % 11,
                1 | 2 if units.is_multiple_of(2) => 10 + left as u8,
                _ => 13 + units as u8 % 2,
            };
            out.push(0x80 | code << 3 | (part as u8 - 1));
            if code == 13 || code == 14 {
                let mut value = left.unsigned_abs() << 1 | (left < 0) as u32;
                while value >= 64 {
                    out.push(0x40 | (value & 63) as u8);
                    value >>= 6;
                }
                out.push(value as u8);
            }
            let columns = match code {
                0..=9 => 1,
                10..=12 => 2,
                14 => 3,
                _ => 0,
            };
            out.extend(core::iter::repeat_n(0x3f, columns));
            left = 0;
            units -= part;
        }
    }

    fn runs() -> impl Strategy<Value = Vec<(u32, Option<i32>)>> {
        let delta = prop_oneof![
            Just(None),
            (-3..4).prop_map(Some),
            (-600..600).prop_map(Some)
        ];
        let units = prop_oneof![1..10u32, 1..300u32];
        proptest::collection::vec((units.prop_map(|n| n * 2), delta), 1..20)
    }

    proptest! {
        #[test]
        fn what_was_encoded(runs in runs()) {
            const FIRST: i32 = 100_000;
            for format in ALL {
                let table = encode(format, &runs);
                let mut line = FIRST;
                let mut lasti = 0;
                for (bytes, delta) in &runs {
                    line += delta.unwrap_or(0);
                    let none = delta.is_none() && format != Lnotab;
                    let expected = (!none).then_some(line as u32);
                    for _ in 0..*bytes {
                        prop_assert_eq!(format.line_at(&table, FIRST, lasti), expected);
                        lasti += 1;
                    }
                }
                let past = (format == Lnotab).then_some(line as u32);
                prop_assert_eq!(format.line_at(&table, FIRST, lasti), past);
            }
        }

        #[test]
        fn no_bytes_panic(
            table in proptest::collection::vec(any::<u8>(), 0..64),
            first_line in any::<i32>(),
            lasti in prop_oneof![any::<i32>(), -4..600],
        ) {
            for format in ALL {
                let _ = format.line_at(&table, first_line, lasti);
            }
        }
    }
}
