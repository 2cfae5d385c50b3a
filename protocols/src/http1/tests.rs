//! Situations of HTTP/1 that recorded traffic does not show.

mod cut;
mod llhttp;
mod odd;
mod pairing;

use super::{Http1, parser::Http1Parser};
use crate::{
    exchange::{Exchange, Outcome, Value},
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Protocol, Role, Segment, Sniff},
    semconv::key,
    testing::{Driver, Fixture, check_splits, render, run, run_copying},
};

use Direction::{ToClient, ToServer};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(id: usize) -> Vec<u8> {
    format!("GET /{id} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

fn answer(id: usize) -> Vec<u8> {
    format!("HTTP/1.1 {id} x\r\nContent-Length: 2\r\n\r\nok").into_bytes()
}

fn driver(from_start: bool) -> Driver {
    Driver::new(&Http1, OpenContext { role: Role::Server, from_start, answered: false, tls: false })
}

fn exchanges(calls: &[(Direction, &[u8])]) -> Vec<Exchange> {
    let fixture = Fixture::of("inline", Role::Server, calls);
    check_splits(&Http1, &fixture);
    run(&Http1, &fixture)
}

/// `/path status` of each; a missing part is `-`.
fn pairs(exchanges: &[Exchange]) -> String {
    let pair = |exchange: &Exchange| {
        let status = match exchange.attributes.get(key::HTTP_RESPONSE_STATUS_CODE) {
            Some(crate::exchange::Value::Int(status)) => status.to_string(),
            _ => "-".to_owned(),
        };
        let path = exchange.attributes.get(key::URL_PATH).and_then(|path| path.as_str()).unwrap_or("-");
        let error = match &exchange.outcome {
            Outcome::Error(kind) if *kind != status => format!(" {kind}"),
            _ => String::new(),
        };
        format!("{path} {status}{error}")
    };
    exchanges.iter().map(pair).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_tunnel_is_not_looked_into() {
    let text = include_str!("fixtures/tunnel/connect_node.txt");
    let fixture = Fixture::parse("connect_node", text);
    check_splits(&Http1, &fixture);
    let found = run(&Http1, &fixture);
    assert_eq!(pairs(&found), "- 200");
    assert_eq!(found[0].operation, "CONNECT");
    assert_eq!(found[0].attributes.get(key::URL_FULL), None);
}

#[test]
fn an_upgrade_to_h2c_goes_on_with_http2() {
    let fixture = Fixture::parse("upgrade_apache", include_str!("fixtures/tunnel/upgrade_apache.txt"));
    check_splits(&Http1, &fixture);
    let found = run(&Http1, &fixture);
    assert_eq!(pairs(&found), "/small.txt 200, /nothing - goaway");
    assert!(found.iter().all(|exchange| exchange.protocol == "http2"));
}

#[test]
fn a_refused_upgrade_goes_on_as_http() {
    let upgrade = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let found = exchanges(&[(ToServer, upgrade), (ToClient, OK), (ToServer, &get(2)), (ToClient, OK)]);
    assert_eq!(pairs(&found), "/1 200, /2 200");
}

#[test]
fn the_request_of_an_accepted_h2c_upgrade_is_answered_by_http2() {
    let mut driver = driver(true);
    let upgrade = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    driver.feed(ToServer, BootNanos(1), BootNanos(1), upgrade);
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    driver.feed(ToClient, BootNanos(2), BootNanos(2), switch);
    assert_eq!(pairs(&driver.exchanges), "");
    // SETTINGS, and HEADERS of stream 1 that end it, in one call.
    let answer = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88";
    driver.feed(ToClient, BootNanos(3), BootNanos(4), answer);
    assert_eq!(pairs(&driver.exchanges), "/1 200");
    let exchange = &driver.exchanges[0];
    assert_eq!((exchange.protocol, exchange.start, exchange.end), ("http2", BootNanos(1), BootNanos(4)));
}

/// One call of which at most 4 KiB are copied; `at` is its time.
fn call(driver: &mut Driver, direction: Direction, at: u64, bytes: &[u8]) {
    let (copied, rest) = bytes.split_at(bytes.len().min(4096));
    driver.feed_cut(direction, BootNanos(at), BootNanos(at), copied, rest.len() as u64);
}

#[test]
fn an_idle_parser_is_small() {
    assert!(size_of::<Http1Parser>() <= 512, "{} bytes", size_of::<Http1Parser>());
}

/// A head longer than what is copied of a call.
fn long(start: &str) -> Vec<u8> {
    let big = "x".repeat(3_000);
    format!("{start}\r\nHost: a\r\nX-Big: {big}\r\nX-Big2: {big}\r\n\r\n").into_bytes()
}

fn long_get(id: u64) -> Vec<u8> {
    long(&format!("GET /{id} HTTP/1.1"))
}
