//! Memory, rules, tables and registers that are anything.

use std::collections::BTreeMap;

use profiler_common::mem::{Fault, Memory};
use profiler_common::unwind::{
    ALL_REGISTERS, MAX_TOKENS, Mapping, PAGE_BYTES, REG_RBP, REG_RSP, REGISTERS, Registers, Rule,
    Segments, TABLE_PENDING, Token, Tokens, UnwindStatus,
};
use proptest::prelude::*;

use crate::support::memory::{Garbage, mix};
use crate::support::native::{
    MAPPINGS, ROWS, Unwinder, Unwound, Words, by, mappings_table, rows_table,
};

/// Where the code is, and where the stack: what holds these makes an unwind go on.
const TEXT: u64 = 0x5555_5555_0000;
const STACK: u64 = 0x7ffc_0000_0000;

/// Something that may be followed: more likely than not an address of the code or of the stack.
fn address(random: u64) -> u64 {
    let low = random >> 8;
    match random % 16 {
        0..=5 => TEXT + low % (2 * PAGE_BYTES),
        6..=12 => STACK + low % 0x1_0000,
        13 => 0,
        14 => u64::MAX - low % 0x400,
        _ => mix(low, random),
    }
}

/// A rule of small numbers, or of any.
fn rule(random: u64) -> Rule {
    let byte = |index: u64, most: u64| (mix(random, index) % most) as u8;
    let wild = random.is_multiple_of(13);
    let most = if wild { 256 } else { 1 };
    let offset = |index: u64, most: u64| {
        let random = mix(random, index);
        if wild { random } else { random % most }
    };
    Rule {
        cfa: byte(1, most.max(6)),
        reg: byte(2, most.max(if random & 1 == 0 { 8 } else { 16 })),
        index: byte(3, most.max(16)),
        rbp: byte(4, most.max(4)),
        ra: u8::from(byte(5, 16) == 0),
        pad: 0,
        ra_offset: (offset(6, 8) as i16).wrapping_mul(8).wrapping_sub(16),
        cfa_offset: offset(7, 64) as i32,
        cfa_second: offset(8, 32) as i16,
        rbp_offset: (offset(9, 16) as i16).wrapping_sub(16),
    }
}

/// All of it from one number.
struct Case {
    mem: Garbage,
    words: Words,
    mappings: u32,
    registers: Registers,
    segments: Segments,
}

impl Case {
    fn new(seed: u64) -> Self {
        let random = |index: u64| mix(seed, index);
        // Code that calls itself for ever: only that makes the longest stacks.
        let endless = random(18).is_multiple_of(8);
        let words = (0..1 + random(1) % 24).map(|index| {
            let random = random(100 + index);
            if endless {
                TEXT + random % PAGE_BYTES
            } else {
                address(random)
            }
        });
        let mem = Garbage {
            seed,
            words: if random(2).is_multiple_of(8) {
                Vec::new()
            } else {
                words.collect()
            },
            holes: if random(3).is_multiple_of(4) { 20 } else { 0 },
            fixed: BTreeMap::new(),
            reads: 0.into(),
        };
        let mut tables = Words {
            rules: (0..9)
                .map(|index| {
                    if endless && random(19 + index).is_multiple_of(16) {
                        Rule::NONE
                    } else if endless {
                        by(REG_RSP, 8 + (random(200 + index) % 400) as i32)
                    } else {
                        rule(random(200 + index))
                    }
                })
                .collect(),
            ..Words::default()
        };
        let rows: Vec<_> = (0..40)
            .map(|index| (index * 0x800, (random(300 + index) % 9) as u16))
            .collect();
        tables.tables.insert(ROWS, rows_table(&rows));
        let pending = random(4).is_multiple_of(16);
        let mappings = [
            Mapping {
                start: TEXT,
                end: TEXT + PAGE_BYTES,
                bias: TEXT,
                table: ROWS,
            },
            Mapping {
                start: TEXT + PAGE_BYTES,
                end: TEXT + 2 * PAGE_BYTES,
                bias: 0,
                table: if pending { TABLE_PENDING } else { 0 },
            },
        ];
        tables.tables.insert(MAPPINGS, mappings_table(&mappings));
        if random(5).is_multiple_of(8) {
            // Words that are no table, and words that are missing.
            for (number, most) in [(ROWS, 60), (MAPPINGS, 16)] {
                let table = tables.tables.get_mut(&number).unwrap();
                for index in 0..most {
                    let at = random(400 + index) as usize % table.len();
                    if random(450 + index).is_multiple_of(10) {
                        table[at] = random(500 + index) as u32 >> (index % 32);
                    }
                }
                table.truncate(1 + random(6) as usize % (2 * table.len()));
            }
        }
        let mut registers = Registers {
            general: [0; REGISTERS],
            pc: TEXT + random(7) % PAGE_BYTES,
            known: ALL_REGISTERS,
            exact: 1,
        };
        for (number, place) in registers.general.iter_mut().enumerate() {
            *place = address(random(600 + number as u64));
        }
        registers.general[7] = STACK + random(8) % 0x1000;
        if random(9).is_multiple_of(16) {
            registers.pc = address(random(10));
            registers.known = random(11) as u32;
            registers.exact = random(12) as u32;
            registers.general[7] = random(13);
        }
        let mut segments = Segments::EMPTY;
        let mut at = registers.general[7];
        for index in 0..random(14) % 600 {
            at = at.wrapping_add(random(700 + index) % 0x400);
            segments.push(at, random(1400 + index) as u32 % 1100);
        }
        segments.shift(random(15) as i32 % 3);
        Self {
            mem,
            words: tables,
            mappings: if random(16).is_multiple_of(8) {
                random(17) as u32
            } else {
                2
            },
            registers,
            segments,
        }
    }

    fn unwind(&self, unwinder: &mut Unwinder) -> Unwound {
        let mut segments = self.segments;
        self.mem.reads.set(0);
        let table = (MAPPINGS, self.mappings);
        let unwound = unwinder.run(
            &self.mem,
            &self.words,
            table,
            1,
            &self.registers,
            &mut segments,
        );
        assert!(segments.next <= segments.count);
        unwound
    }
}

/// Reads of one frame at most: where it ends, the return address and the frame pointer, each of
/// which may be tried with a block first; or the registers of a signal's frame.
const READS_OF_FRAME: u32 = 6;

fn check(seed: u64) -> Unwound {
    let case = Case::new(seed);
    let mut unwinder = Unwinder::new();
    let unwound = case.unwind(&mut unwinder);
    assert!(unwound.tokens.len() <= MAX_TOKENS);
    assert_ne!(unwound.status, UnwindStatus::Running);
    assert_ne!(unwound.status, UnwindStatus::Internal);
    let frames = unwound.tokens.len() as u32 + 1;
    assert!(unwound.by_frame_pointer + unwound.skipped <= frames);
    assert!(case.mem.reads.get() <= READS_OF_FRAME * frames);
    // Nothing of it depends on what was unwound before but what was learned.
    unwinder.state.anchor.known = 0;
    assert_eq!(case.unwind(&mut unwinder), unwound);
    unwound
}

const CASES: u32 = if cfg!(miri) { 20 } else { 5000 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn nothing_hangs_or_panics(seed in any::<u64>()) {
        check(seed);
    }
}

/// The garbage above is only worth something when it gets everywhere.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn garbage_reaches_every_end() {
    let mut ends: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut skipped, mut by_frame_pointer, mut longest) = (0, 0, 0);
    for seed in 0..20_000 {
        let unwound = check(mix(seed, 1));
        *ends.entry(unwound.status as u32).or_default() += 1;
        skipped += unwound.skipped;
        by_frame_pointer += unwound.by_frame_pointer;
        longest = longest.max(unwound.tokens.len());
    }
    let missing: Vec<_> = UnwindStatus::ALL
        .into_iter()
        .filter(|status| {
            !matches!(
                status,
                // The driver's, before it unwinds.
                UnwindStatus::Running | UnwindStatus::NoRegisters | UnwindStatus::Internal
            )
        })
        .filter(|status| !ends.contains_key(&(*status as u32)))
        .collect();
    assert!(missing.is_empty(), "never {missing:?}: {ends:?}");
    assert_eq!(longest, MAX_TOKENS);
    assert!(skipped > 0 && by_frame_pointer > 0);
}

/// Tokens that were never written are not shown.
#[test]
fn what_is_left_of_other_stacks_is_not_seen() {
    struct Nothing;
    impl Memory for Nothing {
        fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Fault> {
            Err(Fault)
        }
    }
    let mut unwinder = Unwinder::new();
    let left: Tokens = [Token::code(0x1234, false); MAX_TOKENS];
    *unwinder.tokens = left;
    let mut segments = Segments::EMPTY;
    let words = Words::default();
    let outermost = Registers {
        known: 1 << REG_RBP,
        ..Registers::NONE
    };
    for (registers, end) in [
        (Registers::NONE, UnwindStatus::NoMapping),
        (outermost, UnwindStatus::Complete),
    ] {
        let unwound = unwinder.run(&Nothing, &words, (0, 0), 1, &registers, &mut segments);
        assert_eq!(unwound.status, end);
        assert!(unwound.tokens.is_empty());
    }
}
