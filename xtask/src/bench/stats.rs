//! Numbers of many runs in three: the median, the smallest, the largest.

/// What is told of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// Half of the values are below it.
    pub(super) median: f64,
    /// The smallest value.
    pub(super) min: f64,
    /// The largest value.
    pub(super) max: f64,
}

impl Spread {
    /// Of these values; all NaN if there are none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Self { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        };
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, min, max }
    }

    /// `median (min to max)` with that many digits.
    pub(super) fn show(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.min, self.max)
    }
}

/// The median of these values.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    Spread::of(values).median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_series() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
        assert_eq!(Spread::of([0.9, 0.8]).show(2), "0.85 (0.80 to 0.90)");
    }
}
