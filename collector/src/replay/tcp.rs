//! One direction of a TCP connection: puts its segments in order by sequence number.
//!
//! A segment that comes ahead of others is held. What is missing before it is given up as lost (the capture missed it,
//! or the network did and the connection died) when the peer has acknowledged it and either says something itself (an
//! answer must not overtake its request) or [`ACKNOWLEDGED_NS`] have passed, when [`HELD_NS`] have passed anyway, or
//! when too much is held. Of bytes that came twice the first copy counts.

use super::counters::ReplayCounters;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// Sequence number of the next byte in order; `None` until known.
    next: Option<u32>,
    /// Its position.
    position: u64,
    /// Positions below it are acknowledged.
    acknowledged: u64,
    /// Where the stream ends, if its FIN was seen.
    end: Option<u64>,
    /// Ahead of `position`, in the order in which they came.
    held: Vec<Held>,
    /// Bytes in `held`.
    held_bytes: usize,
}

#[derive(Debug)]
struct Held {
    position: u64,
    size: u64,
    bytes: Vec<u8>,
    at: u64,
    /// Bytes of it that were emitted; the others came twice.
    emitted: u64,
}

impl Held {
    fn end(&self) -> u64 {
        self.position + self.size
    }
}

/// Bytes in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) position: u64,
    /// Bytes on the wire.
    pub(super) size: u64,
    /// Those that were captured.
    pub(super) bytes: &'a [u8],
    /// When they were captured; if they were not, when the next ones were.
    pub(super) unix_ns: u64,
    /// The capture does not have them.
    pub(super) lost: bool,
}

impl Half {
    /// The byte with this sequence number is the first one, unless that is known already.
    pub(super) fn begin(&mut self, sequence: u32) {
        self.next.get_or_insert(sequence);
    }

    /// True if nothing has been taken, or only what began with this sequence number.
    pub(super) fn began_with(&self, sequence: u32) -> bool {
        self.next.is_none_or(|next| next.wrapping_sub(self.position as u32) == sequence)
    }

    /// The position of a sequence number, if it can belong to this connection. It may lie before the first byte.
    pub(super) fn locate(&self, sequence: u32) -> Option<i64> {
        // The difference in sequence space is signed: RFC 9293, section 3.4.
        let distance = i64::from(sequence.wrapping_sub(self.next?).cast_signed());
        let position = i64::try_from(self.position).ok()?;
        (distance.abs() <= WINDOW_BYTES_MAX).then_some(position + distance)
    }

    /// The position of the next byte.
    pub(super) fn locate_next(&self) -> Option<i64> {
        i64::try_from(self.position).ok()
    }

    /// The other side has acknowledged everything before `sequence`.
    pub(super) fn acknowledge(&mut self, sequence: u32) {
        self.begin(sequence);
        if let Some(position) = self.locate(sequence).and_then(|position| u64::try_from(position).ok()) {
            self.acknowledged = self.acknowledged.max(position);
        }
    }

    /// The stream ends before `sequence`.
    pub(super) fn finish(&mut self, sequence: u32) {
        self.begin(sequence);
        if let Some(position) = self.locate(sequence).and_then(|position| u64::try_from(position).ok()) {
            self.end.get_or_insert(position);
        }
    }

    /// True if the other side has acknowledged bytes that did not come yet, nor any behind them.
    pub(super) fn lacks_what_is_acknowledged(&self) -> bool {
        self.held.is_empty() && self.acknowledged.min(self.end.unwrap_or(u64::MAX)) > self.position
    }

    /// True if the FIN was seen and nothing before it can come any more.
    pub(super) fn is_finished(&self) -> bool {
        let reached = |end| self.position >= end || self.acknowledged > end;
        self.held.is_empty() && self.end.is_some_and(reached)
    }

    /// True if the FIN was seen.
    pub(super) fn has_end(&self) -> bool {
        self.end.is_some()
    }

    /// Bytes that passed, as far as known. (A FIN counts into what is acknowledged.)
    pub(super) fn total(&self) -> u64 {
        self.position.max(self.end.unwrap_or(self.acknowledged))
    }

    /// Bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Bytes before the FIN, or of those that were acknowledged, that never came.
    pub(super) fn missing(&self) -> u64 {
        self.total() - self.position
    }

    /// Takes the payload of a segment, of which `size` bytes were on the wire.
    pub(super) fn accept(
        &mut self,
        sequence: u32,
        size: u32,
        bytes: &[u8],
        at: u64,
        counters: &mut ReplayCounters,
        emit: &mut impl FnMut(Piece<'_>),
    ) {
        if size == 0 {
            return;
        }
        self.begin(sequence);
        let Some(start) = self.locate(sequence) else {
            counters.stray_segments += 1;
            return;
        };
        // What was taken already, or lies before the first byte that we saw.
        let old = u64::try_from(self.position.cast_signed() - start).unwrap_or(0).min(u64::from(size));
        let size = u64::from(size) - old;
        counters.repeated_bytes += old;
        if size == 0 {
            return;
        }
        let bytes = bytes.get(usize::try_from(old).unwrap_or(usize::MAX)..).unwrap_or_default();
        let position = u64::try_from(start).unwrap_or(0).max(self.position);
        if position == self.position && self.held.is_empty() {
            self.advance(size);
            emit(Piece { position, size, bytes, unix_ns: at, lost: false });
            return;
        }
        counters.reordered_segments += u64::from(position > self.position);
        self.held_bytes += bytes.len();
        self.held.push(Held { position, size, bytes: bytes.to_vec(), at, emitted: 0 });
        self.drain(counters, emit);
        if self.held.len() > HELD_SEGMENTS_MAX || self.held_bytes > HELD_BYTES_MAX {
            self.jump(counters, emit);
        }
    }

    /// The other direction says something: gives up what is missing but acknowledged.
    pub(super) fn give_way(&mut self, counters: &mut ReplayCounters, emit: &mut impl FnMut(Piece<'_>)) {
        while !self.held.is_empty() && self.acknowledged > self.position {
            self.jump(counters, emit);
        }
    }

    /// Gives up what is missing if it is time, or if `force`.
    pub(super) fn settle(
        &mut self,
        now: u64,
        force: bool,
        counters: &mut ReplayCounters,
        emit: &mut impl FnMut(Piece<'_>),
    ) {
        while let Some(first) = self.held.first() {
            let age = now.saturating_sub(first.at);
            let acknowledged = self.acknowledged > self.position && age >= ACKNOWLEDGED_NS;
            if !(force || acknowledged || age >= HELD_NS) {
                return;
            }
            self.jump(counters, emit);
        }
    }

    /// Passes over what is missing before the first held segment.
    fn jump(&mut self, counters: &mut ReplayCounters, emit: &mut impl FnMut(Piece<'_>)) {
        let Some(next) = self.held.iter().min_by_key(|held| held.position) else { return };
        let (position, unix_ns) = (self.position, next.at);
        let size = next.position.saturating_sub(position);
        if size > 0 {
            counters.lost_bytes += size;
            self.advance(size);
            emit(Piece { position, size, bytes: &[], unix_ns, lost: true });
        }
        self.drain(counters, emit);
    }

    /// Emits what is held and in order.
    fn drain(&mut self, counters: &mut ReplayCounters, emit: &mut impl FnMut(Piece<'_>)) {
        let has_next = |held: &Held, next: u64| held.position <= next && next < held.end();
        while let Some(index) = self.held.iter().position(|held| has_next(held, self.position)) {
            let position = self.position;
            // Of several copies the one that came first; it ends where an earlier one begins.
            let earlier = self.held.iter().take(index).map(|held| held.position);
            let limit = earlier.filter(|start| *start > position).min().unwrap_or(u64::MAX);
            let Some(held) = self.held.get_mut(index) else { break };
            let from = usize::try_from(position - held.position).unwrap_or(usize::MAX);
            let size = limit.min(held.end()) - position;
            let bytes = held.bytes.get(from..).unwrap_or_default();
            let bytes = bytes.get(..usize::try_from(size).unwrap_or(usize::MAX)).unwrap_or(bytes);
            emit(Piece { position, size, bytes, unix_ns: held.at, lost: false });
            held.emitted += size;
            self.advance(size);
            self.discard_passed(counters);
        }
    }

    fn discard_passed(&mut self, counters: &mut ReplayCounters) {
        let position = self.position;
        for held in self.held.extract_if(.., |held| held.end() <= position) {
            counters.repeated_bytes += held.size - held.emitted;
            self.held_bytes -= held.bytes.len();
        }
    }

    fn advance(&mut self, size: u64) {
        self.position += size;
        // Sequence numbers count modulo 2^32.
        self.next = self.next.map(|next| next.wrapping_add(size as u32));
    }
}

/// A segment that an acknowledgement has overtaken in the capture comes within this time.
pub(super) const ACKNOWLEDGED_NS: u64 = 100_000_000;
/// Rationale: a retransmission comes after 200 ms at the earliest, after a second loss a second later.
const HELD_NS: u64 = 3_000_000_000;
/// Segments held in one direction.
const HELD_SEGMENTS_MAX: usize = 64;
/// Bytes held in one direction.
const HELD_BYTES_MAX: usize = 256 * 1024;
/// RFC 7323, section 2.3: windows are at most 2^30 bytes.
const WINDOW_BYTES_MAX: i64 = 1 << 30;
