//! What every parser owes on every fixture: one function for each promise. They panic where it is broken.

use super::{
    Chunk, Driver, FOREIGN, Fixture, Noise, render, run, run_copying,
    runs::{chunks_of, positions, run_cut, run_with_gaps},
    truth::{Recovery, check_found, found_again},
};
use crate::{
    exchange::Exchange,
    limits,
    protocol::{BootNanos, Direction, OpenContext, Protocol, Role, Sniff},
};

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

/// What random loss left of a fixture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Calls, and how many of them were lost.
    pub calls: u64,
    /// See `calls`.
    pub lost_calls: u64,
    /// Exchanges without loss, and how many were found with it.
    pub exchanges: u64,
    /// See `exchanges`.
    pub found: u64,
    /// Exchanges that begin after the one that follows the last loss, where the parser must find back; how many it did.
    pub later: u64,
    /// See `later`.
    pub later_found: u64,
    /// What the parser says that it could not report, see [`crate::Parser::dropped`]: messages, not exchanges.
    pub dropped: u64,
}

impl Loss {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.lost_calls += other.lost_calls;
        self.exchanges += other.exchanges;
        self.found += other.found;
        self.later += other.later;
        self.later_found += other.later_found;
        self.dropped += other.dropped;
    }
}

/// One call in `one_in` is lost, by chance; noticed as in [`check_lost_calls`]: what comes out is true.
/// How much of what follows the loss is found again is for the caller to judge.
///
/// # Panics
/// If not so.
#[must_use]
pub fn check_random_loss(protocol: &dyn Protocol, fixture: &Fixture, seed: u64, one_in: u64) -> Loss {
    let truth = run(protocol, fixture);
    let mut noise = Noise::new(seed);
    let mut driver = Driver::new(protocol, fixture.context(true));
    let mut missing = [0; 2];
    let mut after = BootNanos(0);
    let mut lost = Vec::new();
    let end = fixture.closed_at();
    for (index, Chunk { direction, first_at, last_at, bytes }) in fixture.chunks.iter().enumerate() {
        let missing = &mut missing[*direction as usize];
        if noise.below(one_in) == 0 {
            *missing += bytes.len() as u64;
            lost.push(index);
            continue;
        }
        if *missing > 0 {
            driver.gap(*direction, *first_at, *last_at, std::mem::take(missing));
            after = *last_at;
        }
        driver.feed(*direction, *first_at, *last_at, bytes);
    }
    for direction in [Direction::ToServer, Direction::ToClient] {
        let missing = missing[direction as usize];
        if missing > 0 {
            driver.gap(direction, end, end, missing);
            after = end;
        }
    }
    driver.close(end);
    let what =
        format!("{}: calls {lost:?} are lost, the parser is: {}", fixture.name, driver.parser().lost());
    check_found(&driver.exchanges, &truth, after, Recovery::None, &what);
    let later = found_again(&driver.exchanges, &truth, after, fixture.recovery());
    assert!(!lost.is_empty() || driver.exchanges == truth, "{what}: nothing is lost");
    Loss {
        calls: fixture.chunks.len() as u64,
        lost_calls: lost.len() as u64,
        exchanges: truth.len() as u64,
        found: driver.exchanges.len() as u64,
        later: later.len() as u64,
        later_found: later.iter().filter(|(_, is_found)| *is_found).count() as u64,
        dropped: driver.parser().dropped(),
    }
}

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
        let kept = driver.kept_bytes();
        assert!(kept <= 2 * limits::RETAINED_BYTES_MAX, "keeps {kept} bytes");
    }
    driver.close(BootNanos(calls.len() as u64));
    for exchange in &driver.exchanges {
        let longest = exchange.attributes.iter().filter_map(|(_, value)| value.as_str()).map(str::len).max();
        assert!(longest.unwrap_or(0) <= 4096, "an attribute of {longest:?} bytes");
    }
}
