//! The items of a `dict` and the attributes of an instance, every layout of both.

use std::ops::ControlFlow;

use profiler_common::mem::Memory;

use super::text::str_is;
use super::{
    ObjectError, ObjectLayout, TYPE_BASIC_SIZE, TYPE_DICT_OFFSET, flags, flags_of_type, require,
    word,
};

/// Entries of a dict that are taken at most, those of deleted keys among them.
pub(crate) const DICT_ENTRIES_MAX: u64 = 1 << 17;
/// Entries read at once.
const DICT_ENTRIES_PIECE: u64 = 64;
/// Bytes of the largest entry, `PyDictKeyEntry`.
const ENTRY_BYTES: u64 = 24;
/// Bytes of `PyDictKeysObject` up to `dk_indices` at most.
const KEYS_HEAD_BYTES: usize = 40;
/// Bytes of `struct _dictvalues` before its values, 3.13 on.
const VALUES_HEAD_BYTES: u64 = 8;

/// Where the items of one dict, or the attributes of one instance, are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ItemTable {
    /// Address of the first entry.
    entries: u64,
    /// Number of entries.
    count: u64,
    /// Bytes of an entry.
    stride: u64,
    /// Offset of the key in an entry; the value follows it.
    key: u64,
    /// Address of the first value where values are not in the entries: a split table.
    values: Option<u64>,
}

impl ItemTable {
    const EMPTY: Self = Self {
        entries: 0,
        count: 0,
        stride: ENTRY_BYTES,
        key: 8,
        values: None,
    };

    /// The table of a `PyDictKeysObject` (`Objects/dict-common.h` 3.8 to 3.10,
    /// `Include/internal/pycore_dict.h` 3.11 on).
    fn of_keys<M: Memory>(mem: &M, layout: &ObjectLayout, keys: u64) -> Result<Self, ObjectError> {
        let mut head = [0u8; KEYS_HEAD_BYTES];
        let (head_bytes, count) = if layout.minor <= 10 {
            (40, 32)
        } else {
            (32, 24)
        };
        // The hash table follows, 8 bytes of it at least: nothing behind the keys is read.
        mem.read(keys, &mut head)?;
        let count = word(&head, count);
        let (size_log2, index_bytes, general) = if layout.minor <= 10 {
            let size = word(&head, 8);
            if !size.is_power_of_two() || size >> 32 != 0 {
                return Err(ObjectError::Broken("size of a dict"));
            }
            let width = match size {
                ..=0xff => 1,
                0x100..=0xffff => 2,
                _ => 4,
            };
            (u64::from(size.ilog2()), size * width, true)
        } else {
            let [size_log2, index_bytes_log2, kind, ..] = word(&head, 8).to_le_bytes();
            let expected = match size_log2 {
                // No dict has less than 8 slots, but the empty one that all share says 1.
                ..=2 => 3,
                3..=7 => size_log2,
                8..=15 => size_log2 + 1,
                16..=31 => size_log2 + 2,
                32.. => return Err(ObjectError::Broken("size of a dict")),
            };
            // The empty one of 3.11 and 3.12 says that its indices take 1 byte (`empty_keys_struct` in
            // `Objects/dictobject.c`). It has no entries that would be found by it.
            let of_empty = size_log2 == 0 && index_bytes_log2 == 0 && count == 0;
            if (index_bytes_log2 != expected && !of_empty) || kind > 2 {
                return Err(ObjectError::Broken("size of a dict"));
            }
            (u64::from(size_log2), 1u64 << index_bytes_log2, kind == 0)
        };
        if count > DICT_ENTRIES_MAX {
            return Err(ObjectError::TooLong {
                len: count,
                max: DICT_ENTRIES_MAX,
            });
        }
        if count > 1 << size_log2 {
            return Err(ObjectError::Broken("more entries than a dict has"));
        }
        Ok(Self {
            entries: keys.wrapping_add(head_bytes + index_bytes),
            count,
            stride: if general { ENTRY_BYTES } else { 16 },
            key: if general { 8 } else { 0 },
            values: None,
        })
    }

    /// The table of a split dict: keys that instances share, values of its own.
    fn of_values<M: Memory>(
        mem: &M,
        layout: &ObjectLayout,
        keys: u64,
        values: u64,
    ) -> Result<Self, ObjectError> {
        let mut table = Self::of_keys(mem, layout, keys)?;
        if layout.minor <= 12 {
            // As many values as there are keys at least: instances made before the others have
            // room for more.
            table.values = Some(values);
        } else {
            let capacity = mem.read_u64(values)? & 0xff;
            table.count = table.count.min(capacity);
            table.values = Some(values.wrapping_add(VALUES_HEAD_BYTES));
        }
        Ok(table)
    }

    /// The items of the dict at `addr`.
    ///
    /// # Errors
    /// Where there is no whole dict at `addr`.
    pub(crate) fn of_dict<M: Memory>(
        mem: &M,
        layout: &ObjectLayout,
        addr: u64,
    ) -> Result<Self, ObjectError> {
        require(
            mem,
            layout,
            addr,
            flags::DICT_SUBCLASS,
            ObjectError::NotADict,
        )?;
        let keys = mem.read_u64(addr.wrapping_add(layout.dict_keys))?;
        match mem.read_u64(addr.wrapping_add(layout.dict_values))? {
            0 => Self::of_keys(mem, layout, keys),
            values => Self::of_values(mem, layout, keys, values),
        }
    }

    /// The attributes that the instance at `addr` has of its own, its `__dict__`, whether or not
    /// that exists as an object.
    ///
    /// # Errors
    /// Where there is no whole instance at `addr`.
    pub(crate) fn of_instance<M: Memory>(
        mem: &M,
        layout: &ObjectLayout,
        addr: u64,
    ) -> Result<Self, ObjectError> {
        let ob_type = mem.read_u64(addr.wrapping_add(layout.ob_type))?;
        let type_flags = flags_of_type(mem, layout, ob_type)?;
        if layout.minor <= 10 || type_flags & flags::MANAGED_DICT == 0 {
            return Self::of_plain_instance(mem, layout, addr, ob_type);
        }
        // `Include/internal/pycore_object.h`: what comes before the object.
        let dict = mem.read_u64(addr.wrapping_sub(24))?;
        let values = match layout.minor {
            // `_PyObject_ManagedDictPointer`, `_PyObject_ValuesPointer`.
            11 if dict == 0 => mem.read_u64(addr.wrapping_sub(32))?,
            // `PyDictOrValues`: the lowest bit tells one from the other.
            12 if dict & 1 != 0 => dict.wrapping_add(1),
            // `_PyObject_InlineValues`: behind the object. Once it has a dict, the dict knows
            // whether they are still in use.
            13.. if dict == 0 && type_flags & flags::INLINE_VALUES != 0 => {
                let size = mem.read_u64(ob_type.wrapping_add(TYPE_BASIC_SIZE))?;
                let values = addr.wrapping_add(size);
                let [_capacity, _size, _embedded, valid, ..] = mem.read_u64(values)?.to_le_bytes();
                if valid == 0 { 0 } else { values }
            }
            _ => 0,
        };
        if values != 0 {
            let keys = mem.read_u64(ob_type.wrapping_add(layout.type_cached_keys))?;
            return Self::of_values(mem, layout, keys, values);
        }
        match dict {
            0 => Ok(Self::EMPTY),
            dict => Self::of_dict(mem, layout, dict),
        }
    }

    /// As [`Self::of_instance`], of an instance that holds a pointer to its dict: every one up
    /// to 3.10; later modules, and instances of types written in C.
    fn of_plain_instance<M: Memory>(
        mem: &M,
        layout: &ObjectLayout,
        addr: u64,
        ob_type: u64,
    ) -> Result<Self, ObjectError> {
        let offset = mem.read_u64(ob_type.wrapping_add(TYPE_DICT_OFFSET))?;
        match offset as i64 {
            0 => Ok(Self::EMPTY),
            // Counted from the end of a `tuple`, an `int`.
            ..0 => Err(ObjectError::Broken("an instance of variable size")),
            1.. => match mem.read_u64(addr.wrapping_add(offset))? {
                0 => Ok(Self::EMPTY),
                dict => Self::of_dict(mem, layout, dict),
            },
        }
    }

    /// Calls `visit` with the addresses of each key and its value, in the order in which the
    /// keys came, until it breaks.
    ///
    /// # Errors
    /// Where the table could not be read.
    pub(crate) fn for_each<M: Memory, B>(
        &self,
        mem: &M,
        mut visit: impl FnMut(u64, u64) -> ControlFlow<B>,
    ) -> Result<Option<B>, ObjectError> {
        let mut entries = [0u8; (DICT_ENTRIES_PIECE * ENTRY_BYTES) as usize];
        let mut values = [0u8; (DICT_ENTRIES_PIECE * 8) as usize];
        let mut first = 0;
        while first < self.count {
            let count = (self.count - first).min(DICT_ENTRIES_PIECE);
            let addr = self.entries.wrapping_add(first * self.stride);
            let entries = entries
                .get_mut(..(count * self.stride) as usize)
                .unwrap_or_default();
            mem.read(addr, entries)?;
            if let Some(addr) = self.values {
                let values = values.get_mut(..(count * 8) as usize).unwrap_or_default();
                mem.read(addr.wrapping_add(first * 8), values)?;
            }
            for (index, entry) in entries.chunks_exact(self.stride as usize).enumerate() {
                let key = word(entry, self.key as usize);
                let value = match self.values {
                    Some(_) => word(&values, index * 8),
                    None => word(entry, self.key as usize + 8),
                };
                // A deleted item leaves its entry behind; an instance need not have every
                // attribute whose name its table has.
                if key == 0 || value == 0 {
                    continue;
                }
                if let ControlFlow::Break(result) = visit(key, value) {
                    return Ok(Some(result));
                }
            }
            first += count;
        }
        Ok(None)
    }

    /// The address of the value whose key is the `str` that says `name` (see [`str_is`]).
    ///
    /// # Errors
    /// Where the table could not be read, or where it was not found and one of the keys could
    /// not be read.
    pub(crate) fn find<M: Memory>(
        &self,
        mem: &M,
        layout: &ObjectLayout,
        name: &str,
    ) -> Result<Option<u64>, ObjectError> {
        let mut broken = None;
        let found = self.for_each(mem, |key, value| match str_is(mem, layout, key, name) {
            Ok(true) => ControlFlow::Break(value),
            Ok(false) => ControlFlow::Continue(()),
            Err(error) => {
                broken.get_or_insert(error);
                ControlFlow::Continue(())
            }
        })?;
        match (found, broken) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }
}
