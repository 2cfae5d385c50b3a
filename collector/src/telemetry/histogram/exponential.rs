//! Base-2 exponential buckets: as fine as the values allow, in a bounded number of counters.
//!
//! Bucket `i` of scale `s` holds values in `(base^i, base^(i + 1)]` with `base = 2^(2^-s)`. When a value lies too far
//! from the others, the scale is lowered: neighbours become one, in pairs.
//!
//! Spec: <https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram> and
//! <https://opentelemetry.io/docs/specs/otel/metrics/sdk/#base2-exponential-bucket-histogram-aggregation>

/// Counters at most.
pub const MAX_SIZE: u32 = 160;
/// The finest scale, where one begins: 2^20 buckets between a value and its double.
pub const MAX_SCALE: i32 = 20;

/// Counts of values above zero. Durations are never negative, so there is one range of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Exponential {
    scale: i32,
    /// The index of the first counter.
    offset: i32,
    counts: Counts,
    zero: u64,
}

/// Half the memory until one bucket has seen four billion values.
#[derive(Clone, Debug, PartialEq)]
enum Counts {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

impl Default for Exponential {
    fn default() -> Self {
        Self { scale: MAX_SCALE, offset: 0, counts: Counts::Narrow(Vec::new()), zero: 0 }
    }
}

impl Exponential {
    /// Counts a value: finite, and not below zero.
    pub fn record(&mut self, value: f64) {
        if value <= 0.0 {
            self.zero += 1;
            return;
        }
        let mut index = index(value, self.scale);
        let len = self.counts.len();
        if len == 0 {
            self.offset = index;
        }
        let last = self.offset.saturating_add_unsigned(len.saturating_sub(1));
        let (mut low, mut high) = (self.offset.min(index), last.max(index));
        let mut by = 0;
        while high.saturating_sub(low) >= MAX_SIZE.cast_signed() {
            (low, high, by) = (low >> 1, high >> 1, by + 1);
        }
        if by > 0 {
            self.coarsen(by);
            index >>= by;
        }
        if index < self.offset {
            self.counts.grow_below(self.offset.abs_diff(index));
            self.offset = index;
        }
        self.counts.add(self.offset.abs_diff(index), 1);
    }

    /// The exponent of `base = 2^(2^-scale)`.
    #[must_use]
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// The index of the first bucket.
    #[must_use]
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// How many values were zero.
    #[must_use]
    pub fn zero(&self) -> u64 {
        self.zero
    }

    /// The counts from the first bucket on.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        let (narrow, wide): (&[u32], &[u64]) = match &self.counts {
            Counts::Narrow(counts) => (counts, &[]),
            Counts::Wide(counts) => (&[], counts),
        };
        narrow.iter().map(|count| u64::from(*count)).chain(wide.iter().copied())
    }

    /// Back to empty and to the finest scale; keeps its memory.
    pub fn clear(&mut self) {
        (self.scale, self.offset, self.zero) = (MAX_SCALE, 0, 0);
        match &mut self.counts {
            Counts::Narrow(counts) => counts.clear(),
            Counts::Wide(counts) => counts.clear(),
        }
    }

    /// Lowers the scale by `by`: each new bucket is what `2^by` neighbours were.
    fn coarsen(&mut self, by: u32) {
        let first = self.offset >> by;
        let mut coarser = Counts::Narrow(Vec::with_capacity(self.counts.len() as usize));
        for (index, count) in (self.offset..).zip(self.counts()).filter(|(_, count)| *count > 0) {
            coarser.add((index >> by).abs_diff(first), count);
        }
        self.counts = coarser;
        self.offset = first;
        self.scale -= by.cast_signed();
    }
}

impl Counts {
    fn len(&self) -> u32 {
        let len = match self {
            Self::Narrow(counts) => counts.len(),
            Self::Wide(counts) => counts.len(),
        };
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    /// Adds to the counter at `at`, after those there are if need be.
    fn add(&mut self, at: u32, more: u64) {
        let at = at as usize;
        if let Self::Narrow(counts) = self {
            if counts.len() <= at {
                let room = (at + 1).next_power_of_two().min(MAX_SIZE as usize).max(at + 1);
                counts.reserve_exact(room - counts.len());
                counts.resize(at + 1, 0);
            }
            let Some(count) = counts.get_mut(at) else { return };
            match u32::try_from(more).ok().and_then(|more| count.checked_add(more)) {
                Some(sum) => *count = sum,
                None => {
                    *self = Self::Wide(counts.iter().map(|count| u64::from(*count)).collect());
                }
            }
            if matches!(self, Self::Narrow(_)) {
                return;
            }
        }
        if let Self::Wide(counts) = self {
            if counts.len() <= at {
                counts.resize(at + 1, 0);
            }
            if let Some(count) = counts.get_mut(at) {
                *count += more;
            }
        }
    }

    /// Makes room for `more` counters before those there are.
    fn grow_below(&mut self, more: u32) {
        let more = more as usize;
        match self {
            Self::Narrow(counts) => {
                counts.reserve_exact(more);
                counts.splice(..0, std::iter::repeat_n(0, more));
            }
            Self::Wide(counts) => drop(counts.splice(..0, std::iter::repeat_n(0, more))),
        }
    }
}

/// The bucket of a value above zero.
fn index(value: f64, scale: i32) -> i32 {
    const FRACTION_BITS: u32 = 52;
    const FRACTION: u64 = (1 << FRACTION_BITS) - 1;
    // A subnormal number gets an exponent by being multiplied: none of our durations is one, but no value is special.
    let (value, shift) = if value.is_normal() { (value, 0) } else { (value * 2f64.powi(64), 64) };
    let bits = value.to_bits();
    let biased = i32::try_from(bits >> FRACTION_BITS & 0x7ff).unwrap_or(0);
    let exponent = biased - 1023 - shift;
    let fraction = bits & FRACTION;
    // A power of two is the upper bound of the bucket below it.
    let exact = i32::from(fraction == 0);
    if scale <= 0 {
        return (exponent - exact) >> -scale;
    }
    if exact == 1 {
        return (exponent << scale) - 1;
    }
    // log2 of a number in (1, 2); the fraction of an index is cut off, since values above zero are meant.
    let significand = f64::from_bits(fraction | 1023 << FRACTION_BITS);
    let within = (significand.log2() * f64::from(1 << scale)).ceil() as i32 - 1;
    (exponent << scale) + within.clamp(0, (1 << scale) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Exponential {
        let mut histogram = Exponential::default();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    #[test]
    fn powers_of_two_are_upper_bounds() {
        let smallest = (f64::from_bits(1), -1074);
        let others = [-1022, -10, -1, 0, 1, 9, 1023].map(|exponent| (2f64.powi(exponent), exponent));
        for (value, exponent) in others.into_iter().chain([smallest]) {
            for scale in -10..=MAX_SCALE {
                let expected = if scale > 0 { (exponent << scale) - 1 } else { (exponent - 1) >> -scale };
                assert_eq!(index(value, scale), expected, "2^{exponent} at scale {scale}");
            }
        }
        assert_eq!([index(1.5, 0), index(2.0, 0), index(2.1, 0), index(4.0, 0)], [0, 0, 1, 1]);
        assert_eq!([index(1.1, 1), index(1.4, 1), index(1.5, 1), index(2.0, 1)], [0, 0, 1, 1]);
    }

    #[test]
    fn one_value_has_the_finest_scale_and_two_decades_a_coarse_one() {
        let one = of([0.006; 3]);
        assert_eq!((one.scale(), one.counts().collect::<Vec<_>>()), (20, vec![3]));
        let two = of([1.0, 1024.0]);
        // Ten doublings in 160 buckets: 16 each.
        assert_eq!((two.scale(), two.offset(), two.counts().count()), (3, -1, 81));
        let all = of([f64::MIN_POSITIVE, 0.0, f64::MAX]);
        assert_eq!((all.zero(), all.counts().sum::<u64>()), (1, 2));
        assert!(all.counts().count() <= MAX_SIZE as usize && all.scale() == -4, "{all:?}");
    }

    #[test]
    fn counters_widen_before_they_overflow() {
        let mut histogram = of([1.0, 3.0]);
        histogram.counts.add(0, u64::from(u32::MAX) - 1);
        assert!(matches!(histogram.counts, Counts::Narrow(_)));
        histogram.record(1.0);
        assert_eq!(histogram.counts().next(), Some(1 << 32));
        let last = histogram.counts().count() as u32 - 1;
        histogram.counts.add(last, u64::MAX / 2);
        histogram.record(0.9);
        histogram.record(1e9);
        assert_eq!(histogram.counts().sum::<u64>(), (1 << 32) + 1 + u64::MAX / 2 + 2);
    }

    #[test]
    fn cleared_is_new() {
        let mut histogram = of([0.0, 1.0, 1e6]);
        histogram.clear();
        assert_eq!(histogram, Exponential::default());
    }

    proptest! {
        #[test]
        fn every_value_lies_within_its_bucket(values in proptest::collection::vec(1e-9_f64..1e5, 1..200)) {
            let histogram = of(values.iter().copied());
            prop_assert_eq!(histogram.counts().sum::<u64>(), values.len() as u64);
            prop_assert!(histogram.counts().count() <= MAX_SIZE as usize);
            let base = 2f64.powf(2f64.powi(-histogram.scale()));
            for value in values {
                let at = index(value, histogram.scale());
                // Rounding may put a value that is next to a bound on its other side.
                let (low, high) = (base.powi(at) * (1.0 - 1e-9), base.powi(at + 1) * (1.0 + 1e-9));
                prop_assert!(low < value && value <= high, "{value} in ({low}, {high}]");
                let counted = histogram.counts().nth((at - histogram.offset()) as usize);
                prop_assert!(counted.is_some_and(|count| count > 0));
            }
        }
    }
}
