//! Values as they are shown: numbers, strings and what holds them as Python writes it, anything else by
//! its type and address. No code of the target runs for it.

use std::cell::Cell;
use std::ops::ControlFlow;

use profiler_common::mem::Memory;

use super::super::variable_layout::VariableLayout;
use super::text::{AnyInt, read_any_int, read_str_start};
use super::{ItemTable, ObjectError, ObjectLayout, flags, flags_of_type, require, word};

/// `PyTypeObject.tp_name`, 3.8 to 3.15.
const TYPE_NAME: u64 = 24;
/// Bytes of a type's name at most.
const TYPE_NAME_MAX: usize = 128;
/// A value is written in so many characters at least, or not.
const LEAST: usize = 5;
/// What holds values is looked into so deep at most: a list may hold itself.
const DEPTH_MAX: usize = 64;
/// Values that one value is made of at most.
const VALUES_MAX: u32 = 1 << 16;
/// In place of what is left out.
const REST: &str = "...";

/// What values are read with.
struct Reader<'a, M> {
    mem: &'a M,
    layout: &'a ObjectLayout,
    variables: &'a VariableLayout,
    left: Cell<u32>,
}

/// The value of the object at `addr` in some `max` characters, what is longer shortened. What cannot be
/// read is `<unreadable at 0x…>`.
pub(crate) fn repr<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    variables: &VariableLayout,
    addr: u64,
    max: usize,
) -> String {
    let reader = Reader {
        mem,
        layout,
        variables,
        left: Cell::new(VALUES_MAX),
    };
    reader.value(addr, max, 0)
}

/// Whether the object at `addr` is a cell.
pub(crate) fn is_cell<M: Memory>(mem: &M, layout: &ObjectLayout, addr: u64) -> bool {
    let ob_type = mem.read_u64(addr.wrapping_add(layout.ob_type));
    ob_type.is_ok_and(|ob_type| type_name(mem, ob_type).as_deref() == Ok("cell"))
}

/// Addresses of the items of the tuple at `addr`, of which there are at most `max`.
///
/// # Errors
/// Where there is no such tuple.
pub(crate) fn read_tuple<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    variables: &VariableLayout,
    addr: u64,
    max: u64,
) -> Result<Vec<u64>, ObjectError> {
    let otherwise = ObjectError::NotATuple;
    require(mem, layout, addr, flags::TUPLE_SUBCLASS, otherwise)?;
    let len = mem.read_u64(addr.wrapping_add(variables.var_size))?;
    if len > max {
        return Err(ObjectError::TooLong { len, max });
    }
    let first = addr.wrapping_add(variables.tuple_items);
    (0..len)
        .map(|index| Ok(mem.read_u64(first.wrapping_add(8 * index))?))
        .collect()
}

fn type_name<M: Memory>(mem: &M, ob_type: u64) -> Result<String, ObjectError> {
    let mut at = mem.read_u64(ob_type.wrapping_add(TYPE_NAME))?;
    let mut name = Vec::new();
    // In pieces that do not cross a page: the name may be the last of its mapping.
    while name.len() < TYPE_NAME_MAX {
        let mut piece = [0u8; 16];
        let len = 16 - (at % 16) as usize;
        let piece = piece.get_mut(..len).unwrap_or_default();
        mem.read(at, piece)?;
        if let Some(end) = memchr::memchr(0, piece) {
            name.extend_from_slice(piece.get(..end).unwrap_or_default());
            return String::from_utf8(name).map_err(|_| ObjectError::Broken("name of a type"));
        }
        name.extend_from_slice(piece);
        at = at.wrapping_add(len as u64);
    }
    name.truncate(TYPE_NAME_MAX);
    String::from_utf8(name).map_err(|_| ObjectError::Broken("name of a type"))
}

impl<M: Memory> Reader<'_, M> {
    fn value(&self, addr: u64, max: usize, depth: usize) -> String {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        if max <= LEAST || depth > DEPTH_MAX || left == 0 {
            return REST.to_owned();
        }
        self.read(addr, max, depth)
            .unwrap_or_else(|_| format!("<unreadable at {addr:#x}>"))
    }

    fn read(&self, addr: u64, max: usize, depth: usize) -> Result<String, ObjectError> {
        let (mem, layout) = (self.mem, self.layout);
        let ob_type = mem.read_u64(addr.wrapping_add(layout.ob_type))?;
        let kind = flags_of_type(mem, layout, ob_type)?;
        let has = |flag: u64| kind & flag != 0;
        let name = type_name(mem, ob_type)?;
        if has(flags::LONG_SUBCLASS) {
            return self.int(addr, &name);
        }
        if has(flags::UNICODE_SUBCLASS) {
            let (text, whole) = read_str_start(mem, layout, addr, max - LEAST)?;
            return Ok(quoted(&text, whole));
        }
        if has(flags::DICT_SUBCLASS) {
            return self.dict(addr, max, depth);
        }
        if has(flags::LIST_SUBCLASS) {
            let items = mem.read_u64(addr.wrapping_add(self.variables.list_items))?;
            return Ok(format!("[{}]", self.items(addr, items, max, depth)?));
        }
        if has(flags::TUPLE_SUBCLASS) {
            let items = addr.wrapping_add(self.variables.tuple_items);
            return Ok(format!("({})", self.items(addr, items, max, depth)?));
        }
        if name == "NoneType" {
            return Ok("None".to_owned());
        }
        let scalar = match name.strip_prefix("numpy.") {
            Some(name) => self.scalar(addr, name)?,
            None if name == "float" => self.scalar(addr, "float64")?,
            // Its two numbers lie where numpy's do.
            None if name == "complex" => self.scalar(addr, "complex128")?,
            None => None,
        };
        Ok(scalar.unwrap_or_else(|| format!("<{name} at {addr:#x}>")))
    }

    fn int(&self, addr: u64, name: &str) -> Result<String, ObjectError> {
        Ok(match read_any_int(self.mem, self.layout, addr)? {
            AnyInt::Small(value) if name == "bool" => {
                if value == 0 { "False" } else { "True" }.to_owned()
            }
            AnyInt::Small(value) => value.to_string(),
            AnyInt::Large { negative: true } => "-bigint".to_owned(),
            AnyInt::Large { negative: false } => "+bigint".to_owned(),
        })
    }

    fn items(
        &self,
        addr: u64,
        first: u64,
        max: usize,
        depth: usize,
    ) -> Result<String, ObjectError> {
        let count = self
            .mem
            .read_u64(addr.wrapping_add(self.variables.var_size))?;
        let mut list = List::new(max);
        for index in 0..count {
            let item = self.mem.read_u64(first.wrapping_add(8 * index))?;
            let text = self.value(item, list.left, depth + 1);
            if !list.add(text, 2) {
                break;
            }
        }
        Ok(list.join())
    }

    fn dict(&self, addr: u64, max: usize, depth: usize) -> Result<String, ObjectError> {
        let table = ItemTable::of_dict(self.mem, self.layout, addr)?;
        let mut list = List::new(max);
        table.for_each(self.mem, |key, value| {
            let key = self.value(key, list.left, depth + 1);
            let value = self.value(value, list.left, depth + 1);
            if list.add(format!("{key}: {value}"), 2) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(format!("{{{}}}", list.join()))
    }

    /// A number of numpy's, by the name of its type; `None` of another type.
    fn scalar(&self, addr: u64, name: &str) -> Result<Option<String>, ObjectError> {
        let bytes = match name {
            "bool" | "bool_" | "int8" | "uint8" => 1,
            "int16" | "uint16" | "float16" => 2,
            "int32" | "uint32" | "float32" => 4,
            "int64" | "uint64" | "longlong" | "ulonglong" | "float64" | "complex64" => 8,
            "complex128" => 16,
            _ => return Ok(None),
        };
        let mut block = [0u8; 16];
        let at = addr.wrapping_add(self.variables.scalar_value);
        self.mem
            .read(at, block.get_mut(..bytes).unwrap_or_default())?;
        let value = word(&block, 0);
        let single = |bits: u64| {
            // As short as its own digits say, not those of the same number with more.
            let number = f32::from_bits(bits as u32);
            shown(
                f64::from(number),
                format!("{number:?}"),
                format!("{number:e}"),
            )
        };
        // Each has the low bits of it that its type has.
        Ok(Some(match name {
            "bool" | "bool_" => if value == 0 { "False" } else { "True" }.to_owned(),
            "int8" => (value as i8).to_string(),
            "int16" => (value as i16).to_string(),
            "int32" => (value as i32).to_string(),
            "int64" | "longlong" => (value as i64).to_string(),
            "float16" => short_half(value as u16),
            "float32" => single(value),
            "float64" => float(f64::from_bits(value)),
            "complex64" => complex(&single(value), &single(value >> 32)),
            "complex128" => complex(
                &float(f64::from_bits(value)),
                &float(f64::from_bits(word(&block, 8))),
            ),
            _ => value.to_string(),
        }))
    }
}

/// Values behind one another, as far as there is room.
struct List {
    parts: Vec<String>,
    left: usize,
}

impl List {
    /// With room for `max` characters and what stands around them.
    fn new(max: usize) -> Self {
        Self {
            parts: Vec::new(),
            left: max.saturating_sub(2),
        }
    }

    /// Adds a value and `more` characters behind it. Returns whether there is room for others.
    fn add(&mut self, text: String, more: usize) -> bool {
        self.left = self.left.saturating_sub(text.chars().count() + more);
        let room = self.left > LEAST;
        self.parts.push(if room { text } else { REST.to_owned() });
        room
    }

    fn join(&self) -> String {
        self.parts.join(", ")
    }
}

fn quoted(text: &str, whole: bool) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    for char in text.chars() {
        match char {
            '"' => shown.push_str("\\\""),
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // A terminal would obey it.
            char if char.is_control() => shown.push_str(&format!("\\x{:02x}", u32::from(char))),
            char => shown.push(char),
        }
    }
    if !whole {
        shown.push_str(REST);
    }
    shown.push('"');
    shown
}

fn float(value: f64) -> String {
    shown(value, format!("{value:?}"), format!("{value:e}"))
}

/// A number as Python and numpy write it: `plain`, or, where it is very large or small, with the sign
/// and two digits of a power.
fn shown(value: f64, plain: String, with_power: String) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value == 0.0 || value.is_infinite() || (1e-4..1e16).contains(&value.abs()) {
        return plain;
    }
    match with_power.split_once('e') {
        Some((number, power)) => {
            let (sign, digits) = match power.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', power),
            };
            format!("{number}e{sign}{digits:0>2}")
        }
        None => with_power,
    }
}

/// A complex number of two numbers as they are shown (`complex_repr`, `Objects/complexobject.c`).
fn complex(real: &str, imaginary: &str) -> String {
    let [real, imaginary] = [real, imaginary].map(|part| part.strip_suffix(".0").unwrap_or(part));
    match real {
        "0" => format!("{imaginary}j"),
        _ if imaginary.starts_with('-') => format!("({real}{imaginary}j)"),
        _ => format!("({real}+{imaginary}j)"),
    }
}

/// A number of 16 bits with the fewest digits that are nearer to it than to its neighbours.
fn short_half(bits: u16) -> String {
    let value = half(bits);
    // The next one away from zero, and that towards it.
    let beside = [bits.wrapping_add(1), bits.wrapping_sub(1)];
    let [outer, inner] = beside.map(|bits| (half(bits) - value).abs());
    let near = |number: &f64| {
        let off = (number - value).abs() * 2.0;
        let gap = match number.abs() > value.abs() {
            true if outer.is_finite() => outer,
            _ => inner,
        };
        // What lies halfway is read as the even one of the two.
        off < gap || (off == gap && bits & 1 == 0)
    };
    // A digit that is exactly half is rounded both ways.
    let rounded = (0..5).flat_map(|digits| {
        [value, value * (1.0 + 1e-9)].map(|value| format!("{value:.digits$e}").parse().ok())
    });
    let short = rounded.flatten().find(near).unwrap_or(value);
    shown(value, format!("{short:?}"), format!("{short:e}"))
}

/// An IEEE 754 number of 16 bits.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let power = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    sign * match power {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(power - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f64.powi(-24)),
            (0xfc00, f64::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), value, "{bits:x}");
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(float(1.0), "1.0");
        assert_eq!(float(1e300), "1e+300");
        assert_eq!(float(1e-300), "1e-300");
        assert_eq!(float(1.5e-7), "1.5e-07");
        assert_eq!(float(1e16), "1e+16");
        // These and all others are as numpy 2.2 writes them.
        assert_eq!(short_half(0x7bff), "65500.0");
        assert_eq!(short_half(0x2400), "0.01563");
        assert_eq!(short_half(0x6c2c), "4270.0");
        assert_eq!(short_half(0x2e66), "0.1");
        assert_eq!(short_half(0x8001), "-6e-08");
        assert_eq!(short_half(0x7c00), "inf");
        assert_eq!(complex("1.0", "-2.5"), "(1-2.5j)");
        assert_eq!(complex("0.0", "1e+20"), "1e+20j");
        assert_eq!(complex("-0.0", "nan"), "(-0+nanj)");
        assert_eq!(float(f64::NAN), "nan");
        assert_eq!(float(f64::NEG_INFINITY), "-inf");
    }

    #[test]
    fn strings() {
        assert_eq!(quoted("a\"b\\c\n\u{1b}", true), r#""a\"b\\c\n\x1b""#);
        assert_eq!(quoted("ü", false), r#""ü...""#);
    }

    #[test]
    fn lists_end_where_there_is_no_room() {
        let mut list = List::new(20);
        assert!(list.add("12345".to_owned(), 2));
        assert!(!list.add("12345".to_owned(), 2));
        assert_eq!(list.join(), "12345, ...");
    }
}
