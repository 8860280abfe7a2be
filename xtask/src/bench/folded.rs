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
        assert!(Folded::parse("busy").is_err());
    }
}
