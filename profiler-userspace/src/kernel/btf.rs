//! A reader of the kernel's BTF, as far as the offsets need it: struct members by name, through
//! anonymous ones, and the argument types of tracepoints.
//!
//! Format: `Documentation/bpf/btf.rst`. Only what a lookup passes is decoded.

use std::collections::HashMap;
use std::path::Path;

/// Where the kernel shows its own BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Levels of typedefs, qualifiers and anonymous members that a lookup follows.
const MAX_LEVELS: u32 = 16;

/// Why a lookup in BTF failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The kernel was built without `CONFIG_DEBUG_INFO_BTF`, or `/sys` is not mounted.
    #[error("cannot read {path}: {source}")]
    Missing {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not BTF, or cut off.
    #[error("malformed BTF: {0}")]
    Malformed(&'static str),
    /// The kernel has no such type or member.
    #[error("this kernel's BTF has no {0}")]
    NotFound(String),
}

type Result<T> = std::result::Result<T, BtfError>;

/// One kind of type, `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    /// typedef, volatile, const, restrict, type tag: another name for `size_or_type`.
    Alias,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    Enum64,
}

impl Kind {
    fn from_info(info: u32) -> Result<Self> {
        Ok(match info >> 24 & 0x1f {
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8..=11 | 18 => Self::Alias,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::Datasec,
            16 => Self::Float,
            17 => Self::DeclTag,
            19 => Self::Enum64,
            _ => return Err(BtfError::Malformed("unknown kind of type")),
        })
    }

    /// Bytes that follow the 12 of the type itself.
    fn tail(self, vlen: usize) -> usize {
        match self {
            Self::Int | Self::Var | Self::DeclTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::Datasec | Self::Enum64 => 12 * vlen,
            Self::Enum | Self::FuncProto => 8 * vlen,
            Self::Ptr | Self::Fwd | Self::Alias | Self::Func | Self::Float => 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Type {
    kind: Kind,
    kind_flag: bool,
    vlen: usize,
    size_or_type: u32,
    name: u32,
    /// Where the tail begins, in bytes from the start of the type section.
    tail: usize,
}

/// The type of a tracepoint's argument, as far as positions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgType {
    /// A pointer to the named struct.
    StructPtr(String),
    /// Anything else.
    Other,
}

/// A parsed BTF blob.
#[derive(Debug)]
pub struct Btf {
    types: Vec<Type>,
    type_section: Vec<u8>,
    strings: Vec<u8>,
    structs: HashMap<String, u32>,
}

fn u32_of(bytes: &[u8], at: usize) -> Result<u32> {
    bytes
        .get(at..at + 4)
        .and_then(|word| word.try_into().ok())
        .map(u32::from_le_bytes)
        .ok_or(BtfError::Malformed("cut off"))
}

impl Btf {
    /// Reads the running kernel's BTF.
    ///
    /// # Errors
    /// [`BtfError::Missing`] where the kernel has none, [`BtfError::Malformed`].
    pub fn of_kernel() -> Result<Self> {
        Self::from_file(Path::new(VMLINUX))
    }

    /// Reads a file of raw BTF.
    ///
    /// # Errors
    /// As [`Btf::of_kernel`].
    pub fn from_file(path: &Path) -> Result<Self> {
        let blob = std::fs::read(path).map_err(|source| BtfError::Missing {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&blob)
    }

    /// Parses raw BTF.
    ///
    /// # Errors
    /// [`BtfError::Malformed`].
    pub fn parse(blob: &[u8]) -> Result<Self> {
        if u32_of(blob, 0)? as u16 != MAGIC {
            return Err(BtfError::Malformed("wrong magic number"));
        }
        let header = u32_of(blob, 4)? as usize;
        let section = |off: usize, len: usize| -> Result<Vec<u8>> {
            let from = header + u32_of(blob, off)? as usize;
            let to = from + u32_of(blob, len)? as usize;
            blob.get(from..to)
                .map(<[u8]>::to_vec)
                .ok_or(BtfError::Malformed("cut off"))
        };
        let mut btf = Self {
            types: Vec::new(),
            type_section: section(8, 12)?,
            strings: section(16, 20)?,
            structs: HashMap::new(),
        };
        let mut at = 0;
        while at < btf.type_section.len() {
            let info = u32_of(&btf.type_section, at + 4)?;
            let kind = Kind::from_info(info)?;
            let vlen = (info & 0xffff) as usize;
            let parsed = Type {
                kind,
                kind_flag: info >> 31 == 1,
                vlen,
                size_or_type: u32_of(&btf.type_section, at + 8)?,
                name: u32_of(&btf.type_section, at)?,
                tail: at + 12,
            };
            at += 12 + kind.tail(vlen);
            btf.types.push(parsed);
            if kind == Kind::Struct && parsed.name != 0 {
                let name = btf.string(parsed.name)?.to_owned();
                // Type ids begin at 1.
                let id = btf.types.len() as u32;
                btf.structs.entry(name).or_insert(id);
            }
        }
        Ok(btf)
    }

    fn string(&self, offset: u32) -> Result<&str> {
        let from = self
            .strings
            .get(offset as usize..)
            .ok_or(BtfError::Malformed("cut off"))?;
        let len = from
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(from.len());
        std::str::from_utf8(&from[..len]).map_err(|_| BtfError::Malformed("a name is not UTF-8"))
    }

    fn get(&self, id: u32) -> Result<Type> {
        (id as usize)
            .checked_sub(1)
            .and_then(|index| self.types.get(index))
            .copied()
            .ok_or(BtfError::Malformed("no such type id"))
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Result<(u32, Type)> {
        for _ in 0..MAX_LEVELS {
            let found = self.get(id)?;
            if found.kind != Kind::Alias {
                return Ok((id, found));
            }
            id = found.size_or_type;
        }
        Err(BtfError::Malformed("typedefs without an end"))
    }

    /// The byte offset of a member, given as a path such as `["thread", "fsbase"]`, in a struct.
    ///
    /// # Errors
    /// [`BtfError::NotFound`] when the struct or the member is not there, or is a bit field.
    pub fn offset_of(&self, name: &str, path: &[&str]) -> Result<u32> {
        let missing = || BtfError::NotFound(format!("{name}.{}", path.join(".")));
        let mut id = *self.structs.get(name).ok_or_else(missing)?;
        let mut bits = 0;
        for member in path {
            let (offset, of_type) = self.member(id, member, 0)?.ok_or_else(missing)?;
            bits += offset;
            id = of_type;
        }
        if bits % 8 == 0 {
            Ok(bits / 8)
        } else {
            Err(missing())
        }
    }

    /// Offset in bits and type of a member, anonymous structs and unions searched too.
    fn member(&self, id: u32, name: &str, level: u32) -> Result<Option<(u32, u32)>> {
        if level > MAX_LEVELS {
            return Err(BtfError::Malformed("members without an end"));
        }
        let (_, found) = self.resolve(id)?;
        if !matches!(found.kind, Kind::Struct | Kind::Union) {
            return Ok(None);
        }
        for index in 0..found.vlen {
            let at = found.tail + 12 * index;
            let member_name = u32_of(&self.type_section, at)?;
            let member_type = u32_of(&self.type_section, at + 4)?;
            let raw = u32_of(&self.type_section, at + 8)?;
            // With the flag set, the upper byte is the width of a bit field.
            let (offset, width) = if found.kind_flag {
                (raw & 0xff_ffff, raw >> 24)
            } else {
                (raw, 0)
            };
            if member_name == 0 {
                if let Some((inner, of_type)) = self.member(member_type, name, level + 1)? {
                    return Ok(Some((offset + inner, of_type)));
                }
            } else if self.string(member_name)? == name {
                return Ok((width == 0).then_some((offset, member_type)));
            }
        }
        Ok(None)
    }

    /// The argument types of a BTF tracepoint, without the leading `__data`.
    ///
    /// The prototype's parameters carry no names in BTF, so positions are found by type.
    ///
    /// # Errors
    /// [`BtfError::NotFound`] when the kernel has no such tracepoint.
    pub fn tracepoint_args(&self, tracepoint: &str) -> Result<Vec<ArgType>> {
        let typedef = format!("btf_trace_{tracepoint}");
        let missing = || BtfError::NotFound(format!("tracepoint {tracepoint}"));
        let mut id = None;
        for found in &self.types {
            if found.kind == Kind::Alias && found.name != 0 && self.string(found.name)? == typedef {
                id = Some(found.size_or_type);
                break;
            }
        }
        let (_, pointer) = self.resolve(id.ok_or_else(missing)?)?;
        let (_, proto) = self.resolve(pointer.size_or_type)?;
        if pointer.kind != Kind::Ptr || proto.kind != Kind::FuncProto {
            return Err(missing());
        }
        (1..proto.vlen)
            .map(|index| {
                let of_type = u32_of(&self.type_section, proto.tail + 8 * index + 4)?;
                self.arg_type(of_type)
            })
            .collect()
    }

    /// Whether an enum of this name has this enumerator.
    ///
    /// # Errors
    /// [`BtfError::Malformed`].
    pub fn has_enumerator(&self, name: &str, enumerator: &str) -> Result<bool> {
        for found in &self.types {
            let bytes = match found.kind {
                Kind::Enum => 8,
                Kind::Enum64 => 12,
                _ => continue,
            };
            if found.name == 0 || self.string(found.name)? != name {
                continue;
            }
            for index in 0..found.vlen {
                let of_name = u32_of(&self.type_section, found.tail + bytes * index)?;
                if self.string(of_name)? == enumerator {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn arg_type(&self, id: u32) -> Result<ArgType> {
        let (_, found) = self.resolve(id)?;
        if found.kind == Kind::Ptr && found.size_or_type != 0 {
            let (_, pointee) = self.resolve(found.size_or_type)?;
            if pointee.kind == Kind::Struct {
                return Ok(ArgType::StructPtr(self.string(pointee.name)?.to_owned()));
            }
        }
        Ok(ArgType::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_an_error() {
        assert!(matches!(Btf::parse(&[]), Err(BtfError::Malformed(_))));
        assert!(matches!(
            Btf::parse(&[0x9f, 0xeb, 1, 0]),
            Err(BtfError::Malformed(_))
        ));
        let mut cut = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        cut.extend([0; 4]);
        cut.extend(100u32.to_le_bytes());
        cut.extend([0; 8]);
        assert!(matches!(Btf::parse(&cut), Err(BtfError::Malformed(_))));
    }
}
