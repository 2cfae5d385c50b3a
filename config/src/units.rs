//! Durations and sizes as people write them: `30s`, `1m30s`, `64KiB`.

use std::fmt;
use std::time::Duration;

/// A number of bytes. Written as a number with `B`, `KiB`, `MiB` or `GiB`, or as a bare number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    /// `n` times 1024 bytes.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` times 1024 * 1024 bytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// The shortest way to write it that reads back as the same.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = SIZE_UNITS
            .into_iter()
            .rev()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

/// Writes a duration so that it reads back as the same: `90s` becomes `1m30s`. Below a nanosecond nothing is lost.
#[must_use]
pub fn display_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, nanos) in DURATION_UNITS.into_iter().rev() {
        let nanos = u128::from(nanos);
        if rest >= nanos {
            text.push_str(&format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads one or more numbers with units, as in `1m30s`. The error is a hint on how to write it.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write it like 500ms, 30s, 1m30s or 2h".to_owned();
    let mut nanos: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest).ok_or_else(wrong)?;
        let (_, each) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        nanos = number.checked_mul(each).and_then(|more| nanos.checked_add(more)).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Reads one number with a unit, as in `64KiB`. The error is a hint on how to write it.
pub(crate) fn parse_size(text: &str) -> Result<Size, String> {
    let wrong = || "write it like 512B, 64KiB, 16MiB or 1GiB".to_owned();
    let (number, unit, after) = number_and_unit(text.trim()).ok_or_else(wrong)?;
    if !after.is_empty() {
        return Err(wrong());
    }
    match SIZE_UNITS.into_iter().find(|(name, _)| *name == unit) {
        Some((_, each)) => number.checked_mul(each).map(Size).ok_or_else(wrong),
        None => {
            // 64KB is 64000 or 65536 bytes, depending on whom one asks.
            let binary = match unit.to_ascii_lowercase().as_str() {
                "k" | "kb" | "kib" => "KiB",
                "m" | "mb" | "mib" => "MiB",
                "g" | "gb" | "gib" => "GiB",
                _ => return Err(wrong()),
            };
            Err(format!("did you mean `{number}{binary}`?"))
        }
    }
}

/// Splits `90s rest` into the number, the letters after it (blanks between are fine) and what follows.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    let rest = text[digits..].trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    Some((number, &rest[..letters], rest[letters..].trim_start()))
}

/// Smallest first; in nanoseconds.
const DURATION_UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// Smallest first; in bytes.
const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1m 30s", Some(90_000)),
            ("2 h", Some(7_200_000)),
            ("0s", Some(0)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("30sec", None),
            ("30S", None),
            ("99999999999999999999s", None),
            ("9999999999d", None),
        ] {
            assert_eq!(parse_duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("16MiB", Some(16 << 20)),
            ("2GiB", Some(2 << 30)),
            ("64", None),
            ("64KB", None),
            ("64k", None),
            ("64KiB64", None),
            ("KiB", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected.map(Size), "{text}");
        }
        assert_eq!(parse_size("64kb"), Err("did you mean `64KiB`?".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(number: u64) {
            let duration = Duration::from_nanos(number);
            prop_assert_eq!(parse_duration(&display_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&Size(number).to_string()), Ok(Size(number)));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
