//! What is said on a connection, made of a fuzzer's bytes (`input.rs`): each call is an exchange.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use spantap_protocols::Direction;

use crate::input::{self, Call};

/// A conversation.
#[derive(Debug)]
pub(super) struct Plan {
    /// SETTINGS_HEADER_TABLE_SIZE of the client and of the server, at the start.
    pub(super) tables: [u32; 2],
    /// Bytes that pass at once at most.
    pub(super) piece: usize,
    pub(super) exchanges: Vec<Planned>,
}

/// One request and its response.
#[derive(Debug)]
pub(super) struct Planned {
    /// The server (or else the client) says before that its table has another size.
    pub(super) table: Option<(Direction, u32)>,
    /// Not before those before it are over.
    pub(super) alone: bool,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) status: StatusCode,
    pub(super) request: Message,
    pub(super) response: Message,
}

/// What follows the pseudo-header fields.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) fields: HeaderMap,
    /// Bytes.
    pub(super) body: usize,
    pub(super) trailers: Option<HeaderMap>,
}

impl Planned {
    /// Blocks that it has in a direction.
    pub(super) fn blocks(&self, direction: Direction) -> usize {
        1 + usize::from(self.message(direction).trailers.is_some())
    }

    fn message(&self, direction: Direction) -> &Message {
        if direction == Direction::ToServer { &self.request } else { &self.response }
    }

    /// The fields of its first block in a direction, or of its trailers, by name.
    pub(super) fn fields(&self, direction: Direction, nth: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let message = self.message(direction);
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut push = |name: &str, value: &[u8]| fields.push((name.as_bytes().to_vec(), value.to_vec()));
        match (nth, direction) {
            (0, Direction::ToServer) => {
                push(":method", self.method.as_str().as_bytes());
                push(":scheme", b"http");
                push(":authority", AUTHORITY.as_bytes());
                push(":path", self.target().as_bytes());
            }
            (0, Direction::ToClient) => push(":status", self.status.as_str().as_bytes()),
            _ => {}
        }
        let map = if nth == 0 { Some(&message.fields) } else { message.trailers.as_ref() };
        map.into_iter().flatten().for_each(|(name, value)| push(name.as_str(), value.as_bytes()));
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    }

    pub(super) fn target(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    /// The trace that its request is in.
    pub(super) fn trace(&self) -> Option<[u8; 16]> {
        let parents: Vec<_> = self.request.fields.get_all("traceparent").iter().collect();
        let [parent] = parents[..] else { return None };
        let id = parent.to_str().ok()?.get(3..35)?;
        u128::from_str_radix(id, 16).ok().map(u128::to_be_bytes)
    }
}

/// The conversation that `input` means.
pub(super) fn read(input: &[u8]) -> Plan {
    let (circumstances, calls) = input::read(input);
    let size = |bits: u8| SIZES[usize::from(bits & 7)];
    let mut exchanges = Vec::new();
    for (repetitions, call) in &calls {
        for _ in 0..(*repetitions).min(REPETITIONS_MAX) {
            if exchanges.len() < EXCHANGES_MAX {
                exchanges.push(planned(exchanges.len(), call));
            }
        }
    }
    let piece = [16 * 1024, 1, 100, 4096][usize::from(circumstances >> 6)];
    Plan { tables: [size(circumstances), size(circumstances >> 3)], piece, exchanges }
}

/// Three bytes for what it is, the others for its fields.
fn planned(nth: usize, call: &Call<'_>) -> Planned {
    let mut rest = call.bytes;
    let mut next = || {
        let (first, after) = rest.split_first().map_or((0, rest), |(first, after)| (*first, after));
        rest = after;
        first
    };
    let (what, status, size) = (next(), next(), next());
    let body = |bits: u8| [0, 0, 11, 700, 0, 3_000, 20_000, 1][usize::from(bits & 7)];
    let (mut request, mut response) = (Message::default(), Message::default());
    (request.body, response.body) = (body(size), body(size >> 3));
    let table = call.is_special().then(|| {
        let way = if call.is_forth() { Direction::ToClient } else { Direction::ToServer };
        (way, SIZES[usize::from(call.kind >> 5)])
    });
    for (message, bit) in [(&mut request, 0x10), (&mut response, 0x20)] {
        if what & bit != 0 {
            message.trailers = Some(HeaderMap::new());
        }
    }
    while let [how, length, after @ ..] = rest {
        let (value, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let message = if how & 0x80 == 0 { &mut request } else { &mut response };
        let map = match &mut message.trailers {
            Some(trailers) if how & 0x40 != 0 => trailers,
            _ => &mut message.fields,
        };
        let (name, value) = field(*how, value);
        let held: usize = map.values().map(HeaderValue::len).sum();
        if held + value.len() <= VALUES_BYTES_MAX {
            map.append(name, value);
        }
    }
    for message in [&mut request, &mut response] {
        // h2 sends none that are empty.
        message.trailers = message.trailers.take().filter(|trailers| !trailers.is_empty());
    }
    let methods = [Method::GET, Method::POST, Method::PUT, Method::OPTIONS];
    Planned {
        table,
        alone: what & 4 != 0,
        method: methods[usize::from(what & 3)].clone(),
        path: format!("/{nth}"),
        query: "q=1&".repeat(usize::from(what >> 6) * 20),
        status: StatusCode::from_u16(200 + u16::from(status) * 3 / 2).expect("below 600"),
        request,
        response,
    }
}

/// The lower bits are a name, or make one; bit 5 says that the value is sensitive.
fn field(how: u8, value: &[u8]) -> (HeaderName, HeaderValue) {
    let name = match NAMES.get(usize::from(how & 0x1f)) {
        Some(name) => HeaderName::from_static(name),
        None => format!("x-{}-{}", how & 0x1f, value.len()).parse().expect("a name"),
    };
    let allowed =
        |byte: &u8| if (0x20..0x7f).contains(byte) || *byte >= 0x80 { *byte } else { b'a' + byte % 26 };
    let mut text: Vec<u8> = value.iter().map(allowed).collect();
    if name == "traceparent" {
        let sum =
            value.iter().fold(1_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)) | 1);
        text = format!("00-{sum:032x}-{sum:016x}-01").into_bytes();
    } else if value.len() == LONG {
        text = text.repeat(LONG_TIMES);
    }
    let mut value = HeaderValue::from_bytes(&text).expect("only what is allowed");
    value.set_sensitive(how & 0x20 != 0);
    (name, value)
}

pub(super) const AUTHORITY: &str = "peer.test";
/// Others than those of `http::REQUEST_FIELDS` are not kept by the parser, but must be counted in its table.
const NAMES: [&str; 20] = [
    "accept",
    "user-agent",
    "cookie",
    "x-request-id",
    "traceparent",
    "authorization",
    "content-type",
    "cache-control",
    "set-cookie",
    "server",
    "date",
    "forwarded",
    "x-forwarded-for",
    "grpc-message",
    "accept-language",
    "age",
    "etag",
    "vary",
    "x-b3-sampled",
    "a",
];
/// More than 4,096 means that to h2's encoder; of its decoder it is a promise.
const SIZES: [u32; 8] = [4_096, 0, 1, 64, 200, 1_000, 65_536, 1 << 20];
const REPETITIONS_MAX: usize = 16;
const EXCHANGES_MAX: usize = 48;
/// A value of this length is repeated so often that its block takes several frames, or more than its table.
const LONG: usize = 77;
const LONG_TIMES: usize = 120;
/// Of one block. Huffman's code makes at most 30 bits of 8, and of longer blocks than 48 KiB nothing is read
/// (`limits::HEADER_BLOCK_BYTES_MAX`).
const VALUES_BYTES_MAX: usize = 11_000;
