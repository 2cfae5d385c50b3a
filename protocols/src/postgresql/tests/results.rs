//! What comes back: many rows, large values, COPY.

use super::*;

#[test]
fn a_result_larger_than_what_is_copied_keeps_its_end() {
    let rows: Vec<u8> = (0..2000).flat_map(|_| row()).collect();
    // Of each call a beginning: the last call has the completion, or not.
    for (last_call, expected) in
        [(rows.len() - 1000, "SELECT t 10-21"), (rows.len() - 5000, "SELECT t 10-21")]
    {
        let response = [columns(), rows.clone(), complete("SELECT 2000"), ready()].concat();
        let mut driver = connected();
        feed(&mut driver, ToServer, 10, &query("SELECT a FROM t"));
        for (at, call) in [(20, &response[..last_call]), (21, &response[last_call..])] {
            let copied = call.len().min(2000);
            driver.feed_cut(
                ToClient,
                BootNanos(at),
                BootNanos(at),
                &call[..copied],
                (call.len() - copied) as u64,
            );
        }
        feed(&mut driver, ToServer, 50, &query("SELECT b FROM u"));
        feed(&mut driver, ToClient, 60, &[columns(), row(), complete("SELECT 1"), ready()].concat());
        assert_eq!(told(&driver.exchanges), [expected, "SELECT u 50-60"]);
        let rows = driver.exchanges[0].attributes.get(key::DB_RESPONSE_RETURNED_ROWS);
        let whole = response.len() - last_call <= 2000;
        assert_eq!(rows, whole.then_some(&Value::Int(2000)));
        assert_eq!(driver.parser().dropped(), 0);
    }
}

/// The end of a long result and the next query are lost together: what comes then answers neither.
#[test]
fn what_ends_a_result_after_loss_is_told_only_if_no_request_was_lost() {
    let next = query("SELECT 1 / 0");
    for lost in [true, false] {
        for answer in [error("22012"), [columns(), row(), complete("SELECT 1")].concat()] {
            let mut driver = connected();
            feed(&mut driver, ToServer, 10, &query("SELECT a FROM t"));
            feed(&mut driver, ToClient, 20, &[columns(), row()].concat());
            driver.gap(ToClient, BootNanos(30), BootNanos(30), 5000);
            feed(&mut driver, ToClient, 40, &[answer.clone(), ready()].concat());
            if lost {
                driver.gap(ToServer, BootNanos(45), BootNanos(45), next.len() as u64);
            }
            feed(&mut driver, ToServer, 50, &query("SELECT b FROM u"));
            feed(&mut driver, ToClient, 60, &[columns(), row(), complete("SELECT 1"), ready()].concat());
            let told = told(&driver.exchanges);
            assert_eq!(
                told.iter().filter(|one| one.starts_with("SELECT t")).count(),
                usize::from(!lost && answer[0] == b'E'),
                "{told:?}"
            );
            assert!(driver.parser().dropped() > 0 || !lost);
        }
    }
}

#[test]
fn large_values_are_skipped_and_counted() {
    let mut parser = PostgresqlParser::new(OpenContext { from_start: false, answered: true, ..CONTEXT });
    let mut out = Vec::new();
    let at = |direction, at, bytes: &[u8], cut, parser: &mut PostgresqlParser, out: &mut Vec<Exchange>| {
        let mut taken = 0;
        while taken < bytes.len() {
            let (first_at, last_at) = (BootNanos(at), BootNanos(at));
            let step =
                parser.on_segment(Segment { direction, first_at, last_at, bytes: &bytes[taken..], cut }, out);
            assert!(step > 0, "stands still");
            taken += step;
        }
    };
    at(ToClient, 5, &[complete("SELECT 0"), ready()].concat(), false, &mut parser, &mut out);
    at(ToServer, 10, &query("SELECT a FROM t"), false, &mut parser, &mut out);
    let header = [columns(), b"D\0\x0f\x42\x4c\0\x01\0\x0f\x42\x42".to_vec()].concat();
    at(ToClient, 20, &header, true, &mut parser, &mut out);
    assert_eq!(parser.skippable(ToClient), 1_000_002);
    parser.on_gap(
        Gap { direction: ToClient, first_at: BootNanos(21), last_at: BootNanos(29), missing: 1_000_002 },
        &mut out,
    );
    at(ToClient, 30, &[complete("SELECT 1"), ready()].concat(), false, &mut parser, &mut out);
    assert_eq!(told(&out), ["SELECT t 10-30"]);
    assert_eq!(out[0].attributes.get(key::DB_RESPONSE_RETURNED_ROWS), Some(&Value::Int(1)));
    assert_eq!(out[0].response_bytes, (columns().len() + 1_000_013 + complete("SELECT 1").len()) as u64);
}

/// The number of a COPY's tag is that of rows that came back only if they did.
#[test]
fn copy_has_returned_rows_where_the_server_sent_them() {
    let rows = |exchange: &Exchange| exchange.attributes.get(key::DB_RESPONSE_RETURNED_ROWS).cloned();
    let line = message(b'd', b"1\tone\n");
    let mut driver = connected();
    feed(&mut driver, ToServer, 10, &query("COPY t TO STDOUT"));
    let out = [message(b'H', b"\0\0\0"), line.repeat(3), message(b'c', b""), complete("COPY 3"), ready()];
    feed(&mut driver, ToClient, 20, &out.concat());
    assert_eq!(rows(&driver.exchanges[0]), Some(Value::Int(3)));
    feed(&mut driver, ToServer, 30, &query("COPY t FROM STDIN"));
    feed(&mut driver, ToClient, 40, &message(b'G', b"\0\0\0"));
    feed(&mut driver, ToServer, 50, &[line.repeat(3), message(b'c', b"")].concat());
    feed(&mut driver, ToClient, 60, &[complete("COPY 3"), ready()].concat());
    assert_eq!(rows(&driver.exchanges[1]), None);
    assert_eq!(driver.exchanges.len(), 2);
}

/// Its rows and their end may be sent before the server has asked for them: a Sync behind them is answered as any other,
/// one before them is not.
#[test]
fn what_follows_a_copy_that_was_sent_in_one_go_is_paired() {
    let rows = [message(b'd', b"1\tone\n"), message(b'c', b"")].concat();
    let copy = [parse("", "COPY t FROM STDIN"), bind("", ""), execute("")].concat();
    for sent in
        [[copy.clone(), rows.clone(), sync()].concat(), [copy.clone(), sync(), rows.clone(), sync()].concat()]
    {
        let mut driver = connected();
        feed(&mut driver, ToServer, 10, &sent);
        let begun = [message(b'1', b""), message(b'2', b""), message(b'G', b"\0\0\0")].concat();
        feed(&mut driver, ToClient, 20, &begun);
        feed(&mut driver, ToClient, 30, &[complete("COPY 1"), ready()].concat());
        feed(&mut driver, ToServer, 40, &query("SELECT a FROM u"));
        feed(&mut driver, ToClient, 50, &[columns(), row(), complete("SELECT 1"), ready()].concat());
        assert_eq!(told(&driver.exchanges), ["COPY t 10-30", "SELECT u 40-50"]);
        assert_eq!(driver.parser().dropped(), 0);
    }
}

/// Of a response whose end was not copied, within a transaction the next ReadyForQuery tells how it went.
#[test]
fn a_status_that_was_not_seen_is_unknown_unless_the_transaction_tells() {
    for (before, after, expected) in [
        (b"T", b"E", "SELECT t 10-40 _OTHER"),
        (b"T", b"T", "SELECT t 10-40"),
        (b"I", b"I", "SELECT t 10-40"),
    ] {
        let mut driver = connected();
        feed(&mut driver, ToServer, 5, &query("BEGIN"));
        feed(&mut driver, ToClient, 6, &[complete("BEGIN"), message(b'Z', before)].concat());
        feed(&mut driver, ToServer, 10, &query("SELECT a FROM t"));
        feed(&mut driver, ToClient, 20, &[columns(), row()].concat());
        driver.gap(ToClient, BootNanos(30), BootNanos(30), 5000);
        feed(&mut driver, ToClient, 40, &message(b'Z', after));
        feed(&mut driver, ToServer, 50, &query("SELECT b FROM u"));
        assert_eq!(told(&driver.exchanges)[1..], [expected]);
        let unknown = driver.exchanges[1].attributes.get(key::SPANTAP_STATUS_UNKNOWN);
        assert_eq!(unknown.is_some(), before == b"I");
    }
}
