//! One frame: find where it ends, note what it is, and go to its caller.

use super::lookup::{Found, find};
use super::registers::{Registers, SIGCONTEXT_BYTES};
use super::rule::{CfaKind, REG_RBP, REG_RSP, RaKind, RbpKind, Rule};
use super::segments::Segments;
use super::stack::StackBlock;
use super::table::Tables;
use super::token::Token;
use crate::counter::Counter;
use crate::hash;
use crate::mem::{Fault, Memory};

/// Tokens of a native stack at most.
pub const MAX_TOKENS: usize = 3072;
/// Segments that one frame can hold: one, and a second where the loop was inlined into itself.
const SEGMENTS_OF_FRAME: u32 = 2;
/// A frame of more bytes than this is read near its end.
const NEAR: u64 = 960;
/// What is read below the end of such a frame: the saved registers.
const SAVED: u64 = 64;

/// How an unwind ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum UnwindStatus {
    /// Not yet.
    Running = 0,
    /// At the entry point of the thread or process.
    Complete = 1,
    /// The mappings of the process are not known (yet).
    NotReady = 2,
    /// The thread has no registers of 64-bit user code.
    NoRegisters = 3,
    /// At [`MAX_TOKENS`]; the root side is missing.
    Truncated = 4,
    /// A return address lies in no executable mapping that is known.
    NoMapping = 5,
    /// No rule covers the code, and frame pointers lead nowhere.
    NoRule = 6,
    /// The stack could not be read.
    StackUnreadable = 7,
    /// The caller's frame would not lie above.
    NotAdvancing = 8,
    /// A defect of ours: no scratch.
    Internal = 9,
}

impl UnwindStatus {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Running,
        Self::Complete,
        Self::NotReady,
        Self::NoRegisters,
        Self::Truncated,
        Self::NoMapping,
        Self::NoRule,
        Self::StackUnreadable,
        Self::NotAdvancing,
        Self::Internal,
    ];

    /// What counts such an end; `None` for the good one.
    #[inline(always)]
    #[must_use]
    pub fn counter(self) -> Option<Counter> {
        match self {
            Self::Complete => None,
            Self::NotReady => Some(Counter::UnwindNotReady),
            Self::NoRegisters => Some(Counter::UnwindNoRegisters),
            Self::Truncated => Some(Counter::UnwindTruncated),
            Self::NoMapping => Some(Counter::UnwindNoMapping),
            Self::NoRule => Some(Counter::UnwindNoRule),
            Self::StackUnreadable => Some(Counter::UnwindStackUnreadable),
            Self::NotAdvancing => Some(Counter::UnwindNotAdvancing),
            Self::Running | Self::Internal => Some(Counter::Internal),
        }
    }

    /// From the wire; what is not known is a defect of ours.
    #[must_use]
    pub fn from_u8(raw: u8) -> Self {
        Self::ALL
            .get(raw as usize)
            .copied()
            .unwrap_or(Self::Internal)
    }
}

/// Where an activation of the interpreter's loop ends, counted from what the walk finds of it: the
/// same for all of a build. With it the unwind gets past code that no rule covers, such as a JIT
/// compiler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Anchor {
    /// The state of the process's mappings that it was learned in.
    pub generation: u32,
    /// 1 when it is known.
    pub known: u32,
    /// From the address on the C frame to the CFA, in bytes.
    pub distance: u64,
    /// The loop's rule.
    pub rule: Rule,
}

/// Where an unwind stands.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Unwind {
    /// The registers of the frame at hand.
    pub registers: Registers,
    /// Content hash so far.
    pub hash: u64,
    /// Tokens stored.
    pub count: u32,
    /// An [`UnwindStatus`].
    pub status: u32,
    /// Frames that were passed by their frame pointers, for want of a rule.
    pub by_frame_pointer: u32,
    /// How often code without a rule was skipped, up to the next activation of the interpreter's
    /// loop.
    pub skipped: u32,
    /// What earlier unwinds learned.
    pub anchor: Anchor,
}

impl Unwind {
    /// One that has not begun.
    pub const NEW: Self = Self {
        registers: Registers::NONE,
        hash: 0,
        count: 0,
        status: UnwindStatus::Running as u32,
        by_frame_pointer: 0,
        skipped: 0,
        anchor: Anchor {
            generation: 0,
            known: 0,
            distance: 0,
            rule: Rule::NONE,
        },
    };
}

/// What the unwind passed, from the leaf on.
pub type Tokens = [Token; MAX_TOKENS];

/// Forgets the last unwind: another one begins, in a state of the process's mappings.
#[inline(always)]
pub fn begin(unwind: &mut Unwind, block: &mut StackBlock, generation: u32) {
    if unwind.anchor.generation != generation {
        unwind.anchor.generation = generation;
        unwind.anchor.known = 0;
    }
    unwind.hash = 0;
    unwind.count = 0;
    unwind.status = UnwindStatus::Running as u32;
    unwind.by_frame_pointer = 0;
    unwind.skipped = 0;
    block.forget();
}

/// Folds the tokens that others stored into the hash: those of the kernel.
#[inline(always)]
pub fn fold_tokens(unwind: &mut Unwind, tokens: &Tokens, most: u32) {
    for index in 0..most {
        if index >= unwind.count {
            break;
        }
        if let Some(token) = tokens.get(index as usize) {
            unwind.hash = hash::fold(unwind.hash, token.0);
        }
    }
}

#[inline(always)]
fn push(unwind: &mut Unwind, tokens: &mut Tokens, token: Token) -> Result<(), UnwindStatus> {
    // Loaded anew each time: of two pushes in a row the second address would come out of the first,
    // which kernels before 6.12 cannot follow.
    // SAFETY: a field of ours.
    let index = unsafe { core::ptr::read_volatile(&raw const unwind.count) };
    // For the verifier.
    if index > MAX_TOKENS as u32 - 1 {
        return Err(UnwindStatus::Truncated);
    }
    // SAFETY: just checked.
    unsafe { *tokens.as_mut_ptr().add(index as usize) = token };
    unwind.count = index + 1;
    unwind.hash = hash::fold(unwind.hash, token.0);
    Ok(())
}

/// Where the frame at hand ends, by its rule.
#[inline(always)]
fn cfa<M: Memory>(
    mem: &M,
    registers: &Registers,
    block: &mut StackBlock,
    rule: &Rule,
) -> Result<u64, UnwindStatus> {
    let base = registers.get(rule.reg).ok_or(UnwindStatus::NoRule)?;
    let mut at = base.wrapping_add(rule.cfa_offset as i64 as u64);
    if rule.cfa == CfaKind::Register as u8 {
        return Ok(at);
    }
    if rule.cfa == CfaKind::Plt as u8 {
        let pushed = (registers.pc & 15) >= rule.cfa_second as u64;
        return Ok(at.wrapping_add((pushed as u64) << 3));
    }
    if rule.cfa == CfaKind::DerefIndexed as u8 {
        let index = registers.get(rule.index).ok_or(UnwindStatus::NoRule)?;
        at = at.wrapping_add(index << 3);
    } else if rule.cfa != CfaKind::Deref as u8 {
        return Err(UnwindStatus::NoRule);
    }
    let found = block.word(mem, at, registers.sp());
    let found = found.map_err(|Fault| UnwindStatus::StackUnreadable)?;
    Ok(found.wrapping_add(rule.cfa_second as i64 as u64))
}

/// A frame of code that no rule covers: its caller's frame pointer and the return address lie
/// where its own frame pointer says (System V ABI for x86-64, 3.2.2).
const BY_FRAME_POINTER: Rule = Rule {
    cfa: CfaKind::Register as u8,
    reg: REG_RBP,
    index: 0,
    rbp: RbpKind::AtCfa as u8,
    ra: RaKind::AtCfa as u8,
    pad: 0,
    ra_offset: -8,
    cfa_offset: 16,
    cfa_second: 0,
    rbp_offset: -16,
};

/// Where the next activation of the interpreter's loop ends, if that is known; 0 if not.
#[inline(always)]
fn anchored_cfa(unwind: &Unwind, segments: &Segments, sp: u64) -> u64 {
    let (address, frames) = match segments.get(segments.next) {
        Some(next) => next,
        None => return 0,
    };
    // What runs no frames is no activation: from 3.15 on the oldest is a frame in the thread's own
    // state (`_PyThreadStateImpl.base_frame`), which may lie above all stacks.
    if unwind.anchor.known == 0 || address < sp || frames <= segments.placed {
        return 0;
    }
    address.wrapping_add(unwind.anchor.distance)
}

/// Goes from a signal's frame to the code that it interrupted.
#[inline(always)]
fn leave_signal<M: Memory>(
    mem: &M,
    registers: &mut Registers,
    block: &mut StackBlock,
    rule: &Rule,
) -> Result<(), UnwindStatus> {
    let at = registers.general[REG_RSP as usize].wrapping_add(rule.cfa_offset as i64 as u64);
    // The code may have run on another stack: nothing of the block is needed any more.
    let bytes = block.borrow::<SIGCONTEXT_BYTES, M>(mem, at);
    let bytes = bytes.map_err(|Fault| UnwindStatus::StackUnreadable)?;
    registers.set_from_sigcontext(bytes);
    Ok(())
}

/// Passes the frame at hand, whose code is `found`. Returns whether to go on; if not,
/// `unwind.status` says why.
#[inline(always)]
pub fn step<M: Memory>(
    mem: &M,
    rule: impl Fn(u16) -> Option<Rule>,
    found: Found,
    unwind: &mut Unwind,
    block: &mut StackBlock,
    segments: &mut Segments,
    tokens: &mut Tokens,
) -> bool {
    match pass(mem, rule, found, unwind, block, segments, tokens) {
        Ok(()) => true,
        Err(status) => {
            unwind.status = status as u32;
            false
        }
    }
}

#[inline(always)]
fn pass<M: Memory>(
    mem: &M,
    rule: impl Fn(u16) -> Option<Rule>,
    found: Found,
    unwind: &mut Unwind,
    block: &mut StackBlock,
    segments: &mut Segments,
    tokens: &mut Tokens,
) -> Result<(), UnwindStatus> {
    let pc = unwind.registers.pc;
    let exact = unwind.registers.exact != 0;
    // A thread that was started without call frame information has 0 behind its first frame, and no
    // frame pointer. A 0 alone may be anything.
    if pc == 0 && !exact {
        return Err(if unwind.registers.frame_pointer() == Some(0) {
            UnwindStatus::Complete
        } else {
            UnwindStatus::NoMapping
        });
    }
    let token = Token::code(pc, exact);
    let mut rule = match found {
        Found::Rule(number) => rule(number).unwrap_or(Rule::NONE),
        Found::NoMapping => {
            // An instruction that was interrupted is code, mapped or not.
            if exact {
                push(unwind, tokens, token)?;
            }
            return Err(UnwindStatus::NoMapping);
        }
        Found::Pending => {
            push(unwind, tokens, token)?;
            return Err(UnwindStatus::NotReady);
        }
    };
    if rule.cfa == CfaKind::Signal as u8 {
        push(unwind, tokens, token)?;
        return leave_signal(mem, &mut unwind.registers, block, &rule);
    }
    let sp = unwind.registers.sp();
    let has_rule = rule.cfa != CfaKind::None as u8;
    let mut anchored = 0;
    if !has_rule {
        anchored = anchored_cfa(unwind, segments, sp);
        if anchored != 0 {
            rule = unwind.anchor.rule;
        } else {
            rule = BY_FRAME_POINTER;
            // The outermost frame has none (System V ABI for x86-64, 3.4.1).
            if !exact && unwind.registers.frame_pointer() == Some(0) {
                push(unwind, tokens, token)?;
                return Err(UnwindStatus::Complete);
            }
        }
    }
    let end = if anchored != 0 {
        Ok(anchored)
    } else {
        cfa(mem, &unwind.registers, block, &rule)
    };
    let cfa = match end {
        Ok(cfa) if cfa > sp => cfa,
        other => {
            push(unwind, tokens, token)?;
            return Err(match other {
                Ok(_) => UnwindStatus::NotAdvancing,
                Err(status) => status,
            });
        }
    };
    if anchored != 0 {
        // It runs on top of the activation that it skips to.
        push(unwind, tokens, token)?;
        push(unwind, tokens, Token::SKIPPED)?;
    }
    // What an activation of the interpreter's loop runs stands on the leaf side of its C frame.
    for _ in 0..SEGMENTS_OF_FRAME {
        let address = segments.next_address();
        if let Some(frames) = segments.place(sp, cfa) {
            push(unwind, tokens, Token::python(frames))?;
            if has_rule {
                unwind.anchor.distance = cfa.wrapping_sub(address);
                unwind.anchor.rule = rule;
                unwind.anchor.known = 1;
            }
        }
    }
    if anchored == 0 {
        push(unwind, tokens, token)?;
    }
    if rule.ra == RaKind::End as u8 {
        return Err(UnwindStatus::Complete);
    }
    let around = if cfa.wrapping_sub(sp) > NEAR {
        cfa.wrapping_sub(SAVED)
    } else {
        sp
    };
    let unreadable = |Fault| UnwindStatus::StackUnreadable;
    let caller = cfa.wrapping_add(rule.ra_offset as i64 as u64);
    let caller = block.word(mem, caller, around).map_err(unreadable)?;
    let frame_pointer = unwind.registers.frame_pointer();
    let frame_pointer = if anchored != 0 && rule.rbp != RbpKind::AtCfa as u8 {
        // The rule is the loop's, the register that of the code that was skipped.
        None
    } else if rule.rbp == RbpKind::Same as u8 {
        frame_pointer
    } else if rule.rbp == RbpKind::AtCfa as u8 {
        let at = cfa.wrapping_add(rule.rbp_offset as i64 as u64);
        Some(block.word(mem, at, around).map_err(unreadable)?)
    } else if rule.rbp == RbpKind::AtRbp as u8 {
        match frame_pointer {
            Some(own) => {
                let at = own.wrapping_add(rule.rbp_offset as i64 as u64);
                Some(block.word(mem, at, around).map_err(unreadable)?)
            }
            None => None,
        }
    } else {
        None
    };
    unwind.registers.set_caller(caller, cfa, frame_pointer);
    if anchored != 0 {
        unwind.skipped += 1;
    } else if !has_rule {
        unwind.by_frame_pointer += 1;
    }
    Ok(())
}

/// A whole unwind in one call, for the host: through the mappings in `table`, `count` of them.
pub fn run<M: Memory, T: Tables>(
    mem: &M,
    tables: &T,
    (table, count): (u32, u32),
    unwind: &mut Unwind,
    block: &mut StackBlock,
    segments: &mut Segments,
    tokens: &mut Tokens,
) {
    loop {
        let pc = unwind.registers.lookup_pc();
        let found = find(tables, table, count, pc);
        let rule = |number| tables.rule(number);
        if !step(mem, rule, found, unwind, block, segments, tokens) {
            return;
        }
    }
}
