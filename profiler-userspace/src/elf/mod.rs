//! What is read of a target's ELF files.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol};

/// Why an ELF file could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No 64-bit little-endian ELF file.
    #[error("{path} is no ELF file that pyscry can read: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: object::Error,
    },
}

/// An ELF file, mapped into our memory and parsed when asked.
#[derive(Debug)]
pub struct ElfImage {
    data: Mmap,
    path: PathBuf,
}

/// A symbol's place: addresses as the file states them, before the load bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// First address.
    pub address: u64,
    /// Bytes, 0 when the file does not say.
    pub size: u64,
    /// Lies in thread-local storage: `address` is an offset into the module's block.
    pub tls: bool,
}

/// A parsed view of an [`ElfImage`].
#[derive(Debug)]
pub struct Elf<'data> {
    file: ElfFile64<'data, LittleEndian>,
}

impl ElfImage {
    /// Maps a file.
    ///
    /// # Errors
    /// [`ElfError::Io`].
    pub fn open(path: &Path) -> Result<Self, ElfError> {
        let io = |source| ElfError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: a private read-only mapping; a file that shrinks meanwhile would end us with
        // SIGBUS, as it would end every program that runs from it.
        let data = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self {
            data,
            path: path.to_owned(),
        })
    }

    /// Parses the headers.
    ///
    /// # Errors
    /// [`ElfError::Malformed`].
    pub fn parse(&self) -> Result<Elf<'_>, ElfError> {
        let file = ElfFile64::parse(&self.data[..]).map_err(|source| ElfError::Malformed {
            path: self.path.clone(),
            source,
        })?;
        Ok(Elf { file })
    }
}

impl<'data> Elf<'data> {
    /// Parses the headers of an image that is in our memory, such as a target's vDSO.
    ///
    /// # Errors
    /// What is wrong with it, when it is no 64-bit little-endian ELF file.
    pub fn of_image(image: &'data [u8]) -> Result<Self, object::Error> {
        ElfFile64::parse(image).map(|file| Self { file })
    }

    /// The build id that the linker left in a note (`NT_GNU_BUILD_ID`), mostly 20 bytes.
    #[must_use]
    pub fn build_id(&self) -> Option<&'data [u8]> {
        self.file.build_id().ok().flatten()
    }

    /// The headers, for what takes them apart further.
    pub(crate) fn file(&self) -> &ElfFile64<'data, LittleEndian> {
        &self.file
    }

    /// A defined symbol, from the dynamic table or, in files that are not stripped, the full one.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.file
            .dynamic_symbols()
            .chain(self.file.symbols())
            .find(|symbol| symbol.is_definition_or_tls() && symbol.name() == Ok(name))
            .map(|symbol| Symbol {
                address: symbol.address(),
                size: symbol.size(),
                tls: symbol.kind() == object::SymbolKind::Tls,
            })
    }

    /// Address and size of a section.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<(u64, u64)> {
        self.file
            .section_by_name(name)
            .map(|section| (section.address(), section.size()))
    }

    /// A section's bytes in the file.
    #[must_use]
    pub fn section_data(&self, name: &str) -> Option<&[u8]> {
        self.file.section_by_name(name)?.data().ok()
    }

    /// Address ranges of what the file wants loaded writable (`.data`, `.bss`), start and size.
    #[must_use]
    pub fn writable_segments(&self) -> Vec<(u64, u64)> {
        self.loads()
            .filter(|load| load.flags & object::elf::PF_W != 0)
            .map(|load| (load.address, load.memory_size))
            .collect()
    }

    /// The load bias, given one mapping of this file: what the loader added to the addresses.
    #[must_use]
    pub fn load_bias(&self, map_start: u64, map_offset: u64) -> Option<u64> {
        bias(self.loads(), map_start, map_offset)
    }

    /// What the file wants loaded, to be kept without the file.
    #[must_use]
    pub fn load_map(&self) -> LoadMap {
        LoadMap(self.loads().collect())
    }

    /// Bytes of the file that are loaded at `address`, at most `len`.
    #[must_use]
    pub fn bytes_at(&self, address: u64, len: usize) -> Option<&[u8]> {
        let load = self
            .loads()
            .find(|load| (load.address..load.address + load.file_size).contains(&address))?;
        let from = (load.offset + (address - load.address)) as usize;
        let data = self.file.data();
        data.get(from..(from + len).min(data.len()))
    }

    fn loads(&self) -> impl Iterator<Item = Load> + '_ {
        self.file
            .elf_program_headers()
            .iter()
            .filter(|header| header.p_type(LittleEndian) == object::elf::PT_LOAD)
            .map(|header| Load {
                address: header.p_vaddr(LittleEndian),
                offset: header.p_offset(LittleEndian),
                file_size: header.p_filesz(LittleEndian),
                memory_size: header.p_memsz(LittleEndian),
                flags: header.p_flags(LittleEndian),
            })
    }
}

/// What a file wants loaded where.
#[derive(Clone, Debug)]
pub struct LoadMap(Vec<Load>);

impl LoadMap {
    /// As [`Elf::load_bias`].
    #[must_use]
    pub fn load_bias(&self, map_start: u64, map_offset: u64) -> Option<u64> {
        bias(self.0.iter().copied(), map_start, map_offset)
    }
}

fn bias(loads: impl Iterator<Item = Load>, map_start: u64, map_offset: u64) -> Option<u64> {
    const PAGE: u64 = 4096;
    loads
        .filter(|load| {
            let first = load.offset & !(PAGE - 1);
            let behind = (load.offset + load.file_size).next_multiple_of(PAGE);
            (first..behind.max(first + PAGE)).contains(&map_offset)
        })
        // The last page of a segment is the next one's first, in the file, where a linker has
        // packed them: the mapping that begins there is the next one's.
        .max_by_key(|load| load.offset)
        .map(|load| {
            let address = load
                .address
                .wrapping_sub(load.offset)
                .wrapping_add(map_offset);
            map_start.wrapping_sub(address)
        })
}

#[derive(Clone, Copy, Debug)]
struct Load {
    address: u64,
    offset: u64,
    file_size: u64,
    memory_size: u64,
    flags: u32,
}

/// Symbols of thread-local variables count as defined, too.
trait Defined {
    fn is_definition_or_tls(&self) -> bool;
}

impl<'data, S: ObjectSymbol<'data>> Defined for S {
    fn is_definition_or_tls(&self) -> bool {
        self.is_definition() || (self.kind() == object::SymbolKind::Tls && !self.is_undefined())
    }
}
