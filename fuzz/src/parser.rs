//! One parser, fed by the harness's driver with any calls, cuts and gaps.

use spantap_protocols::{
    BootNanos, Direction, Exchange, OpenContext, Protocol, Role,
    testing::{Driver, Fixture, fixtures},
};

use crate::{input, memory};

/// Feeds `input` to the protocol; the bytes that came to.
pub(crate) fn run(protocol: &'static dyn Protocol, input: &[u8]) -> u64 {
    let (circumstances, calls) = input::read(input);
    let is = |bit: u8| circumstances & bit != 0;
    let context = OpenContext {
        role: if is(1) { Role::Client } else { Role::Server },
        from_start: !is(2),
        answered: is(4),
        tls: is(8),
    };
    let before = memory::held();
    let mut driver = Driver::new(protocol, context);
    let (mut now, mut fed) = (1_000, 0);
    for (repetitions, call) in &calls {
        for _ in 0..*repetitions {
            now += 1_000;
            let at = BootNanos(now);
            let direction = if call.is_forth() { Direction::ToServer } else { Direction::ToClient };
            fed += call.bytes.len() as u64 + CALL_BYTES;
            driver.feed_cut(direction, at, at, call.bytes, call.missing());
            driver.exchanges.drain(..).for_each(|exchange| check(&exchange, at));
            let held = memory::held() - before;
            let most = HELD_BYTES_MAX
                .min(HELD_BYTES_FREE + HELD_PER_BYTE * isize::try_from(fed).unwrap_or(isize::MAX));
            assert!(held <= most, "{}: {held} bytes are held for {fed}", protocol.name());
        }
        for expected in [None, Some(Direction::ToServer), Some(Direction::ToClient)] {
            let _ = protocol.sniff(call.bytes, expected);
        }
    }
    driver.close(BootNanos(now));
    driver.exchanges.drain(..).for_each(|exchange| check(&exchange, BootNanos(now)));
    fed
}

/// What holds of every exchange.
fn check(exchange: &Exchange, now: BootNanos) {
    assert!(exchange.start <= exchange.end && exchange.end <= now, "{exchange:?}");
    assert!(exchange.response_start.is_none_or(|start| start <= exchange.end), "{exchange:?}");
    for (key, value) in exchange.attributes.iter() {
        let length = value.as_str().map_or(0, str::len);
        assert!(length <= ATTRIBUTE_BYTES_MAX, "{} has {length} bytes", key.as_str());
    }
}

/// The recordings of the protocol.
pub(crate) fn seeds(protocol: &dyn Protocol) -> Vec<Vec<u8>> {
    fixtures(protocol).iter().map(seed).collect()
}

fn seed(fixture: &Fixture) -> Vec<u8> {
    let calls = fixture
        .chunks
        .iter()
        .map(|chunk| (u8::from(chunk.direction == Direction::ToClient), chunk.bytes.as_slice()));
    input::write(u8::from(fixture.role == Role::Client), calls)
}

/// A call costs something even if it carries nothing.
const CALL_BYTES: u64 = 16;
/// Of one connection with what is retained for it.
///
/// Rationale: `REDIS_PIPELINE_MAX` commands of some hundred bytes are the most that any parser remembers. Of 18,000 kept
/// inputs the worst holds 2.9 MB; 28 bytes for each that was fed (Redis, inline commands), the other parsers 3.
const HELD_BYTES_MAX: isize = 4 * 1024 * 1024;
/// For the first bytes of a connection.
const HELD_BYTES_FREE: isize = 64 * 1024;
/// For each byte that was fed.
const HELD_PER_BYTE: isize = 48;
/// Of one value; the longest cap in `limits.rs` is half of it.
const ATTRIBUTE_BYTES_MAX: usize = 4096;
