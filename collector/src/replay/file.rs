//! Reads the frames of a pcap or pcapng file, in either byte order.
//!
//! Our own reader: two formats of a few fixed fields, read with one bounded buffer, with errors that name the offset
//! of the broken record. Memory grows with what is there, never with what a length claims.
//!
//! Specs: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>,
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    error::{ErrorKind, ReplayError},
    packet::Link,
};

/// One captured packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// When it was captured.
    pub(super) unix_ns: u64,
    /// What its bytes begin with; `None` if unknown to us.
    pub(super) link: Option<Link>,
    /// Bytes that it had on the wire, at least as many as `bytes`.
    pub(super) original: u32,
    /// Those that were captured.
    pub(super) bytes: &'a [u8],
}

/// See the module.
pub(super) struct FrameReader<R> {
    file: PathBuf,
    reader: R,
    /// Bytes read so far.
    offset: u64,
    /// Where the present record began.
    record: u64,
    buffer: Vec<u8>,
    format: Format,
}

enum Format {
    Pcap { order: Order, scale: u64, link: Link },
    PcapNg { order: Order, interfaces: Vec<Interface>, last_ns: u64 },
}

/// A capturing interface of a pcapng section.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Option<Link>,
    snap: u32,
    resolution: u8,
    offset_s: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self == Self::Little { u16::from_le_bytes(*bytes) } else { u16::from_be_bytes(*bytes) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self == Self::Little { u32::from_le_bytes(*bytes) } else { u32::from_be_bytes(*bytes) })
    }

    fn i64(self, bytes: &[u8], at: usize) -> Option<i64> {
        let bytes = bytes.get(at..)?.first_chunk::<8>()?;
        Some(if self == Self::Little { i64::from_le_bytes(*bytes) } else { i64::from_be_bytes(*bytes) })
    }
}

impl<R: Read> FrameReader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`ErrorKind::Empty`], [`ErrorKind::NotACapture`], [`ErrorKind::LinkType`] if no packet of it could be understood, or as in
    /// [`FrameReader::next`].
    pub(super) fn new(file: &Path, reader: R) -> Result<Self, ReplayError> {
        let format = Format::PcapNg { order: Order::Little, interfaces: Vec::new(), last_ns: 0 };
        let mut this =
            Self { file: file.to_path_buf(), reader, offset: 0, record: 0, buffer: Vec::new(), format };
        if !this.read(4)? {
            return Err(this.error(ErrorKind::Empty));
        }
        let magic = Order::Big.u32(&this.buffer, 0).unwrap_or_default();
        let (order, scale) = match magic {
            SECTION_HEADER => {
                this.section()?;
                return Ok(this);
            }
            PCAP_MICROS => (Order::Big, 1_000),
            PCAP_NANOS => (Order::Big, 1),
            _ if magic.swap_bytes() == PCAP_MICROS => (Order::Little, 1_000),
            _ if magic.swap_bytes() == PCAP_NANOS => (Order::Little, 1),
            _ => return Err(this.error(ErrorKind::NotACapture)),
        };
        this.read_exact(20)?;
        // The upper bits of the field tell of frame check sequences.
        let number = order.u32(&this.buffer, 16).unwrap_or_default() as u16;
        let link = Link::from_number(number).ok_or_else(|| this.error(ErrorKind::LinkType(number)))?;
        this.format = Format::Pcap { order, scale, link };
        Ok(this)
    }

    /// The next frame; `None` at the end of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`], [`ErrorKind::Corrupt`] or [`ErrorKind::Io`]; the file cannot be read on.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, ReplayError> {
        match self.format {
            Format::Pcap { order, scale, link } => self.pcap_record(order, scale, link),
            Format::PcapNg { .. } => self.pcapng_frame(),
        }
    }

    fn pcap_record(
        &mut self,
        order: Order,
        scale: u64,
        link: Link,
    ) -> Result<Option<Frame<'_>>, ReplayError> {
        self.record = self.offset;
        if !self.read(16)? {
            return Ok(None);
        }
        let field = |at| order.u32(&self.buffer, at).unwrap_or_default();
        let (seconds, fraction, captured, original) = (field(0), field(4), field(8), field(12));
        if captured > FRAME_BYTES_MAX {
            return Err(self.error(ErrorKind::Corrupt("a packet is longer than any packet")));
        }
        self.read_exact(captured as usize)?;
        let unix_ns = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * scale;
        Ok(Some(Frame { unix_ns, link: Some(link), original: original.max(captured), bytes: &self.buffer }))
    }

    /// Walks the blocks until one holds a packet.
    fn pcapng_frame(&mut self) -> Result<Option<Frame<'_>>, ReplayError> {
        loop {
            self.record = self.offset;
            if !self.read(4)? {
                return Ok(None);
            }
            if Order::Big.u32(&self.buffer, 0) == Some(SECTION_HEADER) {
                self.section()?;
                continue;
            }
            let Format::PcapNg { order, .. } = self.format else { return Ok(None) };
            let kind = order.u32(&self.buffer, 0).unwrap_or_default();
            self.read_exact(4)?;
            let total = order.u32(&self.buffer, 0).unwrap_or_default();
            let Some(body) = total.checked_sub(12).filter(|_| total.is_multiple_of(4)) else {
                return Err(self.error(ErrorKind::Corrupt("the length of a block cannot be")));
            };
            let known = matches!(kind, INTERFACE | PACKET | SIMPLE_PACKET | ENHANCED_PACKET);
            if !known {
                self.skip(u64::from(body))?;
                self.trailer(order, total)?;
                continue;
            }
            if body > FRAME_BYTES_MAX {
                return Err(self.error(ErrorKind::Corrupt("a block is longer than any packet")));
            }
            self.read_exact(body as usize)?;
            let body = std::mem::take(&mut self.buffer);
            self.trailer(order, total)?;
            self.buffer = body;
            if kind == INTERFACE {
                self.interface(order)?;
            } else if let Some((range, unix_ns, original, link)) = self.packet(order, kind)? {
                let bytes = self.buffer.get(range).unwrap_or_default();
                return Ok(Some(Frame { unix_ns, link, original, bytes }));
            }
        }
    }

    /// Reads a section header block of which the type was read already: interfaces and byte order begin anew.
    fn section(&mut self) -> Result<(), ReplayError> {
        self.read_exact(8)?;
        let order = match Order::Little.u32(&self.buffer, 4) {
            Some(BYTE_ORDER) => Order::Little,
            Some(other) if other.swap_bytes() == BYTE_ORDER => Order::Big,
            _ => return Err(self.error(ErrorKind::Corrupt("a section has no byte order"))),
        };
        let total = order.u32(&self.buffer, 0).unwrap_or_default();
        // Type, length, byte order, version and the length of the section stand in every such block.
        let Some(rest) = total.checked_sub(16).filter(|_| total.is_multiple_of(4) && total >= 28) else {
            return Err(self.error(ErrorKind::Corrupt("the length of a section header cannot be")));
        };
        self.skip(u64::from(rest))?;
        self.trailer(order, total)?;
        self.format = Format::PcapNg { order, interfaces: Vec::new(), last_ns: 0 };
        Ok(())
    }

    /// Reads the length at the end of a block, which repeats that at its beginning.
    fn trailer(&mut self, order: Order, total: u32) -> Result<(), ReplayError> {
        let mut bytes = [0; 4];
        let mut filled = 0;
        while let Some(free) = bytes.get_mut(filled..).filter(|free| !free.is_empty()) {
            match self.reader.read(free) {
                Ok(0) => return Err(self.error(ErrorKind::Truncated)),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(ErrorKind::Io(error))),
            }
        }
        self.offset += 4;
        if order.u32(&bytes, 0) != Some(total) {
            return Err(self.error(ErrorKind::Corrupt("the two lengths of a block differ")));
        }
        Ok(())
    }

    /// Notes the interface that stands in the buffer.
    fn interface(&mut self, order: Order) -> Result<(), ReplayError> {
        let body = &self.buffer;
        let (Some(number), Some(snap)) = (order.u16(body, 0), order.u32(body, 4)) else {
            return Err(self.error(ErrorKind::Corrupt("an interface description is too short")));
        };
        let mut interface = Interface { link: Link::from_number(number), snap, resolution: 6, offset_s: 0 };
        let mut at = 8;
        while let (Some(code), Some(length)) = (order.u16(body, at), order.u16(body, at + 2)) {
            match (code, length) {
                (0, _) => break,
                (OPTION_RESOLUTION, 1) => interface.resolution = body.get(at + 4).copied().unwrap_or(6),
                (OPTION_OFFSET, 8) => interface.offset_s = order.i64(body, at + 4).unwrap_or_default(),
                _ => {}
            }
            at += 4 + usize::from(length).next_multiple_of(4);
        }
        let Format::PcapNg { interfaces, .. } = &mut self.format else { return Ok(()) };
        if interfaces.len() >= INTERFACES_MAX {
            return Err(self.error(ErrorKind::Corrupt("a section has too many interfaces")));
        }
        interfaces.push(interface);
        Ok(())
    }

    /// Finds the packet in the block that stands in the buffer: where its bytes are, its time, length and link.
    #[expect(clippy::type_complexity, reason = "a Frame whose bytes are not borrowed yet")]
    fn packet(
        &mut self,
        order: Order,
        kind: u32,
    ) -> Result<Option<(std::ops::Range<usize>, u64, u32, Option<Link>)>, ReplayError> {
        let body = &self.buffer;
        let Format::PcapNg { interfaces, last_ns, .. } = &mut self.format else { return Ok(None) };
        let number = match kind {
            ENHANCED_PACKET => order.u32(body, 0),
            PACKET => order.u16(body, 0).map(u32::from),
            _ => Some(0),
        };
        let interface = number.and_then(|number| interfaces.get(number as usize)).copied();
        let Some(interface) = interface else {
            return Err(self.error(ErrorKind::Corrupt("a packet names an unknown interface")));
        };
        let header = if kind == SIMPLE_PACKET { 4 } else { 20 };
        let captured = if kind == SIMPLE_PACKET {
            // It has no captured length and no time: it is cut at the snap length, and came after the one before.
            let limit = if interface.snap == 0 { u32::MAX } else { interface.snap };
            order.u32(body, 0).map(|original| original.min(limit))
        } else {
            if let (Some(high), Some(low)) = (order.u32(body, 4), order.u32(body, 8)) {
                *last_ns = interface.unix_ns(u64::from(high) << 32 | u64::from(low));
            }
            order.u32(body, 12)
        };
        let original = order.u32(body, header - 4);
        let (Some(captured), Some(original)) = (captured, original) else {
            return Err(self.error(ErrorKind::Corrupt("a packet block is too short")));
        };
        let range = header..header.saturating_add(captured as usize);
        if body.get(range.clone()).is_none() {
            return Err(self.error(ErrorKind::Corrupt("a packet is longer than its block")));
        }
        Ok(Some((range, *last_ns, original.max(captured), interface.link)))
    }

    /// Fills the buffer with `length` bytes; false if the file ends right here.
    fn read(&mut self, length: usize) -> Result<bool, ReplayError> {
        self.buffer.clear();
        let read = self.reader.by_ref().take(length as u64).read_to_end(&mut self.buffer);
        let read = read.map_err(|error| self.error(ErrorKind::Io(error)))?;
        self.offset += read as u64;
        match read {
            _ if read == length => Ok(true),
            0 => Ok(false),
            _ => Err(self.error(ErrorKind::Truncated)),
        }
    }

    fn read_exact(&mut self, length: usize) -> Result<(), ReplayError> {
        if self.read(length)? { Ok(()) } else { Err(self.error(ErrorKind::Truncated)) }
    }

    fn skip(&mut self, length: u64) -> Result<(), ReplayError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(length), &mut io::sink());
        let skipped = skipped.map_err(|error| self.error(ErrorKind::Io(error)))?;
        self.offset += skipped;
        if skipped < length { Err(self.error(ErrorKind::Truncated)) } else { Ok(()) }
    }

    fn error(&self, kind: ErrorKind) -> ReplayError {
        ReplayError { file: self.file.clone(), offset: self.record, kind }
    }
}

impl Interface {
    /// Turns a time stamp of this interface into nanoseconds since 1970.
    fn unix_ns(&self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks);
        let exponent = u32::from(self.resolution & 0x7f);
        let ns = if self.resolution & 0x80 != 0 {
            (ticks * 1_000_000_000).checked_shr(exponent).unwrap_or(0)
        } else if exponent <= 9 {
            ticks * 10_u128.pow(9 - exponent)
        } else {
            10_u128.checked_pow(exponent - 9).map_or(0, |divisor| ticks / divisor)
        };
        let offset = i128::from(self.offset_s) * 1_000_000_000;
        let ns = i128::try_from(ns).unwrap_or(i128::MAX).saturating_add(offset);
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

const PCAP_MICROS: u32 = 0xa1b2_c3d4;
const PCAP_NANOS: u32 = 0xa1b2_3c4d;
/// The same in both byte orders.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
/// Obsolete, but still found.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;
/// Rationale: the largest snap length in use is 256 KiB, and the largest TCP segment of an offloading card 512 KiB.
const FRAME_BYTES_MAX: u32 = 1024 * 1024;
/// Per section.
const INTERFACES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions_and_offsets_make_nanoseconds() {
        let interface = |resolution, offset_s| Interface { link: None, snap: 0, resolution, offset_s };
        assert_eq!(interface(6, 0).unix_ns(1_000_001), 1_000_001_000);
        assert_eq!(interface(9, 2).unix_ns(7), 2_000_000_007);
        assert_eq!(interface(12, 0).unix_ns(7_999), 7);
        assert_eq!(interface(0x80 | 10, 0).unix_ns(1_024), 1_000_000_000);
        assert_eq!(interface(0xff, 0).unix_ns(u64::MAX), 0);
        assert_eq!(interface(0, 0).unix_ns(u64::MAX), u64::MAX);
        assert_eq!(interface(6, i64::MIN).unix_ns(1), 0);
        assert_eq!(interface(0x7f, i64::MAX).unix_ns(1), u64::MAX);
    }
}
