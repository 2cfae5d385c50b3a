//! A log-linear histogram of durations, good for quantiles to within 1.6 %.
//!
//! Each power of two is cut into 32 equal buckets, as HdrHistogram does it; memory grows with the largest value seen
//! (3 KiB for 10 ms, 7.5 KiB at most).

const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;

/// Counts by duration.
#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    counts: Vec<u32>,
    total: u64,
}

impl Sketch {
    /// Counts one value, in nanoseconds.
    pub(super) fn record(&mut self, value_ns: u64) {
        let index = index(value_ns);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
    }

    /// The value that `quantile` (0 to 1) of the values do not exceed, in nanoseconds; 0 if there are none.
    pub(super) fn quantile(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return middle(index);
            }
        }
        0
    }
}

/// Values below 32 have a bucket of their own; further up the five bits below the highest one choose it.
fn index(value: u64) -> usize {
    let shift = (64 - SUB_BITS - 1).saturating_sub(value.leading_zeros());
    usize::try_from(u64::from(shift) * SUB + (value >> shift)).unwrap_or(usize::MAX)
}

fn middle(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / SUB).saturating_sub(1);
    ((index - shift * SUB) << shift) + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_comes_back_to_within_its_bucket(value in any::<u64>(), shift in 0_u32..63) {
            let value = value >> shift;
            let found = middle(index(value));
            prop_assert!(found.abs_diff(value) as f64 <= value as f64 / 62.0, "{} {}", value, found);
        }

        #[test]
        fn quantiles_agree_with_sorting(mut values in proptest::collection::vec(1_u64..1_000_000_000, 1..300)) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|value| sketch.record(*value));
            values.sort_unstable();
            for quantile in [0.5, 0.95, 0.99, 1.0] {
                let rank = (quantile * values.len() as f64).ceil() as usize;
                let exact = values[rank - 1] as f64;
                let found = sketch.quantile(quantile) as f64;
                prop_assert!((found - exact).abs() <= exact / 62.0 + 1.0, "{} {}", found, exact);
            }
        }
    }

    #[test]
    fn extremes() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.quantile(0.5), 0);
        sketch.record(0);
        sketch.record(u64::MAX);
        assert_eq!(sketch.quantile(0.5), 0);
        assert!(sketch.quantile(1.0) > u64::MAX / 2);
        assert!(sketch.counts.len() < 2_000);
    }
}
