//! The two numbers of consistent probability sampling: a trace's randomness, and the threshold that it must reach.
//!
//! Both have 56 bits. Whoever samples a trace compares the same randomness, so that what is kept with a small probability
//! is kept with every greater one, too.
//!
//! Spec: <https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>

use compact_str::{CompactString, format_compact};
use opentelemetry::trace::TraceId;

/// How many different values of a trace's randomness there are: 2^56.
const ALL: u64 = 1 << BITS;
const BITS: u32 = 56;
/// Hexadecimal digits of [`BITS`].
const DIGITS: u32 = 14;
/// Significant digits of a threshold that is made of a probability.
///
/// > OpenTelemetry SDKs are recommended to use 4 digits of precision by default.
const PRECISION: u32 = 4;

/// The randomness of a trace, below 2^56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Randomness(u64);

/// How many of all 2^56 values of randomness are not kept: 0 keeps everything, 2^56 nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Threshold(u64);

impl Randomness {
    /// The least significant 56 bits of the trace's id, which W3C Trace Context Level 2 wants random.
    pub(super) fn of(trace_id: TraceId) -> Self {
        let [.., a, b, c, d, e, f, g] = trace_id.to_bytes();
        Self(u64::from_be_bytes([0, a, b, c, d, e, f, g]))
    }

    /// The value of the sub-key `rv`: exactly 14 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        (text.len() == DIGITS as usize).then(|| hex(text))?.map(Self)
    }
}

impl Threshold {
    /// Everything is kept.
    pub(super) const ALL_KEPT: Self = Self(0);

    /// Keeps the part `probability` of all traces; nothing if it is below 2^-56.
    pub(super) fn of_probability(probability: f64) -> Self {
        // Exact: a product with a power of two, and never more than 53 significant bits.
        let kept = (probability.clamp(0.0, 1.0) * ALL as f64).round() as u64;
        if kept == 0 || kept >= ALL {
            return Self(if kept == 0 { ALL } else { 0 });
        }
        // Leading digits `f` only say how small it is: they do not count as precision.
        let magnitude = u64::BITS - kept.leading_zeros();
        let digits = (PRECISION + (BITS - magnitude) / 4).min(DIGITS);
        let unit = 1 << (4 * (DIGITS - digits));
        Self((ALL - kept + unit / 2) / unit * unit)
    }

    /// The least threshold that `randomness` does not reach.
    pub(super) fn above(randomness: Randomness) -> Self {
        Self(randomness.0 + 1)
    }

    /// The value of the sub-key `th`: up to 14 hexadecimal digits, without the zeros at its end.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let missing = DIGITS.checked_sub(u32::try_from(text.len()).ok()?)?;
        Some(Self(hex(text)? << (4 * missing)))
    }

    /// The same to be written. Nothing that is written was kept with [`Threshold`] 2^56, which has no text.
    pub(super) fn text(self) -> CompactString {
        let digits = format_compact!("{:014x}", self.0.min(ALL - 1));
        match digits.trim_end_matches('0') {
            "" => CompactString::const_new("0"),
            digits => digits.into(),
        }
    }

    /// Whether a trace is kept.
    pub(super) fn keeps(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }
}

/// Digits of both cases: the specification has had both.
fn hex(text: &str) -> Option<u64> {
    // The standard library would take a sign, too.
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| u64::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the specification, "Converting floating-point probability to threshold value", precision 4.
    #[test]
    fn probabilities_become_the_thresholds_of_the_specification() {
        for (one_in, expected) in [
            (1, "0"),
            (2, "8"),
            (3, "aaab"),
            (4, "c"),
            (5, "cccd"),
            (8, "e"),
            (10, "e666"),
            (16, "f"),
            (100, "fd70a"),
            (1_000, "ffbe77"),
            (10_000, "fff9724"),
            (100_000, "ffff583a"),
            (1_000_000, "ffffef39"),
        ] {
            let threshold = Threshold::of_probability(1.0 / f64::from(one_in));
            assert_eq!(threshold.text(), expected, "1 in {one_in}");
            assert_eq!(Threshold::parse(expected), Some(threshold));
        }
    }

    #[test]
    fn nothing_and_everything() {
        let (least, most) = (Randomness(0), Randomness(ALL - 1));
        for probability in [0.0, -1.0, 1e-18, f64::NAN] {
            assert!(!Threshold::of_probability(probability).keeps(most), "{probability}");
        }
        for probability in [1.0, 2.0, 1.0 - 1e-17] {
            assert!(Threshold::of_probability(probability).keeps(least), "{probability}");
        }
        let smallest = Threshold::of_probability(2_f64.powi(-56));
        assert_eq!(smallest.text(), "ffffffffffffff");
        assert!(smallest.keeps(most) && !smallest.keeps(Randomness(ALL - 2)));
    }

    #[test]
    fn what_is_no_number_of_the_right_length_is_none() {
        for text in ["", "g", "-1", "+1", " 1", "123456789abcdef", "é"] {
            assert_eq!(Threshold::parse(text), None, "{text:?}");
        }
        for text in ["", "0", "+123456789abcd", "123456789abcd", "123456789abcdef"] {
            assert_eq!(Randomness::parse(text), None, "{text:?}");
        }
        assert_eq!(Randomness::parse("0123456789AbCd"), Some(Randomness(0x0001_2345_6789_abcd)));
        assert_eq!(Threshold::parse("C"), Some(Threshold(0xc << 52)));
        assert_eq!(Threshold::parse("00000000000001"), Some(Threshold(1)));
    }

    #[test]
    fn randomness_is_the_end_of_the_id() {
        let id = TraceId::from_hex("ffffffffffffffffff0123456789abcd").unwrap();
        assert_eq!(Randomness::of(id), Randomness(0x0001_2345_6789_abcd));
        let threshold = Threshold::above(Randomness::of(id));
        assert!(!threshold.keeps(Randomness::of(id)));
        assert!(threshold.keeps(Randomness(0x0001_2345_6789_abce)));
    }
}
