//! The bytes of a module.

use std::fs::File;
use std::ops::Deref;

use memmap2::Mmap;
use object::LittleEndian;
use object::read::elf::ElfFile64;

/// The bytes of a module: of a mapped file, or copied from memory.
#[derive(Debug)]
pub(super) enum Image {
    /// A file.
    Mapped(Mmap),
    /// Bytes.
    Copied(Vec<u8>),
}

impl Image {
    /// Maps a file; nothing for one that cannot be mapped.
    pub(super) fn map(file: &File) -> Self {
        // SAFETY: a private read-only mapping; a file that shrinks meanwhile would end us with
        // SIGBUS, as it would end every program that runs from it.
        match unsafe { Mmap::map(file) } {
            Ok(map) => Self::Mapped(map),
            Err(_) => Self::Copied(Vec::new()),
        }
    }

    /// The headers; `None` when this is no 64-bit little-endian ELF file.
    pub(super) fn elf(&self) -> Option<ElfFile64<'_, LittleEndian>> {
        ElfFile64::parse(&self[..]).ok()
    }
}

impl Deref for Image {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Copied(bytes) => bytes,
        }
    }
}
