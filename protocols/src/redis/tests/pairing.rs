//! Which reply answers which command: pipelines, loss, connections joined late.

use super::*;

#[test]
fn a_deep_pipeline_is_paired_each_with_its_own_times_and_sizes() {
    let mut driver = driver(Role::Client, true);
    let count = 5000;
    for id in 0..count {
        send(&mut driver, 10 + id, &["GET", &format!("key:{id}")]);
    }
    for id in 0..count {
        answer(&mut driver, 10_000 + id, &format!("${}\r\n{id}\r\n", id.to_string().len()));
    }
    assert_eq!(driver.exchanges.len(), count as usize);
    for (id, exchange) in (0..).zip(&driver.exchanges) {
        let digits = id.to_string().len() as u64;
        assert_eq!(
            exchange.attributes.get(key::DB_QUERY_TEXT).unwrap().as_str().unwrap(),
            format!("GET key:{id}")
        );
        assert_eq!((exchange.start, exchange.end), (BootNanos(10 + id), BootNanos(10_000 + id)));
        assert_eq!(exchange.response_bytes, digits + 6);
    }
}

#[test]
fn above_the_cap_commands_are_counted_and_those_after_are_paired_right() {
    let mut driver = driver(Role::Client, true);
    let (cap, over) = (limits::REDIS_PIPELINE_MAX as u64, 1000);
    let long = "k".repeat(60);
    for _ in 0..cap + over {
        send(&mut driver, 10, &["GET", &long]);
    }
    assert_eq!(driver.parser().dropped(), over);
    for _ in 0..cap + over - 1 {
        answer(&mut driver, 20, "$-1\r\n");
    }
    send(&mut driver, 30, &["INCR", "after"]);
    answer(&mut driver, 40, "$-1\r\n");
    answer(&mut driver, 50, "-ERR value is not an integer or out of range\r\n");
    assert_eq!(driver.exchanges.len() as u64, cap + 1);
    assert_eq!(told(&driver.exchanges[cap as usize..]), "INCR ERR INCR after");
    let texts: usize = driver
        .exchanges
        .iter()
        .filter_map(|exchange| exchange.attributes.get(key::DB_QUERY_TEXT)?.as_str())
        .map(str::len)
        .sum();
    assert!(texts <= limits::REDIS_PIPELINE_TEXT_BYTES + 100, "{texts} bytes of text were held");
}

#[test]
fn a_value_of_ten_megabytes_costs_its_header() {
    let mut driver = driver(Role::Server, true);
    let head = b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$10000000\r\nxxxx";
    driver.feed_cut(ToServer, BootNanos(1), BootNanos(2), head, 4_000_000);
    assert_eq!(driver.parser().skippable(ToServer), 5_999_996);
    driver.feed_cut(ToServer, BootNanos(3), BootNanos(4), b"x", 5_999_994);
    driver.feed(ToServer, BootNanos(5), BootNanos(6), b"x\r\n");
    answer(&mut driver, 7, "+OK\r\n");
    driver.feed(ToServer, BootNanos(8), BootNanos(8), &command(&["GET", "big"]));
    driver.feed_cut(ToClient, BootNanos(9), BootNanos(9), b"$10000000\r\nx", 10_000_001);
    assert_eq!(told(&driver.exchanges), "SET - SET big ?, GET - GET big");
    assert_eq!(driver.exchanges[0].request_bytes, head.len() as u64 - 4 + 10_000_002);
    assert_eq!(driver.exchanges[0].request_end, BootNanos(6));
    assert_eq!(driver.exchanges[1].response_bytes, 11 + 10_000_002);
}

#[test]
fn a_list_longer_than_what_is_copied_lasts_until_the_next_command() {
    for role in [Role::Server, Role::Client] {
        let mut driver = driver(role, true);
        for turn in 0..20 {
            let at = 10 * turn;
            send(&mut driver, at, &["GET", "k"]);
            answer(&mut driver, at + 1, "$1\r\nv\r\n");
            send(&mut driver, at + 2, &["LRANGE", "l", "0", "-1"]);
            driver.feed_cut(ToClient, BootNanos(at + 3), BootNanos(at + 3), b"*1000\r\n$1\r\nv\r\n$1", 6_000);
            driver.feed(ToClient, BootNanos(at + 4), BootNanos(at + 4), b"$1\r\nv\r\n");
        }
        driver.close(BootNanos(1000));
        assert_eq!(driver.exchanges.len(), 40, "{role:?}");
        let known =
            |exchange: &Exchange| exchange.attributes.get(key::DB_NAMESPACE) == Some(&Value::Static("0"));
        assert!(driver.exchanges.iter().all(known), "no command was lost");
        let lists = driver.exchanges.iter().filter(|exchange| exchange.operation == "LRANGE");
        for list in lists {
            assert_eq!(list.response_bytes, 16 + 6_000 + 7);
            assert_eq!(list.end.since(list.start), 2);
            assert_eq!(list.outcome, Outcome::Unset);
        }
    }
}

/// Two threads share a connection: a command is always in flight that began before the one that is answered.
fn shared_by_two(driver: &mut Driver, from: u64, rounds: u64) {
    for round in from..from + rounds {
        let at = 100_000 * round;
        send(driver, at, &["GET", &format!("key:{}", round + 1)]);
        answer(driver, at + 50_000, &format!("${}\r\n{round}\r\n", round.to_string().len()));
    }
}

#[test]
fn a_client_that_always_has_one_more_in_flight_is_never_paired_by_guess() {
    let mut late = driver(Role::Client, false);
    shared_by_two(&mut late, 10, 1000);
    assert_eq!(told(&late.exchanges), "", "joined late");
    assert!(late.parser().dropped() >= 1000);
    // Then it is silent for long, with nothing in flight.
    answer(&mut late, 200_000_000, "$4\r\n1010\r\n");
    send(&mut late, 300_000_000, &["GET", "a"]);
    answer(&mut late, 300_000_010, "$1\r\na\r\n");
    send(&mut late, 300_000_020, &["GET", "b"]);
    assert_eq!(told(&late.exchanges), "GET - GET a");

    let mut driver = driver(Role::Client, true);
    for turn in 0..100 {
        send(&mut driver, 10 * turn, &["PING"]);
        answer(&mut driver, 10 * turn + 5, "+PONG\r\n");
    }
    send(&mut driver, 999_000, &["GET", "key:10"]);
    shared_by_two(&mut driver, 10, 10);
    driver.gap(ToClient, BootNanos(2_000_000), BootNanos(2_000_000), 7);
    let before = driver.exchanges.len();
    shared_by_two(&mut driver, 21, 1000);
    assert_eq!(driver.exchanges.len(), before, "it does not take turns");
}

#[test]
fn a_tls_session_that_begins_with_a_request_is_new() {
    let context = OpenContext { role: Role::Client, from_start: false, answered: false, tls: true };
    let mut driver = Driver::new(&Redis, context);
    send(&mut driver, 10, &["GET", "a"]);
    answer(&mut driver, 20, "$1\r\na\r\n");
    assert_eq!(told(&driver.exchanges), "GET - GET a");
    assert_eq!(driver.exchanges[0].attributes.get(key::DB_NAMESPACE), None, "which nobody knows");
}

/// Joined late it is not known whether an array is a message of a subscription; an empty one is none.
#[test]
fn an_empty_array_is_not_waited_for() {
    for empty in ["*0\r\n", "*-1\r\n"] {
        let mut driver = driver(Role::Server, false);
        for turn in 0..3 {
            send(&mut driver, 100 * turn, &["BLPOP", "queue", "1"]);
            answer(&mut driver, 100 * turn + 40, empty);
        }
        let times: Vec<_> = driver.exchanges.iter().map(|told| (told.start.0, told.end.0)).collect();
        assert_eq!(times, [(0, 40), (100, 140), (200, 240)], "{empty:?}");
    }
}

#[test]
fn a_client_that_was_seen_to_take_turns_is_paired_again_after_loss() {
    let mut driver = driver(Role::Client, true);
    for turn in 0..100 {
        send(&mut driver, 10 * turn, &["GET", &format!("key:{turn}")]);
        if turn == 50 {
            driver.gap(ToClient, BootNanos(10 * turn + 5), BootNanos(10 * turn + 5), 7);
        } else {
            answer(&mut driver, 10 * turn + 5, "$1\r\na\r\n");
        }
    }
    assert_eq!(driver.exchanges.len() as u64 + driver.parser().dropped(), 100);
    assert!(driver.exchanges.len() >= 98);
}

#[test]
fn a_batch_longer_than_what_is_copied_gives_what_was_seen_of_it() {
    let batch: Vec<u8> = (0..64).flat_map(|_| command(&["SET", "key", &"v".repeat(200)])).collect();
    let mut driver = driver(Role::Server, true);
    for turn in 0..10 {
        let at = 10 * turn;
        driver.feed_cut(ToServer, BootNanos(at), BootNanos(at), &batch[..4096], batch.len() as u64 - 4096);
        answer(&mut driver, at + 5, &"+OK\r\n".repeat(64));
    }
    // 4096 bytes are 17 commands and the beginning of one more.
    assert_eq!(driver.exchanges.len(), 180);
    assert!(driver.exchanges.iter().all(|exchange| exchange.response_bytes == 5));
}

#[test]
fn a_reply_more_than_was_asked_for_undoes_the_turn() {
    let mut driver = driver(Role::Server, false);
    send(&mut driver, 10, &["GET", "a"]);
    // A blocking command that was sent before we came is answered first.
    answer(&mut driver, 20, "*2\r\n$1\r\nq\r\n$1\r\nx\r\n$1\r\na\r\n");
    assert_eq!(told(&driver.exchanges), "");
    assert_eq!(driver.parser().dropped(), 1);
}

#[test]
fn unanswered_commands_end_with_the_connection() {
    let mut driver = driver(Role::Client, true);
    send(&mut driver, 1, &["PING"]);
    answer(&mut driver, 2, "+PONG\r\n");
    send(&mut driver, 3, &["GET", "a"]);
    send(&mut driver, 4, &["GET", "b"]);
    answer(&mut driver, 5, "$9\r\nhal");
    driver.close(BootNanos(9));
    assert_eq!(
        told(&driver.exchanges),
        "PING - PING, GET response_truncated GET a, GET connection_closed GET b"
    );
    assert_eq!(driver.exchanges[2].end, BootNanos(9));
}

#[test]
fn what_is_not_copied_of_calls_costs_no_pairing_where_one_command_waits() {
    for name in ["single_benchmark_1", "commands_cli"] {
        let path = format!("{}/src/redis/fixtures/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let fixture = Fixture::parse(name, &std::fs::read_to_string(path).expect("a fixture"));
        let whole = run(&Redis, &fixture).len();
        for limit in [40, 60, 100] {
            let found = run_copying(&Redis, &fixture, limit, true).len();
            assert!(found >= whole - 3, "{name}: {found} of {whole} with {limit} bytes of each call");
        }
    }
}

/// In what was not copied of its reply a command may have failed.
#[test]
fn a_transaction_whose_end_was_not_seen_has_an_unknown_status() {
    let mut driver = driver(Role::Server, true);
    send(&mut driver, 10, &["MULTI"]);
    answer(&mut driver, 11, "+OK\r\n");
    send(&mut driver, 20, &["LRANGE", "a", "0", "-1"]);
    answer(&mut driver, 21, "+QUEUED\r\n");
    send(&mut driver, 30, &["EXEC"]);
    answer(&mut driver, 31, "*1\r\n*2\r\n$1\r\n");
    driver.gap(Direction::ToClient, BootNanos(32), BootNanos(32), 5000);
    send(&mut driver, 40, &["GET", "b"]);
    let exec = driver.exchanges.iter().find(|exchange| exchange.operation == "EXEC").expect("it is told");
    assert!(exec.attributes.get(key::SPANTAP_STATUS_UNKNOWN).is_some());
}
