//! The counters of a recording, the kernel's and our own.

use profiler_common::counter::{COUNTERS, Class, Counter};

/// A value for every [`Counter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    values: [u64; COUNTERS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            values: [0; COUNTERS],
        }
    }
}

impl Counters {
    /// The value of one.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// Adds to one.
    pub fn add(&mut self, counter: Counter, amount: u64) {
        self.values[counter as usize] += amount;
    }

    /// Takes off what turned out to be none.
    pub fn take_off(&mut self, counter: Counter, amount: u64) {
        let value = &mut self.values[counter as usize];
        *value = value.saturating_sub(amount);
    }

    /// Those of a class that are not 0.
    pub fn of_class(&self, class: Class) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL
            .iter()
            .map(|counter| (*counter, self.get(*counter)))
            .filter(move |(counter, value)| counter.class() == class && *value != 0)
    }
}
