//! What the client sends.

use std::sync::Arc;

use compact_str::CompactString;

use super::{
    super::{
        plausible::{Verdict, is_startup, judge},
        queue::{CopySent, Parsed, Query},
        wire::{self, HEADER_BYTES, Header, NoHeader, Startup},
    },
    First, Group, Owed, Pending, PostgresqlParser, Reading, Text, What,
};
use crate::{
    exchange::Exchange,
    limits,
    protocol::{BootNanos, Direction, Segment},
    redact::BoundedText,
    sql::{self, Backslash, Statement},
};

/// A message, as much of it as is looked at.
struct Request<'a> {
    header: Header,
    /// At most what [`needed`] says.
    body: &'a [u8],
    first_at: BootNanos,
    last_at: BootNanos,
}

impl Request<'_> {
    fn is_cut(&self) -> bool {
        self.body.len() < self.header.length
    }

    /// On the wire.
    fn size(&self) -> u64 {
        (HEADER_BYTES + self.header.length) as u64
    }
}

/// How many bytes of a body are looked at.
fn needed(header: Header, body: &[u8]) -> usize {
    match header.kind {
        b'Q' | b'P' => header.length.min(limits::QUERY_READ_BYTES_MAX),
        b'B' => {
            let names =
                memchr::memchr_iter(0, body).nth(1).map_or(2 * limits::NAME_BYTES_MAX + 2, |end| end + 1);
            header.length.min(names)
        }
        b'D' | b'C' | b'E' => header.length.min(limits::NAME_BYTES_MAX + 6),
        _ => 0,
    }
}

impl PostgresqlParser {
    pub(super) fn on_request_bytes(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let bytes = segment.bytes;
        match self.requests {
            Reading::Opaque => return bytes.len(),
            Reading::Skip { left, owned } => {
                let taken = left.min(bytes.len());
                self.own_request_bytes(owned, segment.last_at);
                self.requests = match left - taken {
                    0 => Reading::Header,
                    left => Reading::Skip { left, owned },
                };
                return taken;
            }
            Reading::Seek => {
                if judge(bytes, Direction::ToServer) != Verdict::Plausible {
                    self.strays += 1;
                    self.first = First::Over;
                    self.requests_unclear = Some(segment.last_at);
                    return bytes.len();
                }
                self.requests = if is_startup(bytes) { Reading::Startup } else { Reading::Header };
            }
            Reading::Startup | Reading::Header => {}
        }
        if self.requests == Reading::Startup {
            return self.on_startup(segment, out);
        }
        let header = match wire::header(bytes, Direction::ToServer) {
            Ok(header) => header,
            Err(NoHeader::Short) if !segment.cut => return 0,
            Err(why) => {
                self.failures = self.failures.saturating_add(u8::from(why == NoHeader::Wrong));
                self.lose_requests(segment.last_at, out);
                return bytes.len();
            }
        };
        if self.queue.is_full() && !matches!(header.kind, b'd' | b'c' | b'f' | b'X' | b'S' | b'H') {
            return 0;
        }
        let after = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let here = after.get(..header.length).unwrap_or(after);
        let needed = needed(header, here);
        if here.len() < needed && !segment.cut {
            return 0;
        }
        let body = here.get(..needed).unwrap_or(here);
        let request = Request { header, body, first_at: segment.first_at, last_at: segment.last_at };
        let owned = self.on_request(&request, out);
        if self.requests == Reading::Header && header.length > here.len() {
            self.requests = Reading::Skip { left: header.length - here.len(), owned };
        }
        HEADER_BYTES + here.len()
    }

    /// More bytes of the newest request: it ends later.
    pub(super) fn own_request_bytes(&mut self, owned: bool, at: BootNanos) {
        if owned && let Some(pending) = self.queue.last() {
            pending.request_end = at;
        }
    }

    fn on_startup(&mut self, segment: &Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let (startup, length) = match wire::startup(segment.bytes) {
            Ok(found) => found,
            Err(NoHeader::Short) if !segment.cut => return 0,
            Err(why) => {
                self.failures = self.failures.saturating_add(u8::from(why == NoHeader::Wrong));
                self.seek_responses();
                self.lose_requests(segment.last_at, out);
                return segment.bytes.len();
            }
        };
        if self.queue.has_unknown() {
            // Joined just in time, or the stream was taken for another.
            self.dropped += self.queue.clear() as u64;
            self.responses = Reading::Header;
            self.end_cycle();
        }
        match startup {
            Startup::Encryption => self.queue.push(Owed::Encryption),
            Startup::Cancel => self.become_opaque(),
            Startup::Session { replication: true, .. } => self.become_opaque(),
            Startup::Session { database, .. } => {
                self.database = database.filter(|name| name.len() <= limits::NAME_BYTES_MAX).map(lossy);
                let pending = Pending {
                    start: segment.first_at,
                    request_end: segment.last_at,
                    request_bytes: length as u64,
                    what: What::Startup,
                    copy: CopySent::Open,
                };
                self.queue.push_pending(Owed::Startup, pending);
                self.queue.push(Owed::Ready);
                self.requests = Reading::Header;
            }
        }
        length
    }

    pub(super) fn become_opaque(&mut self) {
        self.queue.clear();
        self.prepared.forget_all();
        self.group = None;
        self.requests = Reading::Opaque;
        self.responses = Reading::Opaque;
    }

    /// Takes a message; true if what follows of it belongs to the newest exchange.
    fn on_request(&mut self, request: &Request<'_>, out: &mut Vec<Exchange>) -> bool {
        if self.first == First::Possible && request.header.kind != b'Q' {
            self.first = First::Over;
        }
        match request.header.kind {
            b'Q' => self.on_query(request, out),
            b'P' => self.on_parse(request, out),
            b'B' => self.on_bind(request, out),
            b'D' => self.on_describe(request, out),
            b'E' => self.on_execute(request, out),
            b'C' => self.on_close_message(request, out),
            b'F' => {
                if self.admit(request.first_at, request.last_at, out) {
                    self.close_group();
                    self.queue.push_pending(Owed::Function, pending(request, What::Function));
                    self.queue.push(Owed::Ready);
                    return true;
                }
                self.dropped += 1;
            }
            b'S' => self.on_sync(request, out),
            b'H' => self.close_group(),
            b'd' | b'c' | b'f' => {
                if request.header.kind != b'd' {
                    self.copying = false;
                    self.queue.end_copy();
                }
                if let Some(pending) = self.queue.last() {
                    pending.request_bytes += request.size();
                    pending.request_end = request.last_at;
                    return true;
                }
            }
            // Passwords (p), Terminate.
            _ => {}
        }
        request.header.kind == b'Q'
    }

    fn on_sync(&mut self, request: &Request<'_>, out: &mut Vec<Exchange>) {
        if !self.copying && self.admit(request.first_at, request.last_at, out) {
            self.close_group();
            self.queue.push(Owed::Ready);
        }
    }

    fn on_query(&mut self, request: &Request<'_>, out: &mut Vec<Exchange>) {
        let (text, cut) = match request.body.strip_suffix(b"\0") {
            Some(text) if !request.is_cut() => (text, false),
            _ => (request.body, true),
        };
        self.cut_heads += u64::from(cut);
        let backslash = self.backslash();
        let statements = sql::simple(text, cut, backslash);
        for statement in &statements {
            self.prepared.note(statement);
        }
        if !self.admit(request.first_at, request.last_at, out) {
            self.dropped += 1;
            return;
        }
        self.close_group();
        let unclear = backslash == Backslash::Unclear && statements.last().is_some_and(|last| last.cut);
        let more = cut || unclear || statements.len() >= limits::STATEMENTS_MAX;
        let query = Box::new(Query { statements, done: 0, more });
        self.queue.push_pending(Owed::Query, pending(request, What::Query(query)));
        self.queue.push(Owed::Ready);
    }

    /// What a backslash is in the text that comes now.
    fn backslash(&self) -> Backslash {
        if self.queue.is_empty() { self.backslash } else { Backslash::Unclear }
    }

    fn on_parse(&mut self, request: &Request<'_>, out: &mut Vec<Exchange>) {
        let admitted = self.admit(request.first_at, request.last_at, out);
        let Some((name, rest)) =
            wire::text(request.body).filter(|(name, _)| name.len() <= limits::NAME_BYTES_MAX)
        else {
            // Some statement has changed.
            self.prepared.forget_all();
            if admitted {
                self.join_group(request, None);
                self.queue.push(Owed::Parse { named: false });
            }
            return;
        };
        let (name, text) = (lossy(name), wire::text(rest));
        self.cut_heads += u64::from(text.is_none());
        let statement = match text {
            Some((text, _)) => sql::prepared(text, false, self.backslash()),
            None => sql::prepared(rest, true, self.backslash()),
        };
        let statement: Arc<Statement> = Arc::new(statement);
        let before = self.prepared.prepare(&name, Arc::clone(&statement));
        if admitted {
            self.group_failed = false;
            if self.group.as_ref().is_some_and(|group| group.text.is_some()) {
                self.close_group();
            }
            self.join_group(request, Some(Text::Known(Arc::clone(&statement))));
            self.queue.push_parse(Parsed { name, statement, before });
        }
    }

    fn on_bind(&mut self, request: &Request<'_>, out: &mut Vec<Exchange>) {
        let admitted = self.admit(request.first_at, request.last_at, out);
        let names = wire::text(request.body).and_then(|(portal, rest)| Some((portal, wire::text(rest)?.0)));
        let (portal, text) = match names {
            Some((portal, statement)) => (lossy(portal), self.prepared.find(&lossy(statement))),
            None => {
                self.prepared.end_transaction();
                (CompactString::default(), Text::Unknown(CompactString::default()))
            }
        };
        if admitted {
            let other =
                self.group.as_ref().and_then(|group| group.text.as_ref()).is_some_and(|known| *known != text);
            // A name that is cut is most likely that of the Parse before it.
            if other && names.is_some() {
                self.close_group();
            }
            self.join_group(request, Some(text.clone()));
            self.queue.push(Owed::Bind);
        }
        self.prepared.bind(&portal, text);
    }

    fn on_describe(&mut self, request: &Request<'_>, out: &mut Vec<Exchange>) {
        if !self.admit(request.first_at, request.last_at, out) {
            return;
        }
        let name = request.body.get(1..).and_then(wire::text).map(|(name, _)| lossy(name));
        match (request.body.first(), name) {
            (Some(b'S'), Some(name)) => {
                let known = self.group.as_ref().is_some_and(|group| group.text.is_some());
                let text = if known { None } else { Some(self.prepared.find(&name)) };
                self.join_group(request, text);
                self.queue.push(Owed::DescribeStatement);
            }
            (Some(b'S'), None) => {
                self.join_group(request, None);
                self.queue.push(Owed::DescribeStatement);
            }
            _ => {
                self.join_group(request, None);
                self.queue.push(Owed::Describe);
            }
        }
    }

    fn on_execute(&mut self, request: &Request<'_>, out: &mut Vec<Exchange>) {
        let text = match wire::text(request.body) {
            Some((portal, _)) => self.prepared.portal(&lossy(portal)),
            None => Text::Unknown(CompactString::default()),
        };
        if let Text::Known(statement) = &text {
            self.prepared.note(statement);
        }
        if !self.admit(request.first_at, request.last_at, out) {
            self.dropped += 1;
            return;
        }
        if std::mem::take(&mut self.group_failed) {
            // Its Parse or Bind has failed already, and that was the exchange.
            self.group = None;
            return;
        }
        let mut pending = pending(request, What::Execute(text));
        if let Some(group) = self.group.take() {
            pending.start = group.start;
            pending.request_bytes += group.bytes;
        }
        self.queue.push_pending(Owed::Execute, pending);
    }

    fn on_close_message(&mut self, request: &Request<'_>, out: &mut Vec<Exchange>) {
        match (request.body.first(), request.body.get(1..).and_then(wire::text)) {
            (Some(b'S'), Some((name, _))) => self.prepared.forget(&lossy(name)),
            (Some(b'P'), Some((name, _))) => self.prepared.close_portal(&lossy(name)),
            _ => self.prepared.forget_all(),
        }
        if self.admit(request.first_at, request.last_at, out) {
            self.close_group();
            self.queue.push(Owed::Close);
        }
    }

    /// The message belongs to the statement that the next Execute executes.
    fn join_group(&mut self, request: &Request<'_>, text: Option<Text>) {
        let group = self.group.get_or_insert_with(|| Group {
            start: request.first_at,
            end: request.last_at,
            bytes: 0,
            text: None,
        });
        group.end = request.last_at;
        group.bytes += request.size();
        group.text = text.or(group.text.take());
    }

    /// Messages that execute nothing: they are no exchange, unless one of them fails.
    fn close_group(&mut self) {
        let Some(Group { start, end, bytes, text }) = self.group.take() else { return };
        let text = text.unwrap_or_else(|| Text::Unknown(CompactString::default()));
        let pending = Pending {
            start,
            request_end: end,
            request_bytes: bytes,
            what: What::Execute(text),
            copy: CopySent::Open,
        };
        self.queue.push_pending(Owed::Prepared, pending);
    }
}

fn pending(request: &Request<'_>, what: What) -> Pending {
    Pending {
        start: request.first_at,
        request_end: request.last_at,
        request_bytes: request.size(),
        what,
        copy: CopySent::Open,
    }
}

fn lossy(name: &[u8]) -> CompactString {
    if name.is_empty() {
        return CompactString::const_new("");
    }
    let mut text = BoundedText::new(limits::NAME_BYTES_MAX);
    text.push_lossy(name);
    text.finish()
}
