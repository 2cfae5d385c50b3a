//! The table as a whole, driven by events, with a toy protocol.

mod bounds;
mod chaos;
mod confusion;
mod cut;
mod layers;
mod order;
pub(crate) mod toy;
mod verdicts;

use std::time::Duration;

use spantap_ebpf_common::{
    Event,
    event::{Close, ConnectionId, Data, Endpoint, Flow, Layer, Open, Opener, StreamId, Tgid},
};
use spantap_protocols::{Outcome, Role};

use super::{Finished, Settings, Table};

/// One call, owned.
#[derive(Clone, Debug)]
struct Call {
    flow: Flow,
    at: u64,
    position: u64,
    size: u64,
    bytes: Vec<u8>,
}

const RECEIVED: Flow = Flow::Received;
const SENT: Flow = Flow::Sent;
const MS: u64 = 1_000_000;

/// A table with one connection, number 1, of which this end is the server; and what came out.
struct Node {
    table: Table,
    out: Vec<Finished>,
}

impl Node {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Self { table: Table::new(settings, toy::TOY), out: Vec::new() }
    }

    fn opened(opener: Option<Opener>, from_start: bool) -> Self {
        let mut node = Self::new();
        node.open(1, opener, from_start);
        node
    }

    fn open(&mut self, connection: u64, opener: Option<Opener>, from_start: bool) {
        let local = Endpoint::Inet(([127, 0, 0, 1], 80).into());
        let peer = Endpoint::Inet(([127, 0, 0, 1], 40_000).into());
        self.open_between(local, peer, connection, opener, from_start);
    }

    fn open_between(
        &mut self,
        local: Endpoint<&[u8]>,
        peer: Endpoint<&[u8]>,
        connection: u64,
        opener: Option<Opener>,
        from_start: bool,
    ) {
        let event = Event::Open(Open {
            boot_ns: 0,
            tgid: Tgid(7),
            connection: ConnectionId(connection),
            opener,
            from_start,
            local,
            peer,
            netns: 3,
            parent: Tgid(0),
            comm: *b"toyd\0\0\0\0\0\0\0\0\0\0\0\0",
        });
        self.table.on_event(&event, &mut self.out);
    }

    fn data(&mut self, stream: u64, connection: Option<u64>, layer: Layer, call: &Call) {
        let event = Event::Data(Data {
            tgid: Tgid(8),
            connection: connection.map(ConnectionId),
            stream: StreamId(stream),
            layer,
            flow: call.flow,
            first_ns: call.at,
            last_ns: call.at,
            position: call.position,
            size: call.size,
            bytes: &call.bytes,
        });
        self.table.on_event(&event, &mut self.out);
        self.assert_balanced();
    }

    /// On connection 1.
    fn call(&mut self, call: &Call) {
        self.data(1, Some(1), Layer::Socket, call);
    }

    fn calls(&mut self, calls: &[Call]) {
        calls.iter().for_each(|call| self.call(call));
    }

    fn close(&mut self, stream: u64, layer: Layer, at: u64, sent: u64, received: u64) {
        let event = Event::Close(Close {
            boot_ns: at,
            connection: Some(ConnectionId(1)),
            stream: StreamId(stream),
            layer,
            sent,
            received,
        });
        self.table.on_event(&event, &mut self.out);
        self.assert_balanced();
    }

    fn tick(&mut self, now: u64) {
        self.table.on_tick(now, &mut self.out);
        self.assert_balanced();
    }

    fn assert_balanced(&self) {
        let counters = self.table.counters();
        let accounted = counters.parsed_bytes + counters.left_out_bytes() + self.table.usage().retained_bytes;
        assert_eq!(counters.seen_bytes, accounted, "{counters:#?}");
        assert_eq!(counters.exchanges, self.out.len() as u64);
    }

    /// The ids of the whole exchanges so far.
    fn found(&self) -> Vec<u64> {
        let whole = self.out.iter().filter(|finished| finished.exchange.outcome == Outcome::Unset);
        whole.map(|finished| finished.exchange.operation.parse().unwrap()).collect()
    }
}

/// Counts positions while a conversation is written down; each call is a millisecond after the one before.
#[derive(Default)]
struct Script {
    calls: Vec<Call>,
    sent: u64,
    received: u64,
}

impl Script {
    fn say(&mut self, flow: Flow, bytes: &[u8]) -> &mut Self {
        self.cut(flow, bytes, bytes.len())
    }

    /// Only the first `copied` bytes are copied.
    fn cut(&mut self, flow: Flow, bytes: &[u8], copied: usize) -> &mut Self {
        let position = if flow == SENT { &mut self.sent } else { &mut self.received };
        let call = Call {
            flow,
            at: MS * (1 + self.calls.len() as u64),
            position: *position,
            size: bytes.len() as u64,
            bytes: bytes[..copied].to_vec(),
        };
        *position += bytes.len() as u64;
        self.calls.push(call);
        self
    }

    /// One exchange as the server sees it.
    fn exchange(&mut self, id: u64, request_body: usize, response_body: usize) -> &mut Self {
        self.say(RECEIVED, &message(b'Q', id, request_body)).say(SENT, &message(b'R', id, response_body))
    }
}

fn message(letter: u8, id: u64, body: usize) -> Vec<u8> {
    let mut bytes = format!("{}{id}:{body}\n", letter as char).into_bytes();
    bytes.resize(bytes.len() + body, b'x');
    bytes
}

#[test]
fn names_of_unix_sockets_are_made_readable() {
    for (name, shown) in [
        (&b"/run/a.sock"[..], "/run/a.sock"),
        (b"\0of\0nothing", "@of@nothing"),
        (b"/run/\xff", "/run/\u{fffd}"),
        (b"", ""),
    ] {
        let mut node = Node::new();
        node.open_between(Endpoint::Unix(name), Endpoint::Unix(b""), 1, Some(Opener::Peer), false);
        node.calls(&Script::default().exchange(1, 10, 2_000).calls);
        let [finished] = &node.out[..] else { panic!("{:?}", node.out) };
        assert_eq!(finished.local, Some(Endpoint::Unix(shown.into())));
        assert_eq!(finished.peer, Some(Endpoint::Unix("".into())));
    }
}

#[test]
fn a_plain_exchange_has_its_times_sizes_and_ends() {
    let mut node = Node::opened(Some(Opener::Peer), true);
    let mut script = Script::default();
    node.calls(&script.exchange(1, 10, 2_000).calls);
    let [finished] = &node.out[..] else { panic!("{:?}", node.out) };
    assert_eq!((finished.tgid, finished.netns, finished.tls), (Tgid(8), 3, false));
    assert_eq!(finished.local, Some(Endpoint::Inet(([127, 0, 0, 1], 80).into())));
    assert_eq!(&finished.comm[..5], b"toyd\0");
    let exchange = &finished.exchange;
    assert_eq!(exchange.role, Role::Server);
    assert_eq!((exchange.start.0, exchange.end.0), (MS, 2 * MS));
    assert_eq!((exchange.request_bytes, exchange.response_bytes), (16, 2_008));
}

#[test]
fn a_close_fails_what_is_open_and_tells_what_was_not_seen() {
    let mut node = Node::opened(Some(Opener::Peer), true);
    let mut script = Script::default();
    script.exchange(1, 0, 0).say(RECEIVED, b"Q2:0\n").say(SENT, b"R2:100\n");
    node.calls(&script.calls);
    node.close(1, Layer::Socket, 9 * MS, script.sent + 100, script.received);
    assert_eq!(node.found(), [1, 2]);
    assert_eq!(node.out[1].exchange.response_bytes, 107);
    assert_eq!(node.table.counters().missing_bytes, 100);

    let mut node = Node::opened(Some(Opener::Peer), true);
    node.calls(&Script::default().say(RECEIVED, b"Q2:0\nQ").calls);
    node.close(1, Layer::Socket, 9 * MS, 0, 6);
    assert_eq!(node.out[0].exchange.end.0, 9 * MS);
    assert_ne!(node.out[0].exchange.outcome, Outcome::Unset);
    assert_eq!(node.table.counters().unfinished_bytes, 1);
    assert_eq!((node.table.usage().streams, node.table.usage().connections), (0, 0));
}

#[test]
fn idle_streams_and_connections_expire() {
    let idle = Duration::from_secs(10);
    let settings = Settings { idle, connection_idle: 2 * idle, ..Settings::default() };
    let mut node = Node::with(settings);
    node.open(1, Some(Opener::Peer), true);
    node.open(2, Some(Opener::Peer), true);
    node.calls(&Script::default().say(RECEIVED, b"Q1:0\n").calls);
    node.tick(9_000 * MS);
    assert_eq!(node.table.usage().streams, 1);
    node.tick(10_001 * MS);
    assert_eq!(node.out.len(), 1);
    assert_eq!(node.table.counters().expired_streams, 1);
    assert_eq!(node.table.usage().connections, 2);
    node.tick(30_000 * MS);
    assert_eq!((node.table.usage().streams, node.table.usage().connections), (0, 0));
    assert_eq!(node.table.counters().expired_connections, 2);
}

#[test]
fn the_end_of_a_recording_makes_no_errors() {
    let mut node = Node::opened(Some(Opener::Peer), true);
    let mut script = Script::default();
    script.exchange(1, 0, 0).exchange(2, 0, 0).say(RECEIVED, b"Q3:0\n");
    script.calls.swap(1, 3);
    script.calls.remove(3);
    node.calls(&script.calls);
    node.table.finish(&mut node.out);
    node.assert_balanced();
    assert_eq!(node.found(), [2], "what was held is given, what is open is not failed");
    assert_eq!(node.out.len(), 1);
    assert_eq!(node.table.usage().streams, 0);
    assert_eq!(node.table.counters().exchanges_open_at_end, 2, "but counted");
}
