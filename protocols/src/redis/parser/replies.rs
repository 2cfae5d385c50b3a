//! The reply direction: gives each reply to the front of the queue, and ends exchanges.

use super::{
    Answer, Circumstances, Modes, RedisParser, Replies, Requests, Slot, Step, Target, exchange::exchange,
};
use crate::{
    exchange::Exchange,
    limits,
    protocol::{BootNanos, Gap, Segment},
    redis::{
        commands::{Command, Kind},
        pubsub::{self, Subscriptions, Word},
        request::Detail,
        walk::{Said, Step as WalkStep, Walk},
    },
};

/// What begins at a type byte.
enum Begins {
    /// A value that is this.
    Value(Target),
    /// Nothing that can be told yet.
    Partial,
    /// A message, or a reply that looks like one.
    Ambiguous,
    /// A blank line.
    Blank,
    /// A replication stream.
    Replication,
}

impl RedisParser {
    pub(super) fn on_reply_bytes(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let length = match self.replies {
            Replies::Opaque => return segment.bytes.len(),
            Replies::Seek => segment.bytes.len(),
            Replies::Open { .. } => self.read_open_reply(segment, out),
            Replies::Between => self.begin_reply(segment, out),
            Replies::Within(target) => self.read_reply(target, segment, out),
        };
        if length > 0 {
            self.note_reply_bytes(segment.first_at, segment.last_at);
        }
        length
    }

    fn note_reply_bytes(&mut self, first_at: BootNanos, last_at: BootNanos) {
        self.turns.answer(first_at, last_at);
        self.replied_first = self.replied_first.max(Some(first_at));
        self.replied_last = self.replied_last.max(Some(last_at));
    }

    /// At the first byte of a value.
    fn begin_reply(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match self.begins(segment.bytes) {
            Begins::Ambiguous => self.lose_replies(segment.bytes.len()),
            Begins::Partial if segment.cut => self.lose_replies(segment.bytes.len()),
            Begins::Partial => 0,
            // A master that prepares a full copy says so to its replica.
            Begins::Blank if self.front_kind() == Some(Kind::Sync) => 1,
            Begins::Blank => {
                self.fail();
                self.lose_replies(segment.bytes.len())
            }
            Begins::Replication => {
                self.leave_alone();
                segment.bytes.len()
            }
            Begins::Value(Target::Push) => self.begin_value(Target::Push, segment, out),
            Begins::Value(target) => match self.queue.front() {
                // The two directions may have been read by different threads: its command may still come.
                None if self.step != Step::Lost => 0,
                None => self.lose_replies(segment.bytes.len()),
                // Nobody had asked for it. If the turn was assumed, it answers what was in flight before.
                Some(Slot::Command(front)) if front.start > segment.first_at => {
                    if self.step == Step::Assumed {
                        self.turns.refute();
                    }
                    self.lose_replies(segment.bytes.len())
                }
                Some(_) => self.begin_value(target, segment, out),
            },
        }
    }

    /// Says what value begins here. What looks like a push and may be a reply is one only where none can come.
    fn begins(&self, bytes: &[u8]) -> Begins {
        let front = self.front().and_then(|front| front.command);
        let of_subscribers = front.is_some_and(Command::is_of_subscribers);
        match bytes.first() {
            Some(b'\r' | b'\n') => Begins::Blank,
            Some(b'>') => match pubsub::word(bytes) {
                None => Begins::Partial,
                Some(Word::Confirmation(kind)) if self.front_kind() == Some(kind) => {
                    Begins::Value(Target::Confirmation { resp2: false })
                }
                Some(_) => Begins::Value(Target::Push),
            },
            Some(b'*') if bytes.starts_with(REPLCONF) => Begins::Replication,
            Some(b'*') => {
                let known = self.modes.subscriptions;
                if !of_subscribers && known.is_some_and(|known| !known.may_get_arrays()) {
                    return Begins::Value(Target::Front);
                }
                match pubsub::word(bytes) {
                    None => Begins::Partial,
                    Some(Word::Confirmation(kind)) if self.front_kind() == Some(kind) => {
                        Begins::Value(Target::Confirmation { resp2: true })
                    }
                    Some(Word::Message | Word::Confirmation(_)) => {
                        let certain = of_subscribers || known.is_some() || self.queue.is_empty();
                        if certain { Begins::Value(Target::Push) } else { Begins::Ambiguous }
                    }
                    Some(Word::Other) => Begins::Value(Target::Front),
                }
            }
            Some(b'+') => match pubsub::is_monitored(bytes) {
                None => Begins::Partial,
                Some(true) => Begins::Value(Target::Push),
                Some(false) => Begins::Value(Target::Front),
            },
            _ => Begins::Value(Target::Front),
        }
    }

    fn begin_value(&mut self, target: Target, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        self.walk = Walk::default();
        if target != Target::Push
            && self.front_kind() == Some(Kind::Sync)
            && segment.bytes.first() == Some(&b'$')
        {
            // `SYNC` has no other reply than what it asked for.
            self.count(0, segment);
            self.answer_front(Said::default(), out);
            self.leave_alone();
            return segment.bytes.len();
        }
        self.read_reply(target, segment, out)
    }

    fn read_reply(&mut self, target: Target, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match self.walk.read(segment.bytes, segment.cut) {
            WalkStep::More(0) => 0,
            WalkStep::More(taken) => {
                self.replies = Replies::Within(target);
                if target != Target::Push {
                    self.count(taken as u64, segment);
                }
                taken
            }
            WalkStep::Done(taken) => {
                self.replies = Replies::Between;
                let said = std::mem::take(&mut self.walk).said;
                if target == Target::Push {
                    return taken;
                }
                self.count(taken as u64, segment);
                let next = segment.bytes.get(taken);
                if self.fresh
                    && self.step == Step::Assumed
                    && self.queue.len() == 1
                    && next.is_some_and(|next| *next != b'>')
                {
                    // A reply more than was asked for: this one may not be what was asked for either.
                    self.turns.refute();
                    return self.lose_replies(segment.bytes.len());
                }
                self.value_is_read(target, said, out);
                taken
            }
            WalkStep::Broken => {
                self.fail();
                self.lose_replies(segment.bytes.len())
            }
        }
    }

    /// Counts bytes of the reply to the front of the queue.
    fn count(&mut self, bytes: u64, segment: &Segment<'_>) {
        let answer = self.answer.get_or_insert_with(|| {
            self.turns.confirm();
            Answer { start: segment.first_at, end: segment.last_at, bytes: 0 }
        });
        answer.bytes = answer.bytes.saturating_add(bytes);
        answer.end = segment.last_at;
    }

    fn value_is_read(&mut self, target: Target, said: Said, out: &mut Vec<Exchange>) {
        match self.queue.front_mut() {
            None => {}
            Some(Slot::Skipped(count)) => {
                self.answer = None;
                *count -= 1;
                if *count == 0 {
                    self.queue.pop_front();
                    self.shrink();
                }
            }
            Some(Slot::Command(front)) => {
                if let Target::Confirmation { resp2 } = target {
                    let Some(kind) = front.command.map(|command| command.kind) else { return };
                    let total = said.integer.and_then(|total| u64::try_from(total).ok()).unwrap_or(0);
                    let before = self.modes.subscriptions;
                    self.modes.subscriptions = match before {
                        Some(mut known) => {
                            known.confirm(kind, total, resp2);
                            Some(known)
                        }
                        None => Subscriptions::first_known(kind, total, resp2),
                    };
                    // All of them, one after the other; there is one confirmation if there are none.
                    if let (Kind::Unsubscribe(channels), 0) = (kind, front.replies) {
                        let count = before.map_or(1, |before| before.count(channels));
                        front.replies = u32::try_from(count).unwrap_or(u32::MAX).max(1);
                    }
                    front.replies = front.replies.saturating_sub(1);
                    if front.replies > 0 {
                        return;
                    }
                }
                self.answer_front(said, out);
            }
        }
    }

    /// The reply to the front of the queue is over.
    fn answer_front(&mut self, said: Said, out: &mut Vec<Exchange>) {
        let (Some(answer), Some(pending)) = (self.answer.take(), self.pop()) else { return };
        let mut known = Circumstances { database: self.modes.database, ..Circumstances::default() };
        let kind = pending.command.map(|command| command.kind);
        if said.queued {
            self.modes.queued = self.modes.queued.map(|count| count.saturating_add(1));
            match kind {
                Some(Kind::Select) => self.modes.queued_database = Some(database(pending.detail)),
                Some(
                    Kind::Subscribe(_) | Kind::Unsubscribe(_) | Kind::Monitor | Kind::Client(_) | Kind::Sync,
                ) => {
                    self.modes.murky = true;
                }
                _ => {}
            }
            let exchange = exchange(self.role, pending, Some(&answer), known);
            return self.emit(exchange, out);
        }
        if kind == Some(Kind::Exec) {
            known.batch = self.modes.queued;
        }
        let failed = said.error.is_some();
        // A transaction of which a command failed has failed, in part.
        known.error = said.error.or(if kind == Some(Kind::Exec) { said.inner_error.clone() } else { None });
        known.is_unclear = said.is_cut && kind == Some(Kind::Exec);
        self.cut_requests += u64::from(known.is_unclear && known.error.is_none());
        let detail = pending.detail;
        let exchange = exchange(self.role, pending, Some(&answer), known);
        self.emit(exchange, out);
        match kind {
            Some(Kind::Select) if !failed => self.modes.database = database(detail),
            Some(Kind::Multi) if !failed => self.modes.queued = Some(0),
            Some(Kind::Discard) if !failed => self.end_transaction(),
            Some(Kind::Exec) => {
                let executed = !failed && !said.null;
                if let (true, Some(database)) = (executed, self.modes.queued_database) {
                    self.modes.database = database.filter(|_| said.inner_error.is_none());
                }
                let murky = executed && self.modes.murky;
                self.end_transaction();
                if murky {
                    self.forget();
                }
            }
            Some(Kind::Reset) if !failed => {
                self.end_transaction();
                self.modes.database = Some(0);
                self.modes.subscriptions = Some(Subscriptions::default());
            }
            Some(Kind::Sync) if !failed => self.leave_alone(),
            _ => {}
        }
    }

    /// Hands out an exchange. Those of the first turn after loss only when it is whole.
    fn emit(&mut self, exchange: Exchange, out: &mut Vec<Exchange>) {
        self.failures = 0;
        if self.fresh && !self.queue.is_empty() {
            if self.held.len() < limits::REDIS_HELD_MAX {
                self.held.push(exchange);
            } else {
                self.dropped += 1;
            }
            return;
        }
        self.confirmed = true;
        if !self.held.is_empty() {
            out.append(&mut self.held);
            self.held = Vec::new();
        }
        out.push(exchange);
    }

    fn end_transaction(&mut self) {
        self.modes.queued = None;
        self.modes.queued_database = None;
        self.modes.murky = false;
    }

    fn front_kind(&self) -> Option<Kind> {
        self.front().and_then(|front| front.command).map(|command| command.kind)
    }

    /// The reply direction is out of frame: how many of the waiting commands were answered is unknown.
    fn lose_replies(&mut self, taken: usize) -> usize {
        self.forget();
        taken
    }

    /// A reply whose end is unknown.
    fn read_open_reply(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        // A push may come any time later, and is no part of it.
        if segment.bytes.first() == Some(&b'>') {
            self.end_open_reply(segment.first_at, out);
        } else {
            self.count(segment.bytes.len() as u64, segment);
        }
        segment.bytes.len()
    }

    /// What begins at `at` ends the reply whose end was unknown.
    pub(super) fn end_open_reply(&mut self, at: BootNanos, out: &mut Vec<Exchange>) {
        if !matches!(self.replies, Replies::Open { .. }) {
            return;
        }
        self.replies = Replies::Seek;
        if self.answer.is_some_and(|answer| answer.end <= at) {
            let mut said = std::mem::take(&mut self.walk).said;
            said.is_cut = true;
            // Whether it has set something is written where nobody looked.
            let sets = !matches!(self.front_kind(), Some(Kind::Plain | Kind::Container(_)));
            self.answer_front(said, out);
            if sets || self.modes.transaction_asked {
                let transaction_asked = self.modes.transaction_asked;
                self.modes = Modes { transaction_asked, ..Modes::default() };
            }
        } else {
            self.forget();
        }
    }

    pub(super) fn on_reply_gap(&mut self, gap: &Gap, out: &mut Vec<Exchange>) {
        self.turns.clear_suspicion();
        match self.replies {
            Replies::Opaque => return,
            Replies::Seek => {}
            Replies::Between => self.forget(),
            Replies::Open { .. } => self.count_missing(gap),
            Replies::Within(target) => match self.walk.skip(gap.missing) {
                Some(over) => {
                    if target != Target::Push {
                        self.count_missing(gap);
                    }
                    if over {
                        self.replies = Replies::Between;
                        let said = std::mem::take(&mut self.walk).said;
                        if target != Target::Push {
                            self.value_is_read(target, said, out);
                        }
                    }
                }
                None if target == Target::Front && self.is_only_one() => {
                    self.count_missing(gap);
                    self.replies = Replies::Open { certain: self.step != Step::Lost };
                    self.step = Step::Lost;
                }
                None => self.forget(),
            },
        }
        self.note_reply_bytes(gap.first_at, gap.last_at);
    }

    /// Whether one command waits and no other has begun.
    fn is_only_one(&self) -> bool {
        self.queue.len() == 1 && self.front().is_some() && self.requests != Requests::Within
    }

    fn count_missing(&mut self, gap: &Gap) {
        if let Some(answer) = &mut self.answer {
            answer.bytes = answer.bytes.saturating_add(gap.missing);
            answer.end = answer.end.max(gap.last_at);
        }
    }
}

fn database(detail: Detail) -> Option<u16> {
    match detail {
        Detail::Database(number) => Some(number),
        _ => None,
    }
}

/// What a replica says every second. On a connection whose roles we have mistaken it comes as a reply.
const REPLCONF: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n";
