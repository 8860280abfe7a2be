//! The symbol tables of an ELF file, `.symtab` and `.dynsym`.

use std::collections::HashMap;

use object::elf::{
    SHF_EXECINSTR, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC,
    STT_NOTYPE,
};
use object::read::elf::{ElfFile64, SectionHeader, Sym};
use object::{LittleEndian, SectionIndex};

use super::address_map::{AddressMap, Entry};
use super::alias::preference;

const ENDIAN: LittleEndian = LittleEndian;

/// A name that is longer is none.
const MAX_NAME: usize = 64 << 10;

/// The functions of a file by address. Names stay where they are in the file.
#[derive(Debug, Default)]
pub(super) struct SymbolTable {
    /// With the offset of its name in the file.
    functions: AddressMap<usize>,
}

/// A function before its end is known.
struct Found {
    start: u64,
    /// 0 when the file does not say.
    size: u64,
    /// Address behind the section that holds it.
    section_end: u64,
    exported: bool,
    name: usize,
}

impl SymbolTable {
    /// Reads both tables; what is malformed is left out.
    pub(super) fn read(elf: &ElfFile64<'_, LittleEndian>) -> Self {
        let mut found = Vec::new();
        for table in [SHT_SYMTAB, SHT_DYNSYM] {
            collect(elf, table, &mut found);
        }
        let data = elf.data();
        found.sort_by_key(|function| function.start);
        let starts = found.iter().map(|function| function.start);
        let starts = starts.collect::<Vec<_>>();
        let mut best = HashMap::<(u64, u64), Found>::with_capacity(found.len());
        for function in found {
            let end = if function.size == 0 {
                // Hand-written code may have no size. It reaches to whatever comes next.
                let next = starts.partition_point(|start| *start <= function.start);
                let next = starts.get(next).copied().unwrap_or(u64::MAX);
                next.min(function.section_end)
            } else {
                function.start.saturating_add(function.size)
            };
            let prefer = |function: &Found| {
                let name = name_at(data, function.name).unwrap_or_default();
                (
                    // A name with a stated size is worth more than a guess of the same range.
                    function.size != 0,
                    preference(name, function.exported),
                )
            };
            match best.entry((function.start, end)) {
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(function);
                }
                std::collections::hash_map::Entry::Occupied(mut entry) => {
                    if prefer(&function) > prefer(entry.get()) {
                        entry.insert(function);
                    }
                }
            }
        }
        let entries = best
            .into_iter()
            .map(|((start, end), function)| Entry {
                start,
                end,
                value: function.name,
            })
            .collect();
        Self {
            functions: AddressMap::new(entries),
        }
    }

    /// The name of the function that covers an address, without a symbol version. `data` is the
    /// file that the table was read from.
    pub(super) fn find<'data>(&self, address: u64, data: &'data [u8]) -> Option<&'data str> {
        let function = self.functions.find(address)?;
        let name = std::str::from_utf8(name_at(data, function.value)?).ok()?;
        // `memcpy@@GLIBC_2.14`, as in the full tables of libraries with versions.
        let unversioned = name.split('@').next().unwrap_or(name);
        (!unversioned.is_empty()).then_some(unversioned)
    }
}

fn name_at(data: &[u8], offset: usize) -> Option<&[u8]> {
    let name = data.get(offset..)?;
    let name = &name[..name.len().min(MAX_NAME)];
    Some(&name[..memchr::memchr(0, name)?])
}

fn collect(elf: &ElfFile64<'_, LittleEndian>, table: u32, found: &mut Vec<Found>) {
    let data = elf.data();
    let sections = elf.elf_section_table();
    let Ok(symbols) = sections.symbols(ENDIAN, data, table) else {
        return;
    };
    let Some((strings, strings_len)) = sections
        .section(symbols.string_section())
        .ok()
        .and_then(|section| section.file_range(ENDIAN))
    else {
        return;
    };
    for symbol in symbols.iter() {
        let function = matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC | STT_NOTYPE);
        let index = symbol.st_shndx(ENDIAN);
        let (start, size) = (symbol.st_value(ENDIAN), symbol.st_size(ENDIAN));
        // `.dynsym` has few names between much code: one without a size says nothing there.
        let vague = size == 0 && table == SHT_DYNSYM;
        let name = u64::from(symbol.st_name(ENDIAN));
        if !function || index == SHN_UNDEF || vague || name == 0 || name >= strings_len {
            continue;
        }
        // Special indices (absolute, common) are no section, and no code.
        let Ok(section) = sections.section(SectionIndex(usize::from(index))) else {
            continue;
        };
        let address = section.sh_addr(ENDIAN);
        let section_end = address.saturating_add(section.sh_size(ENDIAN));
        let executable = section.sh_flags(ENDIAN) & u64::from(SHF_EXECINSTR) != 0;
        if executable && (address..section_end).contains(&start) {
            found.push(Found {
                start,
                size,
                section_end,
                exported: symbol.st_bind() != STB_LOCAL,
                name: strings.saturating_add(name) as usize,
            });
        }
    }
}
