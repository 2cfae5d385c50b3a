//! The words of RESP, in both versions: lines that begin with a type byte, and bulks of a known length.
//!
//! Spec: <https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md>

/// The line that announces a bulk, an aggregate or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// So many bytes are the line, its end included, and that is its number.
    Whole(usize, Number),
    /// Its end is not here yet.
    Partial,
    /// There is no number, or one that cannot be.
    Invalid,
}

/// What stands behind a type byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// An integer of the wire.
    Of(i64),
    /// `?`: the length is not known in advance (RESP3).
    Streamed,
}

/// Digits of a 64-bit number with its sign.
const DIGITS_MAX: usize = 20;

/// Reads the number behind the type byte `bytes[0]`.
pub(super) fn header(bytes: &[u8]) -> Header {
    let mut value: i64 = 0;
    let mut digits = 0;
    let mut rest = bytes.get(1..).unwrap_or_default();
    let negative = match rest {
        [b'-', after @ ..] => {
            rest = after;
            true
        }
        [b'+', after @ ..] => {
            rest = after;
            false
        }
        [b'?', b'\r', b'\n', ..] => return Header::Whole(4, Number::Streamed),
        [b'?'] | [b'?', b'\r'] => return Header::Partial,
        _ => false,
    };
    loop {
        match rest {
            [digit @ b'0'..=b'9', after @ ..] => {
                let digit = i64::from(*digit - b'0');
                let Some(next) = value.checked_mul(10).and_then(|value| value.checked_add(digit)) else {
                    return Header::Invalid;
                };
                value = next;
                digits += 1;
                rest = after;
            }
            [b'\r', b'\n', ..] if digits > 0 => {
                let value = if negative { -value } else { value };
                return Header::Whole(bytes.len() - rest.len() + 2, Number::Of(value));
            }
            [] | [b'\r'] if digits <= DIGITS_MAX => return Header::Partial,
            _ => return Header::Invalid,
        }
    }
}

/// The content of a bulk that is being passed over, and its line end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bulk {
    data: u64,
    line_end: u8,
}

/// What a gap did to a bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GapStep {
    /// All of it was of this bulk.
    Inside,
    /// The bulk ended after so many bytes of the gap; what followed is unknown.
    Ended(u64),
}

impl Bulk {
    /// One of `length` bytes.
    pub(super) fn new(length: u64) -> Self {
        Self { data: length, line_end: 2 }
    }

    /// Nothing of it is left.
    pub(super) fn is_over(self) -> bool {
        self.line_end == 0
    }

    /// Passes over what is here of it; returns how much that was, or `None` if it does not end where it should.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let content = bytes.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
        self.data -= content as u64;
        let mut taken = content;
        while self.data == 0 && self.line_end > 0 {
            let Some(byte) = bytes.get(taken) else { break };
            if *byte != if self.line_end == 2 { b'\r' } else { b'\n' } {
                return None;
            }
            self.line_end -= 1;
            taken += 1;
        }
        Some(taken)
    }

    /// Passes over bytes that are not here.
    pub(super) fn skip(&mut self, missing: u64) -> GapStep {
        let left = self.data.saturating_add(self.line_end.into());
        if missing > left {
            *self = Self::default();
            return GapStep::Ended(left);
        }
        if missing > self.data {
            // At most 2.
            self.line_end -= u8::try_from(missing - self.data).unwrap_or(2).min(self.line_end);
        }
        self.data = self.data.saturating_sub(missing);
        GapStep::Inside
    }

    /// Bytes whose content does not matter.
    pub(super) fn skippable(self) -> u64 {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_digits_and_an_end() {
        let of = |bytes: &[u8]| header(bytes);
        assert_eq!(of(b"$12\r\nab"), Header::Whole(5, Number::Of(12)));
        assert_eq!(of(b"$-1\r\n"), Header::Whole(5, Number::Of(-1)));
        assert_eq!(of(b":+7\r\n"), Header::Whole(5, Number::Of(7)));
        assert_eq!(of(b"*?\r\n"), Header::Whole(4, Number::Streamed));
        for partial in [&b"$"[..], b"$1", b"$1\r", b"$-", b"*?", b"*?\r"] {
            assert_eq!(of(partial), Header::Partial, "{partial:?}");
        }
        for invalid in
            [&b"$\r\n"[..], b"$1a\r\n", b"$1\n", b"$ 1\r\n", b"$--1\r\n", b"$99999999999999999999\r\n"]
        {
            assert_eq!(of(invalid), Header::Invalid, "{invalid:?}");
        }
        assert_eq!(of(&[b"$".as_slice(), &[b'0'; 40]].concat()), Header::Invalid, "a number without an end");
    }

    #[test]
    fn a_bulk_ends_with_a_line_end() {
        let mut bulk = Bulk::new(3);
        assert_eq!(bulk.read(b"ab"), Some(2));
        assert_eq!(bulk.read(b"c\r"), Some(2));
        assert!(!bulk.is_over());
        assert_eq!(bulk.read(b"\n*1"), Some(1));
        assert!(bulk.is_over());
        assert_eq!(Bulk::new(3).read(b"abcd"), None);
        assert_eq!(Bulk::new(0).read(b"\r\n"), Some(2));
    }

    #[test]
    fn gaps_are_subtracted_up_to_the_end() {
        for (missing, step, rest) in [
            (4, GapStep::Inside, Some(&b"e\r\n"[..])),
            (5, GapStep::Inside, Some(b"\r\n")),
            (6, GapStep::Inside, Some(b"\n")),
            (7, GapStep::Inside, None),
            (8, GapStep::Ended(7), None),
        ] {
            let mut bulk = Bulk::new(5);
            assert_eq!(bulk.skip(missing), step);
            if let Some(rest) = rest {
                assert_eq!(bulk.read(rest), Some(rest.len()), "{missing}");
            }
            assert!(bulk.is_over());
        }
    }
}
