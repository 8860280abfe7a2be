//! Folded stacks: `outer (file:line);inner (file:line) WEIGHT`.

use anyhow::{Context, Result, bail};

/// A profile's weight, and how much of it is at the stack that was expected.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share {
    /// The sum of all weights.
    pub(crate) total: u64,
    /// The weight of stacks that end in the functions that were asked for.
    pub(crate) right: u64,
}

impl Share {
    /// In hundredths.
    pub(crate) fn percent(self) -> f64 {
        if self.total == 0 {
            0.0
        } else {
            100.0 * self.right as f64 / self.total as f64
        }
    }
}

/// How much of the stacks in `lines` ends in calls of `functions`, each with a file and line.
pub(crate) fn share<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    functions: &[&str],
) -> Result<Share> {
    share_of(lines, |frames| ends_in(frames, functions))
}

/// How much of the stacks in `lines` is `right`, which gets a stack's frames, the root first.
pub(crate) fn share_of<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    right: impl Fn(&[&str]) -> bool,
) -> Result<Share> {
    let mut share = Share::default();
    for line in lines.into_iter().filter(|line| !line.is_empty()) {
        let (stack, weight) = line
            .rsplit_once(' ')
            .with_context(|| format!("not a folded stack: {line}"))?;
        let Ok(weight) = weight.parse::<u64>() else {
            bail!("not a folded stack: {line}");
        };
        share.total += weight;
        if right(&stack.split(';').collect::<Vec<_>>()) {
            share.right += weight;
        }
    }
    Ok(share)
}

/// Whether a stack ends in calls of `functions`.
pub(crate) fn ends_in(frames: &[&str], functions: &[&str]) -> bool {
    let Some(from) = frames.len().checked_sub(functions.len()) else {
        return false;
    };
    frames[from..]
        .iter()
        .zip(functions)
        .all(|(frame, function)| is_call(frame, function))
}

/// Whether a frame is `FUNCTION (FILE:LINE)`.
pub(crate) fn is_call(frame: &str, function: &str) -> bool {
    frame
        .strip_prefix(function)
        .and_then(|place| place.strip_prefix(" ("))
        .and_then(|place| place.strip_suffix(')'))
        .and_then(|place| place.rsplit_once(':'))
        .is_some_and(|(_, line)| line.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::{Share, share};

    #[test]
    fn counts_the_stacks_that_end_as_asked() -> anyhow::Result<()> {
        let lines = [
            "<module> (p.py:28);outer (p.py:22);leaf (p.py:8) 97",
            "<module> (p.py:28);outer (p.py:22) 2",
            "",
            "outer (p.py:22);leafy (p.py:8) 1",
        ];
        let share = share(lines, &["outer", "leaf"])?;
        assert_eq!(
            share,
            Share {
                total: 100,
                right: 97
            }
        );
        Ok(())
    }

    #[test]
    fn a_frame_has_a_line() -> anyhow::Result<()> {
        assert_eq!(share(["outer (p.py) 5"], &["outer"])?.right, 0);
        assert!(share(["outer (p.py:1)"], &["outer"]).is_err());
        Ok(())
    }
}
