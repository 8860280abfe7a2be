//! The native code of all processes: what the kernel knows of it, kept up to date. Files and their
//! tables are shared by all that map them; each process has its mappings.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profiler_common::layout::MappingsRef;
use profiler_common::unwind::{HEADER_WORDS, Mapping, Rule};

use super::address_space::AddressSpace;
use super::generations::Generations;
use super::look::look;
use super::module::{ModuleIndex, Modules, TableState};
use super::workers::{Built, Workers};
use crate::bpf::tables::{Flush, HostTables, KernelTables, TableNumber, TablesError};
use crate::unwind::{Rows, Table};

/// Numbers of rules that are kept at hand while a table is packed, a power of two.
const MEMO: usize = 512;
/// States of mappings that go into the kernel together at most, so that the first of many does not
/// wait for the last.
const TOGETHER: usize = 256;
/// Files that are kept open although nobody maps them and no stack names them.
const MOST_UNUSED: usize = 4096;
/// A process whose mappings found no room is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What was met while tables were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NativeStats {
    /// Tables that found no room.
    pub tables_refused: u64,
    /// Rows whose rule found no room.
    pub rules_refused: u64,
    /// Files without rows.
    pub tables_missing: u64,
    /// Times that the mappings of a process found no room.
    pub mappings_refused: u64,
}

/// One process.
#[derive(Debug)]
struct ProcessCode {
    space: Arc<AddressSpace>,
    /// The generation of mappings that its entry in the kernel names.
    published: Option<u32>,
    /// The one on its way.
    coming: Option<u32>,
    /// Modules whose tables the kernel's mappings of it do not name yet.
    waits_for: BTreeSet<ModuleIndex>,
    /// When there was no room for its mappings.
    refused: Option<Instant>,
}

impl ProcessCode {
    fn new(space: Arc<AddressSpace>) -> Self {
        Self {
            space,
            published: None,
            coming: None,
            waits_for: BTreeSet::new(),
            refused: None,
        }
    }
}

/// What native frames are named by: the files, and what was mapped where.
pub trait MappedCode: std::fmt::Debug {
    /// All files.
    fn modules(&self) -> &Modules;

    /// What was mapped in a generation.
    fn space(&self, generation: u32) -> Option<&AddressSpace>;
}

impl MappedCode for NativeCode {
    fn modules(&self) -> &Modules {
        &self.modules
    }

    fn space(&self, generation: u32) -> Option<&AddressSpace> {
        Self::space(self, generation)
    }
}

/// The native code of all processes.
#[derive(Debug)]
pub struct NativeCode {
    /// All files.
    pub modules: Modules,
    tables: KernelTables,
    workers: Workers,
    pending: usize,
    processes: HashMap<u32, ProcessCode>,
    /// Processes of which the kernel knows something old.
    stale: BTreeSet<u32>,
    generations: Generations,
    stats: NativeStats,
}

impl NativeCode {
    /// Begins with nothing.
    ///
    /// # Errors
    /// As starting threads gives them.
    pub fn new(tables: KernelTables) -> io::Result<Self> {
        Ok(Self {
            modules: Modules::default(),
            tables,
            workers: Workers::start()?,
            pending: 0,
            processes: HashMap::new(),
            stale: BTreeSet::new(),
            generations: Generations::default(),
            stats: NativeStats::default(),
        })
    }

    /// Whether a process was looked at, so that it is looked at again when it maps code.
    #[must_use]
    pub fn follows(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid)
    }

    /// All processes that are followed.
    pub fn followed(&self) -> impl Iterator<Item = u32> + '_ {
        self.processes.keys().copied()
    }

    /// Whether a process that was sampled without mappings has to be looked at.
    #[must_use]
    pub fn is_unknown(&self, pid: u32) -> bool {
        match self.processes.get(&pid) {
            None => true,
            Some(process) => process
                .refused
                .is_some_and(|since| since.elapsed() > TRY_AGAIN),
        }
    }

    /// Looks what a process has mapped. If that changed, [`NativeCode::publish`] is due.
    pub fn look(&mut self, pid: u32) {
        // A process that is gone keeps what it had.
        let Ok(space) = look(pid, &mut self.modules) else {
            return;
        };
        let known = self.processes.get_mut(&pid);
        if let Some(known) = known {
            if *known.space == space {
                if known.refused.take().is_some() {
                    self.stale.insert(pid);
                }
                return;
            }
            let space = Arc::new(space);
            self.modules.take(space.modules());
            let old = std::mem::replace(&mut known.space, Arc::clone(&space));
            known.refused = None;
            self.modules.release(old.modules());
            self.modules.forget(old.modules());
            self.ask_for_tables(&space);
        } else {
            let space = Arc::new(space);
            self.modules.take(space.modules());
            self.ask_for_tables(&space);
            self.processes.insert(pid, ProcessCode::new(space));
        }
        self.stale.insert(pid);
    }

    fn ask_for_tables(&mut self, space: &AddressSpace) {
        for index in space.modules() {
            let Some(module) = self.modules.get(*index) else {
                continue;
            };
            if module.table != TableState::Absent {
                continue;
            }
            let comes = self.workers.ask(*index, module);
            self.pending += usize::from(comes);
            let state = if comes {
                TableState::Pending
            } else {
                self.stats.tables_missing += 1;
                TableState::None
            };
            self.modules.set_table(*index, state);
        }
    }

    /// A process was made as a copy of one whose mappings the kernel knows by `mappings`. Returns
    /// whether it knows those of the copy by the same; if not, nothing is known of it.
    pub fn share(&mut self, pid: u32, mappings: MappingsRef) -> bool {
        self.release(pid);
        let Some(generation) = self.generations.share(mappings) else {
            return false;
        };
        let mut process = ProcessCode::new(Arc::clone(&generation.space));
        process.published = Some(mappings.generation);
        process.waits_for = generation.pending.iter().copied().collect();
        let is_built = |index: &ModuleIndex| {
            let module = self.modules.get(*index);
            module.is_none_or(|module| module.table != TableState::Pending)
        };
        if process.waits_for.iter().any(is_built) {
            self.stale.insert(pid);
        }
        self.modules.take(process.space.modules());
        self.processes.insert(pid, process);
        true
    }

    /// A process has ended, runs another program, or is of no interest.
    pub fn release(&mut self, pid: u32) {
        let Some(process) = self.processes.remove(&pid) else {
            return;
        };
        self.stale.remove(&pid);
        for generation in [process.published, process.coming].into_iter().flatten() {
            self.generations.release(generation);
        }
        self.modules.release(process.space.modules());
        self.modules.forget(process.space.modules());
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
        for (pid, process) in &self.processes {
            if process.waits_for.contains(&built.module) {
                self.stale.insert(*pid);
            }
        }
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
        self.add(&words)
    }

    /// Adds a table. Those of files that nobody maps make room for it.
    fn add(&mut self, words: &[u32]) -> Result<TableNumber, TablesError> {
        loop {
            match self.tables.add(words.iter().copied()) {
                Err(_) if self.drop_unused_table() => {}
                done => return done,
            }
        }
    }

    fn drop_unused_table(&mut self) -> bool {
        let Some(index) = self.modules.unused_table() else {
            return false;
        };
        if let TableState::Loaded(number) = self.modules.set_table(index, TableState::Absent) {
            self.tables.remove(number);
        }
        true
    }

    /// Whether the kernel knows something old of a process.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Whether the kernel has what nobody needs. The next [`NativeCode::publish`] takes it out.
    #[must_use]
    pub fn has_waste(&self) -> bool {
        self.tables.is_waiting()
    }

    /// Gives the kernel what is mapped now. Returns what the entries of processes have to say once
    /// the tables are in the kernel; then [`NativeCode::published`] is due for each.
    ///
    /// # Errors
    /// [`TablesError`].
    pub fn publish(&mut self) -> Result<(Vec<(u32, MappingsRef)>, Flush), TablesError> {
        // Copies of a process that map the same have one table.
        let mut by_space: HashMap<*const AddressSpace, Vec<u32>> = HashMap::new();
        while by_space.len() < TOGETHER
            && let Some(pid) = self.stale.pop_first()
        {
            if let Some(process) = self.processes.get(&pid) {
                let space = Arc::as_ptr(&process.space);
                by_space.entry(space).or_default().push(pid);
            }
        }
        let mut all = Vec::new();
        for pids in by_space.into_values() {
            self.publish_one(&pids, &mut all);
        }
        let flush = self.tables.flush()?;
        Ok((all, flush))
    }

    fn publish_one(&mut self, pids: &[u32], all: &mut Vec<(u32, MappingsRef)>) {
        let first = pids.first().and_then(|pid| self.processes.get(pid));
        let Some(space) = first.map(|process| Arc::clone(&process.space)) else {
            return;
        };
        let mappings: Vec<_> = space.mappings(&self.modules).collect();
        let words: Vec<u32> = mappings.iter().flat_map(Mapping::words).collect();
        let Ok(table) = self.add(&words) else {
            // They keep what they had, if anything: what is mapped anew is not found there.
            self.stats.mappings_refused += pids.len() as u64;
            for pid in pids {
                if let Some(process) = self.processes.get_mut(pid) {
                    process.refused = Some(Instant::now());
                }
            }
            return;
        };
        let is_to_come = |index: &&ModuleIndex| {
            let module = self.modules.get(**index);
            module.is_some_and(|module| module.table == TableState::Pending)
        };
        let pending: Vec<_> = space.modules().iter().filter(is_to_come).copied().collect();
        self.modules.take(space.modules());
        let users = pids.len() as u32;
        let generation = self.generations.add(space, pending.clone(), table, users);
        for pid in pids {
            if let Some(process) = self.processes.get_mut(pid) {
                process.refused = None;
                process.waits_for = pending.iter().copied().collect();
                if let Some(old) = process.coming.replace(generation) {
                    self.generations.release(old);
                }
            }
            let mappings = MappingsRef {
                table,
                count: mappings.len() as u32,
                generation,
                pad: 0,
            };
            all.push((*pid, mappings));
        }
    }

    /// Whether a process is still to have a generation of mappings.
    #[must_use]
    pub fn awaits(&self, pid: u32, generation: u32) -> bool {
        let process = self.processes.get(&pid);
        process.is_some_and(|process| process.coming == Some(generation))
    }

    /// The process's entry names the mappings of that generation now.
    pub fn published(&mut self, pid: u32, generation: u32) {
        if let Some(process) = self.processes.get_mut(&pid)
            && process
                .coming
                .take_if(|coming| *coming == generation)
                .is_some()
            && let Some(old) = process.published.replace(generation)
        {
            self.generations.release(old);
        }
    }

    /// Takes out what nobody needs any more. `is_named` tells of which generations there are stacks.
    pub fn tidy(&mut self, is_named: impl Fn(u32) -> bool) {
        while let Some((number, table)) = self.generations.retire() {
            self.tables.remove(table);
            if let Some(generation) = self.generations.get(number) {
                let space = Arc::clone(&generation.space);
                self.modules.release(space.modules());
                if !is_named(number) {
                    self.generations.forget(number);
                    self.modules.forget(space.modules());
                }
            }
        }
        while self.crowd() > 0 && self.drop_unused_table() {}
        for index in self.modules.unused(MOST_UNUSED) {
            if let TableState::Loaded(number) = self.modules.close(index) {
                self.tables.remove(number);
            }
        }
    }

    /// How many tables have to go, so that there is room for others.
    #[must_use]
    pub fn crowd(&self) -> usize {
        let (used, all) = self.tables.room();
        // Those of processes that are gone go by themselves.
        let used = used.saturating_sub(self.generations.retiring());
        if used < all - all / 8 {
            return 0;
        }
        used - (all - all / 4)
    }

    /// What was mapped in a generation.
    #[must_use]
    pub fn space(&self, generation: u32) -> Option<&AddressSpace> {
        let generation = self.generations.get(generation)?;
        Some(&generation.space)
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
