//! Whole conversations, fed through the parser: what recorded ones do not show.

mod loss;

use super::{Http2, frame::PREFACE};
use crate::{
    exchange::{Exchange, Outcome, Value},
    limits,
    protocol::{
        BootNanos,
        Direction::{self, ToClient, ToServer},
        OpenContext, Role,
    },
    semconv::key,
    testing::{Driver, Fixture, check_lost_calls, run},
};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const BOTH: u8 = END_STREAM | END_HEADERS;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A GET of a path of one digit: `:method` and `:scheme` indexed, `:path` literal.
fn get(stream: u32, path: u8) -> Vec<u8> {
    frame(HEADERS, BOTH, stream, &[0x82, 0x86, 0x04, 0x02, b'/', path])
}

/// 200 without a body.
fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, BOTH, stream, &[0x88])
}

struct Conversation {
    driver: Driver,
    now: u64,
}

impl Conversation {
    fn new(role: Role, from_start: bool) -> Self {
        let context = OpenContext { role, from_start, answered: false, tls: false };
        Self { driver: Driver::new(&Http2, context), now: 0 }
    }

    /// From its start, past the prefaces.
    fn begun(role: Role) -> Self {
        let mut conversation = Self::new(role, true);
        conversation.say(ToServer, &[&PREFACE[..], &frame(SETTINGS, 0, 0, &[])]);
        conversation.say(ToClient, &[&frame(SETTINGS, 0, 0, &[])]);
        conversation
    }

    /// One call.
    fn say(&mut self, direction: Direction, frames: &[&[u8]]) -> BootNanos {
        self.now += 1;
        let at = BootNanos(self.now);
        self.driver.feed(direction, at, at, &frames.concat());
        at
    }

    fn lose(&mut self, direction: Direction, missing: u64) {
        self.now += 1;
        let at = BootNanos(self.now);
        self.driver.gap(direction, at, at, missing);
    }

    fn close(&mut self) -> String {
        self.now += 1;
        self.driver.close(BootNanos(self.now));
        self.told()
    }

    fn told(&self) -> String {
        let told: Vec<String> = self.driver.exchanges.iter().map(tell).collect();
        told.join(", ")
    }
}

#[test]
fn a_call_is_known_by_its_messages_where_its_content_type_is_not() {
    let message = b"\x00\x00\x00\x00\x02hi";
    for (body, answer, operation) in [
        (&message[..], &message[..], "grpc"),
        (message, b"", "grpc"),
        (b"{\"a\": 1}", message, "POST"),
        (message, b"<html>", "POST"),
        (&message[..6], message, "POST"),
    ] {
        let mut conversation = Conversation::new(Role::Server, false);
        let head = frame(HEADERS, END_HEADERS, 9, &[0x83, 0x86, 0xc4, 0xc3]);
        conversation.say(ToServer, &[&head, &frame(0, END_STREAM, 9, body)]);
        let head = frame(HEADERS, END_HEADERS, 9, &[0x88, 0xbe]);
        conversation.say(ToClient, &[&head, &frame(0, 0, 9, answer), &frame(HEADERS, BOTH, 9, &[0xbf])]);
        let exchange = &conversation.driver.exchanges[0];
        assert_eq!(exchange.operation, operation, "{body:?} {answer:?}");
        let method = exchange.attributes.get(key::RPC_METHOD);
        assert_eq!(method.and_then(Value::as_str), (operation == "grpc").then_some("_OTHER"));
    }
}

/// Method, path, status, and the kind of error.
fn tell(exchange: &Exchange) -> String {
    let text = |key| exchange.attributes.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    let status = match exchange.attributes.get(key::HTTP_RESPONSE_STATUS_CODE) {
        Some(Value::Int(status)) => status.to_string(),
        _ => "?".to_owned(),
    };
    let error = match &exchange.outcome {
        Outcome::Unset => String::new(),
        Outcome::Error(kind) => format!(" {kind}"),
    };
    format!("{} {} {status}{error}", exchange.operation, text(key::URL_PATH))
}

#[test]
fn a_hundred_streams_at_once_are_told_apart() {
    let text = include_str!("fixtures/many/h2load_nghttpd.txt");
    let fixture = Fixture::parse("h2load_nghttpd", text);
    let found = run(&Http2, &fixture);
    assert_eq!(found.len(), 400);
    let count = |path: &str| {
        let is =
            |exchange: &&Exchange| exchange.attributes.get(key::URL_PATH) == Some(&Value::Text(path.into()));
        found.iter().filter(is).count()
    };
    assert_eq!((count("/small.txt"), count("/index.html")), (200, 200));
    for exchange in &found {
        let small = exchange.attributes.get(key::URL_PATH) == Some(&Value::Text("/small.txt".into()));
        let body = exchange.response_bytes - if small { 109 } else { 15 };
        assert!((10..=110).contains(&body), "the head of {exchange:?}");
        assert!(exchange.response_start >= Some(exchange.request_end), "{exchange:?}");
    }
    let starts: std::collections::BTreeSet<_> = found.iter().map(|exchange| exchange.start).collect();
    assert!(starts.len() > 3, "each has the time of its own call");
    check_lost_calls(&Http2, &fixture);
}

#[test]
fn answers_out_of_order_have_their_own_times() {
    let mut conversation = Conversation::begun(Role::Server);
    let first = conversation.say(ToServer, &[&get(1, b'1')]);
    let second = conversation.say(ToServer, &[&get(3, b'3'), &get(5, b'5')]);
    conversation.say(ToClient, &[&ok(5)]);
    conversation.say(ToClient, &[&ok(1)]);
    let last = conversation.say(ToClient, &[&ok(3)]);
    assert_eq!(conversation.told(), "GET /5 200, GET /1 200, GET /3 200");
    let found = &conversation.driver.exchanges;
    assert_eq!((found[1].start, found[2].start, found[2].end), (first, second, last));
}

#[test]
fn a_block_in_several_frames_is_one() {
    let mut conversation = Conversation::begun(Role::Server);
    // The path is cut in the middle of its text, by frames and by calls.
    let head = frame(HEADERS, END_STREAM, 1, &[0x82, 0x86, 0x04, 0x05, b'/', b'a']);
    let more = frame(9, END_HEADERS, 1, b"bcd");
    conversation.say(ToServer, &[&head, &more[..10]]);
    conversation.say(ToServer, &[&more[10..]]);
    conversation.say(ToClient, &[&ok(1)]);
    assert_eq!(conversation.told(), "GET /abcd 200");
    assert_eq!(conversation.driver.exchanges[0].request_bytes, 15 + 12);
}

#[test]
fn a_response_that_is_seen_before_its_request_waits() {
    let mut conversation = Conversation::begun(Role::Client);
    conversation.say(ToClient, &[&ok(1)]);
    assert_eq!(conversation.told(), "");
    conversation.say(ToServer, &[&get(1, b'1')]);
    assert_eq!(conversation.told(), "GET /1 200");
}

#[test]
fn pings_settings_windows_and_unknown_frames_are_nothing() {
    let mut conversation = Conversation::begun(Role::Server);
    let noise: Vec<Vec<u8>> = vec![
        frame(6, 0, 0, &[0; 8]),
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(8, 0, 1, &[0, 0, 1, 0]),
        frame(0x10, 0, 0, b"\x00\x00\x00\x01u=1"),
        frame(SETTINGS, 1, 0, &[]),
    ];
    let noise: Vec<&[u8]> = noise.iter().map(Vec::as_slice).collect();
    conversation.say(ToServer, &noise);
    conversation.say(ToServer, &[&get(1, b'1')]);
    conversation.say(ToServer, &noise);
    conversation.say(ToClient, &noise);
    conversation.say(ToClient, &[&ok(1)]);
    assert_eq!(conversation.told(), "GET /1 200");
    assert_eq!(conversation.driver.parser().dropped(), 0);
}

#[test]
fn who_is_refused_by_goaway_is_told_so() {
    let mut conversation = Conversation::begun(Role::Client);
    conversation.say(ToServer, &[&get(1, b'1'), &get(3, b'3')]);
    conversation.say(ToClient, &[&frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])]);
    conversation.say(ToClient, &[&ok(1)]);
    assert_eq!(conversation.close(), "GET /3 ? goaway, GET /1 200");
}

#[test]
fn an_early_answer_waits_for_the_rest_of_its_request() {
    let mut conversation = Conversation::begun(Role::Server);
    conversation.say(ToServer, &[&frame(HEADERS, END_HEADERS, 1, &[0x83, 0x86, 0x84])]);
    conversation.say(ToClient, &[&ok(1)]);
    assert_eq!(conversation.told(), "");
    conversation.say(ToClient, &[&frame(3, 0, 1, &[0, 0, 0, 0])]);
    assert_eq!(conversation.told(), "POST / 200", "NO_ERROR: the rest is not wanted (RFC 9113, section 8.1)");
}

#[test]
fn a_promised_request_is_the_servers() {
    for (role, expected) in [(Role::Server, "GET /1 200, GET /p 200"), (Role::Client, "GET /1 200")] {
        let mut conversation = Conversation::begun(role);
        conversation.say(ToServer, &[&get(1, b'1')]);
        let promise = frame(5, END_HEADERS, 1, &[0, 0, 0, 2, 0x82, 0x86, 0x04, 0x02, b'/', b'p']);
        conversation.say(ToClient, &[&promise, &ok(1), &ok(2)]);
        assert_eq!(conversation.close(), expected);
        assert_eq!(conversation.driver.parser().dropped(), 0);
    }
}

#[test]
fn data_that_is_not_copied_is_skipped_by_its_length() {
    let mut conversation = Conversation::begun(Role::Server);
    conversation.say(ToServer, &[&get(1, b'1')]);
    let data = frame(0, END_STREAM, 1, &[7; 10_000]);
    conversation.say(ToClient, &[&frame(HEADERS, END_HEADERS, 1, &[0x88]), &data[..100]]);
    assert_eq!(conversation.driver.parser().skippable(ToClient), 9_909);
    conversation.lose(ToClient, 9_000);
    assert_eq!(conversation.told(), "");
    conversation.lose(ToClient, 909);
    assert_eq!(conversation.told(), "GET /1 200");
    let exchange = &conversation.driver.exchanges[0];
    assert_eq!((exchange.response_bytes, exchange.end), (10 + 10_009, BootNanos(conversation.now)));
}

#[test]
fn joined_late_known_fields_are_told_and_others_marked() {
    let mut conversation = Conversation::new(Role::Server, false);
    // The path, and something else, are in a table that was filled before we came.
    conversation.say(ToServer, &[&frame(HEADERS, BOTH, 7, &[0x82, 0x86, 0xbf, 0xbe])]);
    conversation.say(ToServer, &[&frame(HEADERS, BOTH, 9, &[0x82, 0x86, 0x44, 0x02, b'/', b'n', 0xc0])]);
    conversation.say(ToServer, &[&frame(HEADERS, BOTH, 11, &[0x82, 0x86, 0xbe])]);
    conversation.say(ToClient, &[&ok(7)]);
    conversation.say(ToClient, &[&ok(9), &ok(11)]);
    assert_eq!(conversation.told(), "GET ? 200, GET /n 200, GET /n 200");
    let cut = |at: usize| conversation.driver.exchanges[at].attributes.get(key::SPANTAP_URL_TRUNCATED);
    assert_eq!(cut(0).and_then(Value::as_str), Some("path"));
    assert_eq!((cut(1), cut(2)), (None, None));
    assert_eq!(conversation.driver.parser().cut_heads(), 2);
}

#[test]
fn responses_to_requests_that_were_not_seen_are_counted() {
    let mut conversation = Conversation::new(Role::Server, false);
    conversation.say(ToClient, &[&ok(5)]);
    conversation.say(ToClient, &[&frame(HEADERS, END_HEADERS, 7, &[0x88]), &frame(0, END_STREAM, 7, b"x")]);
    assert_eq!(conversation.told(), "");
    assert_eq!(conversation.driver.parser().dropped(), 2);
}

#[test]
fn a_request_that_is_read_after_its_response_was_given_up_is_not_called_closed() {
    let mut conversation = Conversation::begun(Role::Server);
    conversation.say(ToServer, &[&get(1, b'1')]);
    conversation.say(ToClient, &[&ok(1)]);
    conversation.lose(ToServer, 20);
    conversation.say(ToClient, &[&ok(5)]);
    conversation.say(ToServer, &[&get(5, b'5'), &get(7, b'7')]);
    assert_eq!(conversation.close(), "GET /1 200, GET /7 ? connection_closed");
    assert_eq!(conversation.driver.parser().dropped(), 2, "the response, and the request");
}

#[test]
fn what_waits_while_bytes_are_lost_is_never_called_closed() {
    let mut conversation = Conversation::begun(Role::Server);
    conversation.say(ToServer, &[&get(1, b'1'), &get(3, b'3'), &get(5, b'5')]);
    conversation.say(ToClient, &[&frame(HEADERS, END_HEADERS, 1, &[0x88])]);
    conversation.lose(ToClient, 500);
    conversation.say(ToServer, &[&get(7, b'7')]);
    conversation.say(ToClient, &[&ok(5)]);
    // The response to 1 had begun; 3 may have been answered; 7 came later, and was not.
    assert_eq!(conversation.close(), "GET /5 200, GET /1 200, GET /7 ? connection_closed");
    assert_eq!(conversation.driver.parser().dropped(), 1);
}

#[test]
fn a_response_that_began_is_told_when_it_stays_silent_after_a_gap() {
    let mut conversation = Conversation::begun(Role::Server);
    conversation.say(ToServer, &[&get(1, b'1')]);
    conversation.say(ToClient, &[&frame(HEADERS, END_HEADERS, 1, &[0x88])]);
    conversation.lose(ToClient, 500);
    conversation.now += 2_000_000_000;
    conversation.say(ToServer, &[&get(3, b'3')]);
    assert_eq!(conversation.told(), "GET /1 200");
}

#[test]
fn streams_are_bounded() {
    let mut conversation = Conversation::begun(Role::Server);
    let count = u32::try_from(limits::STREAMS_MAX).expect("small") + 10;
    for nth in 0..count {
        conversation.say(ToServer, &[&get(2 * nth + 1, b'x')]);
    }
    assert_eq!(conversation.driver.parser().in_flight(), limits::STREAMS_MAX);
    for nth in 0..count {
        conversation.say(ToClient, &[&ok(2 * nth + 1)]);
    }
    assert_eq!(conversation.driver.exchanges.len(), limits::STREAMS_MAX);
    assert_eq!(conversation.driver.parser().dropped(), 10);
    assert_eq!(conversation.driver.parser().in_flight(), 0);
}

#[test]
fn a_server_that_speaks_something_else_gives_the_connection_back() {
    let mut conversation = Conversation::new(Role::Client, true);
    conversation.say(ToServer, &[&PREFACE[..]]);
    conversation.say(ToClient, &[b"HTTP/1.1 400 Bad Request\r\n\r\n"]);
    assert!(conversation.driver.parser().lost());
}

#[test]
fn a_call_that_is_known_only_by_its_response_is_a_call() {
    let mut conversation = Conversation::new(Role::Server, false);
    let request = [&[0x83, 0x86, 0x04, 0x04][..], b"/a/b", &[0xbe]].concat();
    conversation.say(ToServer, &[&frame(HEADERS, BOTH, 9, &request)]);
    let status = [&[0x88, 0x00, 0x0b][..], b"grpc-status", &[1, b'5']].concat();
    conversation.say(ToClient, &[&frame(HEADERS, BOTH, 9, &status)]);
    let exchange = &conversation.driver.exchanges[0];
    assert_eq!(exchange.operation, "a/b");
    assert_eq!(exchange.attributes.get(key::RPC_RESPONSE_STATUS_CODE), Some(&Value::Static("NOT_FOUND")));
    assert_eq!(exchange.attributes.get(key::HTTP_REQUEST_METHOD), None);
}
