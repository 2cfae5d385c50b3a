//! Situations of HTTP/1 that recorded traffic does not show, and message boundaries by the llhttp corpus.

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

#[test]
fn a_response_seen_before_its_request_is_held() {
    let mut driver = driver(true);
    driver.feed(ToClient, BootNanos(20), BootNanos(21), OK);
    assert_eq!(driver.exchanges.len(), 0);
    driver.feed(ToServer, BootNanos(10), BootNanos(10), &get(1));
    assert_eq!(pairs(&driver.exchanges), "/1 200");
    assert_eq!(driver.exchanges[0].response_start, Some(BootNanos(20)));
}

#[test]
fn a_response_that_nobody_asked_for_is_dropped() {
    let mut driver = driver(true);
    driver.feed(ToClient, BootNanos(5), BootNanos(5), b"HTTP/1.1 408 x\r\nContent-Length: 2\r\n\r\nok");
    driver.feed(ToServer, BootNanos(10), BootNanos(10), &get(1));
    driver.feed(ToClient, BootNanos(20), BootNanos(20), OK);
    assert_eq!(pairs(&driver.exchanges), "/1 200");
}

#[test]
fn a_held_response_is_bounded() {
    let mut driver = driver(true);
    let big = [b"HTTP/1.1 200 x\r\nContent-Length: 200000\r\n\r\n".as_slice(), &[b'x'; 70_000]].concat();
    driver.feed(ToClient, BootNanos(5), BootNanos(5), &big);
    driver.feed(ToServer, BootNanos(1), BootNanos(1), &get(1));
    driver.feed(ToServer, BootNanos(10), BootNanos(10), &get(2));
    driver.feed(ToClient, BootNanos(20), BootNanos(20), OK);
    assert!(!pairs(&driver.exchanges).contains("/1"), "its response was given up");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let requests: Vec<u8> = (0..200).flat_map(get).collect();
    let responses: Vec<u8> = (0..200).flat_map(|id| answer(400 + id)).collect();
    let mut driver = driver(true);
    driver.feed(ToServer, BootNanos(1), BootNanos(1), &requests);
    driver.feed(ToClient, BootNanos(2), BootNanos(2), &responses);
    let expected: Vec<_> = (0..200).map(|id| format!("/{id} {}", 400 + id)).collect();
    assert_eq!(
        pairs(&driver.exchanges).replace(" -", ""),
        expected.join(", "),
        "also above the cap of in-flight ones"
    );
}

#[test]
fn after_a_gap_a_pipelining_connection_pairs_nothing_until_it_was_silent() {
    let mut driver = driver(true);
    let mut time = 0;
    let mut at = || {
        time += 10;
        BootNanos(time)
    };
    for id in [1, 2] {
        let now = at();
        driver.feed(ToServer, now, now, &get(id));
    }
    for status in [201, 202] {
        let now = at();
        driver.feed(ToClient, now, now, &answer(status));
    }
    let now = at();
    driver.gap(ToServer, now, now, get(3).len() as u64);
    for (id, status) in [(4, 203), (5, 206), (6, 207)] {
        let now = at();
        driver.feed(ToServer, now, now, &get(id));
        let now = at();
        driver.feed(ToClient, now, now, &answer(status));
    }
    assert_eq!(pairs(&driver.exchanges), "/1 201, /2 202");
    assert!(driver.parser().dropped() >= 3, "and says so");
    driver.exchanges.clear();
    // The answer to request 6 comes; then it is silent, and pipelines again.
    let now = at();
    driver.feed(ToClient, now, now, &answer(208));
    for round in 1..4 {
        call(&mut driver, ToServer, round * 10_000_000, &[get(10), get(11), get(12)].concat());
        call(&mut driver, ToClient, round * 10_000_000 + 10, &[answer(210), answer(211)].concat());
        call(&mut driver, ToClient, round * 10_000_000 + 20, &answer(212));
    }
    assert_eq!(pairs(&driver.exchanges), ["/10 210, /11 211, /12 212"; 3].join(", "));
}

#[test]
fn a_pipelining_client_that_is_joined_late_is_paired_from_its_first_pause_on() {
    const MS: u64 = 1_000_000;
    let batch = |first: usize| (first..first + 3).flat_map(get).collect::<Vec<u8>>();
    for (joined_inside, role) in
        [(false, Role::Client), (true, Role::Client), (false, Role::Server), (true, Role::Server)]
    {
        let late = OpenContext { role, from_start: false, answered: joined_inside, tls: false };
        let mut driver = Driver::new(&Http1, late);
        let mut now = 0;
        for round in 0..4 {
            now += 20 * MS;
            if round > 0 || !joined_inside {
                call(&mut driver, ToServer, now, &batch(round * 10));
            }
            // The slowest answer comes last, and takes as long as those before it together.
            for (id, wait) in [(0, MS), (1, MS), (2, 2 * MS)] {
                now += wait;
                call(&mut driver, ToClient, now, &answer(200 + round * 10 + id));
            }
        }
        assert!(
            driver.exchanges.len() >= if joined_inside { 6 } else { 9 },
            "{role:?}, {joined_inside}: {}",
            pairs(&driver.exchanges)
        );
        for exchange in &driver.exchanges {
            let url = [key::URL_PATH, key::URL_FULL].into_iter().find_map(|key| exchange.attributes.get(key));
            let Some(Value::Text(url)) = url else { panic!("{role:?}: neither path nor URL") };
            let id: i64 = url.rsplit('/').next().and_then(|id| id.parse().ok()).expect("our own id");
            let status = exchange.attributes.get(key::HTTP_RESPONSE_STATUS_CODE);
            assert_eq!(status, Some(&Value::Int(200 + id)), "{role:?}, {joined_inside}: {url}");
        }
    }
}

#[test]
fn a_request_behind_unknown_bytes_waits_for_a_turn() {
    let mut driver = driver(true);
    driver.gap(ToServer, BootNanos(10), BootNanos(10), 100);
    driver.feed(ToServer, BootNanos(20), BootNanos(20), &get(2));
    driver.feed(ToClient, BootNanos(30), BootNanos(30), &answer(201));
    driver.feed(ToClient, BootNanos(40), BootNanos(40), &answer(202));
    driver.feed(ToServer, BootNanos(50), BootNanos(50), &get(3));
    driver.feed(ToClient, BootNanos(60), BootNanos(60), &answer(203));
    assert_eq!(pairs(&driver.exchanges), "/3 203");
}

#[test]
fn heads_longer_than_what_is_copied_still_pair() {
    for name in ["curl_nginx", "node_node"] {
        let path = format!("{}/src/http1/fixtures/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let fixture = Fixture::parse(name, &std::fs::read_to_string(path).expect("a fixture"));
        let whole = pairs(&run(&Http1, &fixture));
        for limit in [64, 100, 150, 200, 1000] {
            for from_start in [true, false] {
                let found = run_copying(&Http1, &fixture, limit, from_start);
                assert_eq!(pairs(&found), whole, "{name}: {limit} bytes of each call");
            }
        }
    }
}

/// One call of which at most 4 KiB are copied; `at` is its time.
fn call(driver: &mut Driver, direction: Direction, at: u64, bytes: &[u8]) {
    let (copied, rest) = bytes.split_at(bytes.len().min(4096));
    driver.feed_cut(direction, BootNanos(at), BootNanos(at), copied, rest.len() as u64);
}

/// A head longer than what is copied of a call.
fn long(start: &str) -> Vec<u8> {
    let big = "x".repeat(3_000);
    format!("{start}\r\nHost: a\r\nX-Big: {big}\r\nX-Big2: {big}\r\n\r\n").into_bytes()
}

fn long_get(id: u64) -> Vec<u8> {
    long(&format!("GET /{id} HTTP/1.1"))
}

#[test]
fn of_cut_bytes_only_a_response_without_its_request_is_held() {
    let mut parser =
        Http1.open(OpenContext { role: Role::Server, from_start: true, answered: false, tls: false });
    let mut present = |direction, bytes: &[u8]| {
        let (first_at, last_at) = (BootNanos(1), BootNanos(1));
        let taken =
            parser.on_segment(Segment { direction, first_at, last_at, bytes, cut: true }, &mut Vec::new());
        if taken > 0 {
            parser.on_gap(Gap { direction, first_at, last_at, missing: 9 }, &mut Vec::new());
        }
        taken
    };
    assert_eq!(present(ToClient, b"HTTP/1.1 200 OK\r\nServ"), 0);
    assert_eq!(present(ToServer, b"GET /1 HTTP/1.1\r\nHo"), 19);
    assert_eq!(present(ToClient, b"HTTP/1.1 200 OK\r\nServ"), 21);
    assert_eq!(present(ToServer, b"GE"), 2);
    assert_eq!(present(ToClient, b"HT"), 2);
}

#[test]
fn a_chunk_line_that_is_cut_ends_only_what_is_known_of_its_body() {
    let mut driver = driver(true);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f";
    call(&mut driver, ToServer, 1, &get(1));
    driver.feed_cut(ToClient, BootNanos(2), BootNanos(2), head, 40);
    call(&mut driver, ToServer, 3, &get(2));
    call(&mut driver, ToClient, 4, OK);
    assert_eq!(pairs(&driver.exchanges), "/1 200, /2 200");
    assert_eq!(driver.exchanges[0].response_bytes, head.len() as u64 + 40);
}

#[test]
fn a_body_behind_a_cut_head_is_no_request() {
    for (body, expected) in [
        (&b"{\"a\": 1}"[..], "/1 200, /2 200"),
        // It could be the start of a method.
        (b"END", "/1 200, /2 200"),
        // It could be a second request: the connection may be pipelined.
        (&get(9), "/1 200"),
    ] {
        let mut driver = driver(true);
        call(&mut driver, ToServer, 1, &long("POST /1 HTTP/1.1"));
        call(&mut driver, ToServer, 2, body);
        call(&mut driver, ToClient, 3, OK);
        call(&mut driver, ToServer, 4, &long_get(2));
        call(&mut driver, ToClient, 5, OK);
        assert_eq!(pairs(&driver.exchanges), expected, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn what_is_not_copied_of_an_open_request_counts() {
    let mut driver = driver(true);
    let (head, body) = (long("POST /1 HTTP/1.1"), vec![b'x'; 9_000]);
    for (from, to, bytes) in [(1, 3, &head), (4, 6, &body)] {
        let missing = bytes.len() as u64 - 4096;
        driver.feed_cut(ToServer, BootNanos(from), BootNanos(to), &bytes[..4096], missing);
    }
    call(&mut driver, ToClient, 7, OK);
    assert_eq!(pairs(&driver.exchanges), "/1 200");
    assert_eq!(driver.exchanges[0].request_bytes, (head.len() + body.len()) as u64);
    assert_eq!(driver.exchanges[0].request_end, BootNanos(6));
}

#[test]
fn of_a_target_that_is_cut_the_beginning_is_told_and_said_to_be_one() {
    let target = format!("GET /{} HTTP/1.1", "y".repeat(5_000));
    for from_start in [true, false] {
        let mut driver = driver(from_start);
        for turn in 0..3 {
            call(&mut driver, ToServer, 10 * turn + 1, &long(&target));
            call(&mut driver, ToClient, 10 * turn + 2, OK);
        }
        call(&mut driver, ToServer, 41, &long("GET /a?key=y HTTP/1.1"));
        call(&mut driver, ToClient, 42, OK);
        let path = format!("/{}", "y".repeat(limits::PATH_BYTES_MAX - 1));
        let cut = |exchange: &Exchange| exchange.attributes.get(key::SPANTAP_URL_TRUNCATED).cloned();
        assert_eq!(pairs(&driver.exchanges), format!("{path} 200, {path} 200, {path} 200, /a 200"));
        assert!(driver.exchanges[..3].iter().all(|exchange| cut(exchange) == Some(Value::Static("path"))));
        assert_eq!(cut(&driver.exchanges[3]), None);
        assert_eq!(driver.parser().cut_heads(), 4);
    }
}

#[test]
fn a_short_prefix_of_a_target_tells_no_secret_and_no_half_of_anything() {
    for (line, path, cut) in [
        ("GET /a/%4", "/a/", "path"),
        ("GET /a/b", "/a/b", "path"),
        ("GET /a?x=1&sig=hid", "/a", "query"),
        ("GET http://user:hidden@shop.examp", "-", "path"),
        ("GET http://user:hidden@shop.example/b", "/b", "path"),
        ("GET http://shop.example?sig=hid", "/", "query"),
        ("CONNECT shop.example:44", "-", "path"),
    ] {
        let mut driver = driver(true);
        driver.feed_cut(ToServer, BootNanos(1), BootNanos(1), line.as_bytes(), 900);
        call(&mut driver, ToClient, 2, b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(pairs(&driver.exchanges), format!("{path} 404"), "{line}");
        let found = &driver.exchanges[0];
        assert_eq!(found.attributes.get(key::SPANTAP_URL_TRUNCATED), Some(&Value::Static(cut)), "{line}");
        assert!(!render(&driver.exchanges).contains("hid"), "{line}");
    }
}

#[test]
fn a_response_whose_head_is_cut_counts_and_ends_with_the_next_turn() {
    let mut driver = driver(true);
    let cookies =
        format!("HTTP/1.1 200 OK\r\nSet-Cookie: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(6_000));
    for turn in 0..3 {
        call(&mut driver, ToServer, 10 * turn + 1, &get(turn as usize));
        call(&mut driver, ToClient, 10 * turn + 2, cookies.as_bytes());
    }
    driver.close(BootNanos(40));
    assert_eq!(pairs(&driver.exchanges), "/0 200, /1 200, /2 200");
    assert!(driver.exchanges.iter().all(|exchange| exchange.response_bytes == cookies.len() as u64));
    assert_eq!(driver.parser().cut_heads(), 3);
}

#[test]
fn a_request_left_out_while_another_waits_is_pipelining() {
    let mut driver = driver(true);
    // What follows the cut head in the same call may be a second request.
    call(&mut driver, ToServer, 1, &long_get(1));
    call(&mut driver, ToServer, 2, &long_get(3));
    call(&mut driver, ToClient, 3, &answer(201));
    call(&mut driver, ToServer, 4, &long_get(4));
    call(&mut driver, ToClient, 5, &answer(202));
    call(&mut driver, ToServer, 6, &get(5));
    call(&mut driver, ToClient, 7, &answer(203));
    assert_eq!(pairs(&driver.exchanges), "/1 201", "its connection was whole until then");
    assert!(driver.parser().dropped() >= 3);
}

#[test]
fn a_turn_that_was_assumed_ends_with_pipelining_also_behind_a_cut_head() {
    let mut driver = driver(false);
    call(&mut driver, ToServer, 1, &long_get(1));
    call(&mut driver, ToClient, 2, &answer(201));
    call(&mut driver, ToServer, 3, &long_get(2));
    call(&mut driver, ToServer, 4, &long_get(3));
    call(&mut driver, ToClient, 5, &answer(202));
    call(&mut driver, ToServer, 6, &long_get(4));
    call(&mut driver, ToClient, 7, &answer(203));
    assert_eq!(pairs(&driver.exchanges), "/1 201");
}

#[test]
fn bodies_are_skipped_and_counted() {
    let mut driver = driver(true);
    let request = b"PUT /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    driver.feed(ToServer, BootNanos(1), BootNanos(1), request);
    assert_eq!(driver.parser().skippable(ToServer), 1000);
    driver.gap(ToServer, BootNanos(2), BootNanos(3), 1000);
    assert_eq!(driver.parser().skippable(ToServer), 0);
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n";
    driver.feed(ToClient, BootNanos(4), BootNanos(4), response);
    assert_eq!(driver.parser().skippable(ToClient), 0x1000);
    driver.gap(ToClient, BootNanos(5), BootNanos(6), 0x1000);
    driver.feed(ToClient, BootNanos(7), BootNanos(7), b"\r\n0\r\n\r\n");
    let found = &driver.exchanges[0];
    assert_eq!(pairs(&driver.exchanges), "/1 200");
    assert_eq!(found.request_bytes, request.len() as u64 + 1000);
    assert_eq!(found.response_bytes, response.len() as u64 + 0x1000 + 7);
    assert_eq!(
        (found.request_end, found.response_start, found.end),
        (BootNanos(3), Some(BootNanos(4)), BootNanos(7))
    );
}

#[test]
fn lengths_that_contradict_each_other_last_until_the_next_turn() {
    let conflict = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 2\r\n\r\nhello";
    let same = b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello";
    let both = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for response in [conflict.as_slice(), same, both] {
        let found =
            exchanges(&[(ToServer, &get(1)), (ToClient, response), (ToServer, &get(2)), (ToClient, OK)]);
        assert_eq!(pairs(&found), "/1 200, /2 200");
        assert_eq!(found[0].response_bytes, response.len() as u64);
    }
}

#[test]
fn odd_heads_are_read_leniently() {
    let odd = b"\r\n\nGET /1?q=\xff HTTP/1.1\nHost : a.example\nX-Fold: a\n b: c\nUser-Agent: \xe9\n\n";
    let many = ["X: y\r\n"; 200].concat();
    let many = format!("GET /2 HTTP/1.0\r\n{many}Host: b.example\r\n\r\n");
    let found = exchanges(&[
        (ToServer, odd),
        (ToClient, OK),
        (ToServer, many.as_bytes()),
        (ToClient, b"HTTP/1.1 200\r\n\r\n"),
    ]);
    let text = render(&found);
    for part in ["a.example", "b.example", "q=%FF", "\u{fffd}", "\"1.0\""] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_client_joined_while_it_keeps_several_in_flight_is_never_paired_off_by_one() {
    const MS: u64 = 1_000_000;
    for (depth, answered) in [(1, false), (2, false), (3, false), (1, true), (2, true)] {
        let late = OpenContext { role: Role::Client, from_start: false, answered, tls: false };
        let mut driver = Driver::new(&Http1, late);
        let mut now = 0;
        if answered {
            // What was seen first was the middle of a response, which begins no message.
            call(&mut driver, ToServer, now, &get(depth - 1));
        }
        // `depth` requests are in flight when it is joined; each response is followed by a request 50 us later.
        for turn in 0..20 {
            now += MS;
            call(&mut driver, ToClient, now, &answer(200 + turn));
            now += MS / 20;
            call(&mut driver, ToServer, now, &get(turn + depth));
        }
        assert_eq!(pairs(&driver.exchanges), "", "{depth} in flight: nothing tells how many");
        assert!(driver.parser().dropped() >= 20, "and it is said");
        for turn in 20..20 + depth {
            now += MS;
            call(&mut driver, ToClient, now, &answer(200 + turn));
        }
        // Now it has been silent for long.
        for turn in 50..53 {
            now += 5 * MS;
            call(&mut driver, ToServer, now, &get(turn));
            now += MS;
            call(&mut driver, ToClient, now, &answer(200 + turn));
        }
        assert_eq!(pairs(&driver.exchanges), "- 250, - 251, - 252", "{depth} in flight");
        for (exchange, id) in driver.exchanges.iter().zip(50..) {
            let url = format!("http://a/{id}");
            assert_eq!(exchange.attributes.get(key::URL_FULL), Some(&Value::Text(url.into())));
        }
    }
}

#[test]
fn a_response_that_no_request_waits_for_ends_assumed_turns() {
    let mut driver = driver(false);
    call(&mut driver, ToServer, 1, &get(1));
    call(&mut driver, ToClient, 2, &answer(201));
    call(&mut driver, ToClient, 3, &answer(202));
    call(&mut driver, ToServer, 4, &get(3));
    call(&mut driver, ToClient, 5, &answer(203));
    assert_eq!(pairs(&driver.exchanges), "/1 201", "a request had been in flight when we came");
}

#[test]
fn after_a_refused_expectation_the_next_bytes_tell_whether_the_body_comes() {
    for (body, sent) in [
        ("Content-Length: 12", &b"hello, world"[..]),
        // It could be the beginning of a method.
        ("Content-Length: 5", b"HELLO"),
        ("Transfer-Encoding: chunked", b"c\r\nhello, world\r\n0\r\n\r\n"),
    ] {
        let asks = |path: &str| {
            format!("PUT {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n{body}\r\n\r\n").into_bytes()
        };
        let refused: &[u8] = b"HTTP/1.1 417 x\r\nContent-Length: 2\r\n\r\nno";
        let go_on: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        let first = asks("/1");
        let (second, third) = (get(2), asks("/3"));
        for second in [&second[..], b"PROPFIND /2 HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let calls = [(ToServer, &first[..]), (ToClient, refused), (ToServer, second), (ToClient, OK)];
            assert_eq!(pairs(&exchanges(&calls)), "/1 417, /2 200", "{body}");
        }
        let sent_all_the_same = exchanges(&[
            (ToServer, &first),
            (ToClient, refused),
            (ToServer, sent),
            (ToServer, &second),
            (ToClient, OK),
        ]);
        assert_eq!(pairs(&sent_all_the_same), "/1 417, /2 200", "{body}");
        let welcome = exchanges(&[
            (ToServer, &first),
            (ToClient, go_on),
            (ToServer, sent),
            (ToClient, OK),
            (ToServer, &third),
            (ToServer, sent),
            (ToClient, OK),
            (ToServer, &second),
            (ToClient, OK),
        ]);
        assert_eq!(pairs(&welcome), "/1 200, /3 200, /2 200", "{body}");
        assert_eq!(welcome[0].request_bytes, (first.len() + sent.len()) as u64);
        assert_eq!(welcome[1].request_bytes, (third.len() + sent.len()) as u64, "it did not wait");
    }
}

#[test]
fn requests_that_the_grammar_forbids_are_told_with_what_the_server_answered() {
    let refused: &[u8] = b"HTTP/1.1 400 x\r\nContent-Length: 2\r\n\r\nno";
    for (line, method, path) in [
        (&b"GET /a b c HTTP/1.1"[..], "GET", "/a%20b%20c"),
        (b"GET /a\x01\x1b[2Jb\x7f HTTP/1.1", "GET", "/a%01%1B[2Jb%7F"),
        (b"get /a HTTP/1.1", "get", "/a"),
        (b"fro\x62nicate /a HTTP/1.0", "frobnicate", "/a"),
        (b"GET /a HTTP/3.7", "GET", "-"),
        (b"GET a HTTP/1.1", "GET", "-"),
        (b"G\x1bT /a HTTP/1.1", "-", "-"),
        (b"\x16\x03\x01 \x00", "-", "-"),
    ] {
        let odd = [line, b"\r\nHost: h\x1b[2J\r\nUser-Agent: a\x1bb\xc2\x9b\r\n\r\n"].concat();
        for role in [Role::Server, Role::Client] {
            let calls = [(ToServer, &get(1)[..]), (ToClient, OK), (ToServer, &odd), (ToClient, refused)];
            let fixture = Fixture::of("odd", role, &calls);
            check_splits(&Http1, &fixture);
            let found = run(&Http1, &fixture);
            assert_eq!(found.len(), 2, "{}", line.escape_ascii());
            let get = |name| found[1].attributes.get(name).and_then(Value::as_str).unwrap_or("-");
            let told = match get(key::HTTP_REQUEST_METHOD) {
                "_OTHER" => get(key::HTTP_REQUEST_METHOD_ORIGINAL),
                known => known,
            };
            assert_eq!(told, method, "{}", line.escape_ascii());
            assert_eq!(found[1].attributes.get(key::HTTP_RESPONSE_STATUS_CODE), Some(&Value::Int(400)));
            if role == Role::Server {
                assert_eq!(get(key::URL_PATH), path, "{}", line.escape_ascii());
            }
            let texts = found[1].attributes.iter().filter_map(|(_, value)| value.as_str());
            assert_eq!(texts.filter(|text| text.contains(char::is_control)).count(), 0);
        }
    }
}

#[test]
fn what_cannot_be_read_and_is_not_refused_is_no_request() {
    for answer in [Some(OK), None] {
        let mut driver = driver(true);
        call(&mut driver, ToServer, 1, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
        call(&mut driver, ToClient, 2, OK);
        call(&mut driver, ToServer, 3, b"\x01\x02 not a request\r\n\r\n");
        if let Some(answer) = answer {
            call(&mut driver, ToClient, 4, answer);
        }
        // It does not cost the requests after it their turn.
        for turn in 2..5 {
            call(&mut driver, ToServer, 10 * turn, &get(turn as usize));
            call(&mut driver, ToClient, 10 * turn + 1, OK);
        }
        driver.close(BootNanos(100));
        let expected =
            if answer.is_some() { "/1 200, /2 200, /3 200, /4 200" } else { "/1 200, /3 200, /4 200" };
        assert_eq!(pairs(&driver.exchanges), expected);
        assert!(driver.parser().dropped() > 0);
    }
}

#[test]
fn odd_request_lines_are_recognised_by_their_end() {
    for odd in [&b"GET /a b HTTP/1.1\r\n"[..], b"get / HTTP/1.0\n", b"PUT /\x01 HTTP/1.1\r\n"] {
        assert_eq!(Http1.sniff(odd, None), Sniff::Match(ToServer), "{}", odd.escape_ascii());
        for length in 0..odd.len() {
            let reject = matches!(Http1.sniff(&odd[..length], None), Sniff::Reject | Sniff::Match(ToClient));
            assert!(!reject, "{}", odd[..length].escape_ascii());
        }
    }
    for foreign in
        [&b"GET /a b\r\n"[..], b"get a HTTP/1.1\r\n", b"g\x01t / HTTP/1.1\r\n", b"GET /a b HTTP/2.0\r\n"]
    {
        assert_eq!(Http1.sniff(foreign, None), Sniff::Reject, "{}", foreign.escape_ascii());
    }
}

#[test]
fn a_head_over_the_cap_is_given_up_and_the_next_turn_found() {
    let long = format!("GET /1 HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(limits::HEAD_BYTES_MAX));
    let mut driver = driver(true);
    driver.feed(ToServer, BootNanos(1), BootNanos(1), long.as_bytes());
    driver.feed(ToClient, BootNanos(2), BootNanos(2), OK);
    driver.feed(ToServer, BootNanos(3), BootNanos(3), &get(2));
    driver.feed(ToClient, BootNanos(4), BootNanos(4), OK);
    assert_eq!(pairs(&driver.exchanges), "/2 200");
}

#[test]
fn what_is_not_http_any_more_goes_back_to_detection() {
    let mut driver = driver(true);
    for turn in 0..20 {
        let (asked, answered) = (BootNanos(10 * turn), BootNanos(10 * turn + 5));
        driver.feed(ToServer, asked, asked, b"\x00\x01\x02 something else");
        driver.feed(ToClient, answered, answered, b"\x03\x04 its answer");
    }
    assert!(driver.parser().lost());
}

#[test]
fn an_idle_parser_is_small() {
    assert!(size_of::<Http1Parser>() <= 512, "{} bytes", size_of::<Http1Parser>());
}

/// Where the boundaries differ from llhttp's, and why.
const LLHTTP_DEVIATIONS: &[(&str, &str)] = &[
    (
        "request/content-length: Content-Length reset when no body is received",
        "its caller says that there is no body",
    ),
    (
        "request/content-length: Missing CRLF-CRLF before body (lenient)",
        "a lone CR ends no line here, not even leniently",
    ),
    ("request/invalid: Headers separated by dummy characters (lenient)", "the same"),
    ("request/invalid: Only LFs present (lenient)", "a chunk's size line must end in CRLF"),
    ("request/lenient-version: Invalid HTTP version (lenient)", "a version other than 1.0 and 1.1"),
    ("request/method: SOURCE request with ICE", "another protocol"),
    ("request/method: OPTIONS request with RTSP", "another protocol"),
    ("request/method: ANNOUNCE request with RTSP", "another protocol"),
    ("request/sample: No HTTP version", "HTTP/0.9 is not read: any line of two words would be it"),
    ("request/transfer-encoding: Chunk header not terminated by CRLF (lenient)", "a lone CR ends no line"),
    (
        "response/connection: HTTP 101 response with Upgrade and Content-Length header",
        "after a 101 to h2c the answer is HTTP/2's, and so is the exchange",
    ),
    ("response/connection: HTTP 101 response with Upgrade and Transfer-Encoding header", "likewise"),
];

/// Compares the lengths of the messages that llhttp completes with ours: requests from their failing at the end of the
/// connection, responses from being paired with as many requests.
#[test]
fn message_boundaries_agree_with_llhttp() {
    let corpus = format!("{}/../../shared/corpora/llhttp", env!("CARGO_MANIFEST_DIR"));
    let corpus = std::env::var("SPANTAP_CORPORA").map_or(corpus, |folder| format!("{folder}/llhttp"));
    if !std::path::Path::new(&corpus).is_dir() {
        println!("skipped: corpus llhttp absent");
        return;
    }
    let (mut compared, mut deviations) = (0, Vec::new());
    for kind in ["request", "response"] {
        let mut files: Vec<_> = std::fs::read_dir(format!("{corpus}/{kind}"))
            .expect("a folder")
            .map(|entry| entry.expect("entry").path())
            .collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file).expect("text");
            let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
            for case in llhttp_cases(&text) {
                let found = llhttp_found(kind, &case);
                compared += case.lengths.len();
                if !found.starts_with(&case.lengths) {
                    deviations.push((
                        format!("{kind}/{name}: {}", case.title),
                        format!("{:?} not {:?}", found, case.lengths),
                    ));
                }
            }
        }
    }
    println!("{compared} messages of llhttp compared, {} deviations", deviations.len());
    let names: Vec<&str> = deviations.iter().map(|(name, _)| name.as_str()).collect();
    let known: Vec<&str> = LLHTTP_DEVIATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known, "{deviations:#?}");
}

struct LlhttpCase {
    title: String,
    input: Vec<u8>,
    /// Of each complete message, interim responses left out.
    lengths: Vec<u64>,
    head_only: bool,
}

fn llhttp_cases(text: &str) -> Vec<LlhttpCase> {
    let mut cases = Vec::new();
    let mut title = "";
    for section in text.split("\n#") {
        title = section.lines().next().map_or(title, |line| line.trim_matches(['#', ' ']));
        let block = |start: &str| {
            section.split_once(start).and_then(|(_, rest)| rest.split_once("\n```")).map(|(block, _)| block)
        };
        let (Some(input), Some(log)) = (block("```http\n"), block("```log\n")) else { continue };
        cases.push(LlhttpCase {
            title: title.to_owned(),
            input: llhttp_input(input),
            lengths: llhttp_lengths(log),
            head_only: section.contains("skipBody"),
        });
    }
    cases
}

/// Line ends of the block are CRLF, escaped ones are none; then the escapes.
fn llhttp_input(block: &str) -> Vec<u8> {
    let text = block.replace("\\\n", "").replace('\n', "\r\n");
    let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t").replace("\\f", "\x0c");
    let mut parts = text.split("\\x");
    let mut input = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        // As the corpus's own runner does: a character, written as UTF-8.
        input.push(char::from(u8::from_str_radix(digits, 16).expect("hex")));
        input.push_str(rest);
    }
    input.into_bytes()
}

fn llhttp_lengths(log: &str) -> Vec<u64> {
    let (mut lengths, mut begin, mut interim) = (Vec::new(), 0, false);
    for line in log.lines() {
        let Some((offset, event)) = line.strip_prefix("off=").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let Ok(offset) = offset.parse::<u64>() else { continue };
        match event {
            "message begin" => (begin, interim) = (offset, false),
            "message complete" if !interim => lengths.push(offset - begin),
            _ if event.starts_with("error") => break,
            _ => interim |= event.starts_with("headers complete status=1") && !event.contains("status=101"),
        }
    }
    lengths
}

fn llhttp_found(kind: &str, case: &LlhttpCase) -> Vec<u64> {
    let mut driver = driver(true);
    if kind == "request" {
        driver.feed(ToServer, BootNanos(1), BootNanos(1), &case.input);
    } else {
        for id in 0..20 {
            let request = if case.head_only { b"HEAD / HTTP/1.1\r\n\r\n".to_vec() } else { get(id) };
            driver.feed(ToServer, BootNanos(1), BootNanos(1), &request);
        }
        driver.feed(ToClient, BootNanos(2), BootNanos(2), &case.input);
    }
    driver.close(BootNanos(3));
    let length = |exchange: &Exchange| {
        if kind == "request" { exchange.request_bytes } else { exchange.response_bytes }
    };
    driver.exchanges.iter().map(length).filter(|length| *length > 0).collect()
}

#[test]
fn a_body_that_may_be_kept_back_is_not_skipped() {
    let mut parser =
        Http1.open(OpenContext { role: Role::Server, from_start: true, answered: false, tls: false });
    let mut say = |direction, bytes: &[u8]| {
        let (first_at, last_at) = (BootNanos(1), BootNanos(2));
        let segment = Segment { direction, first_at, last_at, bytes, cut: false };
        assert_eq!(parser.on_segment(segment, &mut Vec::new()), bytes.len());
        parser.skippable(Direction::ToServer)
    };
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n";
    assert_eq!(say(Direction::ToServer, head), 0);
    assert_eq!(say(Direction::ToClient, b"HTTP/1.1 100 Continue\r\n\r\n"), 100_000);
}
