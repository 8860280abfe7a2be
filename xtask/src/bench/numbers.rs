//! Medians, and numbers as they are printed.

/// Several measurements of one thing.
#[derive(Clone, Debug)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// In any order; there must be one at least.
    pub(super) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The middle one.
    pub(super) fn median(&self) -> f64 {
        let (half, odd) = (self.0.len() / 2, self.0.len() % 2 == 1);
        match (odd, self.0.get(half), self.0.get(half.wrapping_sub(1))) {
            (false, Some(upper), Some(lower)) => f64::midpoint(*upper, *lower),
            (_, Some(middle), _) => *middle,
            _ => f64::NAN,
        }
    }

    /// The smallest.
    pub(super) fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    /// The largest.
    pub(super) fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    /// Half of the measurements lie between these.
    pub(super) fn quartiles(&self) -> (f64, f64) {
        let at = |part: usize| self.0.get(self.0.len() * part / 4).copied();
        (at(1).unwrap_or(f64::NAN), at(3).unwrap_or(f64::NAN))
    }

    /// Half of the measurements lie in a range of this length.
    pub(super) fn middle_half(&self) -> f64 {
        let (lower, upper) = self.quartiles();
        upper - lower
    }

    /// A number for each measurement.
    pub(super) fn map(&self, number: impl Fn(f64) -> f64) -> Self {
        Self::new(self.0.iter().copied().map(number).collect())
    }
}

/// A slowdown in percent, or as a factor when it is large.
pub(super) fn slowdown(percent: f64) -> String {
    if percent > 300.0 {
        format!("x {:.0}", percent / 100.0 + 1.0)
    } else {
        format!("{percent:.2} %")
    }
}

/// The median slowdown and the range of all.
pub(super) fn slowdowns(values: &Samples) -> String {
    format!(
        "{} ({} to {})",
        slowdown(values.median()),
        slowdown(values.min()),
        slowdown(values.max())
    )
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn medians() {
        assert!((Samples::new(vec![3.0, 1.0, 2.0]).median() - 2.0).abs() < 1e-9);
        assert!((Samples::new(vec![4.0, 1.0]).median() - 2.5).abs() < 1e-9);
        let doubled = Samples::new(vec![3.0, 1.0, 4.0, 2.0]).map(|value| 2.0 * value);
        assert_eq!(doubled.quartiles(), (4.0, 8.0));
        assert!(Samples::new(Vec::new()).median().is_nan());
    }
}
