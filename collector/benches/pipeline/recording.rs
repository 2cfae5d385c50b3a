//! Recordings for `pipeline.rs`, made of the conversations that the parsers are measured with.

use std::net::SocketAddr;

use spantap::connection::Table;
use spantap_ebpf_common::{
    Event,
    event::{ConnectionId, Data, Flow, Layer, StreamId, Tgid},
};
use spantap_protocols::Direction;

#[path = "../../src/replay/tests/build.rs"]
#[allow(dead_code, reason = "the tests of the replay make files of other forms too")]
mod build;

use self::build::{ACK, FIN, Packet, SYN, ip, linked, pcap, tcp};
use super::support::{Conversation, conversations::small};

/// Exchanges in a recording.
pub const EXCHANGES: u64 = 20_000;
/// Exchanges of one connection.
const PER_CONNECTION: u64 = 100;
/// Ethernet.
const LINK: u16 = 1;

/// A pcap file in memory of connections that take turns, each with [`PER_CONNECTION`] small exchanges of one of the
/// protocols: of those conversations whose name begins so, the first one.
pub fn of(protocols: &[&str]) -> Vec<u8> {
    let mut at = 0;
    let mut packets = Vec::new();
    let mut connections: Vec<Connection> = (0..EXCHANGES / PER_CONNECTION)
        .map(|number| {
            let protocol = protocols[number as usize % protocols.len()];
            let find = |conversation: &Conversation| conversation.name.starts_with(protocol);
            Connection::new(number, small().into_iter().find(find).expect("a conversation"))
        })
        .collect();
    for connection in &mut connections {
        connection.open(&mut at, &mut packets);
    }
    let mut more = true;
    while more {
        more = false;
        for connection in &mut connections {
            more |= connection.round(&mut at, &mut packets);
        }
    }
    for connection in &mut connections {
        connection.close(&mut at, &mut packets);
    }
    pcap(false, true, LINK, &packets)
}

struct Connection {
    conversation: Conversation,
    ends: [SocketAddr; 2],
    /// Bytes sent by each end, and the SYN.
    sent: [u32; 2],
    left: u64,
}

impl Connection {
    fn new(number: u64, conversation: Conversation) -> Self {
        let client = SocketAddr::from(([10, 0, 1, 1], 10_000 + number as u16));
        let server = SocketAddr::from(([10, 0, 0, 1], 8000 + (number % 20) as u16));
        Self { conversation, ends: [client, server], sent: [1, 1], left: PER_CONNECTION }
    }

    fn packet(&mut self, from: usize, flags: u8, payload: &[u8], at: &mut u64, packets: &mut Vec<Packet>) {
        *at += 1_000;
        let (source, target) = (self.ends[from], self.ends[1 - from]);
        let segment = tcp(source, target, self.sent[from], self.sent[1 - from], flags, payload);
        let bytes = linked(LINK, &[], &ip(source, target, &segment));
        packets.push(Packet { unix_ns: *at, bytes, original: None });
        self.sent[from] += payload.len() as u32;
    }

    fn open(&mut self, at: &mut u64, packets: &mut Vec<Packet>) {
        self.sent = [0, 0];
        self.packet(0, SYN, b"", at, packets);
        self.sent = [1, 0];
        self.packet(1, SYN | ACK, b"", at, packets);
        self.sent = [1, 1];
        for call in std::mem::take(&mut self.conversation.opening) {
            self.packet((call.direction == Direction::ToClient).into(), ACK, &call.bytes, at, packets);
        }
        // What opens HTTP/2 holds an exchange already.
        if self.conversation.opens_with_an_exchange {
            self.left -= 1;
        }
    }

    /// True if there is more to come.
    fn round(&mut self, at: &mut u64, packets: &mut Vec<Packet>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.conversation.renumber();
        for call in self.conversation.round.clone() {
            self.packet((call.direction == Direction::ToClient).into(), ACK, &call.bytes, at, packets);
        }
        self.left > 0
    }

    fn close(&mut self, at: &mut u64, packets: &mut Vec<Packet>) {
        for end in [0, 1] {
            self.packet(end, FIN | ACK, b"", at, packets);
            self.sent[end] += 1;
        }
    }
}

/// Events of HTTP/1 in many streams that take turns.
pub struct Calls {
    conversation: Conversation,
    streams: u64,
    /// Bytes of both directions that each stream has had.
    sent: Vec<[u64; 2]>,
    next: u64,
}

impl Calls {
    pub fn new(streams: u64) -> Self {
        let conversation = small().remove(0);
        Self { conversation, streams, sent: vec![[0; 2]; streams as usize], next: 0 }
    }

    /// Gives the table so many exchanges, each a received and a sent event; returns how many events.
    pub fn give(&mut self, table: &mut Table, exchanges: u64) -> u64 {
        let before = table.counters().exchanges;
        let mut finished = Vec::new();
        for _ in 0..exchanges {
            let stream = self.next % self.streams;
            self.next += 1;
            for call in &self.conversation.round {
                let (flow, way) = match call.direction {
                    Direction::ToServer => (Flow::Received, 0),
                    Direction::ToClient => (Flow::Sent, 1),
                };
                let position = &mut self.sent[stream as usize][way];
                let data = Data {
                    tgid: Tgid(1),
                    connection: Some(ConnectionId(stream + 1)),
                    stream: StreamId(stream + 1),
                    layer: Layer::Socket,
                    flow,
                    first_ns: self.next,
                    last_ns: self.next,
                    position: *position,
                    size: call.bytes.len() as u64,
                    bytes: &call.bytes,
                };
                *position += call.bytes.len() as u64;
                table.on_event(&Event::Data(data), &mut finished);
            }
            finished.clear();
        }
        assert_eq!(table.counters().exchanges - before, exchanges, "each is found");
        2 * exchanges
    }
}
