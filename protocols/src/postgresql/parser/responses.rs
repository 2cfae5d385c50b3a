//! What the server answers.

use super::{
    super::{
        exchange::ABORTED,
        plausible::{Tail, Verdict, judge, tail},
        queue::CopySent,
        wire::{self, HEADER_BYTES, Header, NoHeader},
    },
    Ending, First, Group, Owed, Pending, PostgresqlParser, Reading, Response, Text, What,
};
use crate::{
    exchange::Exchange,
    limits,
    protocol::{BootNanos, Direction, Segment},
};

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Take,
    /// Its request was not seen yet.
    Hold,
    /// It was not owed.
    Confused,
}

/// How many bytes of a body are looked at.
fn needed(Header { kind, length }: Header) -> usize {
    match kind {
        b'C' | b'Z' => length,
        b'E' => length.min(limits::ERROR_READ_BYTES_MAX),
        b'S' => length.min(wire::BACKSLASH_BYTES),
        _ => 0,
    }
}

impl PostgresqlParser {
    pub(super) fn on_response_bytes(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let bytes = segment.bytes;
        if self.first == First::Possible {
            self.first = First::Over;
        }
        match self.responses {
            Reading::Opaque => return bytes.len(),
            Reading::Skip { left, owned } => {
                let taken = left.min(bytes.len());
                self.responses_latest = segment.last_at;
                self.responses = match left - taken {
                    0 => Reading::Header,
                    left => Reading::Skip { left, owned },
                };
                return taken;
            }
            Reading::Seek => {
                if judge(bytes, Direction::ToClient) != Verdict::Plausible {
                    self.on_strange_response(segment, out);
                    return bytes.len();
                }
                self.responses = Reading::Header;
            }
            Reading::Startup | Reading::Header => {}
        }
        if self.queue.front() == Some(Owed::Encryption) && bytes.first() != Some(&b'E') {
            return self.on_encryption(bytes);
        }
        let header = match wire::header(bytes, Direction::ToClient) {
            Ok(header) => header,
            Err(NoHeader::Short) if !segment.cut => return 0,
            Err(NoHeader::Short) => {
                self.lose_responses(segment.last_at);
                return bytes.len();
            }
            // The answer to an SSLRequest that was not seen yet has no length.
            Err(NoHeader::Wrong) if self.requests == Reading::Startup && self.queue.is_empty() => return 0,
            Err(NoHeader::Wrong) => {
                self.confuse();
                self.lose_responses(segment.last_at);
                return bytes.len();
            }
        };
        let after = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let here = after.get(..header.length).unwrap_or(after);
        let needed = needed(header);
        if here.len() < needed && !segment.cut {
            return 0;
        }
        if here.len() < needed && !matches!(header.kind, b'E' | b'S') {
            // Its end was not seen, so it is no answer; the gap behind it says the rest.
            self.lose_responses(segment.last_at);
            return bytes.len();
        }
        let body = here.get(..needed).unwrap_or(here);
        match self.on_response(header, body, segment, out) {
            Step::Take => {}
            Step::Hold => return 0,
            Step::Confused => {
                self.confuse();
                self.seek_responses();
                self.responses_latest = segment.last_at;
                return bytes.len();
            }
        }
        self.responses_latest = segment.last_at;
        if self.responses == Reading::Header && header.length > here.len() {
            self.responses = Reading::Skip { left: header.length - here.len(), owned: false };
        }
        let taken = HEADER_BYTES + here.len();
        if header.kind == b'D' && self.responses == Reading::Header {
            return taken + self.on_further_rows(bytes.get(taken..).unwrap_or_default());
        }
        taken
    }

    /// Whole rows behind the first one: how many bytes they have.
    fn on_further_rows(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..)
            && rest.first() == Some(&b'D')
            && let Ok(header) = wire::header(rest, Direction::ToClient)
            && rest.len() >= HEADER_BYTES + header.length
        {
            taken += HEADER_BYTES + header.length;
            self.response.rows += 1;
        }
        self.response.bytes += taken as u64;
        taken
    }

    /// One byte: `N` no, `S` or `G` yes, and then nothing can be read here any more.
    fn on_encryption(&mut self, bytes: &[u8]) -> usize {
        match bytes.first() {
            Some(b'N') => {
                self.queue.pop();
            }
            Some(b'S' | b'G') => self.handed_over = true,
            _ => self.confuse(),
        }
        usize::from(!bytes.is_empty())
    }

    /// Bytes of the server out of frame.
    fn on_strange_response(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) {
        self.responses_latest = segment.last_at;
        self.response.bytes += segment.bytes.len() as u64;
        let found = tail(segment.bytes).filter(|_| !segment.cut);
        let Some(found) = found else {
            self.strays += u32::from(!self.blurred);
            self.ready_at = None;
            return;
        };
        self.responses = Reading::Header;
        self.strays = 0;
        if self.blurred {
            if self.queue.front() == Some(Owed::Execute) {
                match found {
                    Tail::Complete(body) => self.on_blurred(b'C', body, segment.last_at, out),
                    Tail::Error(body) => self.on_blurred(b'E', body, segment.last_at, out),
                    Tail::Unknown => {}
                }
            }
            self.end_blur(segment.last_at, out);
        }
        if !self.queue.is_empty() && self.queue.front() != Some(Owed::Unknown) {
            // Not blurred, and something is owed: how much of it this was is unknown.
            self.confuse();
        }
        self.ready_at = Some(segment.last_at);
    }

    fn on_response(
        &mut self,
        header: Header,
        body: &[u8],
        segment: &Segment<'_>,
        out: &mut Vec<Exchange>,
    ) -> Step {
        let size = (HEADER_BYTES + header.length) as u64;
        let (kind, last_at) = (header.kind, segment.last_at);
        // Notices, parameters and notifications come at any time and belong to nothing.
        if matches!(kind, b'N' | b'S' | b'A') {
            if kind == b'S'
                && let Some(backslash) = wire::backslash(body)
            {
                self.backslash = backslash;
            }
            return Step::Take;
        }
        if self.first == First::Answered {
            return Step::Confused;
        }
        if kind == b'W' {
            // Replication, whatever led to it.
            self.become_opaque();
            return Step::Take;
        }
        let ready_before = self.ready_at.take();
        if self.queue.front() == Some(Owed::Unknown) {
            if kind == b'Z' {
                self.strays = 0;
                self.ready_at = Some(last_at);
            }
            return Step::Take;
        }
        if self.blurred {
            self.response.bytes += if kind == b'Z' { 0 } else { size };
            self.response.rows += u64::from(kind == b'D');
            if kind == b'Z' {
                self.end_blur_ready(body, last_at, out);
                self.ready_at = Some(last_at);
            } else {
                self.on_blurred(kind, body, last_at, out);
            }
            return Step::Take;
        }
        if self.queue.cycles() > 1 {
            self.pipelined = true;
            if self.assumed {
                return Step::Confused;
            }
        }
        if !self.failed {
            while let Some(Owed::Prepared | Owed::Nothing) = self.queue.front() {
                self.queue.pop();
                self.response = Response::default();
            }
        }
        if self.asked_at().is_some_and(|asked_at| asked_at > segment.first_at) {
            // It was there before what it would answer: what it does answer was not seen.
            return Step::Confused;
        }
        if kind == b'Z' {
            return self.on_ready(body, last_at, out);
        }
        if kind == b'E' {
            self.response.start.get_or_insert(segment.first_at);
            self.response.bytes += size;
            let step = self.on_error(body, last_at, out);
            if step == Step::Hold {
                self.response = Response::default();
                self.ready_at = ready_before;
            }
            return step;
        }
        let Some(owed) = self.queue.front() else {
            self.ready_at = ready_before;
            return Step::Hold;
        };
        if self.failed {
            return Step::Confused;
        }
        match (owed, kind) {
            (Owed::Startup, b'R' | b'K' | b'v') => return Step::Take,
            (Owed::Close, b'3') => {
                self.queue.pop();
                return Step::Take;
            }
            _ => {}
        }
        if self.response.takes && matches!(kind, b'D' | b'H' | b'T' | b'd') {
            // Rows to a client that sends rows: they answer a later request, and both it and the end of this were lost.
            return Step::Confused;
        }
        self.response.start.get_or_insert(segment.first_at);
        self.response.bytes += size;
        match (owed, kind) {
            (Owed::Parse { .. }, b'1') | (Owed::Bind, b'2') | (Owed::Describe, b'T' | b'n') => {
                self.queue.pop();
            }
            (Owed::DescribeStatement, b't') => self.queue.replace_front(Owed::Describe),
            (Owed::Query, b'T') => {}
            (Owed::Query | Owed::Execute, b'D' | b'd') => self.response.rows += 1,
            (Owed::Query | Owed::Execute, b'c' | b'H') => {}
            (Owed::Query | Owed::Execute, b'G') => {
                // All of it may have been sent before the server asked for it.
                let sent = self.queue.first().map_or(CopySent::Open, |pending| pending.copy);
                self.copying = sent == CopySent::Open;
                self.response.takes = true;
                if owed == Owed::Execute && sent != CopySent::Ended {
                    // It ignores the Sync that was sent along.
                    self.queue.remove_ready_behind_front();
                }
            }
            (Owed::Query | Owed::Execute, b'C') => match wire::tag(body) {
                Some((verb, number)) => self.complete(owed, Ending::Complete(verb, number), last_at, out),
                None => return Step::Confused,
            },
            (Owed::Query | Owed::Execute, b'I') => self.complete(owed, Ending::Done, last_at, out),
            (Owed::Execute, b's') => self.complete(owed, Ending::Suspended, last_at, out),
            (Owed::Function, b'V') => self.complete(owed, Ending::Done, last_at, out),
            _ => return Step::Confused,
        }
        Step::Take
    }

    /// When the request began that is answered now.
    fn asked_at(&mut self) -> Option<BootNanos> {
        let pending = self.queue.first().map(|pending| pending.start);
        pending.or(self.group.as_ref().map(|group| group.start))
    }

    /// A statement has ended. A simple query stays until ReadyForQuery: it may hold more.
    fn complete(&mut self, owed: Owed, ending: Ending<'_>, end: BootNanos, out: &mut Vec<Exchange>) {
        self.copying = false;
        self.emit_first(ending, end, out);
        if owed != Owed::Query {
            self.queue.pop();
        }
    }

    /// A message of a blurred cycle: it may end what is left of it.
    fn on_blurred(&mut self, kind: u8, body: &[u8], end: BootNanos, out: &mut Vec<Exchange>) {
        if self.queue.front() != Some(Owed::Execute) {
            return;
        }
        let ending = match kind {
            b'C' => wire::tag(body).map(|(verb, number)| match self.fits(verb) {
                true => Ending::Complete(verb, number),
                false => Ending::Unseen,
            }),
            // Another response begins, to a request that was lost, too. When this one ended is not known.
            b'1' | b'2' | b'T' | b't' => return self.drop_blurred(),
            b'D' | b'H' | b'd' if self.response.takes => return self.drop_blurred(),
            b'E' => Some(Ending::Failed(sqlstate(body).0)),
            b's' => Some(Ending::Unseen),
            b'I' => Some(Ending::Done),
            _ => None,
        };
        if let Some(ending) = ending {
            self.emit_first(ending, end, out);
            self.queue.pop();
        }
    }

    fn drop_blurred(&mut self) {
        self.queue.pop();
        self.response = Response::default();
        self.dropped += 1;
    }

    /// Whether a command tag can be that of the statement that is left of a blurred cycle.
    fn fits(&mut self, verb: &str) -> bool {
        let summary = match self.queue.first().map(|pending| &pending.what) {
            Some(What::Execute(Text::Known(statement))) => Some(&statement.summary),
            Some(What::Query(query)) => query.statements.get(query.done).map(|statement| &statement.summary),
            _ => None,
        };
        let first = |text: &str| text.split(' ').next().map(str::to_ascii_uppercase);
        summary.is_some_and(|summary| first(summary) == first(verb))
    }

    fn on_error(&mut self, body: &[u8], end: BootNanos, out: &mut Vec<Exchange>) -> Step {
        let (code, fatal) = sqlstate(body);
        if self.failed {
            return Step::Take;
        }
        if self.queue.front() == Some(Owed::Encryption) {
            // A server that is too old to know the question.
            self.queue.pop();
            return Step::Take;
        }
        // Nobody asked: the server ends an idle session.
        let unasked = self.queue.is_empty() && self.group.is_none();
        if unasked {
            self.response = Response::default();
            return if fatal { Step::Take } else { Step::Hold };
        }
        match self.queue.front() {
            Some(Owed::Parse { named: false }) => self.prepared.forget(""),
            Some(Owed::Parse { named: true }) => {
                if let (_, _, Some(parsed)) = self.queue.pop() {
                    self.queue.correct(&parsed);
                    self.prepared.restore(parsed);
                }
            }
            _ => {}
        }
        self.failed = true;
        self.copying = false;
        if let Some(mut pending) = self.queue.take_failed() {
            self.emit(&mut pending, Ending::Failed(code), end, out);
        } else if let Some(group) = self.group.take_if(|_| self.queue.cycles() == 0) {
            let Group { start, end: request_end, bytes: request_bytes, text } = group;
            let what = What::Execute(text.unwrap_or(Text::Unknown("".into())));
            let mut pending = Pending { start, request_end, request_bytes, what, copy: CopySent::Open };
            self.group_failed = true;
            self.emit(&mut pending, Ending::Failed(code), end, out);
        } else {
            // Sync itself has failed, which commits: its statements are reported already.
            self.dropped += 1;
            self.response = Response::default();
        }
        Step::Take
    }

    fn on_ready(&mut self, body: &[u8], at: BootNanos, out: &mut Vec<Exchange>) -> Step {
        if !matches!(body, [b'I' | b'T' | b'E']) {
            return Step::Confused;
        }
        if self.queue.cycles() == 0 {
            return if self.queue.is_empty() { Step::Hold } else { Step::Confused };
        }
        loop {
            let (owed, pending, parsed) = self.queue.pop();
            match (owed, pending) {
                (Some(Owed::Ready), _) => break,
                (Some(Owed::Nothing | Owed::Prepared | Owed::Startup), _) => {}
                (Some(Owed::Query), Some(pending)) => {
                    let nothing = matches!(&pending.what, What::Query(query) if query.done == 0);
                    self.dropped += u64::from(nothing);
                }
                (Some(Owed::Execute | Owed::Function), Some(mut pending)) if self.failed => {
                    self.response = Response::default();
                    self.emit(&mut pending, Ending::Broken(ABORTED), at, out);
                }
                (Some(Owed::Parse { .. }), _) if self.failed => match parsed {
                    Some(parsed) => {
                        self.queue.correct(&parsed);
                        self.prepared.restore(parsed);
                    }
                    None => self.prepared.forget(""),
                },
                (Some(Owed::Bind | Owed::Describe | Owed::DescribeStatement | Owed::Close), _)
                    if self.failed => {}
                (_, pending) => {
                    self.dropped += u64::from(pending.is_some());
                    return Step::Confused;
                }
            }
        }
        self.end_cycle();
        if self.first == First::Taken {
            self.first = First::Answered;
        }
        self.transaction = body.first().copied();
        self.ready_at = Some(at);
        self.strays = 0;
        if body == b"I" && self.queue.is_empty() && self.group.is_none() {
            self.prepared.end_transaction();
        }
        Step::Take
    }
}

fn sqlstate(body: &[u8]) -> (Option<&str>, bool) {
    let (code, fatal) = wire::error_fields(body);
    (code.and_then(|code| str::from_utf8(code).ok()), fatal)
}
