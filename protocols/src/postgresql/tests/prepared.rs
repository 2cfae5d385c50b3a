//! What a connection has prepared: remembered, closed, failed, bounded.

use super::*;

#[test]
fn a_failed_prepare_is_told_and_forgotten_and_a_good_one_is_no_exchange() {
    let mut driver = connected();
    feed(&mut driver, ToServer, 10, &[parse("s", "SELECT b FROM t"), sync()].concat());
    feed(&mut driver, ToClient, 20, &[error("42P01"), ready()].concat());
    feed(&mut driver, ToServer, 30, &[parse("g", "SELECT c FROM u"), sync()].concat());
    feed(&mut driver, ToClient, 40, &[message(b'1', b""), ready()].concat());
    assert_eq!(told(&driver.exchanges), ["SELECT t 10-20 42P01"]);
    for (at, name) in [(50, "s"), (70, "g")] {
        feed(&mut driver, ToServer, at, &[bind("", name), execute(""), sync()].concat());
        feed(&mut driver, ToClient, at + 9, &[message(b'2', b""), complete("SELECT 0"), ready()].concat());
    }
    assert_eq!(text(&driver.exchanges[1], key::SPANTAP_UNKNOWN_STATEMENT), "s");
    assert_eq!(text(&driver.exchanges[2], key::DB_QUERY_TEXT), "SELECT c FROM u");
}

/// > if (is_named) StorePreparedStatement (exec_parse_message, the last thing that it does)
#[test]
fn a_name_that_is_taken_keeps_its_statement() {
    let again =
        |next: &[&[u8]]| [&[&parse("s", "SELECT new FROM n")[..], &sync()[..]], next].concat().concat();
    let run = [bind("", "s"), execute(""), sync()].concat();
    let ran = [message(b'2', b""), complete("SELECT 0"), ready()].concat();
    for together in [false, true] {
        let mut driver = connected();
        feed(&mut driver, ToServer, 10, &[parse("s", "SELECT old FROM o"), sync()].concat());
        feed(&mut driver, ToClient, 20, &[message(b'1', b""), ready()].concat());
        if together {
            // The next cycle is sent before the client knows of the error.
            feed(&mut driver, ToServer, 30, &again(&[&run]));
            feed(&mut driver, ToClient, 40, &[error("42P05"), ready(), ran.clone()].concat());
        } else {
            feed(&mut driver, ToServer, 30, &again(&[]));
            feed(&mut driver, ToClient, 40, &[error("42P05"), ready()].concat());
            feed(&mut driver, ToServer, 50, &run);
            feed(&mut driver, ToClient, 60, &ran);
        }
        let texts: Vec<_> = driver.exchanges.iter().map(|told| text(told, key::DB_QUERY_TEXT)).collect();
        assert_eq!(texts, ["SELECT new FROM n", "SELECT old FROM o"], "{together}");
        assert_eq!(text(&driver.exchanges[0], key::DB_RESPONSE_STATUS_CODE), "42P05");
    }
}

#[test]
fn sql_that_closes_statements_makes_them_unknown() {
    for (sql, forgotten) in [
        ("DEALLOCATE s", true),
        ("deallocate prepare S", true),
        ("DEALLOCATE ALL", true),
        ("DISCARD ALL", true),
        ("DEALLOCATE other", false),
        ("DISCARDED", false),
    ] {
        let mut driver = connected();
        feed(&mut driver, ToServer, 10, &[parse("s", "SELECT 1"), sync()].concat());
        feed(&mut driver, ToClient, 20, &[message(b'1', b""), ready()].concat());
        feed(&mut driver, ToServer, 30, &query(sql));
        feed(&mut driver, ToClient, 40, &[complete("DEALLOCATE"), ready()].concat());
        feed(&mut driver, ToServer, 50, &[bind("", "s"), execute(""), sync()].concat());
        feed(&mut driver, ToClient, 60, &[message(b'2', b""), complete("SELECT 0"), ready()].concat());
        let unknown = text(&driver.exchanges[1], key::SPANTAP_UNKNOWN_STATEMENT) == "s";
        assert_eq!(unknown, forgotten, "{sql}");
    }
}

#[test]
fn prepared_statements_are_bounded() {
    let mut driver = connected();
    for n in 0..1000 {
        let long = format!("SELECT {n}, '{}' FROM t WHERE a = $1", "x".repeat(n));
        feed(&mut driver, ToServer, 10, &[parse(&format!("s{n}"), &long), sync()].concat());
        feed(&mut driver, ToClient, 20, &[message(b'1', b""), ready()].concat());
    }
    for (at, name, known) in [(30, "s999", true), (50, "s0", false)] {
        feed(&mut driver, ToServer, at, &[bind("", name), execute(""), sync()].concat());
        feed(&mut driver, ToClient, at + 9, &[message(b'2', b""), complete("SELECT 0"), ready()].concat());
        let last = driver.exchanges.last().expect("one more");
        assert_eq!(text(last, key::SPANTAP_UNKNOWN_STATEMENT) == "-", known, "{name}");
    }
}

#[test]
fn an_error_before_its_execute_is_sent_is_one_exchange() {
    let mut driver = connected();
    feed(&mut driver, ToServer, 10, &parse("", "SELECT b FROM t"));
    feed(&mut driver, ToClient, 20, &error("42P01"));
    feed(&mut driver, ToServer, 30, &[bind("", ""), execute(""), sync()].concat());
    feed(&mut driver, ToClient, 40, &ready());
    assert_eq!(told(&driver.exchanges), ["SELECT t 10-20 42P01"]);
    assert_eq!(driver.parser().dropped(), 0);
}
