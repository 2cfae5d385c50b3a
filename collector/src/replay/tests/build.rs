//! Builds capture files for the tests.

use std::net::{IpAddr, SocketAddr};

/// A packet with its time.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) unix_ns: u64,
    pub(super) bytes: Vec<u8>,
    /// If cut: bytes on the wire.
    pub(super) original: Option<u32>,
}

pub(super) const SYN: u8 = 0x02;
pub(super) const FIN: u8 = 0x01;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

pub(super) fn tcp(
    from: SocketAddr,
    to: SocketAddr,
    seq: u32,
    ack: u32,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    // Eight bytes of options.
    bytes.extend([7 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend([1; 8]);
    bytes.extend(payload);
    bytes
}

/// IPv4 with four bytes of options, or IPv6 with a hop-by-hop and a destination options header.
pub(super) fn ip(from: SocketAddr, to: SocketAddr, tcp: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            bytes.extend([0x46, 0]);
            bytes.extend((24 + tcp.len() as u16).to_be_bytes());
            bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            bytes.extend([1; 4]);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend((24 + tcp.len() as u16).to_be_bytes());
            bytes.extend([0, 64]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            bytes.extend([60, 0, 1, 4, 0, 0, 0, 0]);
            bytes.extend([6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        _ => unreachable!("one family"),
    }
    bytes.extend(tcp);
    bytes
}

/// Puts a link-layer header before an IP packet.
pub(super) fn linked(link: u16, tags: &[u16], ip: &[u8]) -> Vec<u8> {
    let six = ip[0] >> 4 == 6;
    let mut ethertype = Vec::new();
    for tag in tags {
        ethertype.extend(tag.to_be_bytes());
        ethertype.extend([0, 42]);
    }
    ethertype.extend(if six { [0x86, 0xdd] } else { [0x08, 0x00] });
    let mut bytes = match link {
        0 => (if six { 30_u32 } else { 2 }).to_le_bytes().to_vec(),
        108 => (if six { 24_u32 } else { 2 }).to_be_bytes().to_vec(),
        1 => [&[0xee; 12][..], &ethertype].concat(),
        113 => [&[0xee; 14][..], &ethertype].concat(),
        276 => [&ethertype[..], &[0xee; 18]].concat(),
        _ => Vec::new(),
    };
    bytes.extend(ip);
    if link == 1 && bytes.len() < 60 {
        bytes.resize(60, 0);
    }
    bytes
}

/// Numbers in either byte order.
pub(super) struct Writer {
    pub(super) big: bool,
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// A pcapng block.
    pub(super) fn block(&mut self, kind: u32, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut body = Self { big: self.big, bytes: Vec::new() };
        fill(&mut body);
        body.bytes.resize(body.bytes.len().next_multiple_of(4), 0);
        let total = body.bytes.len() as u32 + 12;
        self.u32(kind).u32(total).raw(&body.bytes).u32(total)
    }
}

pub(super) fn pcap(big: bool, nanos: bool, link: u16, packets: &[Packet]) -> Vec<u8> {
    let mut writer = Writer { big, bytes: Vec::new() };
    writer.u32(if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }).u16(2).u16(4).u32(0).u32(0).u32(262_144);
    writer.u32(link.into());
    for packet in packets {
        let fraction = packet.unix_ns % 1_000_000_000 / if nanos { 1 } else { 1_000 };
        writer.u32((packet.unix_ns / 1_000_000_000) as u32).u32(fraction as u32);
        let length = packet.bytes.len() as u32;
        writer.u32(length).u32(packet.original.unwrap_or(length)).raw(&packet.bytes);
    }
    writer.bytes
}

/// The section header with which a pcapng file begins.
pub(super) fn section(writer: &mut Writer) -> &mut Writer {
    writer.block(0x0a0d_0d0a, |body| {
        body.u32(0x1a2b_3c4d).u16(1).u16(0).u32(u32::MAX).u32(u32::MAX);
    })
}

pub(super) fn interface(writer: &mut Writer, link: u16, resolution: Option<u8>) -> &mut Writer {
    writer.block(1, |body| {
        body.u16(link).u16(0).u32(0);
        body.u16(2).u16(3).raw(b"lo\0\0");
        if let Some(resolution) = resolution {
            body.u16(9).u16(1).raw(&[resolution, 0, 0, 0]);
        }
        body.u16(0).u16(0);
    })
}

/// An enhanced packet block; `ticks` in units of its interface.
pub(super) fn enhanced<'a>(
    writer: &'a mut Writer,
    interface: u32,
    ticks: u64,
    packet: &Packet,
) -> &'a mut Writer {
    writer.block(6, |body| {
        let length = packet.bytes.len() as u32;
        body.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32);
        body.u32(length).u32(packet.original.unwrap_or(length)).raw(&packet.bytes);
    })
}
