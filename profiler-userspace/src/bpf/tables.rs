//! The kernel's tables for the unwind: rows of files, mappings of processes, and all rules.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;

use aya::maps::{Map, MapData, MapError};
use memmap2::{MmapMut, MmapOptions};
use profiler_common::unwind::{CHUNK_WORDS, Chunk, Rule, Tables};

use super::loader::LoadError;

/// `BPF_MAP_TYPE_ARRAY`.
const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_F_MMAPABLE | BPF_F_INNER_MAP`.
const TABLE_FLAGS: u32 = 1 << 10 | 1 << 12;
const PAGE: usize = 4096;
/// Tables that are put into the kernel together.
const TOGETHER: usize = 128;

/// The number of a table in the kernel; 0 is none.
pub type TableNumber = u32;

/// Why a table is not in the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TablesError {
    /// All numbers are taken, or the memory set aside is used up.
    #[error("no room for another table")]
    Full,
    /// The kernel refused.
    #[error("cannot load a table: {0}")]
    Map(#[from] MapError),
    /// A map could not be written.
    #[error("cannot write a table: {0}")]
    Write(#[from] io::Error),
}

/// The tables.
#[derive(Debug)]
pub struct KernelTables {
    tables: MapData,
    slots: u32,
    /// Numbers whose tables are not in the kernel yet, or no more wanted there.
    waiting: BTreeSet<TableNumber>,
    rules: MmapMut,
    /// What takes the place of a table that is taken out.
    empty: MapData,
    numbers: HashMap<Rule, u16>,
    free: Vec<TableNumber>,
    next: TableNumber,
    loaded: HashMap<TableNumber, Loaded>,
    /// Bytes of all that are loaded.
    bytes: usize,
    most_bytes: usize,
}

/// A table in the kernel.
#[derive(Debug)]
struct Loaded {
    map: MapData,
    bytes: usize,
}

fn map_of(map: Option<Map>, name: &'static str) -> Result<MapData, LoadError> {
    match map {
        Some(Map::Array(data) | Map::ArrayOfMaps(data)) => Ok(data),
        _ => Err(LoadError::Missing(name)),
    }
}

fn create(chunks: usize) -> Result<MapData, MapError> {
    let object = aya_obj::Map::new_from_params(
        MAP_TYPE_ARRAY,
        size_of::<u32>() as u32,
        size_of::<Chunk>() as u32,
        u32::try_from(chunks).unwrap_or(u32::MAX),
        TABLE_FLAGS,
    );
    MapData::create(object, "pyscry_table", None)
}

fn mapped_map(map: &MapData, bytes: usize) -> io::Result<MmapMut> {
    let len = bytes.next_multiple_of(PAGE);
    // SAFETY: the memory of a map, which nobody else writes; programs only read whole words.
    unsafe {
        MmapOptions::new()
            .len(len)
            .map_mut(map.fd().as_fd().as_raw_fd())
    }
}

impl KernelTables {
    /// Takes over the maps. Tables may take `most_bytes` of memory in all.
    ///
    /// # Errors
    /// [`LoadError::Missing`], [`LoadError::Map`].
    pub(super) fn new(
        tables: Option<Map>,
        rules: Option<Map>,
        most_bytes: usize,
    ) -> Result<Self, LoadError> {
        let map = |source| LoadError::Map {
            name: "TABLES",
            source,
        };
        let tables = map_of(tables, "TABLES")?;
        let rules = map_of(rules, "RULES")?;
        let slots = rules.info().map_err(map)?.max_entries() as usize;
        let rules = mapped_map(&rules, slots * size_of::<Rule>())
            .map_err(|error| map(MapError::IoError(error)))?;
        Ok(Self {
            slots: tables.info().map_err(map)?.max_entries(),
            tables,
            waiting: BTreeSet::new(),
            rules,
            empty: create(1).map_err(map)?,
            // Rule 0 is none: the map is all zeros.
            numbers: HashMap::from([(Rule::NONE, 0)]),
            free: Vec::new(),
            next: 1,
            loaded: HashMap::new(),
            bytes: 0,
            most_bytes,
        })
    }

    /// The number of a rule; `None` when the table of rules is full.
    pub fn number(&mut self, rule: &Rule) -> Option<u16> {
        if let Some(number) = self.numbers.get(rule) {
            return Some(*number);
        }
        let number = u16::try_from(self.numbers.len()).ok()?;
        let at = usize::from(number) * size_of::<Rule>();
        let place = self.rules.get_mut(at..at + size_of::<Rule>())?;
        // SAFETY: as long as a rule, which has no padding.
        unsafe { std::ptr::write_unaligned(place.as_mut_ptr().cast::<Rule>(), *rule) };
        self.numbers.insert(*rule, number);
        Some(number)
    }

    /// Bytes that all tables take, and rules.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        (self.bytes, self.numbers.len())
    }

    /// Tables that there are, and how many there can be.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        (self.loaded.len(), self.slots as usize)
    }

    /// Whether something waits for [`KernelTables::flush`].
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The same tables for an unwind of ours.
    #[must_use]
    pub fn on_host(&self) -> HostTables<'_> {
        HostTables {
            tables: self,
            mapped: RefCell::default(),
        }
    }

    fn filled(words: impl ExactSizeIterator<Item = u32>) -> Result<(MapData, usize), TablesError> {
        let chunks = words.len().div_ceil(CHUNK_WORDS).max(1);
        let map = create(chunks)?;
        let bytes = chunks * size_of::<Chunk>();
        let mut memory = mapped_map(&map, bytes)?;
        for (place, word) in memory.chunks_exact_mut(size_of::<u32>()).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Ok((map, bytes))
    }

    /// Adds a table, which is in the kernel from the next [`KernelTables::flush`] on.
    ///
    /// # Errors
    /// [`TablesError`].
    pub fn add(
        &mut self,
        words: impl ExactSizeIterator<Item = u32>,
    ) -> Result<TableNumber, TablesError> {
        if self.bytes + words.len() * size_of::<u32>() > self.most_bytes {
            return Err(TablesError::Full);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.next < self.slots => {
                self.next += 1;
                self.next - 1
            }
            None => return Err(TablesError::Full),
        };
        let done = self.replace(number, words);
        if done.is_err() {
            self.free.push(number);
        }
        done.map(|()| number)
    }

    /// Puts a table into the place of another at the next [`KernelTables::flush`]. Programs see the
    /// one or the other.
    ///
    /// # Errors
    /// [`TablesError`].
    pub fn replace(
        &mut self,
        number: TableNumber,
        words: impl ExactSizeIterator<Item = u32>,
    ) -> Result<(), TablesError> {
        let (map, bytes) = Self::filled(words)?;
        self.bytes += bytes;
        if let Some(old) = self.loaded.insert(number, Loaded { map, bytes }) {
            self.bytes -= old.bytes;
        }
        self.waiting.insert(number);
        Ok(())
    }

    /// Takes a table out at the next [`KernelTables::flush`].
    pub fn remove(&mut self, number: TableNumber) {
        if let Some(old) = self.loaded.remove(&number) {
            self.bytes -= old.bytes;
            self.waiting.insert(number);
            self.free.push(number);
        }
    }

    /// What is not in the kernel yet, and what is to be taken out: [`Flush::run`] does it.
    ///
    /// # Errors
    /// [`TablesError::Write`], without descriptors to spare.
    pub fn flush(&mut self) -> Result<Flush, TablesError> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let changes = waiting.map(|number| {
            let loaded = self.loaded.get(&number);
            let map = loaded.map_or(&self.empty, |loaded| &loaded.map);
            Ok((number, map.fd().as_fd().try_clone_to_owned()?))
        });
        Ok(Flush {
            changes: changes.collect::<io::Result<_>>()?,
            tables: self.tables.fd().as_fd().try_clone_to_owned()?,
        })
    }
}

/// Tables on their way into the kernel.
#[derive(Debug)]
pub struct Flush {
    tables: OwnedFd,
    changes: Vec<(TableNumber, OwnedFd)>,
}

impl Flush {
    /// Puts them in.
    ///
    /// For each table the kernel waits until no program can see any more what was in its place, ten
    /// milliseconds or so (`maybe_wait_bpf_programs` in `kernel/bpf/syscall.c`). So they wait
    /// together, in as many threads; and this is not for the event loop.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn run(&self) -> io::Result<()> {
        let tables = self.tables.as_fd();
        for some in self.changes.chunks(TOGETHER) {
            thread::scope(|scope| {
                let mut threads = Vec::new();
                for (number, map) in some {
                    let thread = thread::Builder::new().name("pyscry-tables".to_owned());
                    let put = move || set(tables, *number, map.as_fd());
                    threads.push(thread.spawn_scoped(scope, put)?);
                }
                let ended = threads.into_iter().map(|thread| {
                    let panicked = |_| Err(io::Error::other("a thread panicked"));
                    thread.join().unwrap_or_else(panicked)
                });
                ended.collect::<io::Result<()>>()
            })?;
        }
        Ok(())
    }
}

/// Puts a map into its place in a map of maps.
fn set(maps: BorrowedFd<'_>, number: TableNumber, map: BorrowedFd<'_>) -> io::Result<()> {
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    /// What this command takes of `union bpf_attr` (`include/uapi/linux/bpf.h`).
    #[repr(C)]
    struct Update {
        map: u32,
        pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let value = map.as_raw_fd() as u32;
    let update = Update {
        map: maps.as_raw_fd() as u32,
        pad: 0,
        key: (&raw const number).expose_provenance() as u64,
        value: (&raw const value).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: key and value are a u32 each in a map of maps, and live until the call returns.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_UPDATE_ELEM,
            &raw const update,
            size_of::<Update>() as libc::c_uint,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The tables as an unwind on the host reads them: each is mapped when it is first asked for.
#[derive(Debug)]
pub struct HostTables<'a> {
    tables: &'a KernelTables,
    mapped: RefCell<HashMap<TableNumber, Option<MmapMut>>>,
}

impl Tables for HostTables<'_> {
    fn word(&self, table: u32, index: u32) -> Option<u32> {
        let mut mapped = self.mapped.borrow_mut();
        let memory = mapped.entry(table).or_insert_with(|| {
            let table = self.tables.loaded.get(&table)?;
            mapped_map(&table.map, table.bytes).ok()
        });
        let at = index as usize * size_of::<u32>();
        let word = memory.as_ref()?.get(at..at + size_of::<u32>())?;
        Some(u32::from_le_bytes(word.try_into().ok()?))
    }

    fn rule(&self, number: u16) -> Option<Rule> {
        let at = usize::from(number) * size_of::<Rule>();
        let place = self.tables.rules.get(at..at + size_of::<Rule>())?;
        // SAFETY: as long as a rule; every bit pattern is one.
        Some(unsafe { std::ptr::read_unaligned(place.as_ptr().cast::<Rule>()) })
    }
}
