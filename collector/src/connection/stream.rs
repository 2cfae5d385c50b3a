//! One byte stream in both directions: from the calls' bytes to its parser, or to detection, or to nowhere.
//!
//! ```text
//!              TLS records, or a TLS session above
//!   Detecting ------------------------------------> Ciphertext
//!    |     ^   ^--------- no records for long ---------'
//!    | match  lost
//!    v     |
//!   Parsing
//! ```

mod detecting;

use spantap_ebpf_common::{
    event::{Close, Data, Flow, Layer, Opener, StreamId, Tgid},
    limits::{COPY_BYTES_ALL, COPY_BYTES_MAX},
};
use spantap_protocols::{Appetite, BootNanos};

use super::{
    detect::{self, Detector},
    driver::{Chunk, Driver, Shared, other},
    queue::Times,
    reassembly::{HELD_NS, Held, Lanes, Place},
    verdict::Asked,
};

/// See the module.
pub(super) struct Stream {
    /// Its number.
    pub(super) id: StreamId,
    /// Slot of its connection in the table, if known.
    pub(super) connection: Option<u32>,
    pub(super) layer: Layer,
    /// Who opened the connection.
    pub(super) opener: Option<Opener>,
    /// Whose call carried the newest bytes.
    pub(super) tgid: Tgid,
    /// The newest event.
    pub(super) active_at: BootNanos,
    /// Memory owned when last looked at.
    pub(super) footprint: usize,
    /// What it speaks was told to [`super::refused`].
    pub(super) is_told: bool,
    /// True while every byte since the first one was seen by the same parser, or by none.
    intact: bool,
    lanes: Lanes,
    state: State,
    asked: Asked,
}

enum State {
    Detecting(Detector),
    Parsing(Driver),
    Ciphertext {
        /// Segments in a row that did not begin with a record; `None` if a TLS session above makes it certain.
        strays: Option<u32>,
    },
}

/// How a stream came to be known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    pub(super) id: StreamId,
    pub(super) connection: Option<u32>,
    pub(super) layer: Layer,
    pub(super) opener: Option<Opener>,
    pub(super) tgid: Tgid,
    pub(super) at: BootNanos,
    /// No byte had passed before.
    pub(super) from_start: bool,
    /// Positions are counted from 0 in both directions, and we have seen 0.
    pub(super) from_zero: bool,
    /// A TLS session lies above it.
    pub(super) below_tls: bool,
}

/// Why a stream is over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending<'a> {
    /// It was closed, with these totals.
    Close(&'a Close),
    /// Its connection went.
    Gone,
    /// Nothing has moved on it for too long.
    Silent,
    /// It may go on, but we shall not see it.
    Unseen,
}

impl Stream {
    pub(super) fn new(birth: Birth) -> Self {
        let state = if birth.below_tls {
            State::Ciphertext { strays: None }
        } else {
            State::Detecting(Detector::default())
        };
        Self {
            id: birth.id,
            connection: birth.connection,
            layer: birth.layer,
            opener: birth.opener,
            tgid: birth.tgid,
            active_at: birth.at,
            footprint: 0,
            is_told: false,
            intact: birth.from_start,
            lanes: Lanes::new(birth.from_zero),
            state,
            asked: Asked::default(),
        }
    }

    /// Takes the bytes of one call.
    pub(super) fn on_data(&mut self, data: &Data<'_>, shared: &mut Shared) {
        self.tgid = data.tgid;
        self.active_at = self.active_at.max(BootNanos(data.last_ns));
        if self.lanes.of(other(data.flow)).is_holding() {
            self.release(other(data.flow), shared);
        }
        let Data { flow, position, size, .. } = *data;
        let times = Times { first: BootNanos(data.first_ns), last: BootNanos(data.last_ns) };
        let bytes = data.bytes.get(..usize::try_from(size).unwrap_or(usize::MAX)).unwrap_or(data.bytes);
        let lane = self.lanes.of(flow);
        let jumps = matches!(lane.place(position, size), Place::Ahead { .. });
        if let (true, false, State::Detecting(_) | State::Parsing(_)) =
            (jumps, self.asked.is_quiet(flow), &self.state)
        {
            shared.counters.reordered_events += 1;
            if !lane.can_hold(bytes.len()) {
                self.release(flow, shared);
            }
            let lane = self.lanes.of(flow);
            let ahead = matches!(lane.place(position, size), Place::Ahead { .. });
            if ahead && lane.can_hold(bytes.len()) {
                lane.hold(position, size, bytes, times, times.last);
                return;
            }
        }
        self.arrive(flow, position, size, bytes, times, shared);
        self.asked.reported(flow, times.last, jumps);
        while let Some(held) = self.lanes.of(flow).take_held(false) {
            self.arrive_held(flow, &held, shared);
        }
    }

    /// Gives up waiting for what came before the held pieces.
    fn release(&mut self, flow: Flow, shared: &mut Shared) {
        while let Some(held) = self.lanes.of(flow).take_held(true) {
            self.arrive_held(flow, &held, shared);
        }
    }

    fn arrive_held(&mut self, flow: Flow, held: &Held, shared: &mut Shared) {
        let Held { position, size, times, ref bytes, .. } = *held;
        self.arrive(flow, position, size, bytes, times, shared);
    }

    /// Takes a piece whose turn it is: what should have come before is missing for good.
    fn arrive(
        &mut self,
        flow: Flow,
        position: u64,
        size: u64,
        bytes: &[u8],
        times: Times,
        shared: &mut Shared,
    ) {
        let lane = self.lanes.of(flow);
        let mut overlap = 0;
        match lane.place(position, size) {
            Place::Old => {
                shared.counters.overlap_bytes += size;
                return;
            }
            Place::Next { overlap: already } => overlap = already,
            Place::Ahead { missing } => {
                self.count_missing(flow, missing, shared);
                // What was left out on request passed before a parser was opened: to that it is no gap.
                if !self.asked.is_quiet(flow) || !matches!(self.state, State::Parsing(_)) {
                    self.take(flow, Chunk { bytes: &[], missing, times }, shared);
                }
            }
        }
        self.lanes.of(flow).advance(position.saturating_add(size));
        let bytes = bytes.get(usize::try_from(overlap).unwrap_or(usize::MAX)..).unwrap_or_default();
        let missing = (size - overlap).saturating_sub(bytes.len() as u64);
        shared.counters.overlap_bytes += overlap;
        shared.counters.uncopied_bytes += missing;
        if size > overlap {
            self.take(flow, Chunk { bytes, missing, times }, shared);
        }
    }

    fn count_missing(&self, flow: Flow, missing: u64, shared: &mut Shared) {
        if self.asked.is_quiet(flow) {
            shared.counters.add_unwanted(missing);
        } else {
            shared.counters.add_missing(missing);
        }
    }

    /// Takes bytes that are in order.
    fn take(&mut self, flow: Flow, chunk: Chunk<'_>, shared: &mut Shared) {
        shared.counters.gaps += u64::from(chunk.missing > 0);
        match &mut self.state {
            State::Parsing(driver) => {
                driver.feed(&mut self.lanes, flow, chunk, shared);
                self.after_feeding(flow, chunk, shared);
            }
            State::Detecting(_) => self.detect(flow, chunk, shared),
            State::Ciphertext { strays } => {
                shared.counters.ciphertext_bytes += chunk.bytes.len() as u64;
                let Some(count) = strays.as_mut().filter(|_| !chunk.bytes.is_empty()) else { return };
                self.asked.useless(self.id, chunk.times.last, &mut shared.verdicts);
                *count = if detect::is_tls_record(chunk.bytes) { 0 } else { *count + 1 };
                if *count >= STRAYS_MAX {
                    self.state = State::Detecting(Detector::default());
                }
            }
        }
    }

    /// Sees to the parser, and says which bytes it needs: more of each call if it could not do with what was copied of
    /// this one; nothing of a body, if it has taken all there is.
    fn after_feeding(&mut self, flow: Flow, chunk: Chunk<'_>, shared: &mut Shared) {
        let was_cut = chunk.missing > 0 && !chunk.bytes.is_empty();
        let too_little = self.after_parsing(chunk.times.last, shared) && was_cut;
        let State::Parsing(driver) = &self.state else { return };
        let bytes = match driver.protocol.appetite() {
            Appetite::All => COPY_BYTES_ALL,
            Appetite::Usual if !too_little => 0,
            Appetite::More | Appetite::Usual => COPY_BYTES_MAX,
        };
        self.asked.copy(self.id, bytes, &mut shared.verdicts);
        let away = driver.skippable(flow);
        if let Some(here) = self.lanes.of(flow).passed() {
            self.asked.skip(self.id, flow, here, away, &mut shared.verdicts);
        }
    }

    /// Sees whether the parser is lost, and since when a gap waits. True if the parser has dropped something.
    fn after_parsing(&mut self, now: BootNanos, shared: &mut Shared) -> bool {
        let State::Parsing(driver) = &mut self.state else { return false };
        let has_dropped = driver.count_dropped(shared);
        if driver.is_lost() {
            // What made it lose its way would do so again: detection begins with the next segment.
            shared.counters.dropped_messages += driver.in_flight();
            shared.counters.revoked_streams += 1;
            self.drop_queues(shared);
            self.intact = false;
            self.state = State::Detecting(Detector::default());
        }
        for lane in self.lanes.both() {
            lane.blocked_at = if lane.queue.has_gap() { lane.blocked_at.or(Some(now)) } else { None };
        }
        has_dropped
    }

    fn drop_queues(&mut self, shared: &mut Shared) {
        for lane in self.lanes.both() {
            shared.counters.unknown_bytes += lane.queue.clear();
            lane.queue.recycle(&mut shared.spare);
        }
    }

    fn become_ciphertext(&mut self, strays: Option<u32>, shared: &mut Shared) {
        if !matches!(self.state, State::Ciphertext { .. }) {
            shared.counters.ciphertext_streams += 1;
        }
        self.intact = false;
        self.state = State::Ciphertext { strays };
    }

    /// A TLS session was found above this stream: what is left is ciphertext.
    pub(super) fn lie_below_tls(&mut self, at: BootNanos, shared: &mut Shared) {
        if let State::Parsing(driver) = &mut self.state {
            driver.close(at, shared);
        }
        for lane in self.lanes.both() {
            shared.counters.ciphertext_bytes += lane.queue.clear() + lane.drop_held();
            lane.queue.recycle(&mut shared.spare);
            lane.blocked_at = None;
        }
        let known = matches!(self.state, State::Ciphertext { strays: None });
        shared.counters.ciphertext_streams_read += u64::from(!known);
        self.become_ciphertext(None, shared);
    }

    /// Since when something here waits for bytes that may never come.
    pub(super) fn waiting_since(&self) -> Option<BootNanos> {
        self.lanes.waiting_since()
    }

    /// Gives up waiting where it has lasted too long.
    pub(super) fn settle(&mut self, now: BootNanos, shared: &mut Shared) {
        for flow in [Flow::Sent, Flow::Received] {
            let since = self.lanes.of(flow).waiting_since();
            if since.is_some_and(|since| now.since(since) >= HELD_NS) {
                self.settle_lane(flow, now, shared);
            }
        }
    }

    fn settle_lane(&mut self, flow: Flow, now: BootNanos, shared: &mut Shared) {
        self.release(flow, shared);
        self.lanes.of(flow).blocked_at = None;
        if let State::Parsing(driver) = &mut self.state {
            driver.offer(&mut self.lanes, flow, true, shared);
        }
        self.after_parsing(now, shared);
    }

    /// The stream is over: what cannot be consumed now never will be.
    pub(super) fn end(&mut self, at: BootNanos, ending: Ending<'_>, shared: &mut Shared) {
        let at = if matches!(ending, Ending::Unseen) { self.active_at } else { at };
        for flow in [Flow::Sent, Flow::Received] {
            self.settle_lane(flow, at, shared);
        }
        // Below a TLS session the kernel side reports nothing more, and nothing is missed.
        let below_tls = matches!(self.state, State::Ciphertext { strays: None });
        if let (Ending::Close(close), false) = (ending, below_tls) {
            for (flow, total) in [(Flow::Sent, close.sent), (Flow::Received, close.received)] {
                let missing = self.lanes.of(flow).missing_before(total);
                if missing > 0 {
                    self.count_missing(flow, missing, shared);
                    let times = Times { first: at, last: at };
                    self.take(flow, Chunk { bytes: &[], missing, times }, shared);
                    self.settle_lane(flow, at, shared);
                }
            }
        }
        match (&mut self.state, ending) {
            (State::Parsing(driver), Ending::Unseen) => {
                shared.counters.exchanges_open_at_end += driver.in_flight();
            }
            (State::Parsing(driver), Ending::Silent) => driver.time_out(at, shared),
            (State::Parsing(driver), _) => driver.close(at, shared),
            _ => {}
        }
        for lane in self.lanes.both() {
            shared.counters.unfinished_bytes += lane.queue.clear();
            lane.queue.recycle(&mut shared.spare);
        }
    }

    /// Drops what is retained, because the table retains too much. The parser is told of gaps. The footprint is 0 then.
    pub(super) fn shed(&mut self, now: BootNanos, shared: &mut Shared) {
        for lane in self.lanes.both() {
            shared.counters.total_budget_bytes += lane.drop_held();
            lane.blocked_at = None;
        }
        if let State::Parsing(driver) = &mut self.state {
            let shed = driver.shed(&mut self.lanes, shared);
            shared.counters.total_budget_bytes += shed;
        }
        for lane in self.lanes.both() {
            let dropped = lane.queue.release();
            shared.counters.total_budget_bytes += dropped;
            self.intact &= dropped == 0;
        }
        self.after_parsing(now, shared);
    }

    /// Exchanges that its parser has begun and not finished.
    pub(super) fn in_flight(&self) -> u64 {
        if let State::Parsing(driver) = &self.state { driver.in_flight() } else { 0 }
    }

    /// Exchanges are under way, and if anything moved we should see it: of a body of known length the kernel side may have
    /// been asked to report nothing.
    pub(super) fn awaits_bytes(&self) -> bool {
        let State::Parsing(driver) = &self.state else { return false };
        let is_watched = |flow| driver.skippable(flow) == 0;
        driver.in_flight() > 0 && is_watched(Flow::Sent) && is_watched(Flow::Received)
    }

    /// Bytes that were seen and are still here.
    pub(super) fn retained(&self) -> u64 {
        self.lanes.retained()
    }

    /// Memory owned, without the parser's.
    pub(super) fn measure(&self) -> usize {
        self.lanes.footprint()
    }
}

/// Segments that do not begin with a TLS record before ciphertext is doubted. Rationale: a large write may leave in
/// many calls, of which only the first begins with a record.
const STRAYS_MAX: u32 = 64;
