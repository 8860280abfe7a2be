//! The native code of one process: what the kernel knows of it, kept up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use profiler_common::layout::MappingsRef;
use profiler_common::unwind::{HEADER_WORDS, Mapping, Rule};

use super::address_space::{AddressSpace, Area};
use super::module::{ModuleIndex, Modules, Source, TableState};
use super::trampoline;
use super::workers::{Built, Workers};
use crate::bpf::tables::{Flush, HostTables, KernelTables, TableNumber, TablesError};
use crate::process::RemoteMemory;
use crate::process::maps::{self, Mapping as ProcessMapping};
use crate::unwind::{Rows, Table};

/// Numbers of rules that are kept at hand while a table is packed, a power of two.
const MEMO: usize = 512;

/// What was met while tables were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NativeStats {
    /// Tables that found no room.
    pub tables_refused: u64,
    /// Rows whose rule found no room.
    pub rules_refused: u64,
    /// Files without rows.
    pub tables_missing: u64,
}

/// The native code of one process.
#[derive(Debug)]
pub struct NativeCode {
    pid: u32,
    /// All files.
    pub modules: Modules,
    tables: KernelTables,
    workers: Workers,
    pending: usize,
    space: Arc<AddressSpace>,
    history: BTreeMap<u32, Arc<AddressSpace>>,
    generation: u32,
    /// The table of its mappings, and the one before it.
    table: Option<TableNumber>,
    previous: Option<TableNumber>,
    stats: NativeStats,
}

/// The image of a file that is in memory only.
fn image(pid: u32, mapping: &ProcessMapping) -> Option<Vec<u8>> {
    let length = usize::try_from(mapping.end.checked_sub(mapping.start)?).ok()?;
    RemoteMemory::new(pid).read_some(mapping.start, length).ok()
}

impl NativeCode {
    /// Begins with nothing.
    ///
    /// # Errors
    /// As starting threads gives them.
    pub fn new(pid: u32, tables: KernelTables) -> io::Result<Self> {
        Ok(Self {
            pid,
            modules: Modules::default(),
            tables,
            workers: Workers::start()?,
            pending: 0,
            space: Arc::default(),
            history: BTreeMap::new(),
            generation: 0,
            table: None,
            previous: None,
            stats: NativeStats::default(),
        })
    }

    /// Looks what the process has mapped. Returns whether that changed: then
    /// [`NativeCode::publish`] is due.
    pub fn refresh(&mut self) -> bool {
        // A process that is gone keeps what it had.
        let Ok(mappings) = maps::of_process(self.pid) else {
            return false;
        };
        let areas = mappings.iter().filter(|mapping| mapping.executable);
        let areas = areas.map(|mapping| self.area(mapping)).collect();
        let space = AddressSpace::new(areas);
        if space == *self.space {
            return false;
        }
        self.space = Arc::new(space);
        self.ask_for_tables();
        self.drop_unused();
        true
    }

    fn area(&mut self, mapping: &ProcessMapping) -> Area {
        let module = self.module(mapping);
        let bias = module.and_then(|index| {
            let source = &self.modules.get(index)?.source;
            if matches!(source, Source::Trampolines(_)) {
                return Some(mapping.start);
            }
            source.with_elf(|elf| elf.load_bias(mapping.start, mapping.offset))?
        });
        Area {
            start: mapping.start,
            end: mapping.end,
            bias: bias.unwrap_or(0),
            module: module.filter(|_| bias.is_some()),
        }
    }

    fn module(&mut self, mapping: &ProcessMapping) -> Option<ModuleIndex> {
        if mapping.path == Path::new("[vdso]") {
            return Some(self.modules.of_memory("[vdso]", image(self.pid, mapping)?));
        }
        if mapping.inode == 0 {
            return self.trampolines(mapping);
        }
        let host = maps::host_path(self.pid, mapping);
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        self.modules.of_file(&host, &mapping.path, &root).ok()
    }

    fn trampolines(&mut self, mapping: &ProcessMapping) -> Option<ModuleIndex> {
        let mem = RemoteMemory::new(self.pid);
        let start = mem.read_some(mapping.start, trampoline::bytes_to_tell());
        if !start.is_ok_and(|start| trampoline::is_arena(&start)) {
            return None;
        }
        image(self.pid, mapping).map(|arena| self.modules.of_trampolines(arena))
    }

    fn used(&self) -> BTreeSet<ModuleIndex> {
        let areas = self.space.areas().iter();
        areas.filter_map(|area| area.module).collect()
    }

    fn ask_for_tables(&mut self) {
        for index in self.used() {
            let Some(module) = self.modules.get(index) else {
                continue;
            };
            if module.table != TableState::Absent {
                continue;
            }
            let comes = self.workers.ask(index, module);
            self.pending += usize::from(comes);
            let state = if comes {
                TableState::Pending
            } else {
                self.stats.tables_missing += 1;
                TableState::None
            };
            self.modules.set_table(index, state);
        }
    }

    /// Takes out the tables of files that are mapped no more.
    fn drop_unused(&mut self) {
        let used = self.used();
        let unused: Vec<_> = self
            .modules
            .iter()
            .filter(|(index, module)| {
                !used.contains(index) && matches!(module.table, TableState::Loaded(_))
            })
            .map(|(index, _)| index)
            .collect();
        for index in unused {
            if let TableState::Loaded(number) = self.modules.set_table(index, TableState::Absent) {
                self.tables.remove(number);
            }
        }
    }

    /// Whether tables are still to come.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending != 0
    }

    /// Waits for tables, and loads those that are there. Then [`NativeCode::publish`] is due.
    pub async fn built(&mut self) {
        if let Some(built) = self.workers.next().await {
            self.load(&built);
        } else {
            // All workers died, which they never do.
            self.pending = 0;
        }
        while let Some(built) = self.workers.try_next() {
            self.load(&built);
        }
    }

    fn load(&mut self, built: &Built) {
        self.pending = self.pending.saturating_sub(1);
        let state = match &built.rows {
            Some(rows) if !rows.rows.is_empty() => match self.load_rows(rows) {
                Ok(number) => TableState::Loaded(number),
                Err(_) => {
                    self.stats.tables_refused += 1;
                    TableState::None
                }
            },
            _ => {
                self.stats.tables_missing += 1;
                TableState::None
            }
        };
        self.modules.set_table(built.module, state);
    }

    fn load_rows(&mut self, rows: &Rows) -> Result<TableNumber, TablesError> {
        let tables = &mut self.tables;
        // A file has some hundred rules, over and over.
        let mut memo = [(Rule::NONE, 0); MEMO];
        let table = Table::pack(&rows.rows, |rule| {
            let key = rule.cfa_offset as usize
                ^ ((rule.rbp_offset as usize) << 1)
                ^ (usize::from(rule.reg) << 2);
            let place = &mut memo[key & (MEMO - 1)];
            if place.0 != *rule {
                *place = (*rule, tables.number(rule)?);
            }
            Some(place.1)
        });
        let table = table.map_err(|_| TablesError::Full)?;
        self.stats.rules_refused += table.unnumbered as u64;
        let mut words = Vec::with_capacity(table.words.len() + HEADER_WORDS as usize);
        words.extend([table.first_page, table.pages]);
        words.extend(table.words);
        tables.add(words.into_iter())
    }

    /// Gives the kernel what is mapped now. Returns what the process's entry has to say, once the
    /// tables are in the kernel.
    ///
    /// # Errors
    /// [`TablesError`].
    pub fn publish(&mut self) -> Result<(MappingsRef, Flush), TablesError> {
        let mappings: Vec<_> = self.space.mappings(&self.modules).collect();
        let words: Vec<u32> = mappings.iter().flat_map(Mapping::words).collect();
        // Another number than the last: a sample that has begun goes on with what it knows.
        if let Some(old) = self.previous.take() {
            self.tables.remove(old);
        }
        let table = self.tables.add(words.into_iter())?;
        self.previous = self.table.replace(table);
        let flush = self.tables.flush()?;
        self.generation += 1;
        self.history
            .insert(self.generation, Arc::clone(&self.space));
        let mappings = MappingsRef {
            table,
            count: mappings.len() as u32,
            generation: self.generation,
            pad: 0,
        };
        Ok((mappings, flush))
    }

    /// What was mapped in a generation.
    #[must_use]
    pub fn space(&self, generation: u32) -> Option<&AddressSpace> {
        self.history.get(&generation).map(|space| &**space)
    }

    /// The tables for an unwind of ours.
    #[must_use]
    pub fn on_host(&self) -> HostTables<'_> {
        self.tables.on_host()
    }

    /// What was met.
    #[must_use]
    pub fn stats(&self) -> NativeStats {
        self.stats
    }

    /// How many files have a table in the kernel.
    #[must_use]
    pub fn files(&self) -> usize {
        let states = self.modules.iter().map(|(_, module)| module.table);
        states
            .filter(|state| matches!(state, TableState::Loaded(_)))
            .count()
    }

    /// Bytes of all tables in the kernel, and how many rules there are.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        self.tables.memory()
    }
}
