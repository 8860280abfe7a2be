//! Where the symbols of a file say that functions are.

use object::elf::{STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};
use object::read::elf::ElfSymbolTable64;
use object::{LittleEndian, Object, ObjectSymbol, ObjectSymbolTable};

use crate::elf::Elf;

/// Symbols that are looked at. CPython has 20,000, a browser 1,000,000.
const MAX_SYMBOLS: usize = 2_000_000;

/// Bytes of names that are looked at. To find a name's end in a table without one takes as long as
/// that has bytes.
const MAX_NAMES: usize = 64 << 20;

/// What is part of the names of code that its function jumps to: gcc's, and LLVM's for what its
/// machine function splitter, its basic block sections and BOLT make.
const PARTS: [&[u8]; 4] = [b".cold", b".part", b".__part", b".warm"];

/// A function, or what is left of it before the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What the symbols say.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Functions with a size, in the order of their addresses. None overlaps another.
    pub(super) functions: Vec<Entry>,
    /// Where else code may be entered, nobody knows how, in order.
    pub(super) others: Vec<u64>,
}

impl Entries {
    /// Reads the symbols for code that `is_wanted`.
    pub(super) fn read(elf: &Elf<'_>, is_wanted: impl Fn(u64) -> bool) -> Self {
        let mut found = Self::default();
        let file = elf.file();
        for table in [file.symbol_table(), file.dynamic_symbol_table()]
            .into_iter()
            .flatten()
        {
            found.add(&table, &is_wanted);
        }
        found.sort();
        found
    }

    fn add(
        &mut self,
        table: &ElfSymbolTable64<'_, '_, LittleEndian>,
        is_wanted: &impl Fn(u64) -> bool,
    ) {
        let mut names = MAX_NAMES;
        for symbol in table.symbols().take(MAX_SYMBOLS) {
            let raw = symbol.elf_symbol();
            let global = [STB_GLOBAL, STB_WEAK].contains(&raw.st_bind());
            let kind = raw.st_type();
            let code = [STT_FUNC, STT_GNU_IFUNC].contains(&kind) || kind == STT_NOTYPE && global;
            let (start, size) = (symbol.address(), symbol.size());
            if !code || symbol.is_undefined() || !is_wanted(start) {
                continue;
            }
            let Some(end) = start
                .checked_add(size)
                .filter(|end| kind == STT_FUNC && start < *end)
            else {
                self.others.push(start);
                continue;
            };
            let name = symbol.name_bytes().ok().filter(|name| name.len() < names);
            let Some(name) = name else {
                return;
            };
            names -= name.len();
            let is_part = |part: &[u8]| memchr::memmem::find(name, part).is_some();
            if PARTS.iter().any(|part| is_part(part)) {
                self.others.push(start);
            } else {
                self.functions.push(Entry { start, end });
            }
        }
    }

    fn sort(&mut self) {
        // The longest of those with one start is left.
        self.functions
            .sort_by_key(|entry| (entry.start, std::cmp::Reverse(entry.end)));
        self.functions.dedup_by_key(|entry| entry.start);
        self.others.sort_unstable();
        self.others.dedup();
        let Self { functions, others } = self;
        others.retain(|other| {
            functions
                .binary_search_by_key(other, |entry| entry.start)
                .is_err()
        });
        let mut next = u64::MAX;
        for entry in functions.iter_mut().rev() {
            entry.end = entry.end.min(next);
            next = entry.start;
        }
    }

    /// Whether a function begins at an address.
    pub(super) fn is_start(&self, address: u64) -> bool {
        self.functions
            .binary_search_by_key(&address, |entry| entry.start)
            .is_ok()
    }

    /// The function that has an address.
    pub(super) fn function_at(&self, address: u64) -> Option<usize> {
        let behind = self
            .functions
            .partition_point(|entry| entry.start <= address);
        let at = behind.checked_sub(1)?;
        (address < self.functions.get(at)?.end).then_some(at)
    }
}
