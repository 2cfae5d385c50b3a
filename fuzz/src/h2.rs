//! HTTP/2 as the client and the server of the `h2` crate speak it: a bystander must read what both were told to send.
//!
//! An input is a conversation (`plan.rs`), which a real client and a real server hold in memory (`connection.rs`). Every
//! header block must decode to the fields that were sent, and every exchange of the parser must be one of the
//! conversation with its method, path, status, trace, sizes and times, at either end.

mod connection;
mod plan;
mod wire;

use std::sync::Arc;

use spantap_protocols::{
    BootNanos, Direction, Exchange, OpenContext, Role, Value,
    http2::{Http2, PlainDecoder, PlainField},
    semconv::key,
    testing::{Chunk, Driver, Fixture, Noise},
};

use self::{
    plan::{Plan, Planned},
    wire::Block,
};

pub(crate) fn run(input: &[u8]) -> u64 {
    let plan = Arc::new(plan::read(input));
    let calls = connection::hold(&plan);
    check_blocks(&plan, &calls);
    let ends = [Role::Server, Role::Client];
    ends.into_iter().for_each(|role| check_exchanges(&plan, &calls, role));
    let bytes: usize = calls.iter().map(|call| call.bytes.len()).sum();
    (bytes + calls.len() * CALL_BYTES) as u64
}

/// The conversation of `seed` as a recording of one of its ends, for the harness of the parsers.
#[must_use]
pub fn recording(seed: u64, role: Role) -> Fixture {
    let plan = Arc::new(plan::read(&noise(seed)));
    let chunks = connection::hold(&plan);
    Fixture { name: format!("h2, seed {seed}"), role, recovers: true, partly: true, chunks }
}

/// Bytes that mean a conversation of some length.
#[must_use]
pub fn noise(seed: u64) -> Vec<u8> {
    let mut noise = Noise::new(seed);
    let mut calls = Vec::new();
    for _ in 0..=noise.below(12) {
        let length = 4 + noise.below(60) as usize;
        // Seldom one that is repeated or goes with a table of another size.
        let kind = if noise.below(3) == 0 { noise.number() as u8 } else { noise.below(4) as u8 };
        calls.push((kind, noise.bytes(length)));
    }
    let circumstances = noise.number() as u8;
    crate::input::write(circumstances, calls.iter().map(|(kind, bytes)| (*kind, bytes.as_slice())))
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    (0..SEEDS).map(noise).collect()
}

/// Every block has the fields that were sent; a decoder that joins later knows them or says that it does not.
fn check_blocks(plan: &Plan, calls: &[Chunk]) {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let blocks = wire::blocks(calls, direction);
        let mut seen = vec![0; plan.exchanges.len()];
        let mut decoders: Vec<(usize, PlainDecoder)> = Vec::new();
        for (nth, block) in blocks.iter().enumerate() {
            if nth.is_power_of_two() || nth == 0 {
                decoders.push((nth, PlainDecoder::default()));
            }
            let planned = &plan.exchanges[block.exchange];
            let expected = planned.fields(direction, seen[block.exchange]);
            seen[block.exchange] += 1;
            for (since, decoder) in &mut decoders {
                check_block(decoder.decode(&block.bytes), &expected, block, *since);
            }
        }
        for (planned, seen) in plan.exchanges.iter().zip(seen) {
            assert_eq!(seen, planned.blocks(direction), "blocks {direction:?} of {planned:?}");
        }
    }
}

fn check_block(
    (whole, found): (bool, Vec<PlainField>),
    expected: &[(Vec<u8>, Vec<u8>)],
    block: &Block,
    since: usize,
) {
    assert!(whole, "{block:02x?}");
    assert_eq!(found.len(), expected.len(), "fields of {block:02x?}");
    if since > 0 {
        // Which name an unknown one has is not known, so order is all there is: those that are known were sent.
        let sent = |field: &(Vec<u8>, Vec<u8>)| expected.contains(field);
        assert!(found.iter().flatten().all(sent), "joined at block {since}: {found:?}, not {expected:?}");
        return;
    }
    let mut found: Vec<_> = found.into_iter().map(|field| field.expect("seen from the start")).collect();
    // Those of one name keep their order.
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected, "{block:02x?}");
}

/// The exchanges that the parser finds are those of the conversation.
fn check_exchanges(plan: &Plan, calls: &[Chunk], role: Role) {
    let mut driver = Driver::new(&Http2, OpenContext { role, from_start: true, answered: false, tls: false });
    for call in calls {
        driver.feed(call.direction, call.first_at, call.last_at, &call.bytes);
    }
    driver.close(BootNanos(u64::MAX));
    assert_eq!(driver.parser().dropped(), 0, "messages that the parser could not place");
    assert_eq!(driver.exchanges.len(), plan.exchanges.len(), "{role:?}: exchanges of {plan:?}");
    for (nth, planned) in plan.exchanges.iter().enumerate() {
        let mut of_this = driver.exchanges.iter().filter(|exchange| is_at(exchange, &planned.path));
        let exchange = of_this.next().unwrap_or_else(|| panic!("{role:?}: none at {}", planned.path));
        assert!(of_this.next().is_none(), "{role:?}: {} is told twice", planned.path);
        check_exchange(exchange, planned, wire::streams(calls, nth), role);
    }
}

fn is_at(exchange: &Exchange, path: &str) -> bool {
    let of = |name| exchange.attributes.get(name).and_then(Value::as_str).unwrap_or_default();
    of(key::URL_PATH) == path
        || of(key::URL_FULL).strip_prefix(connection::ORIGIN).and_then(|url| url.split('?').next())
            == Some(path)
}

fn check_exchange(exchange: &Exchange, planned: &Planned, [to, from]: [wire::Extent; 2], role: Role) {
    let what = format!("{role:?}: {exchange:#?}\n{planned:?}");
    let attribute = |name| exchange.attributes.get(name);
    assert_eq!(
        attribute(key::HTTP_REQUEST_METHOD).and_then(Value::as_str),
        Some(planned.method.as_str()),
        "{what}"
    );
    let status = Value::Int(i64::from(planned.status.as_u16()));
    assert_eq!(attribute(key::HTTP_RESPONSE_STATUS_CODE), Some(&status), "{what}");
    assert_eq!(attribute(key::SPANTAP_URL_TRUNCATED), None, "{what}");
    // B3 allows a decision without a trace.
    let trace = exchange.trace.as_ref().map(|trace| trace.trace_id).filter(|id| *id != [0; 16]);
    assert_eq!(trace, planned.trace(), "{what}");
    assert_eq!((exchange.request_bytes, exchange.response_bytes), (to.bytes, from.bytes), "{what}");
    assert_eq!((exchange.start, exchange.request_end, exchange.end), (to.start, to.end, from.end), "{what}");
    assert_eq!(exchange.response_start, Some(from.start), "{what}");
}

const SEEDS: u64 = 24;
/// See `parser.rs`.
const CALL_BYTES: usize = 16;
