//! How long is a message? The header fields that delimit its body.
//!
//! Spec: RFC 9112, section 6.

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length; 0 if there is none.
    Length(u64),
    /// By `chunked`.
    Chunked,
    /// By the end of the connection.
    UntilClose,
    /// By fields that contradict each other, or that were cut off.
    Unknown,
}

/// The fields that say where the message ends.
#[derive(Debug, Default)]
pub(super) struct FramingFields {
    length: Option<u64>,
    length_conflict: bool,
    coded: bool,
    chunked: bool,
    pub(super) upgrade: bool,
    pub(super) h2c: bool,
    pub(super) expects: bool,
}

impl FramingFields {
    pub(super) fn take(&mut self, name: &str, value: &[u8]) {
        match name.len() {
            6 if name.eq_ignore_ascii_case("expect") => {
                self.expects |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case("upgrade") => {
                self.upgrade = true;
                self.h2c = value.eq_ignore_ascii_case(b"h2c");
            }
            14 if name.eq_ignore_ascii_case("content-length") => self.take_length(value),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
                self.coded = true;
                self.chunked = last.eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
    }

    /// > If a message is received without Transfer-Encoding and with an invalid Content-Length header field, then the
    /// > message framing is invalid [...] unless the field value can be successfully parsed as a comma-separated list,
    /// > all values in the list are valid, and all values in the list are the same (RFC 9112, section 6.3)
    fn take_length(&mut self, value: &[u8]) {
        for item in value.split(|byte| *byte == b',') {
            let item = item.trim_ascii();
            let digits = !item.is_empty() && item.iter().all(u8::is_ascii_digit);
            let length = str::from_utf8(item).ok().and_then(|item| item.parse().ok()).filter(|_| digits);
            match (self.length, length) {
                (Some(known), Some(length)) if known != length => self.length_conflict = true,
                (_, None) => self.length_conflict = true,
                (_, length) => self.length = length,
            }
        }
    }

    /// > If a message is received with both a Transfer-Encoding and a Content-Length header field, the
    /// > Transfer-Encoding overrides the Content-Length. (RFC 9112, section 6.3)
    pub(super) fn of_request(&self) -> Framing {
        match self.length {
            _ if self.chunked => Framing::Chunked,
            _ if self.coded || self.length_conflict => Framing::Unknown,
            length => Framing::Length(length.unwrap_or(0)),
        }
    }

    pub(super) fn of_response(&self) -> Framing {
        match self.length {
            _ if self.chunked => Framing::Chunked,
            _ if self.coded => Framing::UntilClose,
            _ if self.length_conflict => Framing::Unknown,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }
    }
}
