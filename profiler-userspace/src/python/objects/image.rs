//! A target's memory made by hand, for tests.

use std::cell::RefCell;
use std::collections::BTreeMap;

use profiler_common::mem::{Fault, Memory};

use super::{ObjectLayout, flags};

/// What is not written is not mapped.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) layout: ObjectLayout,
    pub(crate) bytes: RefCell<BTreeMap<u64, u8>>,
    next: u64,
    types: BTreeMap<u64, u64>,
}

impl Memory for Image {
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        let bytes = self.bytes.borrow();
        for (index, byte) in dst.iter_mut().enumerate() {
            *byte = *bytes.get(&addr.wrapping_add(index as u64)).ok_or(Fault)?;
        }
        Ok(())
    }
}

impl Image {
    pub(crate) fn new(minor: u8) -> Self {
        Self {
            layout: ObjectLayout::of_minor(minor).unwrap(),
            bytes: RefCell::default(),
            next: 0x7f00_0000_0000,
            types: BTreeMap::new(),
        }
    }

    pub(crate) fn put(&mut self, addr: u64, bytes: &[u8]) {
        let at = (addr..).zip(bytes.iter().copied());
        self.bytes.get_mut().extend(at);
    }

    pub(crate) fn put_u64(&mut self, addr: u64, value: u64) {
        self.put(addr, &value.to_le_bytes());
    }

    /// Zeroes, with nothing mapped on either side.
    pub(crate) fn alloc(&mut self, len: usize) -> u64 {
        let addr = self.next;
        self.next += (len as u64 + 64).next_multiple_of(64);
        self.put(addr, &vec![0; len]);
        addr
    }

    pub(crate) fn object(&mut self, type_flags: u64, len: usize) -> u64 {
        let addr = self.alloc(len);
        let ob_type = match self.types.get(&type_flags) {
            Some(ob_type) => *ob_type,
            None => self.new_type(type_flags),
        };
        self.put_u64(addr + 8, ob_type);
        addr
    }

    pub(crate) fn new_type(&mut self, type_flags: u64) -> u64 {
        // Only the parts that are read.
        let ob_type = self.next;
        self.next += 0x400;
        self.put_u64(ob_type + 0x20, 16);
        self.put_u64(ob_type + 0x120, 0);
        self.put_u64(ob_type + 0xa8, type_flags);
        self.types.insert(type_flags, ob_type);
        ob_type
    }

    /// A string of `units` (one, two or four bytes each).
    pub(crate) fn raw_str(&mut self, kind: u64, ascii: bool, units: &[u32]) -> u64 {
        let head = if ascii {
            self.layout.str_ascii_size
        } else {
            self.layout.str_compact_size
        };
        let len = units.len() * kind as usize;
        let addr = self.object(flags::UNICODE_SUBCLASS, head as usize + len);
        self.put_u64(addr + 16, units.len() as u64);
        // The bits from 7 on are of no kind.
        self.put(
            addr + 32,
            &[(kind << 2) as u8 | 0xa1 | u8::from(ascii) << 6, 0xee, 0xee],
        );
        self.put_units(addr + head, kind, units);
        addr
    }

    pub(crate) fn put_units(&mut self, addr: u64, kind: u64, units: &[u32]) {
        for (index, unit) in (0u64..).zip(units) {
            let bytes = &unit.to_le_bytes()[..kind.min(4) as usize];
            self.put(addr + index * kind, bytes);
        }
    }

    /// A string of the kind that CPython would choose.
    pub(crate) fn str(&mut self, text: &str) -> u64 {
        let units: Vec<u32> = text.chars().map(u32::from).collect();
        let kind = match units.iter().max() {
            Some(0x1_0000..) => 4,
            Some(0x100..) => 2,
            _ => 1,
        };
        self.raw_str(kind, text.is_ascii(), &units)
    }

    /// An instance of a subclass of `str`: not compact.
    pub(crate) fn sub_str(&mut self, text: &str) -> u64 {
        let compact = self.layout.str_compact_size;
        let units: Vec<u32> = text.chars().map(u32::from).collect();
        let addr = self.object(flags::UNICODE_SUBCLASS | 1 << 40, compact as usize + 8);
        self.put_u64(addr + 16, units.len() as u64);
        self.put(addr + 32, &[4 << 2]);
        let data = self.alloc(units.len() * 4);
        self.put_units(data, 4, &units);
        self.put_u64(addr + compact, data);
        addr
    }

    pub(crate) fn int(&mut self, value: u64) -> u64 {
        let addr = self.object(flags::LONG_SUBCLASS, 36);
        let digits: Vec<u32> = (0..3)
            .map(|index| (u128::from(value) >> (30 * index)) as u32 & 0x3fff_ffff)
            .collect();
        let count = 3 - digits.iter().rev().take_while(|digit| **digit == 0).count() as u64;
        let size = if self.layout.minor <= 11 {
            count
        } else {
            count << 3 | u64::from(count == 0)
        };
        self.put_u64(addr + 16, size);
        self.put_units(addr + 24, 4, &digits);
        addr
    }

    pub(crate) fn bytes_object(&mut self, value: &[u8]) -> u64 {
        let addr = self.object(flags::BYTES_SUBCLASS, 33 + value.len());
        self.put_u64(addr + 16, value.len() as u64);
        self.put(addr + 32, value);
        addr
    }

    /// `PyDictKeysObject`. `(0, 0)` is what a deleted item leaves.
    pub(crate) fn keys(&mut self, general: bool, items: &[(u64, u64)]) -> u64 {
        let log2 = (items.len().max(4) * 2).next_power_of_two().ilog2();
        let width = u32::from(log2 >= 8);
        let old = self.layout.minor <= 10;
        let wide = old || general;
        let head = if old { 40 } else { 32 };
        let stride = if wide { 24 } else { 16 };
        let indices = 1 << (log2 + width);
        let addr = self.alloc(head + indices + items.len() * stride);
        if old {
            self.put_u64(addr + 8, 1 << log2);
            self.put_u64(addr + 32, items.len() as u64);
        } else {
            self.put(
                addr + 8,
                &[log2 as u8, (log2 + width) as u8, u8::from(!general)],
            );
            self.put_u64(addr + 24, items.len() as u64);
        }
        let mut entry = addr + (head + indices) as u64;
        for (key, value) in items {
            if wide {
                self.put_u64(entry, 0x1234_5678);
            }
            self.put_u64(entry + stride as u64 - 16, *key);
            self.put_u64(entry + stride as u64 - 8, *value);
            entry += stride as u64;
        }
        addr
    }

    pub(crate) fn dict_of(&mut self, keys: u64, values: u64) -> u64 {
        let addr = self.object(flags::DICT_SUBCLASS, 48);
        self.put_u64(addr + 32, keys);
        self.put_u64(addr + 40, values);
        addr
    }

    pub(crate) fn dict(&mut self, general: bool, items: &[(u64, u64)]) -> u64 {
        let keys = self.keys(general, items);
        self.dict_of(keys, 0)
    }

    /// `PyDictValues`.
    pub(crate) fn values(&mut self, values: &[u64]) -> u64 {
        let head = if self.layout.minor <= 12 { 0 } else { 8 };
        let addr = self.alloc(head as usize + values.len() * 8);
        self.put_values(addr, values);
        addr
    }

    fn put_values(&mut self, addr: u64, values: &[u64]) {
        let mut at = addr;
        if self.layout.minor >= 13 {
            self.put(at, &[values.len() as u8, values.len() as u8, 1, 1]);
            at += 8;
        }
        for value in values {
            self.put_u64(at, *value);
            at += 8;
        }
    }

    /// An instance that shares `keys` with the others of its class, without a dict as far as
    /// the version can do that.
    pub(crate) fn instance(&mut self, keys: u64, attributes: &[u64]) -> u64 {
        let minor = self.layout.minor;
        let flags = if minor <= 10 { 0 } else { flags::MANAGED_DICT }
            | if minor <= 12 { 0 } else { flags::INLINE_VALUES };
        let ob_type = self.new_type(flags | 1 << 50);
        if minor <= 10 {
            self.put_u64(ob_type + 0x120, 16);
        }
        self.put_u64(ob_type + self.layout.type_cached_keys, keys);
        let before = self.alloc(32 + 24 + attributes.len() * 8);
        let addr = before + 32;
        self.put_u64(addr + 8, ob_type);
        match minor {
            ..=10 => {
                let values = self.values(attributes);
                let dict = self.dict_of(keys, values);
                self.put_u64(addr + 16, dict);
            }
            11 => {
                let values = self.values(attributes);
                self.put_u64(addr - 32, values);
            }
            12 => {
                let values = self.values(attributes);
                self.put_u64(addr - 24, values - 1);
            }
            13.. => self.put_values(addr + 16, attributes),
        }
        addr
    }
}
