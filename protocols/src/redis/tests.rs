//! Situations of Redis that recorded traffic does not show: shapes of messages, secrets, loss, bounds.

mod pairing;

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
