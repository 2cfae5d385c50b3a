//! [`Replay`]: capture files as the server's end of each connection would have seen them.
//!
//! Bytes from client to server are received, the others sent, and the local address is the server's. Which end is the
//! server is told by the SYN; without one, by what the first payload looks like, and then by the port numbers. Each
//! server endpoint stands for a process of its own, so that each becomes a service. Bytes that the capture does not
//! have are events without bytes: positions never jump, so nobody waits for what cannot come.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{BufReader, Read},
    net::SocketAddr,
    path::Path,
};

use foldhash::fast::RandomState;
use spantap_ebpf_common::{
    Event,
    event::{ConnectionId, Endpoint, Open, Opener, Tgid},
    limits::COMM_BYTES,
};
use spantap_protocols::{Direction, Protocol, Sniff};

use super::{
    connection::Connection,
    counters::ReplayCounters,
    error::{ErrorKind, ReplayError},
    file::FrameReader,
    packet::{self, Skip, TcpSegment},
};

/// Turns capture files into events; one value for all files of a run, so that numbers stay unique.
///
/// Times of the events are those of the capture: nanoseconds since 1970, not since boot.
pub struct Replay {
    protocols: &'static [&'static dyn Protocol],
    connections: HashMap<Key, Connection, RandomState>,
    /// Keys in the order in which their connections began; a key may stand there more than once.
    order: VecDeque<(Key, ConnectionId)>,
    servers: HashMap<SocketAddr, Tgid, RandomState>,
    names: Vec<SocketAddr>,
    last_id: u64,
    /// Sum of what the connections hold.
    held_bytes: usize,
    counters: ReplayCounters,
}

/// Both ends of a connection, the lesser one first.
type Key = (SocketAddr, SocketAddr);

impl Replay {
    /// `protocols` help to tell which end is the server where the beginning of a connection was not captured.
    #[must_use]
    pub fn new(protocols: &'static [&'static dyn Protocol]) -> Self {
        Self {
            protocols,
            connections: HashMap::default(),
            order: VecDeque::new(),
            servers: HashMap::default(),
            names: Vec::new(),
            last_id: 0,
            held_bytes: 0,
            counters: ReplayCounters::default(),
        }
    }

    /// Reads a whole file and passes on its events as they come.
    ///
    /// # Errors
    /// If the file cannot be opened, is no capture, or is damaged; the events before the damage were passed on.
    pub fn run(&mut self, file: &Path, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<(), ReplayError> {
        let opened = File::open(file).map_err(|error| ReplayError {
            file: file.to_path_buf(),
            offset: 0,
            kind: ErrorKind::Io(error),
        })?;
        self.read(file, BufReader::with_capacity(READ_BYTES, opened), on_event)
    }

    /// Like [`Replay::run`], from what `reader` yields; `name` stands in errors.
    ///
    /// # Errors
    /// See [`Replay::run`].
    pub fn read(
        &mut self,
        name: &Path,
        reader: impl Read,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), ReplayError> {
        let mut frames = FrameReader::new(name, reader)?;
        let mut last_ns = 0;
        let result = loop {
            match frames.next() {
                Ok(Some(frame)) => {
                    self.counters.frames += 1;
                    last_ns = frame.unix_ns;
                    match packet::parse(&frame) {
                        Ok(segment) => self.on_segment(&segment, frame.unix_ns, on_event),
                        Err(skip) => self.skip(skip),
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.finish(last_ns, on_event);
        result
    }

    /// The server that the process number of an event stands for.
    #[must_use]
    pub fn server(&self, tgid: Tgid) -> Option<SocketAddr> {
        self.names.get((tgid.0 as usize).checked_sub(1)?).copied()
    }

    /// Totals so far.
    #[must_use]
    pub fn counters(&self) -> &ReplayCounters {
        &self.counters
    }

    fn skip(&mut self, skip: Skip) {
        let counters = &mut self.counters;
        *match skip {
            Skip::UnknownLink => &mut counters.unknown_link_frames,
            Skip::NotIp => &mut counters.not_ip_frames,
            Skip::NotTcp => &mut counters.not_tcp_frames,
            Skip::Fragment => &mut counters.fragment_frames,
            Skip::Malformed => &mut counters.malformed_frames,
        } += 1;
    }

    fn on_segment(&mut self, segment: &TcpSegment<'_>, now: u64, on_event: &mut dyn FnMut(&Event<'_>)) {
        self.counters.segments += 1;
        let TcpSegment { source, destination, .. } = *segment;
        let key = if source <= destination { (source, destination) } else { (destination, source) };
        if segment.syn {
            self.on_syn(key, segment, now, on_event);
        } else if !self.connections.contains_key(&key) && segment.size > 0 {
            let client = self.guess_client(segment);
            self.begin(key, client, false, now, on_event);
        }
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if connection.closed {
            self.counters.late_segments += u64::from(segment.size > 0);
            return;
        }
        let held_before = connection.held_bytes();
        connection.on_segment(segment, now, &mut self.counters, on_event);
        self.held_bytes = self.held_bytes.saturating_sub(held_before) + connection.held_bytes();
        if self.held_bytes > HELD_BYTES_MAX {
            for connection in self.connections.values_mut() {
                connection.settle(now, true, &mut self.counters, on_event);
            }
            self.held_bytes = 0;
        }
    }

    /// A connection begins, unless the SYN is a repetition.
    fn on_syn(&mut self, key: Key, segment: &TcpSegment<'_>, now: u64, on_event: &mut dyn FnMut(&Event<'_>)) {
        // The server's SYN acknowledges the client's.
        let answer = segment.acknowledged.is_some();
        let (client, first) = match answer {
            true => (segment.destination, segment.sequence.wrapping_add(1)),
            false => (segment.source, segment.sequence.wrapping_add(1)),
        };
        let known = self.connections.get_mut(&key).filter(|connection| connection.client == client);
        let same = known.is_some_and(|connection| connection.half(answer).began_with(first));
        if !same {
            if let Some(old) = self.connections.get_mut(&key).filter(|connection| !connection.closed) {
                self.held_bytes = self.held_bytes.saturating_sub(old.held_bytes());
                old.close(now, &mut self.counters, on_event);
            }
            self.begin(key, client, true, now, on_event);
        }
        let Some(connection) = self.connections.get_mut(&key).filter(|connection| !connection.closed) else {
            return;
        };
        connection.half(answer).begin(first);
    }

    fn begin(
        &mut self,
        key: Key,
        client: SocketAddr,
        from_start: bool,
        now: u64,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) {
        let server = if key.0 == client { key.1 } else { key.0 };
        self.evict();
        self.last_id += 1;
        self.counters.connections += 1;
        let id = ConnectionId(self.last_id);
        let tgid = self.tgid(server);
        on_event(&Event::Open(Open {
            boot_ns: now,
            tgid,
            connection: id,
            opener: from_start.then_some(Opener::Peer),
            from_start,
            local: Endpoint::Inet(server),
            peer: Endpoint::Inet(client),
            netns: 0,
            parent: Tgid(0),
            comm: [0; COMM_BYTES],
        }));
        self.connections.insert(key, Connection::new(id, tgid, client));
        self.order.push_back((key, id));
    }

    /// Makes room for one more connection.
    fn evict(&mut self) {
        while self.order.len() >= CONNECTIONS_MAX {
            let Some((key, id)) = self.order.pop_front() else { return };
            if self.connections.get(&key).is_some_and(|connection| connection.id == id)
                && let Some(connection) = self.connections.remove(&key)
            {
                self.held_bytes = self.held_bytes.saturating_sub(connection.held_bytes());
                self.counters.evicted_connections += 1;
            }
        }
    }

    /// The number that stands for the process behind a server's address. When there are too many, they share one.
    fn tgid(&mut self, server: SocketAddr) -> Tgid {
        if let Some(tgid) = self.servers.get(&server) {
            return *tgid;
        }
        if self.names.len() < SERVERS_MAX {
            self.names.push(server);
            let tgid = Tgid(self.names.len() as u32);
            self.servers.insert(server, tgid);
            return tgid;
        }
        Tgid(self.names.len() as u32)
    }

    /// Which end of a connection joined in its middle is the client.
    fn guess_client(&self, segment: &TcpSegment<'_>) -> SocketAddr {
        let TcpSegment { source, destination, payload, .. } = *segment;
        let direction = self.protocols.iter().find_map(|protocol| match protocol.sniff(payload, None) {
            Sniff::Match(direction) => Some(direction),
            Sniff::Reject | Sniff::NeedMore => None,
        });
        match direction {
            Some(Direction::ToServer) => source,
            Some(Direction::ToClient) => destination,
            // Servers listen on low ports, clients get high ones.
            None if source.port() > destination.port() => source,
            None => destination,
        }
    }

    /// The file is over: what is still held has lost what was missing before it.
    fn finish(&mut self, now: u64, on_event: &mut dyn FnMut(&Event<'_>)) {
        for (key, id) in std::mem::take(&mut self.order) {
            let Some(connection) = self.connections.get_mut(&key).filter(|connection| connection.id == id)
            else {
                continue;
            };
            if !connection.closed {
                connection.settle(now, true, &mut self.counters, on_event);
                if connection.has_ends() {
                    connection.close(now, &mut self.counters, on_event);
                }
            }
        }
        self.connections.clear();
        self.held_bytes = 0;
    }
}

/// Connections remembered at a time, those that are over included; beyond it the oldest is forgotten.
const CONNECTIONS_MAX: usize = 65_536;
/// Bytes held for all connections together; beyond it all that is missing is given up.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Server addresses told apart.
const SERVERS_MAX: usize = 65_536;
/// How much is read of a file at a time.
const READ_BYTES: usize = 256 * 1024;
