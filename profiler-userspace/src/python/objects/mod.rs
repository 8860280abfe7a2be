//! Readers of a target's objects: `str`, `bytes`, `int`, the items of a `dict` and the
//! attributes of an instance, CPython 3.8 to 3.15 (GIL builds, 64 bit).
//!
//! The target runs on while it is read, so any object may be freed, and its memory reused,
//! between two reads. What is read is therefore checked: an object's type says what it is
//! (`tp_flags`), its parts must agree with one another, and every count has a bound. Garbage is
//! an error.

mod items;
mod text;
mod value;

use profiler_common::mem::{Fault, Memory};

pub(crate) use items::ItemTable;
pub(crate) use text::STR_COMPACT;
pub(crate) use text::read_int;
pub use text::{read_bytes, read_str};
pub(crate) use value::{is_cell, read_tuple, repr};

/// Why an object could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Memory could not be read.
    #[error("the object's memory could not be read")]
    Fault,
    /// Something else than a `str`.
    #[error("the object is not a str")]
    NotAStr,
    /// Something else than a `bytes`.
    #[error("the object is not a bytes")]
    NotBytes,
    /// Something else than an `int`.
    #[error("the object is not an int")]
    NotAnInt,
    /// Something else than a `tuple`.
    #[error("the object is not a tuple")]
    NotATuple,
    /// Something else than a `dict`.
    #[error("the object is not a dict")]
    NotADict,
    /// A `str` up to 3.11 that has its `wchar_t` form only, as C extensions of old made them.
    #[error("the str is not ready")]
    NotReady,
    /// The object has more parts than the caller takes.
    #[error("the object has {len} parts, more than {max}")]
    TooLong {
        /// Parts of the object.
        len: u64,
        /// Parts that the caller takes.
        max: u64,
    },
    /// The object's parts do not agree with one another.
    #[error("the object is broken: {0}")]
    Broken(&'static str),
}

impl From<Fault> for ObjectError {
    fn from(Fault: Fault) -> Self {
        Self::Fault
    }
}

/// Where objects keep their parts in one version.
///
/// From 3.13 on the public offsets are in `_Py_DebugOffsets`, too
/// (`Include/internal/pycore_debug_offsets.h`), and the caller may put in what the target says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLayout {
    /// The version's minor number.
    pub minor: u8,
    /// `PyObject.ob_type`.
    pub ob_type: u64,
    /// `PyTypeObject.tp_flags`.
    pub type_flags: u64,
    /// `PyASCIIObject.length`.
    pub str_length: u64,
    /// `PyASCIIObject.state`.
    pub str_state: u64,
    /// Size of `PyASCIIObject`: a compact ASCII string's characters follow it.
    pub str_ascii_size: u64,
    /// Size of `PyCompactUnicodeObject`: any other compact string's characters follow it, and
    /// in a string that is not compact the pointer to them.
    pub str_compact_size: u64,
    /// `PyBytesObject`'s `ob_size`.
    pub bytes_size: u64,
    /// `PyBytesObject.ob_sval`.
    pub bytes_data: u64,
    /// `PyLongObject`'s `ob_size`, from 3.12 on `long_value.lv_tag`.
    pub int_size: u64,
    /// `PyLongObject`'s `ob_digit`.
    pub int_digits: u64,
    /// `PyDictObject.ma_keys`.
    pub dict_keys: u64,
    /// `PyDictObject.ma_values`.
    pub dict_values: u64,
    /// `PyHeapTypeObject.ht_cached_keys`, which is read from 3.11 on. Not in `_Py_DebugOffsets`.
    pub type_cached_keys: u64,
}

impl ObjectLayout {
    /// The layout of 3.`minor`; `None` for a version that is not known.
    ///
    /// From `unicodeobject.h` (`wstr` and `wstr_length` went in 3.12), `bytesobject.h`,
    /// `dictobject.h`, `longintrepr.h` and `object.h` in `Include/cpython/`, some up to 3.8 in
    /// `Include/`.
    #[must_use]
    pub fn of_minor(minor: u8) -> Option<Self> {
        let (str_ascii_size, str_compact_size) = match minor {
            8..=11 => (48, 72),
            12..=15 => (40, 56),
            _ => return None,
        };
        Some(Self {
            minor,
            ob_type: 8,
            type_flags: 0xa8,
            str_length: 16,
            str_state: 32,
            str_ascii_size,
            str_compact_size,
            bytes_size: 16,
            bytes_data: 32,
            int_size: 16,
            int_digits: 24,
            dict_keys: 32,
            dict_values: 40,
            // `PyTypeObject` grew by `tp_watched` in 3.12; in 3.15 what comes before the keys is
            // one pointer longer than in 3.14.
            type_cached_keys: match minor {
                9 => 0x360,
                ..=11 => 0x368,
                12..=14 => 0x370,
                _ => 0x378,
            },
        })
    }
}

/// `PyTypeObject.tp_basicsize`, 3.8 to 3.15.
const TYPE_BASIC_SIZE: u64 = 0x20;
/// `PyTypeObject.tp_dictoffset`, 3.8 to 3.15.
const TYPE_DICT_OFFSET: u64 = 0x120;

/// `Py_TPFLAGS_*` (`Include/object.h`).
mod flags {
    /// 3.13 on.
    pub(super) const INLINE_VALUES: u64 = 1 << 2;
    /// 3.11 on.
    pub(super) const MANAGED_DICT: u64 = 1 << 4;
    pub(super) const LONG_SUBCLASS: u64 = 1 << 24;
    pub(super) const LIST_SUBCLASS: u64 = 1 << 25;
    pub(super) const TUPLE_SUBCLASS: u64 = 1 << 26;
    pub(super) const BYTES_SUBCLASS: u64 = 1 << 27;
    pub(super) const UNICODE_SUBCLASS: u64 = 1 << 28;
    pub(super) const DICT_SUBCLASS: u64 = 1 << 29;
}

/// Bytes taken at once of an object that can be long. What a broken length can cost is then
/// what could be read, and not what it promises.
const PIECE_BYTES: usize = 64 * 1024;

/// The little-endian `u64` at byte `off` of a block; 0 when it does not lie inside.
fn word(block: &[u8], off: usize) -> u64 {
    let bytes = block.get(off..).and_then(<[u8]>::first_chunk::<8>);
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn read_vec<M: Memory>(mem: &M, addr: u64, len: usize) -> Result<Vec<u8>, ObjectError> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let done = bytes.len();
        bytes.resize(len.min(done + PIECE_BYTES), 0);
        let piece = bytes.get_mut(done..).unwrap_or_default();
        mem.read(addr.wrapping_add(done as u64), piece)?;
    }
    Ok(bytes)
}

fn flags_of_type<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    ob_type: u64,
) -> Result<u64, ObjectError> {
    Ok(mem.read_u64(ob_type.wrapping_add(layout.type_flags))?)
}

/// Checks that the object at `addr` is of a type that has `flag`.
fn require<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    addr: u64,
    flag: u64,
    otherwise: ObjectError,
) -> Result<(), ObjectError> {
    let ob_type = mem.read_u64(addr.wrapping_add(layout.ob_type))?;
    if flags_of_type(mem, layout, ob_type)? & flag == 0 {
        return Err(otherwise);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod image;
#[cfg(test)]
mod tests;
