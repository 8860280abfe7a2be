//! The result of a recording: weights of stacks.

use std::collections::BTreeMap;
use std::collections::HashMap;

use super::stacks::{FrameText, Stacks};
use crate::output::text::one_line;

/// What a stack's weight counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Samples.
    Samples,
    /// Time, kept in nanoseconds, shown in microseconds.
    Time,
}

/// A frame of ours below the leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leaf {
    /// None.
    #[default]
    None,
    /// The thread could run and did not.
    RunQueue,
}

impl Leaf {
    fn text(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::RunQueue => Some("[run queue]"),
        }
    }
}

/// What weights are kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The thread; 0 where threads are not kept apart.
    pub tid: u32,
    /// The stack's hash.
    pub stack: u64,
    /// A frame of ours below it.
    pub leaf: Leaf,
}

/// Weights of stacks.
#[derive(Debug)]
pub struct Profile {
    unit: Unit,
    weights: HashMap<Key, u64>,
}

/// The stack of records whose frames were lost.
const STACK_LOST: &str = "[stack lost]";

impl Profile {
    /// An empty one.
    #[must_use]
    pub fn new(unit: Unit) -> Self {
        Self {
            unit,
            weights: HashMap::new(),
        }
    }

    /// What weights count.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Adds a weight: samples, or nanoseconds.
    pub fn add(&mut self, key: Key, weight: u64) {
        *self.weights.entry(key).or_default() += weight;
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.weights.keys()
    }

    /// The sum of all weights.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights.values().sum()
    }

    /// Folded lines, sorted: frames from the root to the leaf and a weight, samples or
    /// microseconds. `thread_name` names a thread, for the outermost frame.
    #[must_use]
    pub fn folded(
        &self,
        stacks: &Stacks,
        thread_name: impl Fn(u32) -> Option<String>,
    ) -> BTreeMap<String, u64> {
        let mut lines: BTreeMap<String, u64> = BTreeMap::new();
        for (key, weight) in &self.weights {
            let mut parts = Vec::new();
            if key.tid != 0 {
                parts.push(match thread_name(key.tid) {
                    Some(name) => format!("thread ({}): {}", key.tid, clean(&name)),
                    None => format!("thread ({})", key.tid),
                });
            }
            match stacks.get(key.stack) {
                Some(stack) => {
                    parts.extend(
                        stack
                            .frames
                            .iter()
                            .filter_map(|id| stacks.frame(*id))
                            .map(text),
                    );
                }
                None => parts.push(STACK_LOST.to_owned()),
            }
            parts.extend(key.leaf.text().map(str::to_owned));
            *lines.entry(parts.join(";")).or_default() += weight;
        }
        if self.unit == Unit::Time {
            for weight in lines.values_mut() {
                *weight = (*weight + 500) / 1000;
            }
            lines.retain(|_, weight| *weight != 0);
        }
        lines
    }
}

/// A frame as py-spy writes it: `name (file:line)`.
fn text(frame: &FrameText) -> String {
    match frame {
        FrameText::Python {
            name,
            file,
            line: Some(line),
        } => {
            format!("{} ({}:{line})", clean(name), clean(file))
        }
        FrameText::Python {
            name,
            file,
            line: None,
        } => {
            format!("{} ({})", clean(name), clean(file))
        }
        FrameText::Native(text) => clean(text),
        FrameText::Marker(marker) => (*marker).to_owned(),
    }
}

/// What separates frames and lines in the format cannot be part of a name.
fn clean(text: &str) -> String {
    one_line(text).replace(';', ":")
}
