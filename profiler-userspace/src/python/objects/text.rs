//! `str`, `bytes` and `int`.

use profiler_common::mem::Memory;

use super::{ObjectError, ObjectLayout, flags, flags_of_type, read_vec, require, word};

/// Bytes read of a string's head at most: enough for its type, length and state.
const STR_HEAD_BYTES: usize = 64;
/// In `state`: the characters follow the head.
pub(crate) const STR_COMPACT: u16 = 1 << 5;

/// A string's head, whose parts are not checked yet.
struct StrHead {
    ob_type: u64,
    /// In characters.
    length: u64,
    /// Bytes of one character; 0 where the string is not ready.
    kind: u32,
    compact: bool,
    ascii: bool,
}

impl StrHead {
    /// The bits of `state` are the same in all versions with a GIL; those above are garbage.
    fn read<M: Memory>(mem: &M, layout: &ObjectLayout, addr: u64) -> Result<Self, ObjectError> {
        let last = layout.ob_type.max(layout.str_length);
        let end = last
            .saturating_add(8)
            .max(layout.str_state.saturating_add(4));
        let mut block = [0u8; STR_HEAD_BYTES];
        // Only as far as the head goes: a short string may end where its mapping does.
        let head = usize::try_from(end)
            .ok()
            .and_then(|end| block.get_mut(..end));
        let head = head.ok_or(ObjectError::Broken("offsets of str too large"))?;
        mem.read(addr, head)?;
        let state = word(&block, layout.str_state as usize);
        Ok(Self {
            ob_type: word(&block, layout.ob_type as usize),
            length: word(&block, layout.str_length as usize),
            kind: (state >> 2) as u32 & 7,
            compact: state & u64::from(STR_COMPACT) != 0,
            ascii: state & (1 << 6) != 0,
        })
    }

    fn data<M: Memory>(
        &self,
        mem: &M,
        layout: &ObjectLayout,
        addr: u64,
    ) -> Result<u64, ObjectError> {
        let behind_compact = addr.wrapping_add(layout.str_compact_size);
        Ok(match (self.compact, self.ascii) {
            (true, true) => addr.wrapping_add(layout.str_ascii_size),
            (true, false) => behind_compact,
            // An instance of a subclass of `str`.
            (false, _) => mem.read_u64(behind_compact)?,
        })
    }
}

/// The head of the `str` at `addr`, whose type and kind are checked.
fn checked_head<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
) -> Result<StrHead, ObjectError> {
    let head = StrHead::read(mem, layout, addr)?;
    if flags_of_type(mem, layout, head.ob_type)? & flags::UNICODE_SUBCLASS == 0 {
        return Err(ObjectError::NotAStr);
    }
    if head.kind == 0 && !head.compact && layout.minor <= 11 {
        return Err(ObjectError::NotReady);
    }
    if !matches!(head.kind, 1 | 2 | 4) || (head.ascii && head.kind != 1) {
        return Err(ObjectError::Broken("unknown kind of str"));
    }
    Ok(head)
}

/// The first `chars` characters of a `str`, which has as many.
fn read_chars<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
    head: &StrHead,
    chars: usize,
) -> Result<String, ObjectError> {
    let len = chars
        .checked_mul(head.kind as usize)
        .ok_or(ObjectError::TooLong {
            len: head.length,
            max: chars as u64,
        })?;
    let bytes = read_vec(mem, head.data(mem, layout, addr)?, len)?;
    if head.ascii && !bytes.is_ascii() {
        return Err(ObjectError::Broken("an ASCII str is none"));
    }
    let mut text = String::with_capacity(len);
    for unit in bytes.chunks_exact(head.kind as usize) {
        let point = unit
            .iter()
            .rev()
            .fold(0, |point, byte| (point << 8) | u32::from(*byte));
        text.push(match char::from_u32(point) {
            Some(char) => char,
            None if point <= 0xffff => char::REPLACEMENT_CHARACTER,
            None => return Err(ObjectError::Broken("a character beyond Unicode")),
        });
    }
    Ok(text)
}

/// Reads a `str` of at most `max_chars` characters. A lone surrogate, which UTF-8 cannot hold
/// (a file name that is not UTF-8 has them), becomes U+FFFD.
///
/// # Errors
/// Where there is no whole `str` at `addr`.
pub fn read_str<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
    max_chars: usize,
) -> Result<String, ObjectError> {
    let head = checked_head(mem, layout, addr)?;
    match usize::try_from(head.length) {
        Ok(chars) if chars <= max_chars => read_chars(mem, layout, addr, &head, chars),
        _ => Err(ObjectError::TooLong {
            len: head.length,
            max: max_chars as u64,
        }),
    }
}

/// As [`read_str`], the first `most` characters of a longer one. Also returns whether it is whole.
///
/// # Errors
/// As there.
pub(super) fn read_str_start<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
    most: usize,
) -> Result<(String, bool), ObjectError> {
    let head = checked_head(mem, layout, addr)?;
    let chars = usize::try_from(head.length).map_or(most, |chars| chars.min(most));
    let text = read_chars(mem, layout, addr, &head, chars)?;
    Ok((text, chars as u64 == head.length))
}

/// Whether the object at `addr` is the `str` that says `text`, which is ASCII and not longer than
/// [`STR_HEAD_BYTES`]. Mostly decided by one read: of any other length, it is not.
///
/// # Errors
/// Where it could not be read.
pub(crate) fn str_is<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
    text: &str,
) -> Result<bool, ObjectError> {
    let head = StrHead::read(mem, layout, addr)?;
    if head.length != text.len() as u64 || head.kind != 1 || !head.compact || !head.ascii {
        return Ok(false);
    }
    let mut block = [0u8; STR_HEAD_BYTES];
    let Some(bytes) = block.get_mut(..text.len()) else {
        return Ok(false);
    };
    mem.read(addr.wrapping_add(layout.str_ascii_size), bytes)?;
    if bytes != text.as_bytes() {
        return Ok(false);
    }
    Ok(flags_of_type(mem, layout, head.ob_type)? & flags::UNICODE_SUBCLASS != 0)
}

/// Reads a `bytes` of at most `max` bytes.
///
/// # Errors
/// Where there is no whole `bytes` at `addr`.
pub fn read_bytes<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
    max: usize,
) -> Result<Vec<u8>, ObjectError> {
    require(
        mem,
        layout,
        addr,
        flags::BYTES_SUBCLASS,
        ObjectError::NotBytes,
    )?;
    let len = mem.read_u64(addr.wrapping_add(layout.bytes_size))?;
    match usize::try_from(len) {
        Ok(len) if len <= max => read_vec(mem, addr.wrapping_add(layout.bytes_data), len),
        _ => Err(ObjectError::TooLong {
            len,
            max: max as u64,
        }),
    }
}

/// Bits of one digit of an `int` (`PyLong_SHIFT`, `Include/cpython/longintrepr.h`).
const INT_DIGIT_BITS: u32 = 30;

/// Reads an `int` from 0 to 2^64 - 1.
///
/// # Errors
/// Where there is no such `int` at `addr`.
pub(crate) fn read_int<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
) -> Result<u64, ObjectError> {
    let (digits, negative) = int_head(mem, layout, addr)?;
    if negative {
        return Err(ObjectError::Broken("a negative int"));
    }
    let value = read_digits(mem, layout, addr, digits, 3)?;
    u64::try_from(value).map_err(|_| ObjectError::TooLong {
        len: digits,
        max: 2,
    })
}

/// An `int` of any size.
pub(super) enum AnyInt {
    /// Of two digits at most: below 2^60.
    Small(i64),
    /// A larger one.
    Large {
        /// Below 0.
        negative: bool,
    },
}

/// Reads an `int` as far as it is small.
///
/// # Errors
/// Where there is no `int` at `addr`.
pub(super) fn read_any_int<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
) -> Result<AnyInt, ObjectError> {
    let (digits, negative) = int_head(mem, layout, addr)?;
    if digits > 2 {
        return Ok(AnyInt::Large { negative });
    }
    // Below 2^60.
    let value = read_digits(mem, layout, addr, digits, 2)? as i64;
    Ok(AnyInt::Small(if negative { -value } else { value }))
}

/// How many digits an `int` has, and whether it is below 0.
fn int_head<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
) -> Result<(u64, bool), ObjectError> {
    require(
        mem,
        layout,
        addr,
        flags::LONG_SUBCLASS,
        ObjectError::NotAnInt,
    )?;
    let size = mem.read_u64(addr.wrapping_add(layout.int_size))?;
    Ok(if layout.minor <= 11 {
        // `ob_size` has the sign.
        ((size as i64).unsigned_abs(), (size as i64) < 0)
    } else {
        // `lv_tag`: the sign (0 positive, 1 zero, 2 negative), one more bit, the digits.
        (size >> 3, size & 3 == 2)
    })
}

fn read_digits<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
    digits: u64,
    max: u64,
) -> Result<u128, ObjectError> {
    if digits > max {
        return Err(ObjectError::TooLong { len: digits, max });
    }
    let mut value = 0u128;
    for index in 0..digits {
        let digit = mem.read_u32(addr.wrapping_add(layout.int_digits).wrapping_add(4 * index))?;
        if digit >> INT_DIGIT_BITS != 0 {
            return Err(ObjectError::Broken("a digit of an int too large"));
        }
        value |= u128::from(digit) << (INT_DIGIT_BITS * index as u32);
    }
    Ok(value)
}
