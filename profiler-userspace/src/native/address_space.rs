//! One state of a process's executable mappings.

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
}

impl AddressSpace {
    /// Of areas in the order of their addresses.
    #[must_use]
    pub fn new(areas: Vec<Area>) -> Self {
        Self { areas }
    }

    /// The area that holds an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<&Area> {
        let behind = self.areas.partition_point(|area| area.start <= address);
        let area = self.areas.get(behind.checked_sub(1)?)?;
        (address < area.end).then_some(area)
    }

    /// All areas.
    #[must_use]
    pub fn areas(&self) -> &[Area] {
        &self.areas
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
