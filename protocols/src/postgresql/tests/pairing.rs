//! Which response answers which request: pipelined, joined late, out of order.

use super::*;

#[test]
fn a_pipeline_of_many_has_each_its_own_times() {
    let mut driver = connected();
    feed(&mut driver, ToServer, 9, &parse("s", "SELECT a FROM t WHERE b = $1"));
    for n in 0..200 {
        feed(&mut driver, ToServer, 10 + n, &[bind("", "s"), execute("")].concat());
    }
    feed(&mut driver, ToServer, 300, &sync());
    feed(&mut driver, ToClient, 400, &message(b'1', b""));
    for n in 0..200 {
        feed(&mut driver, ToClient, 500 + n, &[message(b'2', b""), row(), complete("SELECT 1")].concat());
    }
    feed(&mut driver, ToClient, 800, &ready());
    let expected: Vec<_> =
        (0..200).map(|n| format!("SELECT t {}-{}", if n == 0 { 9 } else { 10 + n }, 500 + n)).collect();
    assert_eq!(told(&driver.exchanges), expected);
    assert_eq!((driver.parser().in_flight(), driver.parser().dropped()), (0, 0));
}

#[test]
fn above_the_cap_requests_wait_and_none_is_lost() {
    let mut driver = connected();
    let count = 2 * limits::PIPELINE_MAX;
    let requests: Vec<u8> = (0..count).flat_map(|_| [query("SELECT 1")].concat()).collect();
    feed(&mut driver, ToServer, 10, &requests);
    assert!(driver.parser().in_flight() <= limits::PIPELINE_MAX);
    for n in 0..count {
        feed(&mut driver, ToClient, 20 + n as u64, &[complete("SELECT 0"), ready()].concat());
    }
    assert_eq!(driver.exchanges.len(), count);
    assert_eq!(driver.parser().dropped(), 0);
}

#[test]
fn after_an_error_the_rest_of_the_pipeline_is_aborted() {
    let mut driver = connected();
    let one = |sql: &str| [parse("", sql), bind("", ""), execute("")].concat();
    feed(
        &mut driver,
        ToServer,
        10,
        &[one("SELECT 1"), one("SELECT b FROM t"), one("DELETE FROM u")].concat(),
    );
    feed(&mut driver, ToServer, 11, &sync());
    let first = [message(b'1', b""), message(b'2', b""), complete("SELECT 0")].concat();
    feed(&mut driver, ToClient, 20, &[first, message(b'1', b""), error("42703"), ready()].concat());
    feed(&mut driver, ToServer, 30, &query("COMMIT"));
    feed(&mut driver, ToClient, 40, &[complete("COMMIT"), ready()].concat());
    assert_eq!(
        told(&driver.exchanges),
        ["SELECT 10-20", "SELECT t 10-20 42703", "DELETE u 10-20 pipeline_aborted", "COMMIT 30-40"]
    );
}

#[test]
fn joined_late_the_first_cycle_after_ready_is_paired() {
    let mut driver = joined();
    feed(&mut driver, ToServer, 10, &[bind("", "S_1"), execute(""), sync()].concat());
    feed(&mut driver, ToClient, 20, &[message(b'2', b""), complete("SELECT 3"), ready()].concat());
    feed(&mut driver, ToServer, 30, &[bind("", "S_1"), execute(""), sync()].concat());
    feed(&mut driver, ToClient, 40, &[message(b'2', b""), row(), complete("SELECT 1"), ready()].concat());
    assert_eq!(told(&driver.exchanges), ["SELECT 30-40"]);
    assert_eq!(text(&driver.exchanges[0], key::SPANTAP_UNKNOWN_STATEMENT), "S_1");
    assert_eq!(text(&driver.exchanges[0], key::DB_OPERATION_NAME), "SELECT");
    assert_eq!(text(&driver.exchanges[0], key::DB_NAMESPACE), "-");
    assert_eq!(driver.parser().dropped(), 1, "the one before is counted");
}

#[test]
fn a_response_seen_before_its_request_is_held() {
    let mut driver = connected();
    feed(&mut driver, ToClient, 20, &[complete("SELECT 0"), ready()].concat());
    assert!(driver.exchanges.is_empty());
    feed(&mut driver, ToServer, 10, &query("SELECT a FROM t"));
    assert_eq!(told(&driver.exchanges), ["SELECT t 10-20"]);
}

#[test]
fn a_response_that_is_older_than_a_request_does_not_answer_it() {
    let answer = [columns(), row(), complete("SELECT 1"), ready()].concat();
    let asked = |text| [parse("", text), bind("", ""), execute(""), sync()].concat();
    let executed = [message(b'1', b""), message(b'2', b""), row(), complete("SELECT 1"), ready()].concat();
    for (request, answer) in [
        (query("SELECT 1"), &answer),
        (asked("SELECT $1"), &executed),
        (query("SELECT 1"), &error("42P01")),
        (query("SELECT 1"), &ready()),
    ] {
        let mut driver = connected();
        feed(&mut driver, ToClient, 10, answer);
        feed(&mut driver, ToServer, 20, &request);
        assert_eq!(told(&driver.exchanges), [""; 0], "{}", answer.escape_ascii());
        // The next turn is paired.
        feed(&mut driver, ToClient, 21, &[complete("SELECT 1"), ready()].concat());
        feed(&mut driver, ToServer, 30, &query("SELECT 2"));
        feed(&mut driver, ToClient, 31, &[complete("SELECT 1"), ready()].concat());
        assert_eq!(told(&driver.exchanges), ["SELECT 30-31"], "{}", answer.escape_ascii());
    }
}

#[test]
fn a_connection_that_ends_fails_what_is_open() {
    let mut driver = connected();
    feed(&mut driver, ToServer, 10, &query("SELECT a FROM t"));
    driver.close(BootNanos(11));
    assert_eq!(told(&driver.exchanges), ["SELECT t 10-11 connection_closed"]);
    let mut driver = connected();
    feed(&mut driver, ToServer, 10, &query("SELECT a FROM t"));
    feed(&mut driver, ToClient, 20, &[columns(), row()].concat());
    driver.close(BootNanos(21));
    assert_eq!(told(&driver.exchanges), ["SELECT t 10-21 response_truncated"]);
}

/// What a server reads first finds nothing in flight. If it answers more than that, something was.
#[test]
fn the_first_statement_of_an_old_connection_is_told_once_the_next_one_comes() {
    let answer = |n: u8| [columns(), row(), complete("SELECT 1"), ready()].concat().repeat(n.into());
    for (response, expected) in [(answer(1), &["SELECT t 10-20", "SELECT u 40-50"][..]), (answer(2), &[])] {
        let mut driver = Driver::new(&Postgresql, OpenContext { from_start: false, ..CONTEXT });
        feed(&mut driver, ToServer, 10, &query("SELECT a FROM t"));
        feed(&mut driver, ToClient, 20, &response);
        assert_eq!(told(&driver.exchanges), [""; 0]);
        feed(&mut driver, ToServer, 40, &query("SELECT b FROM u"));
        feed(&mut driver, ToClient, 50, &answer(1));
        assert_eq!(told(&driver.exchanges), expected);
        assert_eq!(driver.parser().dropped() > 0, expected.is_empty());
    }
}
