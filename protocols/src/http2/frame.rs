//! What does a frame's header say, and can these bytes be one? Spec: RFC 9113, sections 3.4, 4.1 and 6.

/// What every client sends first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Bytes that follow it.
    pub(super) length: usize,
    pub(super) kind: u8,
    flags: u8,
    /// 0 is the connection.
    pub(super) stream: u32,
    reserved: bool,
}

impl FrameHeader {
    /// `None` if there are fewer bytes than a header has.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[high, middle, low, kind, flags, a, b, c, d, ..] = bytes else { return None };
        Some(Self {
            length: usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low),
            kind,
            flags,
            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
            reserved: a & 0x80 != 0,
        })
    }

    /// Bytes of the whole frame.
    pub(super) fn total(&self) -> usize {
        HEADER_BYTES + self.length
    }

    pub(super) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    pub(super) fn is_padded(&self) -> bool {
        self.flags & PADDED != 0
    }

    pub(super) fn ends_headers(&self) -> bool {
        self.flags & END_HEADERS != 0
    }

    pub(super) fn is_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    /// True if it may stand in a connection. Types that we do not know may, if they are short: they are to be ignored.
    pub(super) fn is_valid(&self) -> bool {
        let Self { length, stream, flags, .. } = *self;
        match self.kind {
            DATA => stream > 0 && (flags & PADDED == 0 || length > 0),
            HEADERS => stream > 0 && length >= self.overhead(),
            PRIORITY => stream > 0 && length == 5,
            RST_STREAM => stream > 0 && length == 4,
            SETTINGS => stream == 0 && length.is_multiple_of(6) && (flags & ACK == 0 || length == 0),
            PUSH_PROMISE => stream > 0 && length >= self.overhead(),
            PING => stream == 0 && length == 8,
            GOAWAY => stream == 0 && length >= 8,
            WINDOW_UPDATE => length == 4,
            CONTINUATION => stream > 0,
            _ => length <= BYTES_USUAL,
        }
    }

    /// True if nothing speaks against it where it is not known that a frame begins here: as [`Self::is_valid`], of a
    /// known type, no flag that it does not have, no longer than one usually is.
    pub(super) fn is_plausible(&self) -> bool {
        let flags = match self.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY,
            PUSH_PROMISE => END_HEADERS | PADDED,
            SETTINGS | PING => ACK,
            CONTINUATION => END_HEADERS,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE => 0,
            _ => return false,
        };
        let longest = if self.kind == DATA { DATA_BYTES_USUAL } else { BYTES_USUAL };
        self.is_valid() && !self.reserved && self.flags & !flags == 0 && self.length <= longest
    }

    /// Bytes of the payload that stand before a header block, or after it, as far as the header tells.
    fn overhead(&self) -> usize {
        let padded = usize::from(self.flags & PADDED != 0);
        let fixed = match self.kind {
            HEADERS if self.flags & WITH_PRIORITY != 0 => 5,
            PUSH_PROMISE => 4,
            _ => 0,
        };
        padded + fixed
    }

    /// The part of `payload` that is the header block; `payload` may lack its end. `None` if it makes no sense.
    pub(super) fn block<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        if !matches!(self.kind, HEADERS | PUSH_PROMISE) {
            return Some(payload);
        }
        let padding = match payload.first() {
            Some(padding) if self.flags & PADDED != 0 => usize::from(*padding),
            _ => 0,
        };
        let end = self.length.checked_sub(padding).filter(|end| *end >= self.overhead())?;
        let known = payload.get(..end).unwrap_or(payload);
        Some(known.get(self.overhead()..).unwrap_or_default())
    }

    /// The stream that a PUSH_PROMISE promises.
    pub(super) fn promised(&self, payload: &[u8]) -> Option<u32> {
        let padded = usize::from(self.flags & PADDED != 0);
        let bytes = payload.get(padded..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes) & 0x7fff_ffff)
    }
}

/// True if the payload of a SETTINGS frame, whole, holds what settings can be.
///
/// Other protocols have bytes that look like the header of one (a MySQL packet, say); these are rarer.
pub(super) fn are_settings(payload: &[u8]) -> bool {
    let (settings, []) = payload.as_chunks::<6>() else { return false };
    settings.iter().all(|&[high, low, a, b, c, d]| {
        let (id, value) = (u16::from_be_bytes([high, low]), u32::from_be_bytes([a, b, c, d]));
        match id {
            // HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE.
            1 | 3 | 6 => true,
            // ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL (RFC 8441), NO_RFC7540_PRIORITIES (RFC 9218).
            2 | 8 | 9 => value <= 1,
            // INITIAL_WINDOW_SIZE.
            4 => value <= 0x7fff_ffff,
            // MAX_FRAME_SIZE.
            5 => (1 << 14..1 << 24).contains(&value),
            // Reserved ones that are sent so that peers learn to ignore them, and private ones such as gRPC's 0xfe03.
            _ => id & 0x0f0f == 0x0a0a || id >= 0xf000,
        }
    })
}

/// SETTINGS_MAX_FRAME_SIZE until it is changed (RFC 9113, section 6.5.2).
const BYTES_USUAL: usize = 1 << 14;
/// Rationale: some peers allow frames of a megabyte for data; three random bytes rarely say less.
const DATA_BYTES_USUAL: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> FrameHeader {
        FrameHeader::read(bytes).expect("nine bytes")
    }

    #[test]
    fn frames_of_wrong_lengths_and_streams_are_not_plausible() {
        for (bytes, plausible) in [
            (b"\x00\x00\x06\x04\x00\x00\x00\x00\x00", true),
            (b"\x00\x00\x05\x04\x00\x00\x00\x00\x00", false),
            (b"\x00\x00\x06\x04\x01\x00\x00\x00\x00", false),
            (b"\x00\x00\x04\x08\x00\x00\x00\x00\x00", true),
            (b"\x00\x00\x04\x08\x00\x80\x00\x00\x00", false),
            (b"\x00\x00\x08\x06\x00\x00\x00\x00\x00", true),
            (b"\x00\x00\x08\x06\x00\x00\x00\x00\x01", false),
            (b"\x00\x40\x00\x00\x01\x00\x00\x00\x01", true),
            (b"\x00\x40\x00\x00\x02\x00\x00\x00\x01", false),
            (b"\x00\x40\x00\x00\x00\x00\x00\x00\x00", false),
            (b"\x00\x40\x01\x01\x04\x00\x00\x00\x01", false),
            (b"\x00\x00\x04\x01\x24\x00\x00\x00\x01", false),
            (b"\x00\x00\x09\x10\x00\x00\x00\x00\x00", false),
        ] {
            assert_eq!(header(bytes).is_plausible(), plausible, "{bytes:?}");
        }
        assert!(header(b"\x00\x00\x09\x10\x00\x00\x00\x00\x00").is_valid(), "an extension");
        assert_eq!(FrameHeader::read(b"\x00\x00\x09\x10\x00\x00\x00\x00"), None);
    }

    #[test]
    fn a_block_stands_between_priority_and_padding() {
        let headers = header(b"\x00\x00\x0b\x01\x2c\x00\x00\x00\x01");
        assert_eq!(headers.block(b"\x02\x80\x00\x00\x00\x10\x82\x84\x86\0\0"), Some(&b"\x82\x84\x86"[..]));
        assert_eq!(headers.block(b"\x02\x80\x00\x00\x00\x10\x82"), Some(&b"\x82"[..]), "its end is not here");
        assert_eq!(headers.block(b"\x02\x80"), Some(&b""[..]));
        assert_eq!(
            headers.block(b"\x06\x80\x00\x00\x00\x10\x82\x84\x86\0\0"),
            None,
            "more padding than frame"
        );
        let promise = header(b"\x00\x00\x05\x05\x04\x00\x00\x00\x01");
        assert_eq!(promise.promised(b"\x00\x00\x00\x02\x82"), Some(2));
        assert_eq!(promise.block(b"\x00\x00\x00\x02\x82"), Some(&b"\x82"[..]));
    }

    #[test]
    fn settings_are_what_they_can_be() {
        assert!(are_settings(b"\x00\x03\x00\x00\x00\x64\x00\x05\x00\x00\x40\x00"));
        assert!(are_settings(b"\xfe\x03\x00\x00\x00\x01"), "gRPC's own");
        assert!(!are_settings(b"\x00\x05\x00\x00\x00\x64"));
        assert!(!are_settings(b"\x00\x00\x00\x00\x00\x01"));
        assert!(!are_settings(b"\x00\x03\x00"));
    }
}
