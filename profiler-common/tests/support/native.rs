//! Native code without a single instruction: rules, mappings and a C stack.

use std::collections::BTreeMap;

use profiler_common::mem::Memory;
use profiler_common::unwind::{
    self, ALL_REGISTERS, CfaKind, HEADER_WORDS, MAX_TOKENS, Mapping, PAGE_BYTES, REG_RBP, REG_RSP,
    REGISTERS, RaKind, RbpKind, Registers, Rule, Segments, StackBlock, Tables, Token, TokenKind,
    Tokens, Unwind, UnwindStatus, row,
};

use super::memory::{Space, mix};

/// Tables in vectors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    pub(crate) tables: BTreeMap<u32, Vec<u32>>,
    pub(crate) rules: Vec<Rule>,
}

impl Tables for Words {
    fn word(&self, table: u32, index: u32) -> Option<u32> {
        self.tables.get(&table)?.get(index as usize).copied()
    }

    fn rule(&self, number: u16) -> Option<Rule> {
        self.rules.get(usize::from(number)).copied()
    }
}

/// A table of rows, as the format is documented: rows by address, each of which holds until the
/// next one. What is behind the last is on no page of the table, or has its rule.
pub(crate) fn rows_table(rows: &[(u64, u16)]) -> Vec<u32> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return vec![0, 0, 1];
    };
    let pages = first.0 / PAGE_BYTES..=last.0 / PAGE_BYTES;
    let count = (pages.end() - pages.start() + 1) as u32;
    let mut index = Vec::new();
    let mut words = Vec::new();
    let mut holds = 0;
    for page in pages.clone() {
        index.push(count + 1 + words.len() as u32);
        let in_page = |address: u64| address / PAGE_BYTES == page;
        let own: Vec<_> = rows.iter().filter(|(at, _)| in_page(*at)).collect();
        let begins = own.first().is_some_and(|(at, _)| at % PAGE_BYTES == 0);
        if !begins && (holds != 0 || !own.is_empty()) {
            words.push(row(0, holds));
        }
        for (address, rule) in own {
            words.push(row(*address as u16, *rule));
            holds = *rule;
        }
    }
    index.push(count + 1 + words.len() as u32);
    assert_eq!(HEADER_WORDS, 2);
    [&[*pages.start() as u32, count], &index[..], &words].concat()
}

/// A table of mappings.
pub(crate) fn mappings_table(mappings: &[Mapping]) -> Vec<u32> {
    mappings.iter().flat_map(Mapping::words).collect()
}

/// `reg + offset`; the caller's `rbp` is still there.
pub(crate) const fn by(reg: u8, offset: i32) -> Rule {
    Rule {
        cfa: CfaKind::Register as u8,
        reg,
        index: 0,
        rbp: RbpKind::Same as u8,
        ra: RaKind::AtCfa as u8,
        pad: 0,
        ra_offset: -8,
        cfa_offset: offset,
        cfa_second: 0,
        rbp_offset: 0,
    }
}

/// The same, and the caller's `rbp` was pushed first.
pub(crate) const fn pushed(reg: u8, offset: i32) -> Rule {
    Rule {
        rbp: RbpKind::AtCfa as u8,
        rbp_offset: -16,
        ..by(reg, offset)
    }
}

/// What has a frame pointer.
pub(crate) const FRAMED: Rule = pushed(REG_RBP, 16);

/// Bytes of each function.
pub(crate) const FUNCTION: u64 = 0x40;
/// Where a call in a function returns to.
pub(crate) const CALL: u64 = 0x15;
/// The code, in the file and in memory.
const IN_FILE: u64 = 0x1000;
const TEXT: u64 = 0x5555_5555_6000;
/// Tables of mappings and of rows.
pub(crate) const MAPPINGS: u32 = 1;
pub(crate) const ROWS: u32 = 2;

/// A program.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) words: Words,
    /// Address and end, number of its table.
    pub(crate) mappings: Vec<Mapping>,
    rows: Vec<(u64, u16)>,
    functions: u64,
    pub(crate) generation: u32,
}

impl Program {
    pub(crate) fn new() -> Self {
        let words = Words {
            tables: BTreeMap::new(),
            rules: vec![Rule::NONE],
        };
        Self {
            words,
            mappings: vec![Mapping {
                start: TEXT,
                end: TEXT + 0x10_0000,
                bias: TEXT - IN_FILE,
                table: ROWS,
            }],
            rows: Vec::new(),
            functions: 0,
            generation: 1,
        }
    }

    fn number(&mut self, rule: &Rule) -> u16 {
        let known = self.words.rules.iter().position(|known| known == rule);
        let number = known.unwrap_or_else(|| {
            self.words.rules.push(*rule);
            self.words.rules.len() - 1
        });
        number as u16
    }

    /// Another function, with one rule. Returns its address.
    pub(crate) fn function(&mut self, rule: Rule) -> u64 {
        self.function_of(&[(0, rule)])
    }

    /// Another function, with rules from offsets on.
    pub(crate) fn function_of(&mut self, rules: &[(u64, Rule)]) -> u64 {
        let start = self.functions * FUNCTION;
        for (offset, rule) in rules {
            let number = self.number(rule);
            self.rows.push((IN_FILE + start + offset, number));
        }
        self.functions += 1;
        TEXT + start
    }

    /// Unwinds from `registers`.
    pub(crate) fn unwind<M: Memory>(&self, mem: &M, registers: &Registers) -> Unwound {
        let mut segments = Segments::EMPTY;
        self.unwind_with(mem, registers, &mut Unwinder::new(), &mut segments)
    }

    /// The same, with what earlier unwinds learned, and with the places of Python frames.
    pub(crate) fn unwind_with<M: Memory>(
        &self,
        mem: &M,
        registers: &Registers,
        unwinder: &mut Unwinder,
        segments: &mut Segments,
    ) -> Unwound {
        let mut words = self.words.clone();
        let mut rows = self.rows.clone();
        rows.push((IN_FILE + self.functions * FUNCTION, 0));
        words
            .tables
            .insert(MAPPINGS, mappings_table(&self.mappings));
        words.tables.insert(ROWS, rows_table(&rows));
        let count = self.mappings.len() as u32;
        let table = (MAPPINGS, count);
        unwinder.run(mem, &words, table, self.generation, registers, segments)
    }
}

/// What stays from unwind to unwind.
pub(crate) struct Unwinder {
    pub(crate) state: Unwind,
    block: StackBlock,
    pub(crate) tokens: Box<Tokens>,
}

impl Unwinder {
    pub(crate) fn new() -> Self {
        Self {
            state: Unwind::NEW,
            block: StackBlock::EMPTY,
            tokens: Box::new([Token::default(); MAX_TOKENS]),
        }
    }

    pub(crate) fn run<M: Memory, T: Tables>(
        &mut self,
        mem: &M,
        tables: &T,
        table: (u32, u32),
        generation: u32,
        registers: &Registers,
        segments: &mut Segments,
    ) -> Unwound {
        unwind::begin(&mut self.state, &mut self.block, generation);
        self.go_on(mem, tables, table, registers, segments)
    }

    /// Unwinds behind tokens that are there already.
    pub(crate) fn go_on<M: Memory, T: Tables>(
        &mut self,
        mem: &M,
        tables: &T,
        table: (u32, u32),
        registers: &Registers,
        segments: &mut Segments,
    ) -> Unwound {
        let (state, block) = (&mut self.state, &mut self.block);
        state.registers = *registers;
        unwind::run(mem, tables, table, state, block, segments, &mut self.tokens);
        assert!(state.count as usize <= MAX_TOKENS);
        let tokens = &self.tokens[..state.count as usize];
        Unwound {
            status: UnwindStatus::from_u8(state.status as u8),
            tokens: tokens.iter().map(|token| token.kind().unwrap()).collect(),
            by_frame_pointer: state.by_frame_pointer,
            skipped: state.skipped,
            hash: state.hash,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unwound {
    pub(crate) status: UnwindStatus,
    pub(crate) tokens: Vec<TokenKind>,
    pub(crate) by_frame_pointer: u32,
    pub(crate) skipped: u32,
    pub(crate) hash: u64,
}

/// What an interrupted thread has in its registers: in those that no test sets, an address where
/// nothing is.
pub(crate) fn interrupted(pc: u64, sp: u64) -> Registers {
    let mut registers = Registers::NONE;
    for number in 0..REGISTERS {
        registers.general[number] = 0x6000_0000_0000 | (mix(7, number as u64) & 0xffff_ffff);
    }
    registers.general[usize::from(REG_RSP)] = sp;
    registers.pc = pc;
    registers.known = ALL_REGISTERS;
    registers.exact = 1;
    registers
}

/// The same with one register more.
pub(crate) fn with(registers: Registers, number: u8, value: u64) -> Registers {
    let mut registers = registers;
    registers.general[usize::from(number)] = value;
    registers
}

/// A leaf, which a function with a frame pointer called, which the outermost function called.
///
/// The leaf's frame is the lowest of the stack. It is for the test to say where it ends, and where
/// the caller's frame pointer is: a wrong one would not find the outermost function.
pub(crate) struct Scene {
    pub(crate) program: Program,
    pub(crate) space: Space,
    /// The stack pointer in the leaf.
    pub(crate) sp: u64,
    /// What the stack pointer is in the caller.
    pub(crate) cfa: u64,
    /// What the frame pointer is in the caller.
    pub(crate) rbp: u64,
    /// Where the leaf returns to.
    pub(crate) caller: u64,
    /// Where the caller returns to.
    pub(crate) root: u64,
}

/// Bytes of stack below the leaf's, which are there as well.
pub(crate) const BELOW: u64 = 0x100;

impl Scene {
    /// With so many bytes in the leaf's frame.
    pub(crate) fn new(leaf: u64) -> Self {
        let mut program = Program::new();
        let caller = program.function(FRAMED) + CALL;
        let root = program.function(Rule::END) + CALL;
        let mut space = Space::default();
        let sp = space.alloc((BELOW + leaf + 0x80) as usize) + BELOW;
        let cfa = sp + leaf;
        let rbp = cfa + 0x50;
        space.put_u64(cfa - 8, caller);
        space.put_u64(rbp + 8, root);
        Self {
            program,
            space,
            sp,
            cfa,
            rbp,
            caller,
            root,
        }
    }

    /// The tokens of the whole stack.
    pub(crate) fn whole(&self, leaf: u64) -> Vec<TokenKind> {
        vec![
            TokenKind::Exact(leaf),
            TokenKind::Return(self.caller),
            TokenKind::Return(self.root),
        ]
    }

    pub(crate) fn unwind(&self, registers: &Registers) -> Unwound {
        self.program.unwind(&self.space, registers)
    }

    /// The stack must come out whole.
    pub(crate) fn check(&self, what: &str, registers: &Registers) {
        let unwound = self.unwind(registers);
        assert_eq!(unwound.status, UnwindStatus::Complete, "{what}");
        assert_eq!(unwound.tokens, self.whole(registers.pc), "{what}");
        assert_eq!(unwound.by_frame_pointer, 0, "{what}");
        assert_eq!(unwound.skipped, 0, "{what}");
    }

    /// The unwind must end like this, with so many tokens.
    pub(crate) fn ends(&self, what: &str, registers: &Registers, end: UnwindStatus, count: usize) {
        let unwound = self.unwind(registers);
        assert_eq!(unwound.status, end, "{what}");
        assert_eq!(unwound.tokens, self.whole(registers.pc)[..count], "{what}");
    }
}
