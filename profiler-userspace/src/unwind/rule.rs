//! A row of call frame information as a [`Rule`].

use gimli::{
    CfaRule, EndianSlice, LittleEndian, Register, RegisterRule, UnwindExpression, UnwindSection,
    UnwindTableRow,
};
use profiler_common::unwind::{CfaKind, REG_RBP, REG_RIP, REG_RSP, RaKind, RbpKind, Rule};

use super::expression::{Base, Value, evaluate};
use super::frames::Storage;

/// Where `rsp` is in a `struct sigcontext` (`arch/x86/include/uapi/asm/sigcontext.h`), bytes.
const SIGCONTEXT_RSP: i64 = 120;
/// Where `rip` is in it, bytes.
const SIGCONTEXT_RIP: i64 = 128;
/// Where `rbp` is in it, bytes.
const SIGCONTEXT_RBP: i64 = 80;
/// Where a handler's return finds it, counted from `rsp`: behind the `uc_flags`, `uc_link` and
/// `uc_stack` of a `struct ucontext` (`arch/x86/include/asm/sigframe.h`), bytes.
pub(super) const SIGCONTEXT: i32 = 40;

/// The rule of a signal frame whose `struct sigcontext` is at `rsp + offset`.
pub(super) const fn signal(offset: i32) -> Rule {
    Rule {
        cfa: CfaKind::Signal as u8,
        reg: REG_RSP,
        rbp: RbpKind::Same as u8,
        ra: RaKind::AtCfa as u8,
        cfa_offset: offset,
        ..Rule::NONE
    }
}

/// The rule of a row, `None` where no rule can say it. In the rows of a signal trampoline the
/// place of the saved registers says where all of them are.
pub(super) fn rule<'data, S>(
    row: &UnwindTableRow<usize, Storage>,
    section: &S,
    trampoline: bool,
) -> Option<Rule>
where
    S: UnwindSection<EndianSlice<'data, LittleEndian>>,
{
    let ra = row.register(Register(REG_RIP.into()));
    // Whoever was called by nobody needs no frame address.
    if ra == RegisterRule::Undefined {
        return Some(Rule::END);
    }
    let rbp = row.register(Register(REG_RBP.into()));
    let cfa = match *row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            Value::Sum(Base::Register(u8::try_from(register.0).ok()?), offset)
        }
        CfaRule::Expression(expression) => evaluate(expression.get(section).ok()?, None)?,
    };
    if trampoline && let Value::Load(Base::Register(REG_RSP), rsp, 0) = cfa {
        return saved_by_kernel(rsp, &ra, &rbp, section);
    }

    // The frame address is the caller's `rsp`, but where a function says otherwise: `longjmp`.
    if !matches!(
        row.register(Register(REG_RSP.into())),
        RegisterRule::Undefined | RegisterRule::ValOffset(0)
    ) {
        return None;
    }

    let mut rule = with_cfa(cfa)?;
    rule.ra = RaKind::AtCfa as u8;
    rule.ra_offset = match place(&ra, cfa, section)? {
        Place::At(Base::Cfa, offset) => i16::try_from(offset).ok()?,
        _ => return None,
    };
    let (kind, offset) = match place(&rbp, cfa, section) {
        Some(Place::Same) => (RbpKind::Same, 0),
        Some(Place::At(Base::Cfa, offset)) => (RbpKind::AtCfa, offset),
        Some(Place::At(Base::Register(REG_RBP), offset)) => (RbpKind::AtRbp, offset),
        _ => (RbpKind::Unknown, 0),
    };
    match i16::try_from(offset) {
        Ok(offset) => (rule.rbp, rule.rbp_offset) = (kind as u8, offset),
        Err(_) => rule.rbp = RbpKind::Unknown as u8,
    }
    Some(rule)
}

/// A rule with only its frame address.
fn with_cfa(cfa: Value) -> Option<Rule> {
    let general = |register: u8| (register < REG_RIP).then_some(register);
    let (kind, reg, index, offset, second) = match cfa {
        Value::Sum(Base::Register(reg), offset) => (CfaKind::Register, reg, 0, offset, 0),
        Value::Load(Base::Register(reg), offset, second) => {
            (CfaKind::Deref, reg, 0, offset, second)
        }
        Value::Load(Base::Indexed(reg, index), offset, second) => {
            (CfaKind::DerefIndexed, reg, index, offset, second)
        }
        Value::Plt(REG_RSP, offset, threshold) => (CfaKind::Plt, REG_RSP, 0, offset, threshold),
        _ => return None,
    };
    Some(Rule {
        cfa: kind as u8,
        reg: general(reg)?,
        index: general(index)?,
        cfa_offset: i32::try_from(offset).ok()?,
        cfa_second: i16::try_from(second).ok()?,
        ..Rule::NONE
    })
}

/// The rule of a signal trampoline whose saved `rsp` is at `rsp + saved`, when the others are
/// where the kernel puts them, too.
fn saved_by_kernel<'data, S>(
    saved: i64,
    ra: &RegisterRule<usize>,
    rbp: &RegisterRule<usize>,
    section: &S,
) -> Option<Rule>
where
    S: UnwindSection<EndianSlice<'data, LittleEndian>>,
{
    let context = saved.checked_sub(SIGCONTEXT_RSP)?;
    let is_at = |rule: &RegisterRule<usize>, offset: i64| match rule {
        RegisterRule::Expression(expression) => {
            value(expression, section)
                == Some(Value::Sum(
                    Base::Register(REG_RSP),
                    context.wrapping_add(offset),
                ))
        }
        _ => false,
    };
    (is_at(ra, SIGCONTEXT_RIP) && is_at(rbp, SIGCONTEXT_RBP))
        .then(|| i32::try_from(context).ok().map(signal))
        .flatten()
}

/// Where a register of the caller is.
enum Place {
    /// Still in the register.
    Same,
    /// In memory.
    At(Base, i64),
}

/// Where a register's rule says that it is. No rule means that the function leaves it alone: those
/// that are asked for are the callee's to preserve.
fn place<'data, S>(rule: &RegisterRule<usize>, cfa: Value, section: &S) -> Option<Place>
where
    S: UnwindSection<EndianSlice<'data, LittleEndian>>,
{
    let (base, offset) = match rule {
        RegisterRule::Undefined | RegisterRule::SameValue => return Some(Place::Same),
        RegisterRule::Register(Register(number)) if *number == u16::from(REG_RBP) => {
            return Some(Place::Same);
        }
        RegisterRule::Offset(offset) => (Base::Cfa, *offset),
        RegisterRule::Expression(expression) => match value(expression, section)? {
            Value::Sum(base, offset) => (base, offset),
            _ => return None,
        },
        RegisterRule::ValExpression(expression) => match value(expression, section)? {
            Value::Sum(Base::Register(REG_RBP), 0) => return Some(Place::Same),
            Value::Load(base, offset, 0) => (base, offset),
            _ => return None,
        },
        _ => return None,
    };
    Some(match cfa {
        Value::Sum(of_cfa, from) if of_cfa == base && base != Base::Register(REG_RBP) => {
            Place::At(Base::Cfa, offset.checked_sub(from)?)
        }
        _ => Place::At(base, offset),
    })
}

/// What a register's expression computes; it finds the frame address on its stack.
fn value<'data, S>(expression: &UnwindExpression<usize>, section: &S) -> Option<Value>
where
    S: UnwindSection<EndianSlice<'data, LittleEndian>>,
{
    evaluate(
        expression.get(section).ok()?,
        Some(Value::Sum(Base::Cfa, 0)),
    )
}
