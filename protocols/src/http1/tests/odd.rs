//! Messages that few would send, and what is none.

use super::*;

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
