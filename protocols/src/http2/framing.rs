//! Is this body a row of gRPC messages? For calls whose content type is not known.
//!
//! > Length-Prefixed-Message → Compressed-Flag Message-Length Message; Compressed-Flag → 0 / 1 ; encoded as 1 byte unsigned
//! > integer; Message-Length → {length of Message} ; encoded as 4 byte unsigned integer (big endian)
//!
//! A body that begins with 0 or 1, and whose four bytes of length lead again and again to such a place and at last to its
//! end, is no other one: JSON, forms and multipart bodies begin with text.
//! Spec: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Framing {
    prefix: [u8; PREFIX_BYTES],
    /// How much of `prefix` is here.
    have: usize,
    /// What is left of a message.
    left: u64,
    messages: u32,
    /// Where the next message begins is not known.
    broken: bool,
    /// A message would have to begin with a byte that none begins with.
    refuted: bool,
}

const PREFIX_BYTES: usize = 5;

impl Framing {
    /// The next bytes of the body.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.broken {
            if self.left > 0 {
                let taken = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= taken as u64;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            let room = self.prefix.get_mut(self.have..).unwrap_or_default();
            let taken = room.len().min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            room.iter_mut().zip(now).for_each(|(slot, byte)| *slot = *byte);
            self.have += taken;
            bytes = later;
            if self.have == PREFIX_BYTES {
                let [flag, length @ ..] = self.prefix;
                self.refuted |= flag > 1;
                self.broken = self.refuted;
                self.left = u64::from(u32::from_be_bytes(length));
                self.messages = self.messages.saturating_add(1);
                self.have = 0;
            }
        }
    }

    /// Bytes of the body that are not here.
    pub(super) fn skip(&mut self, missing: u64) {
        self.broken |= missing > self.left;
        self.left = self.left.saturating_sub(missing);
    }

    /// Nothing is known of the body any more.
    pub(super) fn give_up(&mut self) {
        self.broken = true;
    }

    /// True if what was read is whole messages, at least one.
    pub(super) fn is_whole(&self) -> bool {
        !self.broken && self.have == 0 && self.left == 0 && self.messages > 0
    }

    /// True if what was read cannot be messages.
    pub(super) fn is_refuted(&self) -> bool {
        self.refuted
    }

    /// True if nothing was read.
    pub(super) fn is_empty(&self) -> bool {
        !self.broken && self.have == 0 && self.messages == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_walked_in_pieces_and_through_gaps() {
        let body = b"\x00\x00\x00\x00\x03abc\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02de";
        for at in 0..=body.len() {
            let mut framing = Framing::default();
            framing.read(&body[..at]);
            let whole = [8, 13, 20].contains(&at);
            assert_eq!((framing.is_whole(), framing.is_empty()), (whole, at == 0), "{at} bytes");
            framing.read(&body[at..]);
            assert!(framing.is_whole());
        }
        let mut framing = Framing::default();
        framing.read(&body[..6]);
        framing.skip(2);
        assert!(framing.is_whole());
        framing.skip(1);
        assert!(!framing.is_whole(), "a prefix is missing");
        let mut framing = Framing::default();
        framing.read(b"{\"a\": 1}");
        assert!(!framing.is_whole());
    }
}
