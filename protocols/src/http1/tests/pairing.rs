//! Which response answers which request: ahead of each other, after gaps, and on connections joined late.

use super::{OK, ToClient, ToServer, answer, call, driver, get, long_get, pairs};
use crate::{
    exchange::Value,
    http1::Http1,
    protocol::{BootNanos, OpenContext, Role},
    semconv::key,
    testing::Driver,
};

/// The end of a chunked response and the next request are lost together: another answer is not a part of it.
#[test]
fn a_response_whose_end_is_unknown_ends_before_the_next_one() {
    let mut driver = driver(true);
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n";
    call(&mut driver, ToServer, 10, &get(1));
    call(&mut driver, ToClient, 20, chunked);
    driver.gap(ToClient, BootNanos(30), BootNanos(30), 100);
    call(&mut driver, ToClient, 900, &answer(501));
    driver.gap(ToServer, BootNanos(950), BootNanos(950), 40);
    call(&mut driver, ToServer, 1000, &get(3));
    call(&mut driver, ToClient, 1010, &answer(203));
    call(&mut driver, ToServer, 1100, &get(4));
    call(&mut driver, ToClient, 1110, &answer(204));
    assert_eq!(pairs(&driver.exchanges), "/1 200, /4 204");
    assert!(driver.exchanges[0].end <= BootNanos(30));
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
        call(&mut driver, ToServer, round * 1_000_000_000, &[get(10), get(11), get(12)].concat());
        call(&mut driver, ToClient, round * 1_000_000_000 + 10, &[answer(210), answer(211)].concat());
        call(&mut driver, ToClient, round * 1_000_000_000 + 20, &answer(212));
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
            now += 300 * MS;
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
            now += 300 * MS;
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
