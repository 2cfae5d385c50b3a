//! Bytes of a ring-buffer record -> [`Event`]. Never trusts a length.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zerocopy::FromBytes;

use crate::{
    event::{self, ConnectionId, Endpoint, Event, Flow, Layer, Opener, ProcessChange, StreamId, Tgid},
    record::{self, flag, kind},
};

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than its kind demands, or than its own length field says.
    Short,
    /// A kind that this agent does not know.
    UnknownKind(u16),
    /// An address family that is neither IPv4 nor IPv6.
    UnknownFamily(u16),
    /// A name that is longer than its place.
    NameTooLong,
    /// More payload than bytes moved.
    CapturedExceedsSize,
}

/// Decodes one record of the ring buffer.
///
/// # Errors
/// See [`DecodeError`]; the caller counts it and goes on.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (header, _) = record::Header::ref_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let bytes = bytes.get(..header.length as usize).ok_or(DecodeError::Short)?;
    match header.kind {
        kind::OPEN => open(bytes),
        kind::OPEN_UNIX => open_unix(bytes),
        kind::CONNECT_FAILED => connect_failed(bytes),
        kind::DATA => data(bytes),
        kind::CLOSE => close(bytes),
        kind::EXEC => process(bytes, ProcessChange::Exec),
        kind::EXIT => process(bytes, ProcessChange::Exit),
        kind::MAPPED => process(bytes, ProcessChange::Mapped),
        other => Err(DecodeError::UnknownKind(other)),
    }
}

fn open(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (open, _) = record::Open::ref_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let flags = open.header.flags;
    Ok(Event::Open(event::Open {
        boot_ns: open.header.boot_ns,
        tgid: Tgid(open.header.tgid),
        connection: ConnectionId(open.connection),
        opener: match (flags & flag::CLIENT != 0, flags & flag::SERVER != 0) {
            (true, false) => Some(Opener::Us),
            (false, true) => Some(Opener::Peer),
            _ => None,
        },
        from_start: flags & flag::FROM_START != 0,
        local: Endpoint::Inet(address(open.family, &open.local, open.local_port)?),
        peer: Endpoint::Inet(address(open.family, &open.peer, open.peer_port)?),
        netns: open.netns,
        parent: Tgid(open.parent),
        comm: open.comm,
    }))
}

fn open_unix(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (open, _) = record::OpenUnix::ref_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let local = name(&open.local, open.local_length)?;
    let peer = name(&open.peer, open.peer_length)?;
    Ok(Event::Open(event::Open {
        boot_ns: open.header.boot_ns,
        tgid: Tgid(open.header.tgid),
        connection: ConnectionId(open.connection),
        // Only who listens must have a name, and an accepted socket has the same. If both ends have one, or none
        // (socketpair), it does not tell them apart.
        opener: match (local.is_empty(), peer.is_empty()) {
            (true, false) => Some(Opener::Us),
            (false, true) => Some(Opener::Peer),
            _ => None,
        },
        from_start: open.header.flags & flag::FROM_START != 0,
        local: Endpoint::Unix(local),
        peer: Endpoint::Unix(peer),
        netns: open.netns,
        parent: Tgid(open.parent),
        comm: open.comm,
    }))
}

fn connect_failed(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (failed, _) = record::ConnectFailed::ref_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    Ok(Event::ConnectFailed(event::ConnectFailed {
        begun_ns: failed.begun_ns.min(failed.header.boot_ns),
        boot_ns: failed.header.boot_ns,
        tgid: Tgid(failed.header.tgid),
        peer: address(failed.family, &failed.peer, failed.peer_port)?,
        errno: i32::try_from(failed.error).ok().filter(|&error| error != 0),
        netns: failed.netns,
        parent: Tgid(failed.parent),
        comm: failed.comm,
    }))
}

/// A path ends before its first zero byte; a name that begins with one is as long as it is said to be (unix(7)).
fn name(bytes: &[u8], length: u16) -> Result<&[u8], DecodeError> {
    let name = bytes.get(..length as usize).ok_or(DecodeError::NameTooLong)?;
    Ok(match name.iter().position(|&byte| byte == 0) {
        Some(end @ 1..) => &name[..end],
        _ => name,
    })
}

fn data(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (data, payload) = record::Data::ref_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    if data.captured > data.size {
        return Err(DecodeError::CapturedExceedsSize);
    }
    let flags = data.header.flags;
    Ok(Event::Data(event::Data {
        tgid: Tgid(data.header.tgid),
        connection: (data.connection != 0).then_some(ConnectionId(data.connection)),
        stream: StreamId(data.stream),
        layer: layer(flags),
        flow: if flags & flag::SENT != 0 { Flow::Sent } else { Flow::Received },
        first_ns: data.first_ns.min(data.header.boot_ns),
        last_ns: data.header.boot_ns,
        position: data.position,
        size: u64::from(data.size),
        bytes: payload.get(..data.captured as usize).ok_or(DecodeError::Short)?,
    }))
}

fn close(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (close, _) = record::Close::ref_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    Ok(Event::Close(event::Close {
        boot_ns: close.header.boot_ns,
        connection: (close.connection != 0).then_some(ConnectionId(close.connection)),
        stream: StreamId(close.stream),
        layer: layer(close.header.flags),
        sent: close.sent,
        received: close.received,
    }))
}

fn process(bytes: &[u8], change: ProcessChange) -> Result<Event<'_>, DecodeError> {
    let (process, _) = record::Process::ref_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    Ok(Event::Process(event::Process {
        boot_ns: process.header.boot_ns,
        tgid: Tgid(process.header.tgid),
        change,
        comm: process.comm,
    }))
}

fn layer(flags: u16) -> Layer {
    if flags & flag::TLS != 0 { Layer::Tls } else { Layer::Socket }
}

fn address(family: u16, bytes: &[u8; 16], port: u16) -> Result<SocketAddr, DecodeError> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let ip = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        // A socket of AF_INET6 may talk IPv4 (RFC 4291 section 2.5.5.2); its users think in IPv4.
        AF_INET6 => Ipv6Addr::from(*bytes).to_canonical(),
        other => return Err(DecodeError::UnknownFamily(other)),
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    fn raw<T>(value: &T) -> Vec<u8> {
        // SAFETY: the records are `repr(C)` without padding (their sizes are asserted), so every byte is initialised.
        unsafe { core::slice::from_raw_parts((&raw const *value).cast::<u8>(), size_of::<T>()) }.to_vec()
    }

    fn sample(captured: u32, length: u32) -> Vec<u8> {
        let mut bytes = raw(&record::Data {
            header: record::Header {
                kind: kind::DATA,
                flags: flag::SENT,
                length,
                boot_ns: 20,
                tgid: 7,
                tid: 8,
            },
            connection: 3,
            stream: 3,
            first_ns: 10,
            position: 5,
            size: 6,
            captured,
        });
        bytes.extend_from_slice(b"hello");
        bytes
    }

    #[test]
    fn data_with_payload() {
        let bytes = sample(5, 69);
        let Ok(Event::Data(data)) = decode(&bytes) else { panic!("not data") };
        assert_eq!((data.bytes, data.size, data.position), (&b"hello"[..], 6, 5));
        assert_eq!((data.first_ns, data.last_ns, data.flow), (10, 20, Flow::Sent));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = sample(5, 69);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Err(DecodeError::Short), "{cut}");
        }
    }

    #[test]
    fn lengths_are_claims() {
        assert_eq!(decode(&sample(7, 69)), Err(DecodeError::CapturedExceedsSize));
        assert_eq!(decode(&sample(6, 69)), Err(DecodeError::Short));
        assert_eq!(decode(&sample(5, 68)), Err(DecodeError::Short));
        assert_eq!(decode(&sample(5, 3)), Err(DecodeError::Short));
    }

    fn unix(local: &[u8], peer: &[u8], claimed: u16) -> Vec<u8> {
        let mut open = record::OpenUnix {
            header: record::Header {
                kind: kind::OPEN_UNIX,
                flags: 0,
                length: 280,
                boot_ns: 20,
                tgid: 7,
                tid: 8,
            },
            connection: 3,
            netns: 1,
            parent: 2,
            comm: [0; 16],
            local_length: local.len() as u16,
            peer_length: claimed,
            _pad: 0,
            local: [b'?'; 108],
            peer: [b'?'; 108],
        };
        open.local[..local.len()].copy_from_slice(local);
        open.peer[..peer.len()].copy_from_slice(peer);
        raw(&open)
    }

    #[test]
    fn whose_name_it_is_says_who_opened_the_connection() {
        let longest = [b'a'; 108];
        for (local, peer, opener, name) in [
            (&b""[..], &b"/run/a.sock\0"[..], Some(Opener::Us), &b"/run/a.sock"[..]),
            (b"/run/b\0", b"", Some(Opener::Peer), b""),
            (b"", b"\0of\0nothing", Some(Opener::Us), b"\0of\0nothing"),
            (b"", &longest, Some(Opener::Us), &longest),
            (b"/c", b"/d\0", None, b"/d"),
            (b"", b"", None, b""),
        ] {
            let bytes = unix(local, peer, peer.len() as u16);
            let Ok(Event::Open(open)) = decode(&bytes) else { panic!("not an open") };
            assert_eq!((open.opener, open.peer), (opener, Endpoint::Unix(name)));
        }
        assert_eq!(decode(&unix(b"", b"", 109)), Err(DecodeError::NameTooLong));
        assert_eq!(decode(&unix(b"", b"", 0)[..279]), Err(DecodeError::Short));
    }

    #[test]
    fn a_failed_connection_says_why() {
        let mut failed = record::ConnectFailed {
            header: record::Header {
                kind: kind::CONNECT_FAILED,
                flags: 0,
                length: 80,
                boot_ns: 20,
                tgid: 7,
                tid: 8,
            },
            begun_ns: 12,
            peer: [0; 16],
            peer_port: 80,
            family: 2,
            error: 111,
            netns: 1,
            parent: 2,
            comm: [0; 16],
        };
        failed.peer[..4].copy_from_slice(&[127, 0, 0, 1]);
        let bytes = raw(&failed);
        let Ok(Event::ConnectFailed(event)) = decode(&bytes) else { panic!("not a failure") };
        assert_eq!((event.begun_ns, event.boot_ns, event.errno), (12, 20, Some(111)));
        assert_eq!((event.tgid, event.peer), (Tgid(7), "127.0.0.1:80".parse().unwrap()));
        assert_eq!(decode(&bytes[..79]), Err(DecodeError::Short));
        failed.error = 0;
        failed.begun_ns = 30;
        let bytes = raw(&failed);
        let Ok(Event::ConnectFailed(event)) = decode(&bytes) else { panic!("not a failure") };
        assert_eq!((event.begun_ns, event.errno), (20, None));
        failed.family = 1;
        assert_eq!(decode(&raw(&failed)), Err(DecodeError::UnknownFamily(1)));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mut bytes = [0; 16];
        bytes[10] = 0xff;
        bytes[11] = 0xff;
        bytes[12..].copy_from_slice(&[127, 0, 0, 1]);
        assert_eq!(address(10, &bytes, 80), Ok("127.0.0.1:80".parse().unwrap()));
    }
}
