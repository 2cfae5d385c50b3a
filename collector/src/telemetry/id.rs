//! Random trace and span ids, and the small generator behind them.
//!
//! xoshiro256++ seeded by the operating system (through the standard library's `RandomState`). Ids need to be unique,
//! not secret; W3C level 2 asks for random lower bytes, which all of these are.

use std::hash::{BuildHasher, RandomState};

use opentelemetry::trace::{SpanId, TraceId};

/// Makes ids. One per thread: it is a few dozen bytes and takes `&mut self`.
#[derive(Debug)]
pub struct IdGenerator(Random);

impl IdGenerator {
    /// A generator seeded by the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self(Random::new())
    }

    /// The same ids on every run: for tests and replay.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Random::seeded(seed))
    }

    /// A new trace id, never all zero.
    #[must_use]
    pub fn trace_id(&mut self) -> TraceId {
        let high = u128::from(self.0.next_u64());
        let low = u128::from(self.0.next_u64().max(1));
        TraceId::from_bytes((high << 64 | low).to_be_bytes())
    }

    /// A new span id, never all zero.
    #[must_use]
    pub fn span_id(&mut self) -> SpanId {
        SpanId::from_bytes(self.0.next_u64().max(1).to_be_bytes())
    }
}

impl Default for IdGenerator {
    fn default() -> Self {
        Self::new()
    }
}

/// xoshiro256++ 1.0, <https://prng.di.unimi.it/xoshiro256plusplus.c>.
#[derive(Debug)]
pub struct Random([u64; 4]);

impl Random {
    /// Seeded by the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(std::process::id()))
    }

    /// Seeded by `seed`, spread by splitmix64 so that the state is never all zero.
    #[must_use]
    pub fn seeded(mut seed: u64) -> Self {
        Self(std::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..=most`, near enough to uniform for jitter.
    pub fn up_to(&mut self, most: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * (u128::from(most) + 1);
        u64::try_from(wide >> 64).unwrap_or(most)
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_valid_and_differ() {
        let mut ids = IdGenerator::new();
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            let (trace, span) = (ids.trace_id(), ids.span_id());
            assert_ne!(trace, TraceId::INVALID);
            assert_ne!(span, SpanId::INVALID);
            assert!(seen.insert((trace, span)));
        }
        assert_ne!(IdGenerator::new().trace_id(), IdGenerator::new().trace_id());
    }

    #[test]
    fn jitter_stays_within_its_bound() {
        let mut random = Random::seeded(7);
        assert!((0..1000).all(|_| random.up_to(9) <= 9));
        assert!((0..1000).any(|_| random.up_to(9) == 9));
        assert_eq!(random.up_to(0), 0);
        let _ = random.up_to(u64::MAX);
    }
}
