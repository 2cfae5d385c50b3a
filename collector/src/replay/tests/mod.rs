//! Synthetic captures through the whole of the replay.

mod build;
mod damage;
mod formats;
mod segments;

use std::{net::SocketAddr, path::Path};

use spantap_ebpf_common::{
    Event,
    event::{Close, Endpoint, Flow, Open, Opener, Tgid},
};
use spantap_protocols::{Direction, OpenContext, Parser, Protocol, Sniff};

use super::{Replay, ReplayCounters, ReplayError};
use build::Packet;

/// What a replay said.
#[derive(Default)]
struct Heard {
    opens: Vec<Open<'static>>,
    closes: Vec<Close>,
    /// Of all connections, in the order of the events; bytes that are missing or cut are `?`.
    received: Vec<u8>,
    sent: Vec<u8>,
    times: Vec<u64>,
    counters: ReplayCounters,
    servers: Vec<SocketAddr>,
    error: Option<ReplayError>,
}

fn replay(file: &[u8]) -> Heard {
    let mut heard = Heard::default();
    let mut replay = Replay::new(SHOUT);
    let result = replay.read(Path::new("test.pcap"), file, &mut |event| match event {
        Event::Open(open) => heard.opens.push(owned(open)),
        Event::Close(close) => heard.closes.push(*close),
        Event::Process(_) | Event::ConnectFailed(_) => {}
        Event::Data(data) => {
            let stream = if data.flow == Flow::Received { &mut heard.received } else { &mut heard.sent };
            if heard.opens.len() < 2 && data.position < 1 << 20 && data.size < 1 << 20 {
                // Positions of the first connection.
                assert!(data.position as usize >= stream.len(), "in order");
                stream.resize(data.position as usize, b'?');
                stream.extend(data.bytes);
                stream.resize((data.position + data.size) as usize, b'?');
            }
            assert!(data.bytes.len() as u64 <= data.size);
            heard.times.push(data.first_ns);
        }
    });
    heard.error = result.err();
    heard.counters = *replay.counters();
    heard.servers = (1..).map_while(|tgid| replay.server(Tgid(tgid))).collect();
    heard
}

/// What outlives the event.
fn owned(open: &Open<'_>) -> Open<'static> {
    let inet = |end| match end {
        Endpoint::Inet(address) => Endpoint::Inet(address),
        Endpoint::Unix(_) => panic!("a capture file has no Unix sockets"),
    };
    let Open { boot_ns, tgid, connection, opener, from_start, netns, parent, comm, .. } = *open;
    let (local, peer) = (inet(open.local), inet(open.peer));
    Open { boot_ns, tgid, connection, opener, from_start, local, peer, netns, parent, comm }
}

/// Client and server by address family.
fn ends(six: bool) -> (SocketAddr, SocketAddr) {
    let [client, server] =
        if six { ["[fd00::2]:40000", "[fd00::1]:8080"] } else { ["10.0.0.2:40000", "10.0.0.1:8080"] };
    (client.parse().unwrap(), server.parse().unwrap())
}

/// A TCP connection being written down: packets of a millisecond each, without a link layer.
struct Talk {
    client: SocketAddr,
    server: SocketAddr,
    packets: Vec<Packet>,
    /// Next sequence numbers of both.
    client_seq: u32,
    server_seq: u32,
}

const START_NS: u64 = 1_700_000_000_000_000_000;

impl Talk {
    fn new(six: bool) -> Self {
        let (client, server) = ends(six);
        // The client's numbers wrap around.
        Self { client, server, packets: Vec::new(), client_seq: u32::MAX - 20, server_seq: 7_000 }
    }

    fn packet(&mut self, from_client: bool, seq: u32, ack: u32, flags: u8, payload: &[u8]) {
        let (from, to) = if from_client { (self.client, self.server) } else { (self.server, self.client) };
        let bytes = build::ip(from, to, &build::tcp(from, to, seq, ack, flags, payload));
        let unix_ns = START_NS + 1_000_000 * self.packets.len() as u64;
        self.packets.push(Packet { unix_ns, bytes, original: None });
    }

    fn handshake(mut self) -> Self {
        let (client, server) = (self.client_seq, self.server_seq);
        self.packet(true, client, 0, build::SYN, b"");
        self.packet(false, server, client.wrapping_add(1), build::SYN | build::ACK, b"");
        (self.client_seq, self.server_seq) = (client.wrapping_add(1), server.wrapping_add(1));
        self.packet(true, self.client_seq, self.server_seq, build::ACK, b"");
        self
    }

    fn say(mut self, from_client: bool, payload: &[u8]) -> Self {
        let (seq, ack) = self.numbers(from_client);
        self.packet(from_client, seq, ack, build::ACK, payload);
        let next = if from_client { &mut self.client_seq } else { &mut self.server_seq };
        *next = next.wrapping_add(payload.len() as u32);
        self
    }

    fn ask(self, payload: &[u8]) -> Self {
        self.say(true, payload)
    }

    fn answer(self, payload: &[u8]) -> Self {
        self.say(false, payload)
    }

    fn end(mut self, from_client: bool, flags: u8) -> Self {
        let (seq, ack) = self.numbers(from_client);
        self.packet(from_client, seq, ack, flags | build::ACK, b"");
        let next = if from_client { &mut self.client_seq } else { &mut self.server_seq };
        *next = next.wrapping_add(u32::from(flags == build::FIN));
        self
    }

    fn numbers(&self, from_client: bool) -> (u32, u32) {
        if from_client { (self.client_seq, self.server_seq) } else { (self.server_seq, self.client_seq) }
    }

    /// As a file of raw IP packets.
    fn file(&self) -> Vec<u8> {
        build::pcap(false, true, 101, &self.packets)
    }

    fn replay(&self) -> Heard {
        replay(&self.file())
    }

    /// The bytes of both directions in the order of their events; those of what was lost are empty.
    fn order(&self) -> Vec<(Flow, Vec<u8>)> {
        let mut order = Vec::new();
        let result = Replay::new(SHOUT).read(Path::new("test.pcap"), &self.file()[..], &mut |event| {
            if let Event::Data(data) = event {
                order.push((data.flow, data.bytes.to_vec()));
            }
        });
        assert!(result.is_ok());
        order
    }
}

/// A request and its answer from SYN to FIN.
fn whole(six: bool) -> Talk {
    let talk = Talk::new(six).handshake().ask(b"ASK one").ask(b" and two").answer(b"TELL one");
    talk.end(false, build::FIN).end(true, build::FIN).end(false, 0)
}

#[track_caller]
fn assert_whole(heard: &Heard, six: bool) {
    assert!(heard.error.is_none(), "{:?}", heard.error);
    assert_eq!(heard.received, b"ASK one and two");
    assert_eq!(heard.sent, b"TELL one");
    let (client, server) = ends(six);
    let [open] = heard.opens[..] else { panic!("{:?}", heard.opens) };
    let ends = (Endpoint::Inet(server), Endpoint::Inet(client));
    assert_eq!((open.local, open.peer, open.tgid), (ends.0, ends.1, Tgid(1)));
    assert_eq!((open.opener, open.from_start), (Some(Opener::Peer), true));
    let [close] = heard.closes[..] else { panic!("{:?}", heard.closes) };
    assert_eq!((close.received, close.sent), (15, 8));
    assert_eq!(heard.servers, [server]);
}

/// `ASK` is a request and `TELL` an answer, for whoever has to guess.
struct Shout;

static SHOUT: &[&dyn Protocol] = &[&Shout];

impl Protocol for Shout {
    fn name(&self) -> &'static str {
        "shout"
    }

    fn sniff(&self, head: &[u8], _: Option<Direction>) -> Sniff {
        match head {
            [b'A', b'S', b'K', ..] => Sniff::Match(Direction::ToServer),
            [b'T', b'E', b'L', b'L', ..] => Sniff::Match(Direction::ToClient),
            _ => Sniff::Reject,
        }
    }

    fn open(&self, _: OpenContext) -> Box<dyn Parser> {
        unreachable!("a replay opens no parser")
    }
}
