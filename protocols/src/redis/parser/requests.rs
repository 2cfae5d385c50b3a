//! The request direction: takes commands into the queue, or leaves them out where they could be paired wrongly.

use compact_str::CompactString;

use super::{
    Answers, Circumstances, Pending, RedisParser, Replies, Requests, Slot, Step, exchange::exchange,
};
use crate::{
    exchange::Exchange,
    limits,
    protocol::{BootNanos, Gap, Segment, Sniff},
    redis::{
        commands::{Command, Kind},
        request::{self, Begin, Detail, Read, Request},
        sniff,
    },
};

impl RedisParser {
    pub(super) fn on_request_bytes(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        self.turns.ask(Some(segment.first_at), segment.last_at);
        match self.requests {
            Requests::Opaque => segment.bytes.len(),
            Requests::Within => self.read_request(0, segment, out),
            Requests::Between | Requests::Seek => match empty_lines(segment.bytes) {
                0 if self.step == Step::Lost => self.seek_request(segment, out),
                0 => self.begin_request(segment, out),
                // > if the query has no words, nothing is executed (networking.c, processInlineBuffer)
                empty => {
                    if self.requests == Requests::Seek {
                        self.requests_unclear = self.requests_unclear.max(Some(segment.last_at));
                    }
                    empty
                }
            },
        }
    }

    /// Where a command has to show that it is one.
    fn seek_request(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        match sniff::command(segment.bytes) {
            Sniff::Match(_) => self.begin_request(segment, out),
            Sniff::NeedMore if !segment.cut => 0,
            _ => {
                // Where a command must begin, there is none.
                if self.is_turn(segment.first_at) && self.requests == Requests::Seek {
                    self.fail();
                }
                self.lose_requests(segment.last_at);
                segment.bytes.len()
            }
        }
    }

    /// At the first byte of a command.
    fn begin_request(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        if segment.bytes.first() != Some(&b'*') {
            return self.read_inline(segment, out);
        }
        match request::begin(segment.bytes) {
            Begin::Words(length, words) => {
                self.accepted = self.accept(segment.first_at, out);
                self.inline = false;
                self.request = Request::new(segment.first_at, words);
                self.requests = Requests::Within;
                self.read_request(length, segment, out)
            }
            Begin::Nothing(length) => length,
            Begin::Partial => unfinished(segment),
            Begin::Invalid => self.give_up_request(segment),
        }
    }

    /// Reads on behind `from` bytes that are read already.
    fn read_request(&mut self, from: usize, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let rest = segment.bytes.get(from..).unwrap_or_default();
        let (taken, done) = match self.request.read(rest, segment.cut) {
            Read::More(taken) => (from + taken, false),
            Read::Done(taken) => (from + taken, true),
            Read::Invalid => return self.give_up_request(segment),
        };
        self.request.bytes = self.request.bytes.saturating_add(taken as u64);
        if !self.accepted {
            self.requests_unclear = self.requests_unclear.max(Some(segment.last_at));
        }
        if done {
            self.requests = Requests::Between;
            self.request_is_read(segment.last_at, out);
        }
        taken
    }

    /// > [...] it may be inconvenient to use a full Redis client; [...] you can send commands in the inline format (RESP
    /// > protocol specification, "Inline commands")
    fn read_inline(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        // A longer line than is waited for, or one that begins with no command, is none.
        let Some(end) = memchr::memchr(b'\n', segment.bytes) else {
            return match sniff::inline(segment.bytes) {
                Sniff::Reject => self.give_up_request(segment),
                _ => unfinished(segment),
            };
        };
        let line = segment.bytes.get(..end).unwrap_or_default();
        let known = self.confirmed || sniff::inline(segment.bytes) != Sniff::Reject;
        match request::inline(line, segment.first_at)
            .filter(|_| known && end <= limits::REDIS_INLINE_BYTES_MAX)
        {
            Some(request) => {
                // Out of frame, the rest of a command may look like one. Two after each other do not.
                self.accepted =
                    (self.step != Step::Lost || self.inline) && self.accept(segment.first_at, out);
                self.inline = true;
                self.request = request;
                self.request.bytes = end as u64 + 1;
                self.requests = Requests::Between;
                self.request_is_read(segment.last_at, out);
                end + 1
            }
            None if line.iter().all(u8::is_ascii_whitespace) => end + 1,
            None => self.give_up_request(segment),
        }
    }

    /// These bytes are no command.
    fn give_up_request(&mut self, segment: &Segment<'_>) -> usize {
        self.fail();
        self.dropped += 1;
        self.lose_requests(segment.last_at);
        segment.bytes.len()
    }

    /// Whether the command that begins now will be an exchange.
    fn accept(&mut self, first_at: BootNanos, out: &mut Vec<Exchange>) -> bool {
        let certain = self.replies == Replies::Open { certain: true };
        self.end_open_reply(first_at, out);
        if self.step != Step::Lost {
            match self.queue.back() {
                None if self.answer.is_none() => {
                    self.turns.keep();
                    self.fresh = false;
                }
                Some(Slot::Command(newest)) if self.replied_last > Some(newest.request_end) => {
                    if self.fresh {
                        // The turn was none, or replies are switched off.
                        self.turns.refute();
                        self.requests_unclear = self.requests_unclear.max(Some(first_at));
                        self.forget();
                        return false;
                    }
                    self.turns.suspect();
                }
                _ => {}
            }
            return true;
        }
        // If only the end of a reply was lost, it is known what was in flight.
        let allowed = self.turns.allow(first_at) || (certain && !self.turns.do_overlap());
        if !self.is_turn(first_at) || !allowed {
            return false;
        }
        if !certain {
            self.modes = super::Modes::default();
        }
        self.step = Step::Assumed;
        self.fresh = true;
        self.requests_unclear = None;
        self.replies = Replies::Between;
        true
    }

    /// Whether, as far as we know, nothing is in flight when a command begins now.
    fn is_turn(&self, first_at: BootNanos) -> bool {
        let understood = match self.requests_unclear {
            None => true,
            unclear => self.replied_first > unclear,
        };
        self.queue.is_empty() && understood && self.replied_last <= Some(first_at)
    }

    /// The last byte of a command was read.
    pub(super) fn request_is_read(&mut self, last_at: BootNanos, out: &mut Vec<Exchange>) {
        let request = std::mem::take(&mut self.request);
        if request.detail == Detail::Replication {
            return self.leave_alone();
        }
        if !self.accepted {
            self.dropped += 1;
            self.requests_unclear = self.requests_unclear.max(Some(last_at));
            return;
        }
        let silent = self.is_unanswered(&request);
        let kind = request.command.map(|command| command.kind);
        let replies = match kind {
            Some(Kind::Subscribe(_)) if !self.modes.transaction_asked => {
                request.words.saturating_sub(1).max(1)
            }
            Some(Kind::Unsubscribe(_)) if !self.modes.transaction_asked => request.words.saturating_sub(1),
            _ => 1,
        };
        match kind {
            Some(Kind::Multi) => self.modes.transaction_asked = true,
            Some(Kind::Exec | Kind::Discard) => self.modes.transaction_asked = false,
            Some(Kind::Reset) => {
                self.modes.transaction_asked = false;
                self.modes.answers = Answers::On;
            }
            _ => {}
        }
        let is_named = request.is_named;
        let nameless =
            !is_named && request.command.is_none_or(|command| matches!(command.kind, Kind::Client(_)));
        if nameless || request.detail == Detail::Unknown {
            // It may be one that changes how replies are read.
            self.dropped += 1;
            self.lose_count();
            self.requests_unclear = self.requests_unclear.max(Some(last_at));
            return;
        }
        let pending = pending(request, last_at, replies);
        if silent {
            // Nothing tells whether a `SELECT` before it has succeeded.
            let database = self.modes.database.filter(|_| self.queue.is_empty());
            let known = Circumstances { database, ..Circumstances::default() };
            if kind == Some(Kind::Select) {
                self.forget_database();
            }
            out.push(exchange(self.role, pending, None, known));
        } else if is_named {
            self.push(pending);
        } else {
            self.skip_command();
        }
    }

    /// Whether no reply will come. Takes note of what the command says of that.
    fn is_unanswered(&mut self, request: &Request) -> bool {
        let answers = self.modes.answers;
        match request.detail {
            // In a transaction it is queued, which is answered unless nothing is.
            _ if self.modes.transaction_asked => return answers == Answers::Off,
            Detail::ReplyOn => self.modes.answers = Answers::On,
            Detail::ReplyOff => self.modes.answers = Answers::Off,
            Detail::ReplySkip if answers != Answers::Off => self.modes.answers = Answers::Skip,
            _ if answers == Answers::Skip => self.modes.answers = Answers::On,
            _ => {}
        }
        let reset = request.command.is_some_and(|command| command.kind == Kind::Reset);
        match request.detail {
            Detail::ReplyOn => false,
            Detail::ReplyOff | Detail::ReplySkip => true,
            _ => answers != Answers::On && !reset,
        }
    }

    /// A `SELECT` that nobody answers: neither it nor one before it, whose answer may still come, says what is selected.
    fn forget_database(&mut self) {
        self.modes.database = None;
        for slot in &mut self.queue {
            if let Slot::Command(pending) = slot
                && pending.command.is_some_and(|command| command.kind == Kind::Select)
            {
                pending.detail = Detail::Unknown;
            }
        }
    }

    fn push(&mut self, mut pending: Pending) {
        if pending.text.is_heap_allocated() {
            if self.text_bytes + pending.text.len() > limits::REDIS_PIPELINE_TEXT_BYTES {
                pending.text = CompactString::const_new("");
            } else {
                self.text_bytes += pending.text.len();
            }
        }
        if self.queue.len() < limits::REDIS_PIPELINE_MAX {
            return self.queue.push_back(Slot::Command(pending));
        }
        let plain = |command: &Command| matches!(command.kind, Kind::Plain | Kind::Container(_) | Kind::Ping);
        if pending.command.is_none_or(plain) {
            if pending.text.is_heap_allocated() {
                self.text_bytes -= pending.text.len();
            }
            return self.skip_command();
        }
        // One whose reply changes how the others are read: it cannot be left out.
        self.forget();
    }

    /// A command that will be answered and is no exchange.
    fn skip_command(&mut self) {
        self.dropped += 1;
        if let Some(Slot::Skipped(count)) = self.queue.back_mut() {
            *count += 1;
        } else if self.queue.len() < 2 * limits::REDIS_PIPELINE_MAX {
            self.queue.push_back(Slot::Skipped(1));
        } else {
            self.forget();
        }
    }

    pub(super) fn on_request_gap(&mut self, gap: &Gap, out: &mut Vec<Exchange>) {
        self.turns.ask(None, gap.last_at);
        match self.requests {
            Requests::Opaque => return,
            Requests::Within => {
                if !self.accepted {
                    self.requests_unclear = self.requests_unclear.max(Some(gap.last_at));
                }
                match self.request.skip(gap.missing) {
                    Some(false) => return,
                    Some(true) => {
                        self.requests = Requests::Between;
                        return self.request_is_read(gap.last_at, out);
                    }
                    None => {
                        // What follows in the gap may be other commands: it is at least this long.
                        self.cut_requests += 1;
                        self.request.end_unseen();
                        self.request_is_read(gap.last_at, out);
                    }
                }
            }
            Requests::Between | Requests::Seek => {}
        }
        self.lose_requests(gap.last_at);
    }

    /// How many commands wait is unknown from now on.
    fn lose_count(&mut self) {
        self.step = Step::Lost;
        if let Replies::Open { certain } = &mut self.replies {
            *certain = false;
        }
    }

    /// The request direction is out of frame since `at`. Commands that wait are still answered first.
    fn lose_requests(&mut self, at: BootNanos) {
        if self.requests == Requests::Opaque {
            return;
        }
        self.requests = Requests::Seek;
        self.accepted = false;
        self.lose_count();
        self.requests_unclear = self.requests_unclear.max(Some(at));
    }
}

fn pending(request: Request, request_end: BootNanos, replies: u32) -> Pending {
    Pending {
        start: request.started,
        request_end,
        request_bytes: request.bytes,
        command: request.command,
        operation: request.operation,
        text: request.text.finish(),
        detail: request.detail,
        replies,
    }
}

/// What to consume of a line that lacks its end: nothing, or all if the end will never come.
fn unfinished(segment: &Segment<'_>) -> usize {
    if segment.cut { segment.bytes.len() } else { 0 }
}

fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}
