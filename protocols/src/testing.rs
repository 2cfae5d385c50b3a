//! The harness that every parser must pass: fixtures, a driver that feeds a parser as the agent does, and the checks.
//!
//! The checks of this file walk [`crate::ALL`] and the folder `src/<protocol>/fixtures`, so a protocol is tested by
//! being registered. Other crates get the driver and the checks through the feature `testing`. Checks panic.

mod foreign;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, fmt::Write as _};

pub use foreign::FOREIGN;

use crate::{
    exchange::{Exchange, Outcome, Value},
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Parser, Protocol, Role, Segment, Sniff},
    semconv::key,
};

/// What one system call sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which way.
    pub direction: Direction,
    /// See [`Segment::first_at`].
    pub first_at: BootNanos,
    /// See [`Segment::last_at`].
    pub last_at: BootNanos,
    /// What; at least one byte.
    pub bytes: Vec<u8>,
}

/// A conversation, whole and in order.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// For messages.
    pub name: String,
    /// Which end was watched.
    pub role: Role,
    /// Whether after a gap the parser must find back, see [`check_gaps`]. Not so where several requests are under way
    /// at once and nothing on the wire says which response is whose.
    pub recovers: bool,
    /// What is found again after a gap may lack what later messages refer to (HPACK's table).
    pub partly: bool,
    /// The calls.
    pub chunks: Vec<Chunk>,
}

impl Fixture {
    /// Reads a fixture file: lines of `# comment`, `role server|client`, `recovers no|partly`, `> <microseconds>` and
    /// `< <microseconds>` (a call towards the server, towards the client), each followed by lines of its bytes. Line ends
    /// of the file are no content; `\r`, `\n`, `\t`, `\\`, `\s` (a space at the start of a line) and `\xNN` are.
    ///
    /// # Panics
    /// If the text does not have that form.
    #[must_use]
    pub fn parse(name: &str, text: &str) -> Self {
        let mut fixture = Self {
            name: name.to_owned(),
            role: Role::Server,
            recovers: true,
            partly: false,
            chunks: Vec::new(),
        };
        for line in text.lines() {
            let chunk = |direction, time: &str| {
                let at = BootNanos(1000 * time.parse::<u64>().expect("a time in microseconds"));
                Chunk { direction, first_at: at, last_at: at, bytes: Vec::new() }
            };
            match line.split_once(' ') {
                Some(("#", _)) => {}
                Some(("role", "client")) => fixture.role = Role::Client,
                Some(("role", "server")) => fixture.role = Role::Server,
                Some(("recovers", "no")) => fixture.recovers = false,
                Some(("recovers", "partly")) => fixture.partly = true,
                Some((">", time)) => fixture.chunks.push(chunk(Direction::ToServer, time)),
                Some(("<", time)) => fixture.chunks.push(chunk(Direction::ToClient, time)),
                _ => unescape(line, &mut fixture.chunks.last_mut().expect("a call before its bytes").bytes),
            }
        }
        fixture
    }

    /// A conversation of calls one microsecond apart.
    #[must_use]
    pub fn of(name: &str, role: Role, calls: &[(Direction, &[u8])]) -> Self {
        let chunks = calls.iter().enumerate().map(|(index, (direction, bytes))| {
            let at = BootNanos(1000 * (index as u64 + 1));
            Chunk { direction: *direction, first_at: at, last_at: at, bytes: bytes.to_vec() }
        });
        Self { name: name.to_owned(), role, recovers: true, partly: false, chunks: chunks.collect() }
    }

    fn recovery(&self) -> Recovery {
        match (self.recovers, self.partly) {
            (false, _) => Recovery::None,
            (true, false) => Recovery::Whole,
            (true, true) => Recovery::Partly,
        }
    }

    fn context(&self, from_start: bool) -> OpenContext {
        OpenContext { role: self.role, from_start, answered: false, tls: false }
    }

    fn closed_at(&self) -> BootNanos {
        BootNanos(self.chunks.last().map_or(0, |chunk| chunk.last_at.0) + 1000)
    }
}

/// Feeds a parser as the contract says: keeps what was not consumed, presents it again when more has come or the other
/// direction has made progress, and turns too much of it into a gap.
pub struct Driver {
    parser: Box<dyn Parser>,
    kept: [Kept; 2],
    /// What the parser found so far.
    pub exchanges: Vec<Exchange>,
}

/// Bytes of one direction that the parser has not consumed, with the calls they came in.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Length that is left, and times, of each call.
    calls: VecDeque<(usize, BootNanos, BootNanos)>,
}

impl Driver {
    /// Opens a parser.
    #[must_use]
    pub fn new(protocol: &dyn Protocol, context: OpenContext) -> Self {
        Self { parser: protocol.open(context), kept: Default::default(), exchanges: Vec::new() }
    }

    /// The parser, for its counters.
    #[must_use]
    pub fn parser(&self) -> &dyn Parser {
        &*self.parser
    }

    /// Bytes that one call sent or received.
    pub fn feed(&mut self, direction: Direction, first_at: BootNanos, last_at: BootNanos, bytes: &[u8]) {
        if bytes.is_empty() || self.parser.lost() {
            return;
        }
        self.keep(direction, first_at, last_at, bytes);
        if self.present(direction, false) {
            self.alternate(direction);
        }
        let kept = &mut self.kept[direction as usize];
        if kept.bytes.len() > limits::RETAINED_BYTES_MAX {
            let missing = kept.bytes.len() as u64;
            let first_at = kept.calls.front().map_or(first_at, |call| call.1);
            *kept = Kept::default();
            self.gap(direction, first_at, last_at, missing);
        }
    }

    /// One call of which `bytes` were copied and `missing` more were not.
    pub fn feed_cut(
        &mut self,
        direction: Direction,
        first_at: BootNanos,
        last_at: BootNanos,
        bytes: &[u8],
        missing: u64,
    ) {
        if missing == 0 {
            return self.feed(direction, first_at, last_at, bytes);
        }
        if !bytes.is_empty() && !self.parser.lost() {
            self.keep(direction, first_at, last_at, bytes);
        }
        self.gap(direction, first_at, last_at, missing);
    }

    /// Bytes that are missing.
    pub fn gap(&mut self, direction: Direction, first_at: BootNanos, last_at: BootNanos, missing: u64) {
        if missing == 0 || self.parser.lost() {
            return;
        }
        self.present(direction, true);
        self.kept[direction as usize] = Kept::default();
        self.parser.on_gap(Gap { direction, first_at, last_at, missing }, &mut self.exchanges);
        self.alternate(direction);
    }

    /// The end of the connection.
    pub fn close(&mut self, at: BootNanos) {
        self.parser.on_close(at, &mut self.exchanges);
    }

    fn keep(&mut self, direction: Direction, first_at: BootNanos, last_at: BootNanos, bytes: &[u8]) {
        let kept = &mut self.kept[direction as usize];
        kept.bytes.extend_from_slice(bytes);
        kept.calls.push_back((bytes.len(), first_at, last_at));
    }

    /// Progress in a direction may release what the other one holds, and so on in turn.
    fn alternate(&mut self, direction: Direction) {
        let mut turn = direction.reverse();
        while self.present(turn, false) {
            turn = turn.reverse();
        }
    }

    /// Presents what is kept until nothing more is consumed; true if anything was. With `cut`, a gap follows.
    fn present(&mut self, direction: Direction, cut: bool) -> bool {
        let kept = &mut self.kept[direction as usize];
        let mut progress = false;
        while let (Some((_, first_at, _)), Some((_, _, last_at))) = (kept.calls.front(), kept.calls.back()) {
            let (first_at, last_at, bytes) = (*first_at, *last_at, &kept.bytes);
            let segment = Segment { direction, first_at, last_at, bytes, cut };
            let consumed = self.parser.on_segment(segment, &mut self.exchanges);
            assert!(consumed <= kept.bytes.len(), "consumed more than there was");
            if let Some((_, parser)) = self.parser.successor() {
                self.parser = parser;
            }
            if consumed == 0 || self.parser.lost() {
                break;
            }
            progress = true;
            kept.drop_front(consumed);
        }
        progress
    }
}

impl Kept {
    fn drop_front(&mut self, mut length: usize) {
        self.bytes.drain(..length);
        while let Some((left, _, _)) = self.calls.front_mut() {
            if *left > length {
                *left -= length;
                return;
            }
            length -= *left;
            self.calls.pop_front();
        }
    }
}

/// Feeds a fixture whole.
#[must_use]
pub fn run(protocol: &dyn Protocol, fixture: &Fixture) -> Vec<Exchange> {
    let whole = |_: usize, chunk: &Chunk| vec![chunk.bytes.len()];
    run_cut(protocol, fixture, whole)
}

/// Feeds a fixture with each chunk cut into pieces of the lengths that `cut` gives; they take the chunk's times.
fn run_cut(
    protocol: &dyn Protocol,
    fixture: &Fixture,
    mut cut: impl FnMut(usize, &Chunk) -> Vec<usize>,
) -> Vec<Exchange> {
    let mut driver = Driver::new(protocol, fixture.context(true));
    for (index, chunk) in fixture.chunks.iter().enumerate() {
        let mut rest = chunk.bytes.as_slice();
        for length in cut(index, chunk) {
            let (piece, after) = rest.split_at(length);
            driver.feed(chunk.direction, chunk.first_at, chunk.last_at, piece);
            rest = after;
        }
    }
    driver.close(fixture.closed_at());
    driver.exchanges
}

/// Every split of every chunk, and every byte by itself, give the same exchanges.
///
/// # Panics
/// If they do not.
pub fn check_splits(protocol: &dyn Protocol, fixture: &Fixture) {
    let expected = run(protocol, fixture);
    let same = |found: &[Exchange], what: &str| {
        assert_eq!(render(found), render(&expected), "{}: {what}", fixture.name);
    };
    same(&run_cut(protocol, fixture, |_, chunk| vec![1; chunk.bytes.len()]), "byte by byte");
    for (index, chunk) in fixture.chunks.iter().enumerate() {
        for at in positions(chunk.bytes.len()) {
            let cut = |i: usize, chunk: &Chunk| {
                let length = chunk.bytes.len();
                if i == index { vec![at, length - at] } else { vec![length] }
            };
            same(&run_cut(protocol, fixture, cut), &format!("chunk {index} split at {at}"));
        }
    }
}

/// Every prefix of the first bytes of a direction is `NeedMore` or this protocol's in this direction, all of them are
/// the latter; a conversation that stops anywhere panics nowhere.
///
/// # Panics
/// If not so.
pub fn check_prefixes(protocol: &dyn Protocol, fixture: &Fixture) {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let Some(first) = fixture.chunks.iter().find(|chunk| chunk.direction == direction) else { continue };
        for length in 0..=first.bytes.len().min(4096) {
            let head = &first.bytes[..length];
            for expected in [None, Some(direction)] {
                let answer = protocol.sniff(head, expected);
                let fits = answer == Sniff::Match(direction)
                    || (answer == Sniff::NeedMore && length < first.bytes.len());
                assert!(fits, "{}: the first {length} bytes {direction:?} are {answer:?}", fixture.name);
            }
            let contrary = protocol.sniff(head, Some(direction.reverse()));
            assert!(!matches!(contrary, Sniff::Match(_)), "{}: {contrary:?} against", fixture.name);
        }
    }
    for (index, chunk) in fixture.chunks.iter().enumerate() {
        for at in positions(chunk.bytes.len()) {
            let _ = run_cut(protocol, fixture, |i, chunk| match i.cmp(&index) {
                std::cmp::Ordering::Less => vec![chunk.bytes.len()],
                std::cmp::Ordering::Equal => vec![at],
                std::cmp::Ordering::Greater => vec![],
            });
        }
    }
}

/// A gap of many lengths at every place: what comes out is true, and where the fixture says so the exchanges that begin
/// after the one that follows the gap are all found, whole.
///
/// # Panics
/// If not so.
pub fn check_gaps(protocol: &dyn Protocol, fixture: &Fixture) {
    let truth = run(protocol, fixture);
    for direction in [Direction::ToServer, Direction::ToClient] {
        let length: usize = chunks_of(fixture, direction).map(|chunk| chunk.bytes.len()).sum();
        for start in positions(length) {
            for missing in [1, 2, 3, 7, 40, 150, 600, 3000] {
                let end = length.min(start + missing);
                let what = format!("{}: gap {direction:?} {start}..{end}", fixture.name);
                let (found, after) = run_with_gaps(protocol, fixture, |way, at| {
                    way == direction && (start..end).contains(&at)
                });
                check_found(&found, &truth, after, fixture.recovery(), &what);
            }
        }
    }
}

/// Each call in turn is lost, and some pairs of calls. As in a live capture that is noticed only when the next call of
/// its direction is seen, whose times the gap bears: what comes out is true.
///
/// # Panics
/// If not so.
pub fn check_lost_calls(protocol: &dyn Protocol, fixture: &Fixture) {
    let truth = run(protocol, fixture);
    let count = fixture.chunks.len();
    for first in (0..count).take(LOST_CALLS_MAX) {
        for second in first..count.min(first + 4) {
            let what = format!("{}: calls {first} and {second} are lost", fixture.name);
            let mut driver = Driver::new(protocol, fixture.context(true));
            let mut missing = [0; 2];
            for (n, Chunk { direction, first_at, last_at, bytes }) in fixture.chunks.iter().enumerate() {
                let missing = &mut missing[*direction as usize];
                if n == first || n == second {
                    *missing += bytes.len() as u64;
                    continue;
                }
                if *missing > 0 {
                    driver.gap(*direction, *first_at, *last_at, std::mem::take(missing));
                }
                driver.feed(*direction, *first_at, *last_at, bytes);
            }
            // The record of the connection's end says how many bytes there were.
            let end = fixture.closed_at();
            for direction in [Direction::ToServer, Direction::ToClient] {
                driver.gap(direction, end, end, missing[direction as usize]);
            }
            driver.close(end);
            check_found(&driver.exchanges, &truth, end, Recovery::None, &what);
        }
    }
}

/// Calls of a long fixture that are lost.
const LOST_CALLS_MAX: usize = 200;

/// Of each call only a prefix was copied, however short: what comes out is true. Also if that may not be the start.
///
/// # Panics
/// If not so.
pub fn check_copy_limits(protocol: &dyn Protocol, fixture: &Fixture) {
    let truth = run(protocol, fixture);
    let end = fixture.closed_at();
    for limit in (1..100).chain((100..2000).step_by(25)) {
        for from_start in [true, false] {
            let what = format!("{}: {limit} bytes of each call, from_start={from_start}", fixture.name);
            let found = run_copying(protocol, fixture, limit, from_start);
            check_found(&found, &truth, end, Recovery::None, &what);
        }
    }
}

/// Feeds the first `limit` bytes of each call, the rest as a gap.
#[must_use]
pub fn run_copying(
    protocol: &dyn Protocol,
    fixture: &Fixture,
    limit: usize,
    from_start: bool,
) -> Vec<Exchange> {
    let mut driver = Driver::new(protocol, fixture.context(from_start));
    for chunk in &fixture.chunks {
        let (copied, rest) = chunk.bytes.split_at(limit.min(chunk.bytes.len()));
        driver.feed_cut(chunk.direction, chunk.first_at, chunk.last_at, copied, rest.len() as u64);
    }
    driver.close(fixture.closed_at());
    driver.exchanges
}

/// A connection joined at every byte: as for a gap.
///
/// # Panics
/// If not so.
pub fn check_late_join(protocol: &dyn Protocol, fixture: &Fixture) {
    let truth = run(protocol, fixture);
    for (index, first) in fixture.chunks.iter().enumerate() {
        for at in positions(first.bytes.len()) {
            let tail = &first.bytes[at..];
            // The last of several requests in one call looks like the only one. No agent sees it so: calls are copied
            // from their start.
            if !fixture.recovers && at > 0 && matches!(protocol.sniff(tail, None), Sniff::Match(_)) {
                continue;
            }
            let mut driver = Driver::new(protocol, fixture.context(false));
            driver.feed(first.direction, first.first_at, first.last_at, tail);
            for chunk in &fixture.chunks[index + 1..] {
                driver.feed(chunk.direction, chunk.first_at, chunk.last_at, &chunk.bytes);
            }
            driver.close(fixture.closed_at());
            let what = format!("{}: joined in chunk {index} at {at}", fixture.name);
            // From the next whole exchange on: that is the one after the first that begins after the join.
            // A client that was met while it waits may have more in flight than is seen.
            let busy = fixture.role == Role::Client && first.direction == Direction::ToClient;
            let recovery = if busy { Recovery::None } else { fixture.recovery() };
            check_found(&driver.exchanges, &truth, first.first_at, recovery, &what);
        }
    }
}

/// First bytes of other protocols, and every prefix of them, are not this one's.
///
/// # Panics
/// If they match.
pub fn check_foreign(protocol: &dyn Protocol) {
    for (name, bytes) in FOREIGN {
        if name.split('/').next() == Some(protocol.name()) {
            continue;
        }
        for length in 0..=bytes.len() {
            for expected in [None, Some(Direction::ToServer), Some(Direction::ToClient)] {
                let answer = protocol.sniff(&bytes[..length], expected);
                assert!(
                    !matches!(answer, Sniff::Match(_)),
                    "{} takes {length} bytes of {name} for its own",
                    protocol.name()
                );
            }
        }
    }
}

/// Whatever the bytes, gaps and order are: no panic, bounded values, no more exchanges than bytes.
///
/// # Panics
/// If not so.
pub fn check_garbage(protocol: &dyn Protocol, from_start: bool, calls: &[(Direction, u64, Vec<u8>)]) {
    let context = OpenContext { role: Role::Server, from_start, answered: false, tls: false };
    let mut driver = Driver::new(protocol, context);
    for (index, (direction, missing, bytes)) in calls.iter().enumerate() {
        let at = BootNanos(index as u64);
        let _ = protocol.sniff(bytes, None);
        driver.feed(*direction, at, at, bytes);
        driver.gap(*direction, at, at, *missing);
        let kept: usize = driver.kept.iter().map(|kept| kept.bytes.len()).sum();
        assert!(kept <= 2 * limits::RETAINED_BYTES_MAX, "keeps {kept} bytes");
    }
    driver.close(BootNanos(calls.len() as u64));
    for exchange in &driver.exchanges {
        let longest = exchange.attributes.iter().filter_map(|(_, value)| value.as_str()).map(str::len).max();
        assert!(longest.unwrap_or(0) <= 4096, "an attribute of {longest:?} bytes");
    }
}

/// Exchanges as text, for snapshots and for comparing. Times in microseconds since the first request.
#[must_use]
pub fn render(exchanges: &[Exchange]) -> String {
    let zero = exchanges.iter().map(|exchange| exchange.start).min().unwrap_or_default();
    let mut text = String::new();
    for exchange in exchanges {
        let at = |time: BootNanos| time.since(zero) / 1000;
        let response = exchange.response_start.map_or("none".to_owned(), |time| at(time).to_string());
        let outcome = match &exchange.outcome {
            Outcome::Unset => "unset",
            Outcome::Error(kind) => kind,
        };
        let _ = writeln!(
            text,
            "{} {:?} {} {} start={} request_end={} response_start={response} end={} bytes={}/{} outcome={outcome}",
            exchange.protocol,
            exchange.role,
            exchange.operation,
            exchange.target.as_deref().unwrap_or("-"),
            at(exchange.start),
            at(exchange.request_end),
            at(exchange.end),
            exchange.request_bytes,
            exchange.response_bytes,
        );
        for (key, value) in exchange.attributes.iter() {
            let _ = match value.as_str() {
                Some(value) => writeln!(text, "  {}: {value:?}", key.as_str()),
                None => writeln!(text, "  {}: {value:?}", key.as_str()),
            };
        }
        if let Some(trace) = &exchange.trace {
            let _ = writeln!(
                text,
                "  trace: {:032x} {:016x} {:02x} {:?}",
                u128::from_be_bytes(trace.trace_id),
                u64::from_be_bytes(trace.parent_id),
                trace.flags,
                trace.state
            );
        }
    }
    text
}

fn chunks_of(fixture: &Fixture, direction: Direction) -> impl Iterator<Item = &Chunk> {
    fixture.chunks.iter().filter(move |chunk| chunk.direction == direction)
}

/// Feeds a fixture without the bytes of which `missing` says so, by their offset in their direction. Also returns the
/// time of the last call that was touched.
fn run_with_gaps(
    protocol: &dyn Protocol,
    fixture: &Fixture,
    missing: impl Fn(Direction, usize) -> bool,
) -> (Vec<Exchange>, BootNanos) {
    let mut driver = Driver::new(protocol, fixture.context(true));
    let mut offsets = [0; 2];
    let mut after = BootNanos(0);
    for Chunk { direction, first_at, last_at, bytes } in &fixture.chunks {
        let offset = offsets[*direction as usize];
        let is_missing = |at: usize| missing(*direction, offset + at);
        let mut start = 0;
        while start < bytes.len() {
            let gone = is_missing(start);
            let end = (start..bytes.len()).find(|at| is_missing(*at) != gone).unwrap_or(bytes.len());
            if gone {
                after = *last_at;
                driver.gap(*direction, *first_at, *last_at, (end - start) as u64);
            } else {
                driver.feed(*direction, *first_at, *last_at, &bytes[start..end]);
            }
            start = end;
        }
        offsets[*direction as usize] += bytes.len();
    }
    driver.close(fixture.closed_at());
    (driver.exchanges, after)
}

/// How exchanges that begin well after a gap must be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    None,
    /// As if there had been no gap.
    Whole,
    /// With the right end, and nothing wrong.
    Partly,
}

/// Each found exchange says nothing that the true one of its start does not; and if the parser has to recover, all but
/// the first of those that begin after `after` are there.
fn check_found(found: &[Exchange], truth: &[Exchange], after: BootNanos, recovery: Recovery, what: &str) {
    let mut unused: Vec<&Exchange> = truth.iter().collect();
    // Those that say least fit most of the true ones: they take what is left.
    let mut by_knowledge: Vec<&Exchange> = found.iter().collect();
    by_knowledge.sort_by_key(|exchange| {
        let marks =
            exchange.attributes.iter().filter(|(key, _)| key.as_str().starts_with("spantap.")).count();
        (marks, std::cmp::Reverse(exchange.attributes.len()))
    });
    for exchange in by_knowledge {
        match unused.iter().position(|candidate| is_part_of(exchange, candidate)) {
            Some(at) => drop(unused.remove(at)),
            None => panic!(
                "{what}: this never was:\n{}the truth:\n{}",
                render(std::slice::from_ref(exchange)),
                render(truth)
            ),
        }
    }
    if recovery != Recovery::None {
        let mut later = truth.iter().filter(|exchange| exchange.start > after);
        // One request may be several exchanges: the statements of a query.
        let first = later.next().map(|exchange| exchange.start);
        for expected in later.filter(|exchange| Some(exchange.start) != first) {
            let is_found = |candidate: &Exchange| match recovery {
                Recovery::Partly => candidate.end == expected.end && is_part_of(candidate, expected),
                _ => is_found_again(candidate, expected),
            };
            assert!(
                found.iter().any(is_found),
                "{what}: not found again:\n{}among:\n{}",
                render(std::slice::from_ref(expected)),
                render(found)
            );
        }
    }
}

/// As it is, but for what only an earlier message said.
fn is_found_again(found: &Exchange, expected: &Exchange) -> bool {
    let (mut found, mut expected) = (found.clone(), expected.clone());
    found.attributes.remove(key::SPANTAP_UNKNOWN_STATEMENT);
    // The message that prepared it was cut.
    let is_cut = found.attributes.remove(key::SPANTAP_QUERY_TRUNCATED).is_some();
    for name in LEARNT_EARLIER {
        if is_cut && TEXT.contains(name) {
            found.attributes.remove(name);
        }
        if found.attributes.get(name).is_none() {
            expected.attributes.remove(name);
        }
    }
    if is_named_by_text(&expected) {
        expected.operation.clone_from(&found.operation);
        expected.target.clone_from(&found.target);
    }
    found == expected
}

/// What a message does not say itself: the database, the text of a prepared statement, what else is in a pipeline.
const LEARNT_EARLIER: &[&str] =
    &[key::DB_NAMESPACE, key::DB_QUERY_TEXT, key::DB_QUERY_SUMMARY, key::DB_OPERATION_BATCH_SIZE];
const TEXT: &[&str] = &[key::DB_QUERY_TEXT, key::DB_QUERY_SUMMARY];

/// The text of a statement, or the database, is what its span is named after.
fn is_named_by_text(exchange: &Exchange) -> bool {
    exchange.protocol == "postgresql"
}

fn is_part_of(part: &Exchange, whole: &Exchange) -> bool {
    let same_times = part.start == whole.start && part.response_start == whole.response_start;
    let is_call = |exchange: &Exchange| exchange.attributes.get(key::RPC_SYSTEM_NAME).is_some();
    if is_call(whole) && !is_call(part) {
        // Of a call whose content type is unknown only the HTTP exchange is told.
        return same_times && part.role == whole.role;
    }
    // Without the text the span is named after what else is known.
    let nameless = is_named_by_text(whole) && part.attributes.get(key::DB_QUERY_SUMMARY).is_none();
    same_times
        && part.role == whole.role
        && (part.operation == whole.operation || nameless || is_of_unknown_method(part))
        && (part.outcome == whole.outcome
            || part.outcome == Outcome::Unset
            // An error whose code was not seen.
            || (part.outcome == Outcome::Error("_OTHER".into()) && whole.outcome != Outcome::Unset))
        && part.attributes.iter().all(|(key, value)| is_part_of_attribute(part, key.as_str(), value, whole))
        && match (&part.trace, &whole.trace) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(part), Some(whole)) => {
                part.trace_id == whole.trace_id
                    && part.parent_id == whole.parent_id
                    && whole.state.starts_with(part.state.as_str())
            }
        }
}

/// It says that the method is not known.
fn is_of_unknown_method(part: &Exchange) -> bool {
    let is_other = |name| part.attributes.get(name).and_then(Value::as_str) == Some("_OTHER");
    let original = part.attributes.get(key::HTTP_REQUEST_METHOD_ORIGINAL);
    (is_other(key::HTTP_REQUEST_METHOD) && original.is_none()) || is_other(key::RPC_METHOD)
}

/// The same value; or, where the part says that its URL or query is cut, a beginning of it.
fn is_part_of_attribute(part: &Exchange, name: &str, value: &Value, whole: &Exchange) -> bool {
    let text = |name| whole.attributes.get(name).and_then(Value::as_str);
    let cut = part.attributes.get(key::SPANTAP_URL_TRUNCATED).and_then(Value::as_str);
    match (name, value.as_str()) {
        (key::SPANTAP_URL_TRUNCATED | key::SPANTAP_QUERY_TRUNCATED | key::SPANTAP_UNKNOWN_STATEMENT, _) => {
            true
        }
        (key::HTTP_REQUEST_METHOD | key::RPC_METHOD, Some("_OTHER")) => true,
        (key::DB_QUERY_TEXT | key::DB_QUERY_SUMMARY, Some(query))
            if part.attributes.get(key::SPANTAP_QUERY_TRUNCATED).is_some() =>
        {
            text(name).is_some_and(|whole| whole.starts_with(query))
        }
        (key::URL_PATH, Some(path)) if cut == Some("path") => {
            // Of a client whose authority lies behind the cut.
            text(key::URL_PATH).is_some_and(|whole| whole.starts_with(path))
                || text(key::URL_FULL).is_some_and(|whole| whole.contains(path))
        }
        (key::URL_FULL, Some(url)) if cut.is_some() => {
            text(key::URL_FULL).is_some_and(|whole| whole.starts_with(url))
        }
        _ => whole.attributes.get(name) == Some(value),
    }
}

/// All places of a short text; of a long one the first and last, and others at odd distances.
fn positions(length: usize) -> impl Iterator<Item = usize> {
    let stride = move |at: usize| if at < 700 || at + 300 > length { 1 } else { 97 };
    std::iter::successors(Some(0), move |at| Some(at + stride(*at))).take_while(move |at| *at < length)
}

fn unescape(line: &str, bytes: &mut Vec<u8>) {
    let mut rest = line.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let [escape, after @ ..] = rest else { panic!("a lone backslash at the end of a line") };
        rest = after;
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b's' => b' ',
            b'\\' => b'\\',
            b'x' => {
                let (digits, after) = rest.split_at(2);
                rest = after;
                u8::from_str_radix(str::from_utf8(digits).expect("hex"), 16).expect("hex")
            }
            other => panic!("unknown escape {}", char::from(*other)),
        });
    }
}
