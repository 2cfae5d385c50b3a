//! The ways in which a fixture reaches a parser: whole, in pieces, with prefixes only, with bytes missing.

use super::{Chunk, Driver, Fixture};
use crate::{
    exchange::Exchange,
    protocol::{BootNanos, Direction, Protocol},
};

/// Feeds a fixture whole.
#[must_use]
pub fn run(protocol: &dyn Protocol, fixture: &Fixture) -> Vec<Exchange> {
    let whole = |_: usize, chunk: &Chunk| vec![chunk.bytes.len()];
    run_cut(protocol, fixture, whole)
}

/// Feeds a fixture with each chunk cut into pieces of the lengths that `cut` gives; they take the chunk's times.
pub(super) fn run_cut(
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

/// Feeds a fixture without the bytes of which `missing` says so, by their offset in their direction. Also returns the
/// time of the last call that was touched.
pub(super) fn run_with_gaps(
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

pub(super) fn chunks_of(fixture: &Fixture, direction: Direction) -> impl Iterator<Item = &Chunk> {
    fixture.chunks.iter().filter(move |chunk| chunk.direction == direction)
}

/// All places of a short text; of a long one the first and last, and others at odd distances.
pub(super) fn positions(length: usize) -> impl Iterator<Item = usize> {
    let stride = move |at: usize| if at < 700 || at + 300 > length { 1 } else { 97 };
    std::iter::successors(Some(0), move |at| Some(at + stride(*at))).take_while(move |at| *at < length)
}
