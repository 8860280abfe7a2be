//! Files, lines and inlined functions, from DWARF.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use blazesym::helper::ElfResolver;
use blazesym::symbolize::{CodeInfo, FindSymOpts, Symbolize};
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection, SectionKind};

/// How many times more than a compressed section its content may claim to be. Debug information
/// shrinks to a third; a claim far above that is meant to exhaust memory.
const MAX_RATIO: u64 = 1 << 10;

/// Debug information of one file.
pub(super) struct DebugInfo {
    resolver: ElfResolver,
    /// It made the reader panic: no more is asked of it.
    broken: bool,
}

impl fmt::Debug for DebugInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugInfo")
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

/// Where something is in the sources.
#[derive(Debug)]
pub(super) struct Place {
    /// The file, joined with its directory.
    pub file: PathBuf,
    /// The line.
    pub line: Option<u32>,
}

/// A function that was inlined.
#[derive(Debug)]
pub(super) struct Inlined {
    /// As debug information has it: mangled.
    pub name: String,
    /// Where in it execution is.
    pub place: Option<Place>,
}

/// What debug information says about an address.
#[derive(Debug)]
pub(super) struct Location {
    /// The function, as debug information has it: mangled, or without its namespace. `None` where
    /// it has no name.
    pub function: Option<String>,
    /// Where in the function.
    pub place: Option<Place>,
    /// What was inlined there, from the outermost to the innermost.
    pub inlined: Vec<Inlined>,
}

/// Bytes of debug information in a file when uncompressed; `None` when it has none, or when its
/// compressed sections cannot be what they claim to be.
pub(super) fn size(elf: &ElfFile64<'_, LittleEndian>) -> Option<u64> {
    let mut sum = 0_u64;
    let mut has_info = false;
    for section in elf.sections() {
        let Ok(name) = section.name_bytes() else {
            continue;
        };
        // A debug file has the other sections without their content, a stripped file none.
        let absent = section.kind() == SectionKind::UninitializedData;
        if !name.starts_with(b".debug_") || absent {
            continue;
        }
        let range = section.compressed_file_range().ok()?;
        let possible = range.compressed_size.saturating_mul(MAX_RATIO);
        if range.uncompressed_size > possible {
            return None;
        }
        has_info |= name == b".debug_info" && range.uncompressed_size > 0;
        sum = sum.saturating_add(range.uncompressed_size);
    }
    has_info.then_some(sum)
}

impl DebugInfo {
    /// Reads the directory of compilation units. `directories` is where a file that several debug
    /// files share (`dwz`) may be. `None` when it cannot be read.
    pub(super) fn open(file: &File, directories: &[PathBuf]) -> Option<Self> {
        // The file may have no path any more.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let open = || ElfResolver::open_with_debug_dirs(Path::new(&path), directories);
        let resolver = catch_unwind(open).ok()?.ok()?;
        Some(Self {
            resolver,
            broken: false,
        })
    }

    /// Whether it made the reader panic.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// What is known about an address; `None` for nothing.
    pub(super) fn find(&mut self, address: u64) -> Option<Location> {
        if self.broken || address == u64::MAX {
            return None;
        }
        let find = || {
            let found = self
                .resolver
                .find_sym(address, &FindSymOpts::CodeInfoAndInlined);
            let symbol = found.ok()?.ok()?;
            // Where debug information has no function, this is a symbol, whose end may be a guess:
            // its size says so.
            let covers = symbol.size.is_some_and(|size| {
                let offset = address.checked_sub(symbol.addr);
                offset.is_some_and(|offset| offset < size as u64)
            });
            let named = covers && !symbol.name.is_empty();
            Some(Location {
                function: named.then(|| symbol.name.to_owned()),
                place: symbol.code_info.as_deref().map(place),
                inlined: symbol
                    .inlined
                    .iter()
                    .map(|inlined| Inlined {
                        name: inlined.name.clone().into_owned(),
                        place: inlined.code_info.as_ref().map(place),
                    })
                    .collect(),
            })
        };
        // The reader trusts some numbers of the file.
        catch_unwind(AssertUnwindSafe(find)).unwrap_or_else(|_| {
            self.broken = true;
            None
        })
    }
}

fn place(code: &CodeInfo<'_>) -> Place {
    Place {
        // Without the `.` that compilers put between the directory and `./Objects/list.c`.
        file: code.to_path().components().collect(),
        line: code.line.filter(|line| *line != 0),
    }
}
