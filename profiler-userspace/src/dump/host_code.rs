//! The native code of one process, with tables of our own: each file's is compiled when the first frame
//! of it is met.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use profiler_common::unwind::{Mapping, Rule, Tables};

use crate::native::{
    AddressSpace, MappedCode, ModuleIndex, Modules, TableState, kept_rows, look, rows_of,
};
use crate::unwind::{Disk, Table};

/// The number of the table with the mappings; those of files follow.
const MAPPINGS: u32 = 1;
/// The one generation that there is.
pub(super) const GENERATION: u32 = 1;

/// Code, and what leads through it.
#[derive(Debug)]
pub(super) struct HostCode {
    modules: Modules,
    space: AddressSpace,
    mappings: Vec<u32>,
    count: u32,
    /// The files, in the order of their tables.
    files: Vec<ModuleIndex>,
    disk: Option<Disk>,
    compiled: RefCell<Compiled>,
}

/// Tables by their numbers, and the rules of all of them.
#[derive(Debug)]
struct Compiled {
    tables: HashMap<u32, Vec<u32>>,
    rules: Vec<Rule>,
    numbers: HashMap<Rule, u16>,
}

impl HostCode {
    /// What a process has mapped now.
    ///
    /// # Errors
    /// As reading its mappings gives them.
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        let mut modules = Modules::default();
        let space = look(pid, &mut modules)?;
        let files = space.modules().to_vec();
        for (number, index) in (MAPPINGS + 1..).zip(&files) {
            modules.set_table(*index, TableState::Loaded(number));
        }
        let mappings: Vec<Mapping> = space.mappings(&modules).collect();
        Ok(Self {
            mappings: mappings.iter().flat_map(Mapping::words).collect(),
            count: mappings.len() as u32,
            modules,
            space,
            files,
            disk: kept_rows(),
            compiled: RefCell::new(Compiled {
                tables: HashMap::new(),
                // Rule 0 is none.
                rules: vec![Rule::NONE],
                numbers: HashMap::from([(Rule::NONE, 0)]),
            }),
        })
    }

    /// The table with the mappings, and how many there are.
    pub(super) fn mappings(&self) -> (u32, u32) {
        (MAPPINGS, self.count)
    }

    fn compile(&self, table: u32, compiled: &mut Compiled) -> Vec<u32> {
        let module = table
            .checked_sub(MAPPINGS + 1)
            .and_then(|at| self.modules.get(*self.files.get(at as usize)?));
        let rows = module.and_then(|module| {
            rows_of(
                &module.source,
                module.build_id.as_deref(),
                self.disk.as_ref(),
            )
        });
        let Some(rows) = rows.filter(|rows| !rows.rows.is_empty()) else {
            return Vec::new();
        };
        let table = Table::pack(&rows.rows, |rule| {
            if let Some(number) = compiled.numbers.get(rule) {
                return Some(*number);
            }
            let number = u16::try_from(compiled.rules.len()).ok()?;
            compiled.rules.push(*rule);
            compiled.numbers.insert(*rule, number);
            Some(number)
        });
        let Ok(table) = table else {
            return Vec::new();
        };
        let mut words = vec![table.first_page, table.pages];
        words.extend(table.words);
        words
    }
}

impl Tables for HostCode {
    fn word(&self, table: u32, index: u32) -> Option<u32> {
        if table == MAPPINGS {
            return self.mappings.get(index as usize).copied();
        }
        let mut compiled = self.compiled.borrow_mut();
        if !compiled.tables.contains_key(&table) {
            let words = self.compile(table, &mut compiled);
            compiled.tables.insert(table, words);
        }
        let words = compiled.tables.get(&table)?;
        words.get(index as usize).copied()
    }

    fn rule(&self, number: u16) -> Option<Rule> {
        let compiled = self.compiled.borrow();
        compiled.rules.get(usize::from(number)).copied()
    }
}

impl MappedCode for HostCode {
    fn modules(&self) -> &Modules {
        &self.modules
    }

    fn space(&self, generation: u32) -> Option<&AddressSpace> {
        (generation == GENERATION).then_some(&self.space)
    }
}
