//! Situations of Redis that recorded traffic does not show: shapes of messages, secrets, loss, bounds.

use super::{Redis, request::OTHER};
use crate::{
    exchange::{Exchange, Outcome, Value},
    limits,
    protocol::{BootNanos, Direction, OpenContext, Protocol, Role, Sniff},
    semconv::key,
    testing::{Driver, Fixture, check_splits, render, run, run_copying},
};

use Direction::{ToClient, ToServer};

fn driver(role: Role, from_start: bool) -> Driver {
    Driver::new(&Redis, OpenContext { role, from_start, answered: !from_start, tls: false })
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}

fn send(driver: &mut Driver, at: u64, words: &[&str]) {
    driver.feed(ToServer, BootNanos(at), BootNanos(at), &command(words));
}

fn answer(driver: &mut Driver, at: u64, reply: &str) {
    driver.feed(ToClient, BootNanos(at), BootNanos(at), reply.as_bytes());
}

/// `operation error text` of each; a missing part is `-`.
fn told(exchanges: &[Exchange]) -> String {
    let tell = |exchange: &Exchange| {
        let error = match &exchange.outcome {
            Outcome::Error(kind) => kind.as_str(),
            Outcome::Unset => "-",
        };
        let text = exchange.attributes.get(key::DB_QUERY_TEXT).and_then(Value::as_str).unwrap_or("-");
        format!("{} {error} {text}", exchange.operation)
    };
    exchanges.iter().map(tell).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_shape_of_request_and_reply_is_one_exchange() {
    for (request, reply, expected) in [
        ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n", "PING - PING"),
        ("PING\r\n", "+PONG\r\n", "PING - PING"),
        ("get  key  \r\n", "$-1\r\n", "get - get key"),
        ("set \"a key\" 'a value'\n", "+OK\r\n", "set - -"),
        ("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "$-1\r\n", "GET - GET \"\""),
        ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "_\r\n", "GET - GET k"),
        ("*2\r\n$6\r\nXGROUP\r\n$4\r\nHELP\r\n", "*1\r\n+XGROUP\r\n", "XGROUP HELP - XGROUP HELP"),
        ("*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n$1\r\n1\r\n$-1\r\n", "MGET - MGET a b"),
        (
            "*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n",
            "+OK\r\n",
            "MSET - MSET a ? b ?",
        ),
        ("*2\r\n$7\r\nHGETALL\r\n$1\r\nh\r\n", "%1\r\n+a\r\n:1\r\n", "HGETALL - HGETALL h"),
        ("*2\r\n$8\r\nSMEMBERS\r\n$1\r\ns\r\n", "~2\r\n+a\r\n,1.5\r\n", "SMEMBERS - SMEMBERS s"),
        ("*2\r\n$4\r\nINFO\r\n$3\r\nall\r\n", "=7\r\ntxt:abc\r\n", "INFO - INFO ?"),
        ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "|1\r\n+ttl\r\n:1\r\n$1\r\nv\r\n", "GET - GET k"),
        ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$?\r\n;1\r\na\r\n;0\r\n", "GET - GET k"),
        ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "!5\r\nOOM x\r\n", "GET OOM GET k"),
        ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "-MOVED 1 127.0.0.1:2\r\n", "GET MOVED GET k"),
        ("*2\r\n$9\r\nFT.SEARCH\r\n$1\r\ni\r\n", "*1\r\n:0\r\n", "FT.SEARCH - FT.SEARCH ?"),
        ("*2\r\n$7\r\nhunter2\r\n$1\r\ni\r\n", "-ERR unknown command 'hunter2'\r\n", "_OTHER ERR -"),
        ("\r\n*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", "+PONG\r\n", "PING - PING"),
    ] {
        // What comes before makes the connection one of Redis for certain.
        let (ping, pong) = (command(&["PING"]), b"+PONG\r\n");
        let calls = [
            (ToServer, &ping[..]),
            (ToClient, pong),
            (ToServer, request.as_bytes()),
            (ToClient, reply.as_bytes()),
        ];
        let fixture = Fixture::of(request, Role::Server, &calls);
        check_splits(&Redis, &fixture);
        assert_eq!(told(&run(&Redis, &fixture)), format!("PING - PING, {expected}"), "{request}{reply}");
    }
}

#[test]
fn no_secret_leaves_the_parser() {
    for words in [
        &["AUTH", "hunter2"][..],
        &["auth", "user-hunter2", "hunter2"],
        &["HELLO", "3", "AUTH", "user-hunter2", "hunter2", "SETNAME", "hunter2"],
        &["ACL", "SETUSER", "user-hunter2", "on", ">hunter2"],
        &["ACL", "hunter2"],
        &["CONFIG", "SET", "requirepass", "hunter2"],
        &["MIGRATE", "host", "6379", "", "0", "5000", "AUTH", "hunter2", "KEYS", "k"],
        &["MIGRATE", "host", "6379", "k", "0", "5000", "AUTH2", "hunter2", "hunter2"],
        &["SENTINEL", "SET", "main", "auth-pass", "hunter2"],
        &["EVAL", "return 'hunter2'", "0"],
        &["SET", "k", "hunter2", "EX", "hunter2"],
        &["HSET", "k", "f", "hunter2"],
        &["LPUSH", "k", "hunter2", "hunter2"],
        &["PUBLISH", "channel", "hunter2"],
        &["ECHO", "hunter2"],
        &["hunter2"],
        &["hunter2", "hunter2"],
    ] {
        for bytes in [command(words), [words.join(" ").as_bytes(), b"\r\n"].concat()] {
            for reply in [
                "+hunter2\r\n",
                "-ERR hunter2\r\n",
                "-hunter2\r\n",
                "$7\r\nhunter2\r\n",
                "*1\r\n-hunter2\r\n",
            ] {
                let mut driver = driver(Role::Client, true);
                send(&mut driver, 1, &["PING"]);
                answer(&mut driver, 2, "+PONG\r\n");
                driver.feed(ToServer, BootNanos(3), BootNanos(3), &bytes);
                answer(&mut driver, 4, reply);
                assert_eq!(driver.exchanges.len(), 2, "{words:?}");
                let said = format!("{} {:?}", render(&driver.exchanges), driver.exchanges);
                assert!(!said.contains("hunter2"), "{words:?} {reply}: {said}");
            }
        }
    }
}

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
fn what_is_not_redis_is_given_back_to_detection() {
    let mut driver = driver(Role::Server, true);
    for turn in 0..10 {
        driver.feed(ToServer, BootNanos(10 * turn), BootNanos(10 * turn), b"USER someone\r\n");
        answer(&mut driver, 10 * turn + 5, "331 password, please\r\n");
    }
    assert!(driver.parser().lost());
    assert_eq!(told(&driver.exchanges), "");
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
fn a_name_that_is_not_known_is_other() {
    let mut driver = driver(Role::Client, true);
    send(&mut driver, 1, &["b840fc02d524045429941cc15f59e41cb7be6c52", "a"]);
    answer(&mut driver, 2, "+OK\r\n");
    assert_eq!(driver.exchanges[0].operation, OTHER);
}

#[test]
fn first_bytes_tell_redis_and_which_way_they_go() {
    let sniff = |text: &str, expected| Redis.sniff(text.as_bytes(), expected);
    for request in [
        "*1\r\n$4\r\nPING\r\n",
        "*2\r\n$3\r\nget\r\n$",
        "HGETALL k\r\n",
        "set k v\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1",
    ] {
        assert_eq!(sniff(request, None), Sniff::Match(ToServer), "{request}");
        assert_eq!(sniff(request, Some(ToClient)), Sniff::Reject, "{request}");
    }
    for reply in [
        "+PONG\r\n",
        "-WRONGTYPE Operation",
        "-ERR unknown command 'x'\r\n",
        ":1\r\n",
        "$5\r\nhel",
        "$-1\r\n",
        "*0\r\n",
        "*3\r\n$7\r\nmessage\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1",
        "*480\r\n$3\r\nacl\r\n*",
        "%7\r\n$6\r\nserver",
        ">3\r\n$7\r\nmessage",
        "#t\r\n",
        ",1.5\r\n",
        "*2\r\n$4\r\nsave\r\n$0\r\n\r\n",
        "+1339518083.107412 [0 127",
    ] {
        assert_eq!(sniff(reply, None), Sniff::Match(ToClient), "{reply}");
        assert_eq!(sniff(reply, Some(ToServer)), Sniff::Reject, "{reply}");
    }
    for unsure in [
        "+OK\r\n",
        "-ERR no such user\r\n",
        "PING\r\n",
        "get hello\r\n",
        "set k 0 0 5\r\n",
        "set k",
        "QUIT\r\n",
        "_\r\n",
        "AUTH x\r\n",
    ] {
        assert_eq!(sniff(unsure, None), Sniff::NeedMore, "{unsure}");
    }
    for other in [
        "+OK POP3 ready\r\n",
        "* OK IMAP4rev1\r\n",
        "*text\r\n",
        "GET / HTTP/1.1\r\n",
        "USER x\r\n",
        "$HOME\r\n",
        ":server 001 nick\r\n",
        "*1\r\n$3\r\nfoo\r\n$",
        "-----BEGIN",
        "goodbye\r\n",
        "$5\r\nhelloX",
    ] {
        assert_eq!(sniff(other, Some(ToServer)), Sniff::Reject, "{other}");
    }
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

/// What a `SELECT` without a reply has done is not known, nor what one before it says of later commands.
#[test]
fn a_database_that_was_selected_in_silence_is_unknown() {
    let mut driver = driver(Role::Server, true);
    send(&mut driver, 10, &["SELECT", "3"]);
    send(&mut driver, 11, &["CLIENT", "REPLY", "SKIP"]);
    send(&mut driver, 12, &["SELECT", "7"]);
    answer(&mut driver, 13, "+OK\r\n");
    send(&mut driver, 20, &["GET", "a"]);
    answer(&mut driver, 21, "$-1\r\n");
    send(&mut driver, 30, &["SELECT", "9"]);
    answer(&mut driver, 31, "+OK\r\n");
    send(&mut driver, 40, &["GET", "b"]);
    answer(&mut driver, 41, "$-1\r\n");
    let database = |exchange: &Exchange| exchange.attributes.get(key::DB_NAMESPACE).cloned();
    let gets: Vec<_> =
        driver.exchanges.iter().filter(|exchange| exchange.operation == "GET").map(database).collect();
    assert_eq!(gets, [None, Some(Value::Text("9".into()))]);
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
