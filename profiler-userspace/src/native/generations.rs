//! The states of mappings that the kernel has, or had: each has a number of its own, over all
//! processes. A process that was made as a copy of another one shares that one's.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use profiler_common::layout::MappingsRef;

use super::address_space::AddressSpace;
use super::module::ModuleIndex;
use crate::bpf::tables::TableNumber;

/// How long a table stays that no process has any more: a sample may have begun with it, a copy of
/// the process may just have been made, and records that name it may be on their way.
const STAYS: Duration = Duration::from_secs(1);

/// One state of mappings.
#[derive(Debug)]
pub(super) struct Generation {
    /// What is mapped.
    pub(super) space: Arc<AddressSpace>,
    /// Modules whose tables were to come when it went into the kernel.
    pub(super) pending: Vec<ModuleIndex>,
    /// Its table in the kernel, which is taken out after the last process that used it.
    table: Option<TableNumber>,
    /// Processes that have it, or will.
    users: u32,
}

/// All that are known.
#[derive(Debug, Default)]
pub(super) struct Generations {
    all: HashMap<u32, Generation>,
    last: u32,
    /// Those that lost their last user, and when.
    retired: VecDeque<(Instant, u32)>,
}

impl Generations {
    /// Adds one that is in the table of that number, and that `users` processes will have.
    pub(super) fn add(
        &mut self,
        space: Arc<AddressSpace>,
        pending: Vec<ModuleIndex>,
        table: TableNumber,
        users: u32,
    ) -> u32 {
        // 0 is none.
        self.last = self.last.checked_add(1).unwrap_or(1);
        let generation = Generation {
            space,
            pending,
            table: Some(table),
            users,
        };
        self.all.insert(self.last, generation);
        self.last
    }

    /// One of them.
    pub(super) fn get(&self, number: u32) -> Option<&Generation> {
        self.all.get(&number)
    }

    /// Another process has what the kernel knows by `mappings`. `None` when that is gone.
    pub(super) fn share(&mut self, mappings: MappingsRef) -> Option<&Generation> {
        let generation = self.all.get_mut(&mappings.generation)?;
        if generation.table != Some(mappings.table) {
            return None;
        }
        generation.users += 1;
        Some(generation)
    }

    /// A process has it no more.
    pub(super) fn release(&mut self, number: u32) {
        if let Some(generation) = self.all.get_mut(&number) {
            generation.users = generation.users.saturating_sub(1);
            if generation.users == 0 {
                self.retired.push_back((Instant::now(), number));
            }
        }
    }

    /// Takes out the table of one that nobody has had for long enough. `None` when there is no other.
    pub(super) fn retire(&mut self) -> Option<(u32, TableNumber)> {
        while let Some((since, number)) = self.retired.front().copied() {
            if since.elapsed() < STAYS {
                return None;
            }
            self.retired.pop_front();
            if let Some(generation) = self.all.get_mut(&number)
                && generation.users == 0
                && let Some(table) = generation.table.take()
            {
                return Some((number, table));
            }
        }
        None
    }

    /// How many wait for their table to be taken out.
    pub(super) fn retiring(&self) -> usize {
        self.retired.len()
    }

    /// Forgets one that no stack names.
    pub(super) fn forget(&mut self, number: u32) {
        self.all.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_has_stays() {
        let mut all = Generations::default();
        let number = all.add(Arc::default(), Vec::new(), 7, 1);
        let mappings = MappingsRef {
            table: 7,
            count: 0,
            generation: number,
            pad: 0,
        };
        all.release(number);
        assert!(all.share(mappings).is_some(), "just made");
        assert!(all.retire().is_none());
        let another = MappingsRef {
            table: 8,
            ..mappings
        };
        assert!(all.share(another).is_none());
    }

    #[test]
    fn tables_stay_for_a_while() {
        let mut all = Generations::default();
        let number = all.add(Arc::default(), Vec::new(), 7, 1);
        all.release(number);
        assert!(all.retire().is_none(), "a sample may have begun with it");
        for (since, _) in &mut all.retired {
            *since -= STAYS;
        }
        assert_eq!(all.retire(), Some((number, 7)));
        assert!(all.get(number).is_some(), "stacks may name it");
        all.forget(number);
        assert!(all.get(number).is_none());
    }
}
