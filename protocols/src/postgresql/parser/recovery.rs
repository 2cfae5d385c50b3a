//! What remains certain after a gap, or after something that cannot be.

use super::{Ending, First, Owed, PostgresqlParser, Reading, Response, What};
use crate::{
    exchange::Exchange,
    protocol::{BootNanos, Gap},
    sql::Backslash,
};

impl PostgresqlParser {
    pub(super) fn on_request_gap(&mut self, gap: &Gap, out: &mut Vec<Exchange>) {
        match &mut self.requests {
            Reading::Opaque => return,
            Reading::Skip { left, owned } if gap.missing <= *left as u64 => {
                *left -= usize::try_from(gap.missing).unwrap_or(*left);
                let (ended, owned) = (*left == 0, *owned);
                self.own_request_bytes(owned, gap.last_at);
                if ended {
                    self.requests = Reading::Header;
                }
                return;
            }
            Reading::Startup => self.seek_responses(),
            _ => {}
        }
        self.lose_requests(gap.last_at, out);
    }

    /// Requests were not seen: how many is unknown.
    pub(super) fn lose_requests(&mut self, at: BootNanos, out: &mut Vec<Exchange>) {
        // What ended the cycle that is blurred may have answered one of them.
        if self.blurred {
            self.end_blur(self.responses_latest, out);
        }
        self.dropped += u64::from(self.held.take().is_some());
        self.first = First::Over;
        self.requests = Reading::Seek;
        self.transaction = None;
        self.requests_unclear = Some(at);
        self.group = None;
        self.prepared.forget_all();
        self.dropped += 1;
        if !self.queue.has_unknown() {
            self.queue.push(Owed::Unknown);
        }
    }

    pub(super) fn on_response_gap(&mut self, gap: &Gap) {
        match &mut self.responses {
            Reading::Opaque => return,
            Reading::Skip { left, .. } if gap.missing <= *left as u64 => {
                *left -= usize::try_from(gap.missing).unwrap_or(*left);
                if *left == 0 {
                    self.responses = Reading::Header;
                }
                self.responses_latest = gap.last_at;
                return;
            }
            _ => {}
        }
        self.response.bytes += gap.missing;
        self.lose_responses(gap.last_at);
    }

    /// The server's direction is out of frame, and it may report anything.
    pub(super) fn seek_responses(&mut self) {
        self.responses = Reading::Seek;
        self.backslash = Backslash::Unclear;
    }

    /// Messages of the server were not seen.
    pub(super) fn lose_responses(&mut self, at: BootNanos) {
        self.distrust_first();
        self.seek_responses();
        self.responses_latest = at;
        self.ready_at = None;
        if self.blurred || self.queue.front() == Some(Owed::Unknown) {
            return;
        }
        let cycles = self.queue.cycles();
        if self.queue.has_unknown()
            || cycles == 0
            || self.pipelined
            || self.queue.front() == Some(Owed::Encryption)
        {
            self.give_up_pairing();
            return;
        }
        // A client that asks for one cycle after the other has seen all before the last one answered.
        let alone = cycles == 1 && !self.failed && self.response.start.is_some() && self.is_last_statement();
        let alone = alone && !self.queue.has_prepared();
        self.dropped += self.queue.blur(alone) as u64;
        self.blurred = true;
        if !alone {
            self.response = Response::default();
        }
    }

    /// No other statement follows the one that is being answered, in its query.
    fn is_last_statement(&mut self) -> bool {
        match self.queue.first().map(|pending| &pending.what) {
            Some(What::Query(query)) => !query.more && query.done + 1 == query.statements.len(),
            Some(What::Execute(_)) => true,
            Some(What::Startup | What::Function) | None => false,
        }
    }

    /// The blurred cycle is over; what was left of it ended at `end`.
    pub(super) fn end_blur(&mut self, end: BootNanos, out: &mut Vec<Exchange>) {
        self.transaction = None;
        self.end_blur_as(Ending::Unseen, end, out);
    }

    /// The same by ReadyForQuery, which says `transaction`.
    ///
    /// > Current backend transaction status indicator. Possible values are 'I' if idle (not in a transaction block); 'T' if
    /// > in a transaction block; or 'E' if in a failed transaction block (queries will be rejected until block is ended).
    /// > (PostgreSQL, section 55.7)
    ///
    /// Within a block it tells whether the statement has failed.
    pub(super) fn end_blur_ready(&mut self, transaction: &[u8], end: BootNanos, out: &mut Vec<Exchange>) {
        let before = std::mem::replace(&mut self.transaction, transaction.first().copied());
        let ending = match (before, self.transaction) {
            (Some(b'T'), Some(b'E')) => Ending::Failed(None),
            (Some(b'T'), Some(b'T')) => Ending::Done,
            _ => Ending::Unseen,
        };
        self.end_blur_as(ending, end, out);
    }

    fn end_blur_as(&mut self, ending: Ending<'_>, end: BootNanos, out: &mut Vec<Exchange>) {
        if self.queue.front() == Some(Owed::Execute) {
            self.emit_first(ending, end, out);
            self.queue.pop();
        }
        if self.queue.front() == Some(Owed::Ready) {
            self.queue.pop();
        }
        self.end_cycle();
    }

    /// After ReadyForQuery, or what stands for it.
    pub(super) fn end_cycle(&mut self) {
        self.blurred = false;
        self.failed = false;
        self.group_failed = false;
        self.copying = false;
        self.assumed = false;
        self.response = Response::default();
    }

    /// What was paired in the first cycle may have answered another one.
    pub(super) fn distrust_first(&mut self) {
        if self.first != First::Over {
            self.first = First::Over;
            self.dropped += u64::from(self.held.take().is_some());
        }
    }

    /// Something came that was not owed: what was believed is wrong, or this is not PostgreSQL.
    pub(super) fn confuse(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.give_up_pairing();
    }

    /// Nothing of what is under way can be paired; a turn must open.
    fn give_up_pairing(&mut self) {
        self.distrust_first();
        self.dropped += self.queue.clear() as u64;
        self.queue.push(Owed::Unknown);
        self.transaction = None;
        self.group = None;
        self.ready_at = None;
        self.end_cycle();
    }

    /// Whether the request that begins at `first_at` can be paired with its response.
    pub(super) fn admit(&mut self, first_at: BootNanos, last_at: BootNanos, out: &mut Vec<Exchange>) -> bool {
        if self.blurred && self.group.is_none() {
            if first_at < self.responses_latest {
                self.give_up_pairing();
            } else {
                // The next cycle: the one before is over.
                self.end_blur(self.responses_latest, out);
                self.responses = Reading::Header;
            }
        }
        match self.first {
            First::Answered => self.first = First::Over,
            // A second cycle before the first is over.
            First::Taken if self.queue.cycles() > 0 => self.distrust_first(),
            _ => {}
        }
        if !self.blurred && self.first == First::Over {
            out.extend(self.held.take().map(|held| *held));
        }
        if !self.queue.has_unknown() {
            return true;
        }
        let is_first = self.first == First::Possible;
        if is_first {
            self.first = First::Taken;
            self.responses = Reading::Header;
        }
        if is_first || self.opens_turn(first_at) {
            self.queue.clear();
            self.end_cycle();
            self.assumed = true;
            return true;
        }
        self.requests_unclear = Some(last_at);
        false
    }

    /// See the module.
    fn opens_turn(&self, first_at: BootNanos) -> bool {
        self.queue.front() == Some(Owed::Unknown)
            && !self.pipelined
            && self.responses == Reading::Header
            && self.ready_at.is_some_and(|ready| {
                ready <= first_at && self.requests_unclear.is_none_or(|unclear| unclear <= ready)
            })
    }
}
