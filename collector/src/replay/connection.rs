//! Both directions of a TCP connection: an answer must not overtake its request.
//!
//! Packets may stand in a capture in another order than they had on the wire: files are merged, and several queues of a
//! network card are read in turn. An answer that acknowledges bytes which did not come yet has overtaken them, so it
//! waits; if what comes next is not these bytes, or nothing does, the capture does not have them.

use std::net::SocketAddr;

use spantap_ebpf_common::{
    Event,
    event::{Close, ConnectionId, Data, Flow, Layer, StreamId, Tgid},
};

use super::{
    counters::ReplayCounters,
    packet::TcpSegment,
    tcp::{ACKNOWLEDGED_NS, Half, Piece},
};

/// One connection, seen from the server.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    tgid: Tgid,
    pub(super) client: SocketAddr,
    to_server: Half,
    to_client: Half,
    /// Segments of one direction that wait for bytes of the other which they acknowledge, in the order in which they came.
    waiting: Vec<Waiting>,
    /// Over: what still comes for it is a repetition.
    pub(super) closed: bool,
}

struct Waiting {
    flow: Flow,
    sequence: u32,
    size: u32,
    payload: Vec<u8>,
    fin: bool,
    /// The next byte of the other direction, as far as its sender knew.
    acknowledged: Option<u32>,
    at: u64,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, tgid: Tgid, client: SocketAddr) -> Self {
        let (to_server, to_client) = Default::default();
        Self { id, tgid, client, to_server, to_client, waiting: Vec::new(), closed: false }
    }

    /// What the server sends (`answers`), or what it receives.
    pub(super) fn half(&mut self, answers: bool) -> &mut Half {
        if answers { &mut self.to_client } else { &mut self.to_server }
    }

    /// True if the ends of both directions were seen.
    pub(super) fn has_ends(&self) -> bool {
        self.to_server.has_end() && self.to_client.has_end()
    }

    pub(super) fn held_bytes(&self) -> usize {
        let waiting: usize = self.waiting.iter().map(|waiting| waiting.payload.len()).sum();
        self.to_server.held_bytes() + self.to_client.held_bytes() + waiting
    }

    pub(super) fn on_segment(
        &mut self,
        segment: &TcpSegment<'_>,
        now: u64,
        counters: &mut ReplayCounters,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) {
        let answers = segment.source != self.client;
        if let Some(acknowledged) = segment.acknowledged {
            self.half(!answers).acknowledge(acknowledged);
        }
        // A SYN takes the place of one byte.
        let sequence = segment.sequence.wrapping_add(u32::from(segment.syn));
        let waiting = Waiting {
            flow: if answers { Flow::Sent } else { Flow::Received },
            sequence,
            size: segment.size,
            payload: Vec::new(),
            fin: segment.fin,
            acknowledged: segment.acknowledged,
            at: now,
        };
        match self.waiting.first().map(|first| first.flow) {
            Some(flow) if flow == waiting.flow => {
                if segment.size > 0 || segment.fin {
                    self.wait(waiting, segment.payload, counters);
                }
            }
            None if segment.size > 0 && self.half(!answers).lacks_what_is_acknowledged() => {
                self.wait(waiting, segment.payload, counters);
            }
            before => {
                if before.is_some() && segment.size > 0 {
                    // What is missing before it is lost: who waits for nothing else has waited in vain.
                    self.release_before(sequence, None, counters, on_event);
                }
                self.take(&waiting, segment.payload, counters, on_event);
                let end = sequence.wrapping_add(segment.size);
                self.release_before(end, Some((sequence, now)), counters, on_event);
            }
        }
        if self.waiting.len() > WAITING_MAX {
            self.release(counters, on_event);
        }
        self.settle(now, false, counters, on_event);
        if segment.reset || (self.to_server.is_finished() && self.to_client.is_finished()) {
            self.close(now, counters, on_event);
        }
    }

    fn wait(&mut self, segment: Waiting, payload: &[u8], counters: &mut ReplayCounters) {
        counters.reordered_segments += u64::from(self.waiting.is_empty());
        self.waiting.push(Waiting { payload: payload.to_vec(), ..segment });
    }

    /// Takes the first of the segments that have waited, as long as they acknowledge nothing from this sequence number
    /// on. Those that waited for the segment that `came` with its first sequence number did not come before it.
    fn release_before(
        &mut self,
        sequence: u32,
        came: Option<(u32, u64)>,
        counters: &mut ReplayCounters,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) {
        while let Some(first) = self.waiting.first() {
            let half = if first.flow == Flow::Sent { &self.to_server } else { &self.to_client };
            let needs = first.acknowledged.and_then(|acknowledged| half.locate(acknowledged));
            if needs > half.locate(sequence).max(half.locate_next()) {
                return;
            }
            let at = came.filter(|(start, _)| needs > half.locate(*start)).map_or(0, |(_, at)| at);
            let mut first = self.waiting.remove(0);
            first.at = first.at.max(at);
            self.take(&first, &first.payload, counters, on_event);
        }
    }

    /// Takes all segments that have waited.
    fn release(&mut self, counters: &mut ReplayCounters, on_event: &mut dyn FnMut(&Event<'_>)) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.take(&waiting, &waiting.payload, counters, on_event);
        }
    }

    fn take(
        &mut self,
        segment: &Waiting,
        payload: &[u8],
        counters: &mut ReplayCounters,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) {
        let (id, tgid, flow) = (self.id, self.tgid, segment.flow);
        let (half, other, reverse) = match flow {
            Flow::Received => (&mut self.to_server, &mut self.to_client, Flow::Sent),
            Flow::Sent => (&mut self.to_client, &mut self.to_server, Flow::Received),
        };
        let mut payload_bytes = (0, 0);
        if segment.size > 0 {
            other.give_way(counters, &mut |piece| {
                note(&mut payload_bytes, &piece);
                on_event(&data(id, tgid, reverse, &piece));
            });
        }
        half.accept(segment.sequence, segment.size, payload, segment.at, counters, &mut |piece| {
            note(&mut payload_bytes, &piece);
            on_event(&data(id, tgid, flow, &piece));
        });
        counters.payload_bytes += payload_bytes.0;
        counters.cut_bytes += payload_bytes.1;
        if segment.fin {
            half.finish(segment.sequence.wrapping_add(segment.size));
        }
    }

    /// Gives up what has been missing for too long, or with `force` all that is missing.
    pub(super) fn settle(
        &mut self,
        now: u64,
        force: bool,
        counters: &mut ReplayCounters,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) {
        if let Some(first) = self.waiting.first()
            && (force || now.saturating_sub(first.at) >= ACKNOWLEDGED_NS)
        {
            self.release(counters, on_event);
        }
        let (id, tgid) = (self.id, self.tgid);
        let mut payload_bytes = (0, 0);
        for (half, flow) in [(&mut self.to_server, Flow::Received), (&mut self.to_client, Flow::Sent)] {
            half.settle(now, force, counters, &mut |piece| {
                note(&mut payload_bytes, &piece);
                on_event(&data(id, tgid, flow, &piece));
            });
        }
        counters.payload_bytes += payload_bytes.0;
        counters.cut_bytes += payload_bytes.1;
    }

    pub(super) fn close(
        &mut self,
        now: u64,
        counters: &mut ReplayCounters,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) {
        self.settle(now, true, counters, on_event);
        let [received, sent] = [&self.to_server, &self.to_client].map(Half::total);
        counters.lost_bytes += self.to_server.missing() + self.to_client.missing();
        // It stays, since its numbers tell repetitions from a new connection.
        self.closed = true;
        on_event(&Event::Close(Close {
            boot_ns: now,
            connection: Some(self.id),
            stream: StreamId(self.id.0),
            layer: Layer::Socket,
            sent,
            received,
        }));
    }
}

/// Adds the bytes of a piece and those that were cut off, unless it was lost.
fn note(totals: &mut (u64, u64), piece: &Piece<'_>) {
    if piece.lost {
        return;
    }
    totals.0 += piece.size;
    totals.1 += piece.size - piece.bytes.len() as u64;
}

fn data<'a>(id: ConnectionId, tgid: Tgid, flow: Flow, piece: &Piece<'a>) -> Event<'a> {
    Event::Data(Data {
        tgid,
        connection: Some(id),
        stream: StreamId(id.0),
        layer: Layer::Socket,
        flow,
        first_ns: piece.unix_ns,
        last_ns: piece.unix_ns,
        position: piece.position,
        size: piece.size,
        bytes: piece.bytes,
    })
}

/// Segments that wait for the other direction.
const WAITING_MAX: usize = 64;
