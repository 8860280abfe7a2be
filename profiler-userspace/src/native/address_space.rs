//! One state of a process's executable mappings.

use std::path::{Path, PathBuf};

use profiler_common::unwind::Mapping;

use super::module::{ModuleIndex, Modules};

/// An executable mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// The load bias of its module; 0 without one.
    pub bias: u64,
    /// The file; `None` for anonymous memory, which JIT compilers use.
    pub module: Option<ModuleIndex>,
}

/// The mappings of a process from one change to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSpace {
    areas: Vec<Area>,
    modules: Vec<ModuleIndex>,
    /// Files that this process knows by other paths than who mapped them first.
    aliases: Vec<(PathBuf, ModuleIndex)>,
}

impl AddressSpace {
    /// Of areas in the order of their addresses.
    #[must_use]
    pub fn new(areas: Vec<Area>, aliases: Vec<(PathBuf, ModuleIndex)>) -> Self {
        let mut modules: Vec<_> = areas.iter().filter_map(|area| area.module).collect();
        modules.sort_unstable();
        modules.dedup();
        Self {
            areas,
            modules,
            aliases,
        }
    }

    /// The area that holds an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<&Area> {
        let behind = self.areas.partition_point(|area| area.start <= address);
        let area = self.areas.get(behind.checked_sub(1)?)?;
        (address < area.end).then_some(area)
    }

    /// All modules that are mapped, each once.
    #[must_use]
    pub fn modules(&self) -> &[ModuleIndex] {
        &self.modules
    }

    /// The module that the process knows by a path.
    #[must_use]
    pub fn module_at(&self, path: &Path, modules: &Modules) -> Option<ModuleIndex> {
        let alias = self.aliases.iter().find(|(alias, _)| alias == path);
        alias.map(|(_, index)| *index).or_else(|| {
            let is_there = |index: &&ModuleIndex| {
                let module = modules.get(**index);
                module.is_some_and(|module| module.path == path)
            };
            self.modules.iter().find(is_there).copied()
        })
    }

    /// What the kernel gets.
    pub fn mappings<'a>(&'a self, modules: &'a Modules) -> impl Iterator<Item = Mapping> + 'a {
        self.areas.iter().map(|area| Mapping {
            start: area.start,
            end: area.end,
            bias: area.bias,
            table: area.module.map_or(0, |module| modules.table(module)),
        })
    }
}
