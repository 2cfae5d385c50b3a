//! All connections and streams of one shard: finds the stream of each event and keeps the whole within bounds.
//!
//! A stream is evicted when there are too many (the least recently used one), expires when idle, and gives up what it
//! retains when all together retain too much (the one that began to retain first). All of that costs O(1) an event.
//! A process that exits has its sockets closed by the kernel, so its streams end by [`Event::Close`]; if that is lost,
//! they expire.

mod bounds;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use spantap_ebpf_common::{
    Event, Verdict,
    event::{Close, ConnectionId, Data, Endpoint, Layer, Open, ProcessChange, StreamId, Tgid},
    limits::COMM_BYTES,
};
use spantap_protocols::{BootNanos, Exchange, Protocol};

use super::{
    arena::{Arena, Order},
    connections::{Connections, Info},
    counters::Counters,
    driver::Shared,
    orphans::Orphans,
    queue::Spare,
    reassembly::HELD_NS,
    refused::Refused,
    stream::{Birth, Ending, Stream},
    verdict::Verdicts,
};

/// Bounds of a [`Table`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Streams known at a time; beyond it the least recently used one is evicted. As many connections are known.
    pub streams_max: usize,
    /// Unconsumed bytes retained for one direction of a stream.
    pub direction_bytes_max: usize,
    /// Memory for retained bytes of all streams together.
    pub retained_bytes_max: usize,
    /// A stream without bytes for so long is forgotten; exchanges that are under way have timed out.
    pub idle: Duration,
    /// Likewise, if there are such exchanges. Not longer than `idle`.
    pub exchange_timeout: Duration,
    /// So long after its last stream, what is known of a connection is forgotten.
    pub connection_idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streams_max: 65_536,
            direction_bytes_max: 64 * 1024,
            retained_bytes_max: 64 * 1024 * 1024,
            idle: Duration::from_secs(600),
            exchange_timeout: Duration::from_secs(600),
            // Linux probes an idle connection after two hours: tcp(7), tcp_keepalive_time.
            connection_idle: Duration::from_secs(2 * 3600),
        }
    }
}

/// A finished exchange and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// What a parser found.
    pub exchange: Exchange,
    /// The process whose call carried the bytes that finished it: of a prefork server the worker.
    pub tgid: Tgid,
    /// Name of the thread that first used the connection, padded with zeros; all zero if unknown.
    pub comm: [u8; COMM_BYTES],
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// The watched end, if known.
    pub local: Option<Endpoint<Arc<str>>>,
    /// The other end, if known.
    pub peer: Option<Endpoint<Arc<str>>>,
    /// True if the bytes were taken inside TLS.
    pub tls: bool,
}

/// What a [`Table`] holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Streams known.
    pub streams: u64,
    /// Connections known.
    pub connections: u64,
    /// Bytes that were seen but neither consumed nor dropped yet.
    pub retained_bytes: u64,
    /// Memory that holds them.
    pub footprint_bytes: u64,
}

/// See the module.
pub struct Table {
    settings: Settings,
    streams: Arena<Stream>,
    stream_slots: HashMap<StreamId, u32, RandomState>,
    /// Least recently used first.
    stream_use: Order,
    /// Those that own memory for retained bytes; who began first, first.
    retaining: Order,
    /// Those with something that waits for bytes that may never come; who began first, first.
    waiting: Order,
    connections: Connections,
    /// Sum of the streams' footprints.
    footprint: usize,
    /// See [`Table::know_tls_watch`].
    tls_watched_since: Arc<AtomicU64>,
    refused: Refused,
    orphans: Orphans,
    shared: Shared,
}

impl Table {
    /// An empty table that looks for `protocols`, asked in this order.
    #[must_use]
    pub fn new(settings: Settings, protocols: &'static [&'static dyn Protocol]) -> Self {
        let shared = Shared {
            protocols,
            direction_bytes_max: settings.direction_bytes_max,
            counters: Counters::default(),
            spare: Spare::default(),
            exchanges: Vec::new(),
            verdicts: Verdicts::default(),
        };
        let connections = Connections::new(settings.streams_max);
        Self {
            settings,
            streams: Arena::new(),
            stream_slots: HashMap::default(),
            stream_use: Order::default(),
            retaining: Order::default(),
            waiting: Order::default(),
            connections,
            footprint: 0,
            tls_watched_since: Arc::new(AtomicU64::new(u64::MAX)),
            refused: Refused::default(),
            orphans: Orphans::default(),
            shared,
        }
    }

    /// Gives the place that says since when every TLS library is watched that is watched at all (`CLOCK_BOOTTIME`,
    /// nanoseconds; `u64::MAX` while that changes). Of a session on a connection that is younger, the first call that is
    /// reported is the first there was. Without it no session is taken to be seen from its start.
    pub fn know_tls_watch(&mut self, since: Arc<AtomicU64>) {
        self.tls_watched_since = since;
    }

    /// Takes the next event; what it finished is appended to `out`.
    pub fn on_event(&mut self, event: &Event<'_>, out: &mut Vec<Finished>) {
        match event {
            Event::Data(data) => {
                self.on_data(data, out);
                self.settle_waiting(BootNanos(data.last_ns), out);
            }
            Event::Open(open) => self.on_open(open),
            Event::Close(close) => self.on_close(close, out),
            Event::ConnectFailed(failed) => {
                self.shared.counters.failed_connects += 1;
                self.refused.on_failed(*failed, &mut self.shared.counters, out);
            }
            // Its sockets are closed by the kernel, which is reported by itself.
            Event::Process(process) => {
                self.shared.counters.process_events += 1;
                if matches!(process.change, ProcessChange::Exec | ProcessChange::Exit) {
                    self.refused.forget(process.tgid);
                }
            }
        }
    }

    /// Lets time pass: to be called about once a second.
    pub fn on_tick(&mut self, now_boot_ns: u64, out: &mut Vec<Finished>) {
        let now = BootNanos(now_boot_ns);
        self.settle_waiting(now, out);
        self.expire_streams(now, out);
        let idle_ns = nanoseconds(self.settings.connection_idle);
        self.connections.expire(now, idle_ns, &mut self.shared.counters);
        self.refused.expire(now, &mut self.shared.counters);
    }

    /// Nothing more will come, as at the end of a recording: gives up all waiting and forgets all streams.
    ///
    /// Parsers are not told that anything closed, since nothing did: what is unanswered yet is only counted.
    pub fn finish(&mut self, out: &mut Vec<Finished>) {
        while let Some(slot) = self.stream_use.first() {
            self.end_stream(slot, BootNanos(0), Ending::Unseen, out);
        }
        self.refused.finish(&mut self.shared.counters);
    }

    /// What the kernel side is to leave out, since the last call.
    pub fn take_verdicts(&mut self) -> impl Iterator<Item = Verdict> {
        self.shared.verdicts.take()
    }

    /// Totals since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// What is held now. Walks all streams: for a scrape, not for every event.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            streams: self.stream_slots.len() as u64,
            connections: self.connections.len() as u64,
            retained_bytes: self.streams.iter().map(|stream| stream.retained()).sum(),
            footprint_bytes: self.footprint as u64,
        }
    }

    fn on_open(&mut self, open: &Open<'_>) {
        self.shared.counters.open_events += 1;
        let slot = self.connection(open.connection, BootNanos(open.boot_ns));
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.info = Some(open.into());
        }
    }

    fn on_data(&mut self, data: &Data<'_>, out: &mut Vec<Finished>) {
        self.shared.counters.data_events += 1;
        self.shared.counters.seen_bytes += data.size;
        let slot = match self.stream_slots.get(&data.stream) {
            Some(slot) => *slot,
            None if self.orphans.has(data) => {
                self.shared.counters.unsent_bytes += data.size;
                return;
            }
            None => self.begin_stream(data),
        };
        if let Some(id) = data.connection {
            self.bind(slot, id, BootNanos(data.last_ns), out);
        }
        let Some(stream) = self.streams.get_mut(slot) else { return };
        stream.on_data(data, &mut self.shared);
        self.stream_use.push(slot);
        self.deliver(slot, out);
        self.remeasure(slot);
        self.shed_over_budget(BootNanos(data.last_ns), out);
    }

    fn on_close(&mut self, close: &Close, out: &mut Vec<Finished>) {
        self.shared.counters.close_events += 1;
        let at = BootNanos(close.boot_ns);
        self.orphans.forget(close.stream);
        if let Some(slot) = self.stream_slots.get(&close.stream) {
            self.end_stream(*slot, at, Ending::Close(close), out);
        }
        let socket = close.connection.filter(|_| close.layer == Layer::Socket);
        let Some(slot) = socket.and_then(|id| self.connections.slot(id)) else { return };
        // A TLS session outlives its socket only in memory.
        while let Some(stream) =
            self.connections.get(slot).and_then(|connection| connection.streams.first().copied())
        {
            if let (Some(stream), Some(socket)) = (self.streams.get(stream), socket) {
                self.orphans.add(stream.id, socket);
            }
            self.end_stream(stream, at, Ending::Gone, out);
        }
        self.forget_connection(slot);
    }

    /// The slot of a connection, which is added if it is new.
    fn connection(&mut self, id: ConnectionId, at: BootNanos) -> u32 {
        if let Some(slot) = self.connections.slot(id) {
            return slot;
        }
        if let Some(oldest) = self.connections.crowded() {
            self.shared.counters.evicted_connections += 1;
            self.forget_connection(oldest);
        }
        self.connections.insert(id, at)
    }

    /// Streams that it had go on without it.
    fn forget_connection(&mut self, slot: u32) {
        let Some(connection) = self.connections.remove(slot) else { return };
        for stream in connection.streams {
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.connection = None;
            }
        }
    }

    fn begin_stream(&mut self, data: &Data<'_>) -> u32 {
        if self.stream_slots.len() >= self.settings.streams_max
            && let Some(oldest) = self.stream_use.first()
            && let Some(stream) = self.remove_stream(oldest)
        {
            // No word to its parser: the connection goes on, and an error that it made of this would be wrong.
            self.shared.counters.evicted_streams += 1;
            self.shared.counters.evicted_bytes += stream.retained();
            self.shared.counters.evicted_exchanges += stream.in_flight();
        }
        let at = BootNanos(data.last_ns);
        let connection = data.connection.map(|id| self.connection(id, at));
        let known = connection.and_then(|slot| self.connections.get_mut(slot));
        let socket = data.layer == Layer::Socket;
        let info = known.as_ref().and_then(|connection| connection.info.as_ref());
        let first = known.as_ref().is_some_and(|known| if socket { !known.begun } else { !known.tls_begun });
        // Of a socket the kernel says whether we saw its first byte; a TLS session may have begun before its library
        // was attached to.
        let watched_since = self.tls_watched_since.load(Ordering::Acquire);
        let watched = |info: &Info| socket || (info.opened_at.0 >= watched_since && data.position == 0);
        // One that was forgotten and speaks again may have sent nothing yet, and has received something.
        let again = known.is_some() && !first;
        let from_zero = !again && (data.position == 0 || (first && socket && info.is_some()));
        let birth = Birth {
            id: data.stream,
            connection: None,
            layer: data.layer,
            opener: info.and_then(|info| info.opener),
            tgid: data.tgid,
            at,
            from_start: first && info.is_some_and(|info| info.from_start && watched(info)),
            from_zero,
            below_tls: socket && known.as_ref().is_some_and(|connection| connection.below_tls),
        };
        if let Some(connection) = known {
            connection.begun = true;
            connection.tls_begun |= !socket;
        }
        self.shared.counters.ciphertext_streams += u64::from(birth.below_tls);
        self.shared.counters.ciphertext_streams_read += u64::from(birth.below_tls);
        let slot = self.streams.insert(Stream::new(birth));
        self.stream_slots.insert(data.stream, slot);
        slot
    }

    /// Makes sure that a stream knows its connection: of a TLS session it may be learnt late, or change never.
    fn bind(&mut self, slot: u32, id: ConnectionId, at: BootNanos, out: &mut Vec<Finished>) {
        let bound = self.streams.get(slot).and_then(|stream| stream.connection);
        if bound.is_some() {
            return;
        }
        let connection_slot = self.connection(id, at);
        let Some(connection) = self.connections.get_mut(connection_slot) else { return };
        let Some(stream) = self.streams.get_mut(slot) else { return };
        connection.streams.push(slot);
        stream.connection = Some(connection_slot);
        if let Some(info) = &connection.info {
            stream.opener = info.opener;
        }
        if stream.layer == Layer::Tls && !connection.below_tls {
            connection.below_tls = true;
            let streams = connection.streams.clone();
            streams.into_iter().for_each(|below| self.lie_below_tls(below, at, out));
        }
    }

    fn lie_below_tls(&mut self, slot: u32, at: BootNanos, out: &mut Vec<Finished>) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if stream.layer != Layer::Socket {
            return;
        }
        stream.lie_below_tls(at, &mut self.shared);
        self.deliver(slot, out);
        self.remeasure(slot);
    }

    /// Hands on what the parser of a stream has finished.
    fn deliver(&mut self, slot: u32, out: &mut Vec<Finished>) {
        if self.shared.exchanges.is_empty() {
            return;
        }
        if let Some(stream) = self.streams.get_mut(slot) {
            let connection = stream.connection.and_then(|slot| self.connections.get(slot));
            let info = connection.and_then(|connection| connection.info.as_ref());
            learn(&mut self.refused, stream, info, &mut self.shared, out);
            deliver(&mut self.shared.exchanges, stream, info, &mut self.shared.counters, out);
        }
    }

    fn end_stream(&mut self, slot: u32, at: BootNanos, ending: Ending<'_>, out: &mut Vec<Finished>) {
        let Some(stream) = self.streams.get(slot) else { return };
        let connection = stream.connection.and_then(|slot| self.connections.get(slot));
        let info = connection.and_then(|connection| connection.info.clone());
        let Some(mut stream) = self.remove_stream(slot) else { return };
        stream.end(at, ending, &mut self.shared);
        learn(&mut self.refused, &mut stream, info.as_ref(), &mut self.shared, out);
        deliver(&mut self.shared.exchanges, &stream, info.as_ref(), &mut self.shared.counters, out);
    }

    fn remove_stream(&mut self, slot: u32) -> Option<Stream> {
        let stream = self.streams.remove(slot)?;
        self.stream_slots.remove(&stream.id);
        self.stream_use.remove(slot);
        self.retaining.remove(slot);
        self.waiting.remove(slot);
        self.footprint -= stream.footprint;
        if let Some(connection) = stream.connection {
            self.connections.unbind(connection, slot, stream.active_at);
        }
        Some(stream)
    }
}

/// What a stream's first exchange says of its client.
fn learn(
    refused: &mut Refused,
    stream: &mut Stream,
    info: Option<&Info>,
    shared: &mut Shared,
    out: &mut Vec<Finished>,
) {
    if stream.is_told {
        return;
    }
    let (Some(info), Some(exchange)) = (info, shared.exchanges.first()) else { return };
    stream.is_told = true;
    refused.learn(stream.tgid, info, exchange, &mut shared.counters, out);
}

fn deliver(
    exchanges: &mut Vec<Exchange>,
    stream: &Stream,
    info: Option<&Info>,
    counters: &mut Counters,
    out: &mut Vec<Finished>,
) {
    counters.exchanges += exchanges.len() as u64;
    out.extend(exchanges.drain(..).map(|exchange| Finished {
        exchange,
        tgid: stream.tgid,
        comm: info.map_or([0; COMM_BYTES], |info| info.comm),
        netns: info.map_or(0, |info| info.netns),
        local: info.map(|info| info.local.clone()),
        peer: info.map(|info| info.peer.clone()),
        tls: stream.layer == Layer::Tls,
    }));
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
