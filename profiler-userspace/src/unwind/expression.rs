//! DWARF expressions, as far as a [`Rule`](profiler_common::unwind::Rule) can say what they do.
//!
//! An expression is evaluated with symbols for the registers and for what is in memory. What it
//! leaves is a value of one of a few forms, however it was computed; anything else is `None`.

use gimli::{EndianSlice, Expression, LittleEndian, Operation, UnitOffset};
use profiler_common::unwind::{REG_RIP, REGISTERS};

/// Operations that an expression may have. A procedure linkage table's has nine.
const MAX_OPERATIONS: usize = 16;
/// Values that an expression may have on its stack at a time. A procedure linkage table's has three.
const MAX_VALUES: usize = 8;
/// x86-64, and no DIE is near.
const ENCODING: gimli::Encoding = gimli::Encoding {
    address_size: 8,
    format: gimli::Format::Dwarf32,
    version: 5,
};

/// What an address is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// A register, by DWARF's number.
    Register(u8),
    /// A register, and eight times another.
    Indexed(u8, u8),
    /// The canonical frame address, which the expressions of registers find on their stack.
    Cfa,
}

/// What an expression computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A number.
    Constant(i64),
    /// `base + offset`.
    Sum(Base, i64),
    /// `*(base + offset) + second`.
    Load(Base, i64, i64),
    /// `8 * register`.
    Scaled(u8),
    /// `rip & 15`.
    RipLow,
    /// `1 if (rip & 15) >= threshold`, or else 0.
    RipLowFrom(i64),
    /// `8 if (rip & 15) >= threshold`, or else 0.
    Pushed(i64),
    /// `register + offset + (8 if (rip & 15) >= threshold)`.
    Plt(u8, i64, i64),
}

/// What an expression computes, whose stack begins with `first`.
pub(super) fn evaluate(
    expression: Expression<EndianSlice<'_, LittleEndian>>,
    first: Option<Value>,
) -> Option<Value> {
    let mut stack = Stack::default();
    if let Some(first) = first {
        stack.push(first)?;
    }
    let mut operations = expression.operations(ENCODING);
    for _ in 0..MAX_OPERATIONS {
        let Some(operation) = operations.next().ok()? else {
            return stack.pop();
        };
        step(&mut stack, &operation)?;
    }
    None
}

fn step(stack: &mut Stack, operation: &Operation<EndianSlice<'_, LittleEndian>>) -> Option<()> {
    let result = match *operation {
        Operation::Nop => return Some(()),
        Operation::UnsignedConstant { value } => Value::Constant(i64::try_from(value).ok()?),
        Operation::SignedConstant { value } => Value::Constant(value),
        Operation::RegisterOffset {
            register,
            offset,
            base_type: UnitOffset(0),
        } => Value::Sum(Base::Register(number(register)?), offset),
        Operation::PlusConstant { value } => {
            plus(stack.pop()?, Value::Constant(i64::try_from(value).ok()?))?
        }
        Operation::Deref {
            base_type: UnitOffset(0),
            size: 8,
            space: false,
        } => deref(stack.pop()?)?,
        Operation::Plus => {
            let (left, right) = stack.pop_two()?;
            plus(left, right)?
        }
        Operation::Minus => match stack.pop_two()? {
            (left, Value::Constant(right)) => plus(left, Value::Constant(right.checked_neg()?))?,
            _ => return None,
        },
        Operation::Mul => match stack.pop_two()? {
            (value, Value::Constant(8)) | (Value::Constant(8), value) => eight_times(value)?,
            _ => return None,
        },
        Operation::Shl => match stack.pop_two()? {
            (value, Value::Constant(3)) => eight_times(value)?,
            _ => return None,
        },
        Operation::And => match stack.pop_two()? {
            (Value::Sum(Base::Register(REG_RIP), 0), Value::Constant(15))
            | (Value::Constant(15), Value::Sum(Base::Register(REG_RIP), 0)) => Value::RipLow,
            _ => return None,
        },
        Operation::Ge => match stack.pop_two()? {
            (Value::RipLow, Value::Constant(from)) => Value::RipLowFrom(from),
            _ => return None,
        },
        _ => return None,
    };
    stack.push(result)
}

fn plus(left: Value, right: Value) -> Option<Value> {
    match (left, right) {
        (Value::Constant(left), Value::Constant(right)) => {
            Some(Value::Constant(left.checked_add(right)?))
        }
        (Value::Sum(base, offset), Value::Constant(more))
        | (Value::Constant(more), Value::Sum(base, offset)) => {
            Some(Value::Sum(base, offset.checked_add(more)?))
        }
        (Value::Load(base, offset, second), Value::Constant(more))
        | (Value::Constant(more), Value::Load(base, offset, second)) => {
            Some(Value::Load(base, offset, second.checked_add(more)?))
        }
        (Value::Plt(register, offset, from), Value::Constant(more))
        | (Value::Constant(more), Value::Plt(register, offset, from)) => {
            Some(Value::Plt(register, offset.checked_add(more)?, from))
        }
        (Value::Sum(Base::Register(register), offset), Value::Scaled(index))
        | (Value::Scaled(index), Value::Sum(Base::Register(register), offset)) => {
            Some(Value::Sum(Base::Indexed(register, index), offset))
        }
        (Value::Sum(Base::Register(register), offset), Value::Pushed(from))
        | (Value::Pushed(from), Value::Sum(Base::Register(register), offset)) => {
            Some(Value::Plt(register, offset, from))
        }
        _ => None,
    }
}

fn eight_times(value: Value) -> Option<Value> {
    match value {
        Value::Constant(value) => value.checked_mul(8).map(Value::Constant),
        Value::Sum(Base::Register(register), 0) => Some(Value::Scaled(register)),
        Value::RipLowFrom(from) => Some(Value::Pushed(from)),
        _ => None,
    }
}

fn deref(value: Value) -> Option<Value> {
    match value {
        Value::Sum(base, offset) => Some(Value::Load(base, offset, 0)),
        _ => None,
    }
}

/// The number of a register that is followed at all.
fn number(register: gimli::Register) -> Option<u8> {
    u8::try_from(register.0)
        .ok()
        .filter(|number| usize::from(*number) < REGISTERS || *number == REG_RIP)
}

#[derive(Default)]
struct Stack {
    values: [Option<Value>; MAX_VALUES],
    len: usize,
}

impl Stack {
    fn push(&mut self, value: Value) -> Option<()> {
        *self.values.get_mut(self.len)? = Some(value);
        self.len += 1;
        Some(())
    }

    fn pop(&mut self) -> Option<Value> {
        self.len = self.len.checked_sub(1)?;
        self.values.get_mut(self.len)?.take()
    }

    /// The two topmost values, the one that was pushed first as the first.
    fn pop_two(&mut self) -> Option<(Value, Value)> {
        let right = self.pop()?;
        Some((self.pop()?, right))
    }
}

#[cfg(test)]
mod tests;
