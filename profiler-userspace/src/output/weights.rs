//! The unit in which sums are shown.

use std::collections::BTreeMap;

/// What sums are shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Samples, as they are.
    Samples,
    /// Nanoseconds, in microseconds.
    Microseconds,
    /// Nanoseconds, in samples of a rate.
    AsSamples(u32),
}

impl Weights {
    /// Puts sums in the unit that is shown. Lines of which nothing is left are left out.
    #[must_use]
    pub fn show(self, mut lines: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        match self {
            Self::Samples => {}
            Self::Microseconds => {
                for weight in lines.values_mut() {
                    *weight = (*weight + 500) / 1000;
                }
            }
            Self::AsSamples(rate) => {
                // What one line lacks of a sample counts for the next: the sum is right.
                let (mut all, mut told) = (0_u128, 0_u64);
                for weight in lines.values_mut() {
                    all += u128::from(*weight);
                    let until = (all * u128::from(rate) + 500_000_000) / 1_000_000_000;
                    *weight = until as u64 - told;
                    told = until as u64;
                }
            }
        }
        lines.retain(|_, weight| *weight != 0);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_time_add_up() {
        let lines: BTreeMap<String, u64> = (0..1000)
            .map(|line| (format!("{line:04}"), 3_333_333))
            .collect();
        let shown = Weights::AsSamples(100).show(lines.clone());
        assert_eq!(shown.values().sum::<u64>(), 333);
        let shown = Weights::Microseconds.show(lines);
        assert_eq!(shown.values().sum::<u64>(), 3_333_000);
    }
}
