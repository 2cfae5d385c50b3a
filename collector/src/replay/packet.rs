//! Finds the TCP segment in a captured packet: link layer, VLAN tags, IPv4 or IPv6, TCP.
//!
//! Checksums are not verified: cards compute them after the capture.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::file::Frame;

/// What the bytes of a packet begin with.
///
/// Spec: <https://www.tcpdump.org/linktypes.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// `LINKTYPE_ETHERNET`.
    Ethernet,
    /// `LINKTYPE_LINUX_SLL`: tcpdump's "any" interface.
    Cooked,
    /// `LINKTYPE_LINUX_SLL2`: the same, newer.
    Cooked2,
    /// `LINKTYPE_NULL` and `LINKTYPE_LOOP`: an address family in either byte order.
    Loopback,
    /// `LINKTYPE_RAW`, `LINKTYPE_IPV4`, `LINKTYPE_IPV6`.
    Ip,
}

impl Link {
    pub(super) fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0 | 108 => Self::Loopback,
            1 => Self::Ethernet,
            // 12 and 14 are what some systems wrote for 101.
            12 | 14 | 101 | 228 | 229 => Self::Ip,
            113 => Self::Cooked,
            276 => Self::Cooked2,
            _ => return None,
        })
    }
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpSegment<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// Of the first byte of `payload`, or of the SYN before it.
    pub(super) sequence: u32,
    /// `None` without the ACK flag.
    pub(super) acknowledged: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) reset: bool,
    /// Bytes of payload on the wire.
    pub(super) size: u32,
    /// Those that were captured.
    pub(super) payload: &'a [u8],
}

/// Why a frame holds no segment for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    UnknownLink,
    NotIp,
    NotTcp,
    Fragment,
    Malformed,
}

/// Finds the TCP segment in a frame.
pub(super) fn parse<'a>(frame: &Frame<'a>) -> Result<TcpSegment<'a>, Skip> {
    let link = frame.link.ok_or(Skip::UnknownLink)?;
    let mut cursor = Cursor { rest: frame.bytes, original: frame.original };
    let ethertype = match link {
        Link::Ethernet => {
            cursor.take(12)?;
            cursor.u16()?
        }
        Link::Cooked => {
            cursor.take(14)?;
            cursor.u16()?
        }
        Link::Cooked2 => {
            let ethertype = cursor.u16()?;
            cursor.take(18)?;
            ethertype
        }
        Link::Loopback => {
            let family = cursor.u32()?;
            match family.min(family.swap_bytes()) {
                2 => ETHERTYPE_IPV4,
                10 | 24 | 28 | 30 => ETHERTYPE_IPV6,
                _ => return Err(Skip::NotIp),
            }
        }
        Link::Ip => match frame.bytes.first().ok_or(Skip::Malformed)? >> 4 {
            4 => ETHERTYPE_IPV4,
            6 => ETHERTYPE_IPV6,
            _ => return Err(Skip::NotIp),
        },
    };
    match untagged(&mut cursor, ethertype)? {
        ETHERTYPE_IPV4 => ipv4(cursor),
        ETHERTYPE_IPV6 => ipv6(cursor),
        _ => Err(Skip::NotIp),
    }
}

/// Passes VLAN tags (IEEE 802.1Q and 802.1ad) and returns the type behind them.
fn untagged(cursor: &mut Cursor<'_>, mut ethertype: u16) -> Result<u16, Skip> {
    for _ in 0..VLAN_TAGS_MAX {
        if !matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
            break;
        }
        cursor.take(2)?;
        ethertype = cursor.u16()?;
    }
    Ok(ethertype)
}

/// Spec: <https://www.rfc-editor.org/rfc/rfc791#section-3.1>
fn ipv4(mut cursor: Cursor<'_>) -> Result<TcpSegment<'_>, Skip> {
    let on_wire = cursor.original;
    let header = cursor.array::<20>()?;
    let [version_length, _, high, low, _, _, fragment_high, fragment_low, _, protocol, _, _, addresses @ ..] =
        header;
    if version_length >> 4 != 4 {
        return Err(Skip::Malformed);
    }
    let header_length = u32::from(version_length & 0xf) * 4;
    cursor.take(header_length.checked_sub(20).ok_or(Skip::Malformed)?)?;
    // "More fragments", or an offset.
    if u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff != 0 {
        return Err(Skip::Fragment);
    }
    if protocol != PROTOCOL_TCP {
        return Err(Skip::NotTcp);
    }
    // Segmentation offload may leave the length 0.
    let total = match u32::from(u16::from_be_bytes([high, low])) {
        0 => on_wire,
        total => total,
    };
    cursor.limit(total.checked_sub(header_length).ok_or(Skip::Malformed)?);
    let [a, b, c, d, e, f, g, h] = addresses;
    tcp(cursor, Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into())
}

/// Spec: <https://www.rfc-editor.org/rfc/rfc8200#section-3>
fn ipv6(mut cursor: Cursor<'_>) -> Result<TcpSegment<'_>, Skip> {
    let [version, _, _, _, high, low, mut next, _] = cursor.array::<8>()?;
    if version >> 4 != 6 {
        return Err(Skip::Malformed);
    }
    let source = Ipv6Addr::from(cursor.array::<16>()?).into();
    let destination = Ipv6Addr::from(cursor.array::<16>()?).into();
    // A jumbogram or segmentation offload has the length 0.
    let length = u32::from(u16::from_be_bytes([high, low]));
    cursor.limit(if length == 0 { u32::MAX } else { length });
    for _ in 0..EXTENSIONS_MAX {
        match next {
            PROTOCOL_TCP => return tcp(cursor, source, destination),
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6: 8 bytes and as many more as said.
            0 | 43 | 60 | 135 | 139 | 140 => {
                let [following, length] = cursor.array::<2>()?;
                cursor.take(u32::from(length) * 8 + 6)?;
                next = following;
            }
            // A fragment header, which an unfragmented packet may have as well (RFC 6946).
            44 => {
                let [following, _, high, low, ..] = cursor.array::<8>()?;
                if u16::from_be_bytes([high, low]) & 0xfff9 != 0 {
                    return Err(Skip::Fragment);
                }
                next = following;
            }
            // Authentication: its length counts in units of 4 bytes, less 2.
            51 => {
                let [following, length] = cursor.array::<2>()?;
                cursor.take(u32::from(length) * 4 + 6)?;
                next = following;
            }
            _ => return Err(Skip::NotTcp),
        }
    }
    Err(Skip::Malformed)
}

/// Spec: <https://www.rfc-editor.org/rfc/rfc9293#section-3.1>
fn tcp(mut cursor: Cursor<'_>, source: IpAddr, destination: IpAddr) -> Result<TcpSegment<'_>, Skip> {
    let source_port = cursor.u16()?;
    let destination_port = cursor.u16()?;
    let sequence = cursor.u32()?;
    let acknowledged = cursor.u32()?;
    let [offset, flags] = cursor.array::<2>()?;
    let options = u32::from(offset >> 4) * 4;
    cursor.take(6)?;
    cursor.take(options.checked_sub(20).ok_or(Skip::Malformed)?)?;
    Ok(TcpSegment {
        source: SocketAddr::new(source.to_canonical(), source_port),
        destination: SocketAddr::new(destination.to_canonical(), destination_port),
        sequence,
        acknowledged: (flags & 0x10 != 0).then_some(acknowledged),
        syn: flags & 0x02 != 0,
        fin: flags & 0x01 != 0,
        reset: flags & 0x04 != 0,
        size: cursor.original,
        payload: cursor.rest,
    })
}

/// What is left of a packet: the bytes captured, and how many there were.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [u8],
    /// Never less than `rest.len()`.
    original: u32,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: u32) -> Result<&'a [u8], Skip> {
        let (taken, rest) = self.rest.split_at_checked(count as usize).ok_or(Skip::Malformed)?;
        self.rest = rest;
        self.original = self.original.saturating_sub(count);
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Skip> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Skip::Malformed)?;
        self.rest = rest;
        self.original = self.original.saturating_sub(N as u32);
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Skip> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Skip> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Cuts off what lies behind the packet (padding of short Ethernet frames).
    fn limit(&mut self, length: u32) {
        self.original = self.original.min(length);
        self.rest = self.rest.get(..self.original as usize).unwrap_or(self.rest);
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_TCP: u8 = 6;
const VLAN_TAGS_MAX: usize = 4;
const EXTENSIONS_MAX: usize = 8;
