//! Folded stacks, as both profilers write them.

use anyhow::{Context, Result};

/// Stacks and their weights.
#[derive(Debug)]
pub(super) struct Folded(Vec<(String, u64)>);

impl Folded {
    /// Reads the lines of a file.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let line = |line: &str| {
            let (stack, weight) = line.rsplit_once(' ')?;
            Some((stack.to_owned(), weight.parse().ok()?))
        };
        text.lines()
            .map(|text| line(text).with_context(|| format!("not a folded stack: {text}")))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// The weight of all.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|(_, weight)| weight).sum()
    }

    /// The weight of the stacks that a function is in.
    pub(super) fn of(&self, function: &str) -> u64 {
        let frame = format!("{function} (");
        let holds = |stack: &str| stack.split(';').any(|part| part.starts_with(&frame));
        self.0
            .iter()
            .filter(|(stack, _)| holds(stack))
            .map(|(_, weight)| weight)
            .sum()
    }

    /// Of the heaviest stack that a function is in, how many frames `counted` holds for.
    pub(super) fn depth(&self, function: &str, counted: impl Fn(&str) -> bool) -> usize {
        let frame = format!(";{function} (");
        let within = self.0.iter().filter(|(stack, _)| stack.contains(&frame));
        let heaviest = within.max_by_key(|(_, weight)| *weight);
        heaviest.map_or(0, |(stack, _)| {
            stack.split(';').filter(|frame| counted(frame)).count()
        })
    }

    /// Percent of the weight that is of stacks for which `holds`.
    pub(super) fn percent(&self, holds: impl Fn(&str) -> bool) -> f64 {
        let held = self.0.iter().filter(|(stack, _)| holds(stack));
        let weight: u64 = held.map(|(_, weight)| weight).sum();
        weight as f64 / self.total().max(1) as f64 * 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::Folded;

    #[test]
    fn weights_of_functions() {
        let folded =
            Folded::parse("run (a b.py:1);busy (a.py:2) 3\nnot_busy (a.py:3) 4\n").expect("folded");
        assert_eq!(folded.total(), 7);
        assert_eq!(folded.of("busy"), 3);
        assert_eq!(folded.depth("busy", |frame| frame.contains("a.py")), 1);
        assert!((folded.percent(|stack| stack.contains(';')) - 300.0 / 7.0).abs() < 1e-9);
        assert!(Folded::parse("busy").is_err());
    }
}
