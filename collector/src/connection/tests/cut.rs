//! HTTP/1 heads longer than what is copied of a call, through the whole layer: the parser and the driver must agree on
//! what a cut head waits for.

use std::path::Path;

use spantap_protocols::{ALL, Exchange, Value, semconv::key};

use super::*;
use crate::replay::Replay;

/// Bytes of one call that are copied.
const COPIED: usize = 4096;

fn node(opener: Opener, from_start: bool) -> Node {
    let mut node = Node { table: Table::new(Settings::default(), ALL), out: Vec::new() };
    node.open(1, Some(opener), from_start);
    node
}

/// A head as clients with large cookies send it.
fn request(line: &str) -> Vec<u8> {
    let big = "x".repeat(3_000);
    format!("{line} HTTP/1.1\r\nHost: a\r\nX-Big: {big}\r\nX-Big2: {big}\r\n\r\n").into_bytes()
}

fn response(status: u64) -> Vec<u8> {
    format!("HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok").into_bytes()
}

fn long_response(status: u64) -> Vec<u8> {
    let big = "x".repeat(6_000);
    format!("HTTP/1.1 {status} x\r\nSet-Cookie: {big}\r\nContent-Length: 2\r\n\r\nok").into_bytes()
}

impl Script {
    /// As the kernel side copies it.
    fn copy(&mut self, flow: Flow, bytes: &[u8]) -> &mut Self {
        self.cut(flow, bytes, bytes.len().min(COPIED))
    }
}

/// `method path status` of each; of clients the path is a part of the URL.
fn pairs<'a>(exchanges: impl IntoIterator<Item = &'a Exchange>) -> String {
    let text = |exchange: &Exchange, key| match exchange.attributes.get(key) {
        Some(Value::Int(number)) => number.to_string(),
        value => value.and_then(|value| value.as_str()).unwrap_or("-").to_owned(),
    };
    let pair = |exchange: &Exchange| {
        let target = if exchange.role == Role::Client { key::URL_FULL } else { key::URL_PATH };
        let target = text(exchange, target).replace("http://a", "").replace("https://a", "");
        let method = text(exchange, key::HTTP_REQUEST_METHOD);
        format!("{method} {target} {}", text(exchange, key::HTTP_RESPONSE_STATUS_CODE))
    };
    exchanges.into_iter().map(pair).collect::<Vec<_>>().join(", ")
}

fn found(node: &Node) -> String {
    pairs(node.out.iter().map(|finished| &finished.exchange))
}

/// Feeds it within less than a tenth of a second, as its client or its server, then closes.
fn found_in(opener: Opener, script: &Script) -> (String, u64) {
    let mut node = node(opener, true);
    node.calls(&script.calls);
    node.close(1, Layer::Socket, MS * 90, script.sent, script.received);
    (found(&node), node.table.counters().dropped_messages)
}

const FOUR: &str = "GET /1 201, GET /2 202, GET /3 203, GET /4 204";

#[test]
fn every_request_with_a_cut_head_is_found_on_both_sides() {
    for (opener, asks, answers) in [(Opener::Us, SENT, RECEIVED), (Opener::Peer, RECEIVED, SENT)] {
        for answer in [response, long_response] {
            let mut script = Script::default();
            for id in 1..=4 {
                script.copy(asks, &request(&format!("GET /{id}"))).copy(answers, &answer(200 + id));
            }
            assert_eq!(found_in(opener, &script), (FOUR.to_owned(), 0));
        }
    }
}

#[test]
fn header_fields_behind_a_cut_are_counted_and_those_read_in_small_calls_are_seen() {
    let target = format!("GET /{}?a=b", "y".repeat(5_000));
    for (piece, cut_heads) in [(usize::MAX, 2), (1_024, 0)] {
        let mut node = node(Opener::Peer, true);
        let mut script = Script::default();
        for id in 1..=2 {
            for piece in request(&target).chunks(piece) {
                script.copy(RECEIVED, piece);
            }
            script.copy(SENT, &response(200 + id));
        }
        node.calls(&script.calls);
        assert_eq!(node.table.counters().cut_heads, cut_heads);
        let path = format!("/{}", "y".repeat(1_023));
        assert_eq!(found(&node), format!("GET {path} 201, GET {path} 202"));
        for Finished { exchange, .. } in &node.out {
            let host = exchange.attributes.get(key::SERVER_ADDRESS).is_some();
            assert_eq!(host, cut_heads == 0, "what lies behind the cut is not made up");
            let truncated = exchange.attributes.get(key::SPANTAP_URL_TRUNCATED);
            assert_eq!(truncated, Some(&Value::Static("path")));
        }
    }
}

#[test]
fn a_client_joined_in_the_middle_of_a_response_is_busy() {
    for (joined, expected) in [(Some(&b"the rest of a body"[..]), ""), (None, "GET /2 201, GET /3 202")] {
        let mut node = node(Opener::Us, false);
        let mut script = Script::default();
        if let Some(rest) = joined {
            script.say(RECEIVED, rest);
        }
        // Two are in flight if it was a response, one if not; the calls alone do not tell.
        script.say(SENT, b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").say(RECEIVED, &response(201));
        script.say(SENT, b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n").say(RECEIVED, &response(202));
        node.calls(&script.calls);
        assert_eq!(found(&node), expected);
    }
}

#[test]
fn a_head_received_in_two_calls_is_cut_in_the_second() {
    let mut script = Script::default();
    for id in 1..=4 {
        let request = request(&format!("GET /{id}"));
        script
            .copy(RECEIVED, &request[..1_024])
            .copy(RECEIVED, &request[1_024..])
            .copy(SENT, &response(200 + id));
    }
    assert_eq!(found_in(Opener::Peer, &script), (FOUR.to_owned(), 0));
}

#[test]
fn a_body_behind_a_cut_head_belongs_to_its_request() {
    let mut script = Script::default();
    for id in 1..=4 {
        let head = request(&format!("POST /{id}"));
        // The second call may be all that is left of a word.
        script
            .copy(SENT, &head)
            .copy(SENT, &[b'x'; 10_000])
            .copy(SENT, b"END")
            .copy(RECEIVED, &response(200 + id));
    }
    let (found, dropped) = found_in(Opener::Us, &script);
    assert_eq!((found.replace("POST", "GET"), dropped), (FOUR.to_owned(), 0));
}

#[test]
fn inside_tls_a_cut_head_opens_a_turn() {
    let mut node = node(Opener::Us, true);
    let mut script = Script::default();
    for id in 1..=4 {
        script.copy(SENT, &request(&format!("GET /{id}"))).copy(RECEIVED, &response(200 + id));
    }
    script.calls.iter().for_each(|call| node.data(9, Some(1), Layer::Tls, call));
    assert_eq!(found(&node), FOUR);
    assert!(node.out.iter().all(|finished| finished.tls));
}

#[test]
fn a_cut_response_waits_for_its_request() {
    for answer in [response, long_response] {
        let mut script = Script::default();
        for id in 1..=4 {
            script.copy(RECEIVED, &request(&format!("GET /{id}"))).copy(SENT, &answer(200 + id));
        }
        // The event of the first request comes after that of its response.
        script.calls.swap(0, 1);
        assert_eq!(found_in(Opener::Peer, &script), (FOUR.to_owned(), 0));
    }
}

#[test]
fn a_client_that_begins_to_pipeline_is_never_paired_wrongly() {
    for from_start in [true, false] {
        for requests in 2..4 {
            let mut node = node(Opener::Peer, from_start);
            let mut script = Script::default();
            for id in 1..=2 {
                script.copy(RECEIVED, &request(&format!("GET /{id}"))).copy(SENT, &response(200 + id));
            }
            // Some are under way at a time from here on.
            (3..3 + requests).for_each(|id| _ = script.copy(RECEIVED, &request(&format!("GET /{id}"))));
            for id in 3..9 {
                script.copy(SENT, &response(200 + id));
                script.copy(RECEIVED, &request(&format!("GET /{}", id + requests)));
            }
            node.calls(&script.calls);
            assert_eq!(found(&node), "GET /1 201, GET /2 202", "{requests} at a time");
            assert!(node.table.counters().dropped_messages > 0);
        }
    }
}

#[test]
fn a_capture_whose_snap_length_cuts_every_head_gives_its_exchanges() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/replay/nginx-snap.pcap");
    let mut table = Table::new(Settings::default(), ALL);
    let mut out = Vec::new();
    Replay::new(ALL).run(&file, &mut |event| table.on_event(event, &mut out)).expect("the capture is whole");
    table.finish(&mut out);
    assert_eq!(
        pairs(out.iter().map(|finished| &finished.exchange)),
        "GET /numbers.txt 200, GET /hello.txt 200"
    );
    assert_eq!(table.counters().dropped_messages, 0);
}
