//! The connection layer: any events, in any order, on few streams with tight bounds.

use std::time::Duration;

use spantap::connection::{Finished, Settings, Table, Usage};
use spantap_ebpf_common::{
    Event,
    event::{Close, ConnectionId, Data, Endpoint, Flow, Layer, Open, Opener, StreamId, Tgid},
};
use spantap_protocols::{ALL, Direction, testing::fixtures};

use crate::input::{self, Call};

/// A table that is told of everything, and what must hold of it.
pub(crate) struct Node {
    table: Table,
    out: Vec<Finished>,
    exchanges: u64,
}

const STREAMS_MAX: u64 = 3;
const RETAINED_BYTES_MAX: usize = 12_000;

impl Node {
    pub(crate) fn new() -> Self {
        let settings = Settings {
            streams_max: STREAMS_MAX as usize,
            direction_bytes_max: 4_000,
            retained_bytes_max: RETAINED_BYTES_MAX,
            idle: Duration::from_secs(10),
            exchange_timeout: Duration::from_secs(5),
            connection_idle: Duration::from_secs(20),
        };
        Self { table: Table::new(settings, ALL), out: Vec::new(), exchanges: 0 }
    }

    pub(crate) fn on_event(&mut self, event: &Event<'_>) {
        self.table.on_event(event, &mut self.out);
        self.check();
    }

    fn tick(&mut self, now: u64) {
        self.table.on_tick(now, &mut self.out);
        self.check();
    }

    /// Nothing more comes.
    pub(crate) fn finish(&mut self, now: u64) {
        self.table.finish(&mut self.out);
        self.tick(now.saturating_add(1_000_000_000_000));
        // A connection whose last time lies ahead of `now`, as in a damaged capture, may still be known.
        let left = Usage { connections: 0, ..self.table.usage() };
        assert_eq!(left, Usage::default(), "something is left");
    }

    fn check(&mut self) {
        self.exchanges += self.out.len() as u64;
        self.out.clear();
        let (counters, usage) = (self.table.counters(), self.table.usage());
        let accounted = counters.parsed_bytes + counters.left_out_bytes() + usage.retained_bytes;
        assert_eq!(counters.seen_bytes, accounted, "{counters:#?}");
        assert_eq!(counters.exchanges, self.exchanges);
        assert!(usage.streams <= STREAMS_MAX && usage.connections <= STREAMS_MAX, "{usage:?}");
        assert!(usage.footprint_bytes <= RETAINED_BYTES_MAX as u64, "{usage:?}");
    }
}

/// Where the next bytes of two streams stand.
#[derive(Default)]
struct Positions([[u64; 2]; 2]);

pub(crate) fn run(input: &[u8]) -> u64 {
    let (circumstances, calls) = input::read(input);
    let mut node = Node::new();
    let mut positions = Positions::default();
    let (mut now, mut fed) = (1_000_000, 0);
    open(&mut node, 1, circumstances, now);
    for (repetitions, call) in &calls {
        // No more of one: sizes and positions are what matters here.
        for _ in 0..(*repetitions).min(REPETITIONS_MAX) {
            now += 1_000_000;
            fed += call.bytes.len() as u64 + CALL_BYTES;
            if call.is_special() {
                now = special(&mut node, call, &mut positions, now);
            } else {
                data(&mut node, call, Layer::Socket, &mut positions, now);
            }
        }
    }
    node.finish(now);
    fed
}

fn open(node: &mut Node, connection: u64, circumstances: u8, now: u64) {
    let open = Open {
        boot_ns: now,
        tgid: Tgid(7),
        connection: ConnectionId(connection),
        opener: [Some(Opener::Peer), Some(Opener::Us), None, None][usize::from(circumstances & 3)],
        from_start: circumstances & 4 == 0,
        local: Endpoint::Inet(([127, 0, 0, 1], 80).into()),
        peer: Endpoint::Unix(b"\0peer"),
        netns: 1,
        parent: Tgid(1),
        comm: [b'a'; 16],
    };
    node.on_event(&Event::Open(open));
}

fn data(node: &mut Node, call: &Call<'_>, layer: Layer, positions: &mut Positions, now: u64) {
    let connection = 1 + u64::from(call.is_other());
    let flow = if call.is_forth() { Flow::Received } else { Flow::Sent };
    let next = &mut positions.0[usize::from(call.is_other())][usize::from(call.is_forth())];
    let size = call.bytes.len() as u64 + call.missing();
    let data = Data {
        tgid: Tgid(7),
        connection: Some(ConnectionId(connection)),
        stream: StreamId(connection + if layer == Layer::Tls { 10 } else { 0 }),
        layer,
        flow,
        first_ns: now,
        last_ns: now,
        position: *next,
        size,
        bytes: call.bytes,
    };
    *next = next.saturating_add(size);
    node.on_event(&Event::Data(data));
}

/// What is not bytes of a socket. Returns the time afterwards.
fn special(node: &mut Node, call: &Call<'_>, positions: &mut Positions, now: u64) -> u64 {
    let connection = 1 + u64::from(call.is_other());
    let first = call.bytes.first().copied().unwrap_or_default();
    let next = &mut positions.0[usize::from(call.is_other())][usize::from(call.is_forth())];
    match call.kind >> 5 {
        0 => open(node, connection, first, now),
        1 => {
            let [received, sent] = positions.0[usize::from(call.is_other())];
            let close = Close {
                boot_ns: now,
                connection: Some(ConnectionId(connection)),
                stream: StreamId(connection + if first & 1 == 0 { 0 } else { 10 }),
                layer: if first & 1 == 0 { Layer::Socket } else { Layer::Tls },
                sent: sent.saturating_add(u64::from(first)),
                received,
            };
            node.on_event(&Event::Close(close));
        }
        2 => {
            let now = now + 100_000_000 * u64::from(first);
            node.tick(now);
            return now;
        }
        // Bytes that were lost, come twice, or come late.
        3 => *next = next.saturating_add(1 << (first & 63)),
        4 => *next = next.saturating_sub(u64::from(first)),
        5 => *next = next.saturating_add(u64::from(first)),
        6 => *next = u64::MAX - u64::from(first),
        _ => data(node, call, Layer::Tls, positions, now),
    }
    now
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let all = ALL.iter().flat_map(|protocol| fixtures(*protocol));
    let seed = |fixture: &spantap_protocols::testing::Fixture| {
        let calls = fixture.chunks.iter().enumerate().map(|(n, chunk)| {
            let other = if n % 7 == 6 { 2 } else { 0 };
            (u8::from(chunk.direction == Direction::ToClient) | other, chunk.bytes.as_slice())
        });
        input::write(0, calls)
    };
    all.map(|fixture| seed(&fixture)).collect()
}

/// See `parser.rs`.
const CALL_BYTES: u64 = 16;
const REPETITIONS_MAX: usize = 256;
