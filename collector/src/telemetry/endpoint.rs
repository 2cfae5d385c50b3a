//! The ends of a socket, and how the conventions write them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use compact_str::{CompactString, ToCompactString};
use spantap_protocols::Value;

/// One end of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Of TCP.
    Inet(SocketAddr),
    /// The name of a Unix socket, mostly a path; empty if it has none.
    Unix(Arc<str>),
}

/// The two ends of the socket that carried an exchange, seen from the watched process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// Our end; unknown if the connection was joined late and could not be looked up.
    pub local: Option<Endpoint>,
    /// The other end.
    pub peer: Option<Endpoint>,
    /// True if the bytes were captured on the plaintext side of TLS.
    pub tls: bool,
}

impl Endpoint {
    /// The conventions' address and port: the name of a Unix socket is an address, and has no port. An IPv4 address that
    /// arrived on a dual-stack socket (`::ffff:10.0.0.1`) is written as IPv4.
    pub(super) fn place(&self) -> Option<(Value, Option<Value>)> {
        match self {
            Self::Inet(address) => {
                let ip = match address.ip().to_canonical() {
                    IpAddr::V4(ip) => dotted(ip),
                    IpAddr::V6(ip) => ip.to_compact_string(),
                };
                Some((Value::Text(ip), Some(Value::Int(address.port().into()))))
            }
            Self::Unix(name) if name.is_empty() => None,
            Self::Unix(name) => Some((Value::Text((&**name).into()), None)),
        }
    }
}

/// As [`Ipv4Addr`] is displayed, without the formatting machinery: every span has one.
fn dotted(ip: Ipv4Addr) -> CompactString {
    let mut text = CompactString::const_new("");
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        for (least, unit) in [(100, 100), (10, 10), (0, 1)] {
            if octet >= least {
                text.push(char::from(b'0' + octet / unit % 10));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_usual() {
        for octet in 0..=255_u8 {
            let ip = Ipv4Addr::new(octet, 255 - octet, octet, 0);
            assert_eq!(dotted(ip), ip.to_string());
        }
    }
}
