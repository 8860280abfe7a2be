//! Folded stacks, read back.

use std::collections::BTreeMap;

use profiler_common::cause::Cause;

/// A profile as the format `raw` writes it.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// Weight by stack.
    pub stacks: BTreeMap<Vec<String>, u64>,
}

impl Folded {
    /// Reads the text.
    ///
    /// # Panics
    /// When a line is not of the format.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut stacks = BTreeMap::new();
        for line in text.lines() {
            let (stack, weight) = line.rsplit_once(' ').expect("a stack and a weight");
            let weight = weight
                .parse()
                .unwrap_or_else(|_| panic!("no weight in {line:?}"));
            let frames: Vec<String> = stack.split(';').map(str::to_owned).collect();
            assert!(stacks.insert(frames, weight).is_none(), "twice: {line}");
        }
        Self { stacks }
    }

    /// The same without the causes of waits at the leaves, but for the run queue.
    #[must_use]
    pub fn without_causes(&self) -> Self {
        let mut stacks = BTreeMap::new();
        for (stack, weight) in &self.stacks {
            let cause = stack.last().is_some_and(|leaf| {
                let cause = Cause::ALL.iter().find(|cause| cause.frame() == leaf);
                cause.is_some_and(|cause| *cause != Cause::RunQueue)
            });
            let stack = &stack[..stack.len() - usize::from(cause)];
            *stacks.entry(stack.to_vec()).or_default() += weight;
        }
        Self { stacks }
    }

    /// The sum of all weights.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stacks.values().sum()
    }

    /// The weight of the stacks that fulfil a condition.
    #[must_use]
    pub fn weight(&self, fits: impl Fn(&[String]) -> bool) -> u64 {
        self.stacks
            .iter()
            .filter(|(stack, _)| fits(stack))
            .map(|(_, weight)| weight)
            .sum()
    }

    /// The weight of the stacks that end in the given frames.
    #[must_use]
    pub fn ending_in(&self, frames: &[&str]) -> u64 {
        self.weight(|stack| {
            stack.len() >= frames.len()
                && stack[stack.len() - frames.len()..]
                    .iter()
                    .zip(frames)
                    .all(|(a, b)| a == b)
        })
    }

    /// The weight of the stacks that hold a function of this name.
    #[must_use]
    pub fn in_function(&self, name: &str) -> u64 {
        let start = format!("{name} (");
        self.weight(|stack| stack.iter().any(|frame| frame.starts_with(&start)))
    }
}
