//! Calls of which only the beginning was copied.

use super::*;

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
