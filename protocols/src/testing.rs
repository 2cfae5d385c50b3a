//! The harness that every parser must pass: fixtures, a driver that feeds a parser as the agent does, and the checks.
//!
//! The checks of this file walk [`crate::ALL`] and the folder `src/<protocol>/fixtures`, so a protocol is tested by
//! being registered. Other crates get the driver and the checks through the feature `testing`. Checks panic.

use std::{collections::VecDeque, fmt::Write as _};

use crate::{
    exchange::{Exchange, Outcome},
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Parser, Protocol, Role, Segment, Sniff},
};

/// What one system call sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which way.
    pub direction: Direction,
    /// See [`Segment::first_at`].
    pub first_at: BootNanos,
    /// See [`Segment::last_at`].
    pub last_at: BootNanos,
    /// What; at least one byte.
    pub bytes: Vec<u8>,
}

/// A conversation, whole and in order.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// For messages.
    pub name: String,
    /// Which end was watched.
    pub role: Role,
    /// Whether after a gap the parser must find back, see [`check_gaps`]. Not so where several requests are under way
    /// at once and nothing on the wire says which response is whose.
    pub recovers: bool,
    /// The calls.
    pub chunks: Vec<Chunk>,
}

impl Fixture {
    /// Reads a fixture file: lines of `# comment`, `role server|client`, `recovers no`, `> <microseconds>` and
    /// `< <microseconds>` (a call towards the server, towards the client), each followed by lines of its bytes. Line ends
    /// of the file are no content; `\r`, `\n`, `\t`, `\\`, `\s` (a space at the start of a line) and `\xNN` are.
    ///
    /// # Panics
    /// If the text does not have that form.
    #[must_use]
    pub fn parse(name: &str, text: &str) -> Self {
        let mut fixture =
            Self { name: name.to_owned(), role: Role::Server, recovers: true, chunks: Vec::new() };
        for line in text.lines() {
            let chunk = |direction, time: &str| {
                let at = BootNanos(1000 * time.parse::<u64>().expect("a time in microseconds"));
                Chunk { direction, first_at: at, last_at: at, bytes: Vec::new() }
            };
            match line.split_once(' ') {
                Some(("#", _)) => {}
                Some(("role", "client")) => fixture.role = Role::Client,
                Some(("role", "server")) => fixture.role = Role::Server,
                Some(("recovers", "no")) => fixture.recovers = false,
                Some((">", time)) => fixture.chunks.push(chunk(Direction::ToServer, time)),
                Some(("<", time)) => fixture.chunks.push(chunk(Direction::ToClient, time)),
                _ => unescape(line, &mut fixture.chunks.last_mut().expect("a call before its bytes").bytes),
            }
        }
        fixture
    }

    /// A conversation of calls one microsecond apart.
    #[must_use]
    pub fn of(name: &str, role: Role, calls: &[(Direction, &[u8])]) -> Self {
        let chunks = calls.iter().enumerate().map(|(index, (direction, bytes))| {
            let at = BootNanos(1000 * (index as u64 + 1));
            Chunk { direction: *direction, first_at: at, last_at: at, bytes: bytes.to_vec() }
        });
        Self { name: name.to_owned(), role, recovers: true, chunks: chunks.collect() }
    }

    fn context(&self, from_start: bool) -> OpenContext {
        OpenContext { role: self.role, from_start, tls: false }
    }

    fn closed_at(&self) -> BootNanos {
        BootNanos(self.chunks.last().map_or(0, |chunk| chunk.last_at.0) + 1000)
    }
}

/// Feeds a parser as the contract says: keeps what was not consumed, presents it again when more has come or the other
/// direction has made progress, and turns too much of it into a gap.
pub struct Driver {
    parser: Box<dyn Parser>,
    kept: [Kept; 2],
    /// What the parser found so far.
    pub exchanges: Vec<Exchange>,
}

/// Bytes of one direction that the parser has not consumed, with the calls they came in.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Length that is left, and times, of each call.
    calls: VecDeque<(usize, BootNanos, BootNanos)>,
}

impl Driver {
    /// Opens a parser.
    #[must_use]
    pub fn new(protocol: &dyn Protocol, context: OpenContext) -> Self {
        Self { parser: protocol.open(context), kept: Default::default(), exchanges: Vec::new() }
    }

    /// The parser, for its counters.
    #[must_use]
    pub fn parser(&self) -> &dyn Parser {
        &*self.parser
    }

    /// Bytes that one call sent or received.
    pub fn feed(&mut self, direction: Direction, first_at: BootNanos, last_at: BootNanos, bytes: &[u8]) {
        if bytes.is_empty() || self.parser.lost() {
            return;
        }
        let kept = &mut self.kept[direction as usize];
        kept.bytes.extend_from_slice(bytes);
        kept.calls.push_back((bytes.len(), first_at, last_at));
        if self.present(direction) {
            // Progress here may release what the other direction holds, and so on in turn.
            let mut turn = direction.reverse();
            while self.present(turn) {
                turn = turn.reverse();
            }
        }
        let kept = &mut self.kept[direction as usize];
        if kept.bytes.len() > limits::RETAINED_BYTES_MAX {
            let missing = kept.bytes.len() as u64;
            let first_at = kept.calls.front().map_or(first_at, |call| call.1);
            *kept = Kept::default();
            self.gap(direction, first_at, last_at, missing);
        }
    }

    /// Bytes that are missing.
    pub fn gap(&mut self, direction: Direction, first_at: BootNanos, last_at: BootNanos, missing: u64) {
        if missing == 0 || self.parser.lost() {
            return;
        }
        self.kept[direction as usize] = Kept::default();
        self.parser.on_gap(Gap { direction, first_at, last_at, missing }, &mut self.exchanges);
        let mut turn = direction.reverse();
        while self.present(turn) {
            turn = turn.reverse();
        }
    }

    /// The end of the connection.
    pub fn close(&mut self, at: BootNanos) {
        self.parser.on_close(at, &mut self.exchanges);
    }

    /// Presents what is kept until nothing more is consumed; true if anything was.
    fn present(&mut self, direction: Direction) -> bool {
        let kept = &mut self.kept[direction as usize];
        let mut progress = false;
        while let (Some((_, first_at, _)), Some((_, _, last_at))) = (kept.calls.front(), kept.calls.back()) {
            let segment = Segment { direction, first_at: *first_at, last_at: *last_at, bytes: &kept.bytes };
            let consumed = self.parser.on_segment(segment, &mut self.exchanges);
            assert!(consumed <= kept.bytes.len(), "consumed more than there was");
            if consumed == 0 || self.parser.lost() {
                break;
            }
            progress = true;
            kept.drop_front(consumed);
        }
        progress
    }
}

impl Kept {
    fn drop_front(&mut self, mut length: usize) {
        self.bytes.drain(..length);
        while let Some((left, _, _)) = self.calls.front_mut() {
            if *left > length {
                *left -= length;
                return;
            }
            length -= *left;
            self.calls.pop_front();
        }
    }
}

/// Feeds a fixture whole.
#[must_use]
pub fn run(protocol: &dyn Protocol, fixture: &Fixture) -> Vec<Exchange> {
    let whole = |_: usize, chunk: &Chunk| vec![chunk.bytes.len()];
    run_cut(protocol, fixture, whole)
}

/// Feeds a fixture with each chunk cut into pieces of the lengths that `cut` gives; they take the chunk's times.
fn run_cut(
    protocol: &dyn Protocol,
    fixture: &Fixture,
    mut cut: impl FnMut(usize, &Chunk) -> Vec<usize>,
) -> Vec<Exchange> {
    let mut driver = Driver::new(protocol, fixture.context(true));
    for (index, chunk) in fixture.chunks.iter().enumerate() {
        let mut rest = chunk.bytes.as_slice();
        for length in cut(index, chunk) {
            let (piece, after) = rest.split_at(length);
            driver.feed(chunk.direction, chunk.first_at, chunk.last_at, piece);
            rest = after;
        }
    }
    driver.close(fixture.closed_at());
    driver.exchanges
}

/// Every split of every chunk, and every byte by itself, give the same exchanges.
///
/// # Panics
/// If they do not.
pub fn check_splits(protocol: &dyn Protocol, fixture: &Fixture) {
    let expected = run(protocol, fixture);
    let same = |found: &[Exchange], what: &str| {
        assert_eq!(render(found), render(&expected), "{}: {what}", fixture.name);
    };
    same(&run_cut(protocol, fixture, |_, chunk| vec![1; chunk.bytes.len()]), "byte by byte");
    for (index, chunk) in fixture.chunks.iter().enumerate() {
        for at in positions(chunk.bytes.len()) {
            let cut = |i: usize, chunk: &Chunk| {
                let length = chunk.bytes.len();
                if i == index { vec![at, length - at] } else { vec![length] }
            };
            same(&run_cut(protocol, fixture, cut), &format!("chunk {index} split at {at}"));
        }
    }
}

/// Every prefix of the first bytes of a direction is `NeedMore` or this protocol's in this direction, all of them are
/// the latter; a conversation that stops anywhere panics nowhere.
///
/// # Panics
/// If not so.
pub fn check_prefixes(protocol: &dyn Protocol, fixture: &Fixture) {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let Some(first) = fixture.chunks.iter().find(|chunk| chunk.direction == direction) else { continue };
        for length in 0..=first.bytes.len().min(4096) {
            let head = &first.bytes[..length];
            for expected in [None, Some(direction)] {
                let answer = protocol.sniff(head, expected);
                let fits = answer == Sniff::Match(direction)
                    || (answer == Sniff::NeedMore && length < first.bytes.len());
                assert!(fits, "{}: the first {length} bytes {direction:?} are {answer:?}", fixture.name);
            }
            let contrary = protocol.sniff(head, Some(direction.reverse()));
            assert!(!matches!(contrary, Sniff::Match(_)), "{}: {contrary:?} against", fixture.name);
        }
    }
    for (index, chunk) in fixture.chunks.iter().enumerate() {
        for at in positions(chunk.bytes.len()) {
            let _ = run_cut(protocol, fixture, |i, chunk| match i.cmp(&index) {
                std::cmp::Ordering::Less => vec![chunk.bytes.len()],
                std::cmp::Ordering::Equal => vec![at],
                std::cmp::Ordering::Greater => vec![],
            });
        }
    }
}

/// A gap of many lengths at every place: what comes out is true, and where the fixture says so the exchanges that begin
/// after the one that follows the gap are all found, whole.
///
/// # Panics
/// If not so.
pub fn check_gaps(protocol: &dyn Protocol, fixture: &Fixture) {
    let truth = run(protocol, fixture);
    for direction in [Direction::ToServer, Direction::ToClient] {
        let length: usize = chunks_of(fixture, direction).map(|chunk| chunk.bytes.len()).sum();
        for start in positions(length) {
            for missing in [1, 2, 3, 7, 40, 150, 600, 3000] {
                let end = length.min(start + missing);
                let what = format!("{}: gap {direction:?} {start}..{end}", fixture.name);
                let (found, after) = run_with_gaps(protocol, fixture, |way, at| {
                    way == direction && (start..end).contains(&at)
                });
                check_found(&found, &truth, after, fixture.recovers, &what);
            }
        }
    }
}

/// Of each call only a prefix was copied, however short: what comes out is true.
///
/// # Panics
/// If not so.
pub fn check_copy_limits(protocol: &dyn Protocol, fixture: &Fixture) {
    let truth = run(protocol, fixture);
    let end = fixture.closed_at();
    for limit in (1..100).chain((100..2000).step_by(25)) {
        let what = format!("{}: {limit} bytes of each call", fixture.name);
        check_found(&run_copying(protocol, fixture, limit), &truth, end, false, &what);
    }
}

/// Feeds the first `limit` bytes of each call, the rest as a gap.
#[must_use]
pub fn run_copying(protocol: &dyn Protocol, fixture: &Fixture, limit: usize) -> Vec<Exchange> {
    let mut driver = Driver::new(protocol, fixture.context(true));
    for chunk in &fixture.chunks {
        let (copied, rest) = chunk.bytes.split_at(limit.min(chunk.bytes.len()));
        driver.feed(chunk.direction, chunk.first_at, chunk.last_at, copied);
        driver.gap(chunk.direction, chunk.first_at, chunk.last_at, rest.len() as u64);
    }
    driver.close(fixture.closed_at());
    driver.exchanges
}

/// A connection joined at every byte: as for a gap.
///
/// # Panics
/// If not so.
pub fn check_late_join(protocol: &dyn Protocol, fixture: &Fixture) {
    let truth = run(protocol, fixture);
    for (index, first) in fixture.chunks.iter().enumerate() {
        for at in positions(first.bytes.len()) {
            let tail = &first.bytes[at..];
            // The last of several requests in one call looks like the only one. No agent sees it so: calls are copied
            // from their start.
            if !fixture.recovers && at > 0 && matches!(protocol.sniff(tail, None), Sniff::Match(_)) {
                continue;
            }
            let mut driver = Driver::new(protocol, fixture.context(false));
            driver.feed(first.direction, first.first_at, first.last_at, tail);
            for chunk in &fixture.chunks[index + 1..] {
                driver.feed(chunk.direction, chunk.first_at, chunk.last_at, &chunk.bytes);
            }
            driver.close(fixture.closed_at());
            let what = format!("{}: joined in chunk {index} at {at}", fixture.name);
            // From the next whole exchange on: that is the one after the first that begins after the join.
            check_found(&driver.exchanges, &truth, first.first_at, fixture.recovers, &what);
        }
    }
}

/// First bytes of other protocols, and every prefix of them, are not this one's.
///
/// # Panics
/// If they match.
pub fn check_foreign(protocol: &dyn Protocol) {
    for (name, bytes) in FOREIGN {
        if name.split('/').next() == Some(protocol.name()) {
            continue;
        }
        for length in 0..=bytes.len() {
            for expected in [None, Some(Direction::ToServer), Some(Direction::ToClient)] {
                let answer = protocol.sniff(&bytes[..length], expected);
                assert!(
                    !matches!(answer, Sniff::Match(_)),
                    "{} takes {length} bytes of {name} for its own",
                    protocol.name()
                );
            }
        }
    }
}

/// Whatever the bytes, gaps and order are: no panic, bounded values, no more exchanges than bytes.
///
/// # Panics
/// If not so.
pub fn check_garbage(protocol: &dyn Protocol, from_start: bool, calls: &[(Direction, u64, Vec<u8>)]) {
    let context = OpenContext { role: Role::Server, from_start, tls: false };
    let mut driver = Driver::new(protocol, context);
    for (index, (direction, missing, bytes)) in calls.iter().enumerate() {
        let at = BootNanos(index as u64);
        let _ = protocol.sniff(bytes, None);
        driver.feed(*direction, at, at, bytes);
        driver.gap(*direction, at, at, *missing);
        let kept: usize = driver.kept.iter().map(|kept| kept.bytes.len()).sum();
        assert!(kept <= 2 * limits::RETAINED_BYTES_MAX, "keeps {kept} bytes");
    }
    driver.close(BootNanos(calls.len() as u64));
    for exchange in &driver.exchanges {
        let longest = exchange.attributes.iter().filter_map(|(_, value)| value.as_str()).map(str::len).max();
        assert!(longest.unwrap_or(0) <= 4096, "an attribute of {longest:?} bytes");
    }
}

/// Exchanges as text, for snapshots and for comparing. Times in microseconds since the first request.
#[must_use]
pub fn render(exchanges: &[Exchange]) -> String {
    let zero = exchanges.iter().map(|exchange| exchange.start).min().unwrap_or_default();
    let mut text = String::new();
    for exchange in exchanges {
        let at = |time: BootNanos| time.since(zero) / 1000;
        let response = exchange.response_start.map_or("none".to_owned(), |time| at(time).to_string());
        let outcome = match &exchange.outcome {
            Outcome::Unset => "unset",
            Outcome::Error(kind) => kind,
        };
        let _ = writeln!(
            text,
            "{} {:?} {} {} start={} request_end={} response_start={response} end={} bytes={}/{} outcome={outcome}",
            exchange.protocol,
            exchange.role,
            exchange.operation,
            exchange.target.as_deref().unwrap_or("-"),
            at(exchange.start),
            at(exchange.request_end),
            at(exchange.end),
            exchange.request_bytes,
            exchange.response_bytes,
        );
        for (key, value) in exchange.attributes.iter() {
            let _ = match value.as_str() {
                Some(value) => writeln!(text, "  {}: {value:?}", key.as_str()),
                None => writeln!(text, "  {}: {value:?}", key.as_str()),
            };
        }
        if let Some(trace) = &exchange.trace {
            let _ = writeln!(
                text,
                "  trace: {:032x} {:016x} {:02x} {:?}",
                u128::from_be_bytes(trace.trace_id),
                u64::from_be_bytes(trace.parent_id),
                trace.flags,
                trace.state
            );
        }
    }
    text
}

/// First bytes of conversations, named `protocol/what`. A protocol's own must not stand here under another name.
pub const FOREIGN: &[(&str, &[u8])] = &[
    ("tls/client_hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03GET / HTTP/1.1"),
    ("tls/server_hello", b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"),
    ("tls/application_data", b"\x17\x03\x03\x00\x18\x00\x00\x00\x00\x00\x00\x00\x01"),
    ("redis/array", b"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n"),
    ("redis/inline", b"GET hello\r\n"),
    ("redis/inline_path", b"GET /hello\r\n"),
    ("redis/inline_set", b"SET hello HTTP/1.1\r\n"),
    ("redis/status", b"+OK\r\n"),
    ("redis/error", b"-ERR unknown command 'HTTP/1.1'\r\n"),
    ("redis/bulk", b"$12\r\nHTTP/1.1 200\r\n"),
    ("postgres/startup", b"\x00\x00\x00\x26\x00\x03\x00\x00user\x00postgres\x00database\x00shop\x00\x00"),
    ("postgres/ssl_request", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"),
    ("postgres/query", b"Q\x00\x00\x00\x0dSELECT 1\x00"),
    (
        "postgres/parse",
        b"P\x00\x00\x00\x10\x00SELECT 1\x00\x00\x00B\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00",
    ),
    ("postgres/ready", b"Z\x00\x00\x00\x05I"),
    (
        "postgres/authentication",
        b"R\x00\x00\x00\x08\x00\x00\x00\x00S\x00\x00\x00\x16application_name\x00\x00",
    ),
    (
        "mysql/greeting",
        b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00\x1a\x2b\x3c\x4d\x5e\x6f\x01\x02\x00\xff\xff\xff",
    ),
    ("mysql/query", b"\x09\x00\x00\x00\x03SELECT 1"),
    ("mysql/ok", b"\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"),
    ("http1/get", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("http1/ok", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("http2/preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    ("http2/settings", b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"),
    ("ssh/banner", b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"),
    ("smtp/greeting", b"220 mail.example.org ESMTP Postfix\r\n"),
    ("smtp/ehlo", b"EHLO client.example.org\r\n"),
    ("rtsp/options", b"OPTIONS rtsp://example.com/media.mp4 RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
    ("sip/invite", b"INVITE sip:bob@biloxi.example.com SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n\r\n"),
    ("memcached/get", b"get hello\r\n"),
    ("memcached/value", b"VALUE hello 0 5\r\nworld\r\nEND\r\n"),
    ("nats/info", b"INFO {\"server_id\":\"A\",\"version\":\"2.10\"}\r\n"),
    ("nats/connect", b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n"),
    ("nats/publish", b"PUB subject 5\r\nhello\r\n"),
    ("kafka/api_versions", b"\x00\x00\x00\x23\x00\x12\x00\x03\x00\x00\x00\x00\x00\x0drdkafka"),
    ("mongodb/hello", b"\x29\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00"),
    ("amqp/header", b"AMQP\x00\x00\x09\x01"),
    ("mqtt/connect", b"\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06client"),
    ("dns/query", b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"),
];

fn chunks_of(fixture: &Fixture, direction: Direction) -> impl Iterator<Item = &Chunk> {
    fixture.chunks.iter().filter(move |chunk| chunk.direction == direction)
}

/// Feeds a fixture without the bytes of which `missing` says so, by their offset in their direction. Also returns the
/// time of the last call that was touched.
fn run_with_gaps(
    protocol: &dyn Protocol,
    fixture: &Fixture,
    missing: impl Fn(Direction, usize) -> bool,
) -> (Vec<Exchange>, BootNanos) {
    let mut driver = Driver::new(protocol, fixture.context(true));
    let mut offsets = [0; 2];
    let mut after = BootNanos(0);
    for Chunk { direction, first_at, last_at, bytes } in &fixture.chunks {
        let offset = offsets[*direction as usize];
        let is_missing = |at: usize| missing(*direction, offset + at);
        let mut start = 0;
        while start < bytes.len() {
            let gone = is_missing(start);
            let end = (start..bytes.len()).find(|at| is_missing(*at) != gone).unwrap_or(bytes.len());
            if gone {
                after = *last_at;
                driver.gap(*direction, *first_at, *last_at, (end - start) as u64);
            } else {
                driver.feed(*direction, *first_at, *last_at, &bytes[start..end]);
            }
            start = end;
        }
        offsets[*direction as usize] += bytes.len();
    }
    driver.close(fixture.closed_at());
    (driver.exchanges, after)
}

/// Each found exchange says nothing that the true one of its start does not; and if the parser has to recover, all but
/// the first of those that begin after `after` are there as they are.
fn check_found(found: &[Exchange], truth: &[Exchange], after: BootNanos, recovers: bool, what: &str) {
    let mut unused: Vec<&Exchange> = truth.iter().collect();
    for exchange in found {
        match unused.iter().position(|candidate| is_part_of(exchange, candidate)) {
            Some(at) => drop(unused.remove(at)),
            None => panic!(
                "{what}: this never was:\n{}the truth:\n{}",
                render(std::slice::from_ref(exchange)),
                render(truth)
            ),
        }
    }
    if recovers {
        for expected in truth.iter().filter(|exchange| exchange.start > after).skip(1) {
            assert!(
                found.contains(expected),
                "{what}: not found again:\n{}among:\n{}",
                render(std::slice::from_ref(expected)),
                render(found)
            );
        }
    }
}

fn is_part_of(part: &Exchange, whole: &Exchange) -> bool {
    part.start == whole.start
        && part.role == whole.role
        && part.operation == whole.operation
        && part.response_start == whole.response_start
        && (part.outcome == whole.outcome || part.outcome == Outcome::Unset)
        && part.attributes.iter().all(|(key, value)| whole.attributes.get(key.as_str()) == Some(value))
        && match (&part.trace, &whole.trace) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(part), Some(whole)) => {
                part.trace_id == whole.trace_id
                    && part.parent_id == whole.parent_id
                    && whole.state.starts_with(part.state.as_str())
            }
        }
}

/// All places of a short text; of a long one the first and last, and others at odd distances.
fn positions(length: usize) -> impl Iterator<Item = usize> {
    let stride = move |at: usize| if at < 700 || at + 300 > length { 1 } else { 97 };
    std::iter::successors(Some(0), move |at| Some(at + stride(*at))).take_while(move |at| *at < length)
}

fn unescape(line: &str, bytes: &mut Vec<u8>) {
    let mut rest = line.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let [escape, after @ ..] = rest else { panic!("a lone backslash at the end of a line") };
        rest = after;
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b's' => b' ',
            b'\\' => b'\\',
            b'x' => {
                let (digits, after) = rest.split_at(2);
                rest = after;
                u8::from_str_radix(str::from_utf8(digits).expect("hex"), 16).expect("hex")
            }
            other => panic!("unknown escape {}", char::from(*other)),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::ALL;

    fn fixtures(protocol: &dyn Protocol) -> Vec<Fixture> {
        let folder = format!("{}/src/{}/fixtures", env!("CARGO_MANIFEST_DIR"), protocol.name());
        let mut paths: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{folder}: {error}"))
            .map(|entry| entry.expect("readable").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
            .collect();
        paths.sort();
        assert!(!paths.is_empty(), "{folder} holds no fixture");
        let read = |path: &std::path::PathBuf| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            Fixture::parse(&name, &std::fs::read_to_string(path).expect("text"))
        };
        paths.iter().map(read).collect()
    }

    fn each(check: impl Fn(&dyn Protocol, &Fixture)) {
        for protocol in ALL {
            for fixture in fixtures(*protocol) {
                check(*protocol, &fixture);
            }
        }
    }

    #[test]
    fn recorded_traffic_gives_the_expected_exchanges() {
        for protocol in ALL {
            for fixture in fixtures(*protocol) {
                let mut settings = insta::Settings::clone_current();
                settings.set_snapshot_path(format!("{}/fixtures", protocol.name()));
                settings.set_prepend_module_to_snapshot(false);
                settings.set_omit_expression(true);
                settings.bind(|| {
                    insta::assert_snapshot!(fixture.name.clone(), render(&run(*protocol, &fixture)))
                });
            }
        }
    }

    #[test]
    fn splits_change_nothing() {
        each(check_splits);
    }

    #[test]
    fn prefixes_match_only_as_themselves() {
        each(check_prefixes);
    }

    #[test]
    fn after_a_gap_nothing_is_wrong_and_the_parser_recovers() {
        each(check_gaps);
    }

    #[test]
    fn of_cut_calls_nothing_is_wrong() {
        each(check_copy_limits);
    }

    #[test]
    fn joined_late_nothing_is_wrong_and_the_parser_recovers() {
        each(check_late_join);
    }

    #[test]
    fn other_protocols_do_not_match() {
        for protocol in ALL {
            check_foreign(*protocol);
        }
    }

    fn direction() -> impl Strategy<Value = Direction> {
        prop_oneof![Just(Direction::ToServer), Just(Direction::ToClient)]
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_panic(
            from_start: bool,
            calls in vec((direction(), 0u64..3, vec(any::<u8>(), 0..200)), 0..20),
        ) {
            for protocol in ALL {
                check_garbage(*protocol, from_start, &calls);
            }
        }

        #[test]
        fn after_several_gaps_nothing_is_wrong(
            gaps in vec((direction(), any::<prop::sample::Index>(), 1usize..400), 1..5),
        ) {
            for protocol in ALL {
                for fixture in fixtures(*protocol) {
                    let truth = run(*protocol, &fixture);
                    let length = |way| chunks_of(&fixture, way).map(|chunk| chunk.bytes.len()).sum::<usize>();
                    let ranges: Vec<_> = gaps
                        .iter()
                        .map(|(way, start, missing)| (*way, start.index(length(*way)), *missing))
                        .collect();
                    let missing = |way, at| {
                        ranges.iter().any(|(gap, start, length)| *gap == way && (*start..start + length).contains(&at))
                    };
                    let (found, after) = run_with_gaps(*protocol, &fixture, missing);
                    check_found(&found, &truth, after, fixture.recovers, &format!("{}: {ranges:?}", fixture.name));
                }
            }
        }

        #[test]
        fn damaged_traffic_does_not_panic(
            from_start: bool,
            seed: prop::sample::Index,
            damage in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
            gaps in vec(prop_oneof![9 => Just(0u64), 1 => 0u64..500], 64),
        ) {
            for protocol in ALL {
                let fixtures = fixtures(*protocol);
                let mut chunks = seed.get(&fixtures).chunks.clone();
                for (chunk, at, byte) in &damage {
                    let index = chunk.index(chunks.len());
                    let place = at.index(chunks[index].bytes.len());
                    chunks[index].bytes[place] = *byte;
                }
                let calls: Vec<_> = chunks
                    .into_iter()
                    .zip(gaps.iter().cycle())
                    .map(|(chunk, missing)| (chunk.direction, *missing, chunk.bytes))
                    .collect();
                check_garbage(*protocol, from_start, &calls);
            }
        }
    }
}
