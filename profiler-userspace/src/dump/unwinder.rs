//! The unwind of a whole native stack, however deep, over any memory: the unwind's own steps
//! ([`profiler_common::unwind`]). What has a bound in the kernel, tokens and segments, is taken out and
//! filled up on the way.

use profiler_common::mem::Memory;
use profiler_common::unwind::{
    self, Found, MAX_SEGMENTS, MAX_TOKENS, Registers, Segments, StackBlock, Tables, Token, Tokens,
    Unwind, UnwindStatus, find,
};

/// Tokens that one step gives at most, with room to spare.
const MOST_OF_STEP: u32 = 8;
/// Tokens of a stack at most.
const MOST_TOKENS: usize = 1 << 20;
/// Frames that a segment can count.
const MOST_FRAMES: u32 = u16::MAX as u32;

/// What unwinds work with, one after the other.
#[derive(Debug)]
pub(super) struct Unwinder {
    state: Unwind,
    block: StackBlock,
    segments: Box<Segments>,
    tokens: Box<Tokens>,
}

impl Unwinder {
    pub(super) fn new() -> Self {
        Self {
            state: Unwind::NEW,
            block: StackBlock::EMPTY,
            segments: Box::new(Segments::EMPTY),
            tokens: Box::new([Token::default(); MAX_TOKENS]),
        }
    }

    /// Unwinds from `registers` on, through the mappings in `mappings`. `segments` are those of the walk
    /// of the same stack.
    pub(super) fn run<M: Memory, T: Tables>(
        &mut self,
        mem: &M,
        tables: &T,
        mappings: (u32, u32),
        generation: u32,
        registers: Registers,
        segments: &[(u64, u32)],
    ) -> (Vec<Token>, UnwindStatus) {
        unwind::begin(&mut self.state, &mut self.block, generation);
        self.state.registers = registers;
        self.segments.clear();
        let mut left = segments
            .iter()
            .take_while(|(_, frames)| *frames <= MOST_FRAMES);
        let mut found = Vec::new();
        loop {
            self.fill(&mut left);
            let pc = self.state.registers.lookup_pc();
            let what = find(tables, mappings.0, mappings.1, pc);
            let mut more = self.step(mem, tables, what);
            // The rule counts from a register that nobody knows. Where the next activation of the
            // interpreter's loop ends is known, as for code without a rule: what is in between is
            // skipped, and says so.
            let unknown = self.state.status == UnwindStatus::NoRule as u32
                && matches!(what, Found::Rule(rule) if rule != 0)
                && self.state.registers.frame_pointer().is_none();
            if !more && unknown && self.state.count > 0 {
                // It is put in again.
                self.state.count -= 1;
                self.state.status = UnwindStatus::Running as u32;
                more = self.step(mem, tables, Found::Rule(0));
            }
            if !more || self.state.count + MOST_OF_STEP > MAX_TOKENS as u32 {
                let count = std::mem::take(&mut self.state.count) as usize;
                found.extend(self.tokens.iter().take(count));
            }
            if !more {
                return (found, UnwindStatus::from_u8(self.state.status as u8));
            }
            if found.len() > MOST_TOKENS {
                return (found, UnwindStatus::Truncated);
            }
        }
    }

    fn step<M: Memory, T: Tables>(&mut self, mem: &M, tables: &T, found: Found) -> bool {
        unwind::step(
            mem,
            |number| tables.rule(number),
            found,
            &mut self.state,
            &mut self.block,
            &mut self.segments,
            &mut self.tokens,
        )
    }

    /// Puts more segments in where those that are there come to their end.
    fn fill<'a>(&mut self, left: &mut impl Iterator<Item = &'a (u64, u32)>) {
        let segments = &mut *self.segments;
        // One frame can hold two.
        if segments.count.saturating_sub(segments.next) > 2 {
            return;
        }
        let rest: Vec<_> = (segments.next..segments.count)
            .filter_map(|index| segments.get(index))
            .collect();
        let placed = segments.placed;
        segments.clear();
        segments.placed = placed;
        let room = MAX_SEGMENTS - rest.len();
        for (address, frames) in rest.into_iter().chain(left.take(room).copied()) {
            segments.push(address, frames);
        }
    }
}
