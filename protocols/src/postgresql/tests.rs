//! Situations of PostgreSQL that recorded traffic does not show.

mod pairing;
mod prepared;
mod results;

use super::{Postgresql, parser::PostgresqlParser};
use crate::{
    exchange::{Exchange, Outcome, Value},
    limits,
    protocol::{BootNanos, Direction, Gap, OpenContext, Parser, Protocol, Role, Segment, Sniff},
    semconv::key,
    testing::{Driver, FOREIGN, Fixture, check_splits, run},
};

use Direction::{ToClient, ToServer};

const CONTEXT: OpenContext =
    OpenContext { role: Role::Server, from_start: true, answered: false, tls: false };

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

fn bind(portal: &str, name: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn execute(portal: &str) -> Vec<u8> {
    message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn row() -> Vec<u8> {
    message(b'D', b"\0\x01\0\0\0\x03abc")
}

fn columns() -> Vec<u8> {
    message(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0")
}

fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0Msecret\0\0").as_bytes())
}

/// A connection that has been made.
fn connected() -> Driver {
    let mut driver = Driver::new(&Postgresql, CONTEXT);
    feed(&mut driver, ToServer, 1, b"\0\0\0\x20\0\x03\0\0user\0bob\0database\0shop\0\0");
    feed(&mut driver, ToClient, 2, &[message(b'R', b"\0\0\0\0"), message(b'K', &[0; 8]), ready()].concat());
    assert!(driver.exchanges.is_empty());
    driver
}

fn joined() -> Driver {
    Driver::new(&Postgresql, OpenContext { from_start: false, answered: true, ..CONTEXT })
}

fn feed(driver: &mut Driver, direction: Direction, at: u64, bytes: &[u8]) {
    driver.feed(direction, BootNanos(at), BootNanos(at), bytes);
}

/// `name start-end outcome` of each.
fn told(exchanges: &[Exchange]) -> Vec<String> {
    let one = |exchange: &Exchange| {
        let outcome = match &exchange.outcome {
            Outcome::Unset => "",
            Outcome::Error(kind) => &format!(" {kind}"),
        };
        let target = exchange.target.as_deref().map(|target| format!(" {target}")).unwrap_or_default();
        format!("{}{target} {}-{}{outcome}", exchange.operation, exchange.start.0, exchange.end.0)
    };
    exchanges.iter().map(one).collect()
}

fn text<'a>(exchange: &'a Exchange, name: &str) -> &'a str {
    exchange.attributes.get(name).and_then(Value::as_str).unwrap_or("-")
}

#[test]
fn an_encrypted_connection_returns_to_detection_and_a_plain_one_goes_on() {
    let fixture = Fixture::parse("ssl_no", include_str!("fixtures/ssl/ssl_no.txt"));
    check_splits(&Postgresql, &fixture);
    let found = run(&Postgresql, &fixture);
    assert_eq!(
        found.iter().map(|found| text(found, key::DB_QUERY_TEXT)).collect::<Vec<_>>(),
        ["SELECT ?", "SELECT ?"]
    );
    for code in [b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"] {
        for (answer, lost) in [(b"N", false), (b"S", true), (b"G", true)] {
            let mut driver = Driver::new(&Postgresql, CONTEXT);
            feed(&mut driver, ToServer, 1, &[b"\0\0\0\x08".as_slice(), code].concat());
            feed(&mut driver, ToClient, 2, answer);
            assert_eq!(driver.parser().lost(), lost, "{answer:?}");
        }
    }
}

#[test]
fn a_cancel_request_is_no_exchange() {
    let fixture = Fixture::parse("cancel", include_str!("fixtures/cancel/cancel.txt"));
    let bytes = &fixture.chunks[0].bytes;
    assert_eq!(Postgresql.sniff(bytes, None), Sniff::Match(ToServer));
    assert_eq!(run(&Postgresql, &fixture), []);
}

#[test]
fn replication_is_left_alone() {
    let mut driver = Driver::new(&Postgresql, CONTEXT);
    feed(&mut driver, ToServer, 1, b"\0\0\0\x23\0\x03\0\0user\0bob\0replication\0true\0\0");
    feed(&mut driver, ToClient, 2, &[0xff; 100]);
    feed(&mut driver, ToServer, 3, &query("IDENTIFY_SYSTEM"));
    assert!(!driver.parser().lost() && driver.parser().skippable(ToClient) == u64::MAX);
    driver.close(BootNanos(4));
    assert_eq!((driver.exchanges.len(), driver.parser().dropped()), (0, 0));
}

#[test]
fn a_syntax_error_is_the_whole_querys() {
    let mut driver = connected();
    feed(&mut driver, ToServer, 10, &query("SELECT a FROM t; SELEC 'x'"));
    feed(&mut driver, ToClient, 20, &[error("42601"), ready()].concat());
    assert_eq!(told(&driver.exchanges), ["SELECT t 10-20 42601"]);
    assert_eq!(text(&driver.exchanges[0], key::DB_QUERY_TEXT), "SELECT a FROM t; SELEC ?");
}

#[test]
fn an_idle_session_that_is_ended_is_no_exchange() {
    let mut driver = connected();
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
    feed(&mut driver, ToClient, 10, &fatal);
    driver.close(BootNanos(11));
    assert_eq!(told(&driver.exchanges), [""; 0]);
}

#[test]
fn what_is_not_postgresql_returns_to_detection() {
    let mut driver = joined();
    for n in 0..200 {
        let direction = if n % 2 == 0 { ToServer } else { ToClient };
        feed(&mut driver, direction, n, b"nothing that this protocol knows");
    }
    assert!(driver.parser().lost());
    let mut driver = connected();
    for n in 0..20 {
        feed(&mut driver, ToServer, 10 * n, &query("SELECT 1"));
        feed(
            &mut driver,
            ToClient,
            10 * n + 5,
            &[message(b'3', b""), complete("SELECT 1"), ready()].concat(),
        );
    }
    assert!(driver.parser().lost() && driver.exchanges.is_empty());
}

#[test]
fn neither_passwords_nor_messages_are_kept() {
    let mut driver = Driver::new(&Postgresql, CONTEXT);
    feed(&mut driver, ToServer, 1, b"\0\0\0\x12\0\x03\0\0user\0bob\0\0");
    feed(&mut driver, ToClient, 2, &message(b'R', b"\0\0\0\x03"));
    feed(&mut driver, ToServer, 3, &message(b'p', b"hunter2\0"));
    feed(&mut driver, ToClient, 4, &error("28P01"));
    driver.close(BootNanos(5));
    assert_eq!(told(&driver.exchanges), ["CONNECT bob 1-4 28P01"]);
    assert!(!crate::testing::render(&driver.exchanges).contains("hunter2"));
    assert!(!crate::testing::render(&driver.exchanges).contains("secret"));
}

#[test]
fn random_bytes_and_tls_records_do_not_match() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0_u8; 64];
    let kinds = b"QPBDECSHFXRTZ123nstAKNGHW";
    for round in 0..200_000_usize {
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        // Also with a type and a small length, so that structure must tell.
        if round % 2 == 0 {
            let length = bytes[5] % 64;
            bytes[..5].copy_from_slice(&[kinds[round / 2 % kinds.len()], 0, 0, 0, length]);
            if matches!(bytes[0], b'S' | b'H' | b'X' | b'1' | b'2' | b'3' | b'n' | b's') && bytes[4] == 4 {
                continue;
            }
        } else if round % 3 == 0 {
            bytes[..4].copy_from_slice(&[0x17, 3, 3, 0]);
        }
        for expected in [None, Some(ToServer), Some(ToClient)] {
            let answer = Postgresql.sniff(&bytes, expected);
            assert!(!matches!(answer, Sniff::Match(_)), "{answer:?}: {bytes:?}");
        }
    }
}

#[test]
fn its_own_first_bytes_match_and_grow_into_a_match() {
    for (name, bytes) in FOREIGN.iter().filter(|(name, _)| name.starts_with("postgresql/")) {
        assert!(matches!(Postgresql.sniff(bytes, None), Sniff::Match(_)), "{name}");
    }
}

#[test]
fn an_idle_connection_takes_little_memory() {
    assert!(size_of::<PostgresqlParser>() <= 1024, "{}", size_of::<PostgresqlParser>());
}

/// Sessions that have set `standard_conforming_strings`: what is behind a quote with a backslash is shown only to who
/// knows whether that quote ends the text.
#[test]
fn a_backslash_is_what_the_server_has_reported() {
    let reports = |value: &str| message(b'S', format!("standard_conforming_strings\0{value}\0").as_bytes());
    let sql = r"SELECT 'it\'s a secret', a FROM t";
    let ask = |driver: &mut Driver, at: u64, report: Option<&str>| {
        feed(driver, ToServer, at, &query(sql));
        let answer = [columns(), complete("SELECT 0"), report.map(reports).unwrap_or_default(), ready()];
        feed(driver, ToClient, at + 1, &answer.concat());
        let exchange = driver.exchanges.pop().expect("answered");
        assert_eq!(driver.exchanges, []);
        let text = text(&exchange, key::DB_QUERY_TEXT).to_owned();
        (text, exchange.attributes.get(key::SPANTAP_QUERY_TRUNCATED).is_some())
    };
    let known = (r"SELECT ?, a FROM t".to_owned(), false);
    let unclear = ("SELECT ?".to_owned(), true);
    let mut driver = connected();
    assert_eq!(ask(&mut driver, 10, Some("off")), unclear, "it has not reported anything");
    assert_eq!(ask(&mut driver, 20, None), known);
    // An answer that was not seen may have changed it.
    driver.gap(ToClient, BootNanos(30), BootNanos(30), 10);
    feed(&mut driver, ToClient, 31, &ready());
    assert_eq!(ask(&mut driver, 40, Some("off")), unclear);
    assert_eq!(ask(&mut driver, 50, None), known);
    // So may what is under way.
    feed(&mut driver, ToServer, 60, &[query("SELECT f()"), query(sql)].concat());
    feed(&mut driver, ToClient, 61, &[complete("SELECT 0"), ready()].concat());
    feed(&mut driver, ToClient, 62, &[complete("SELECT 0"), ready()].concat());
    assert_eq!(text(&driver.exchanges[1], key::DB_QUERY_TEXT), "SELECT ?");
    driver.exchanges.clear();
    // Its text ends at the backslash if they are plain.
    feed(&mut driver, ToClient, 70, &reports("on"));
    let plain = ask(&mut driver, 80, None).0;
    assert_eq!(plain, "SELECT ?s a secret?");
}

/// A query whose statements cannot be told apart may have more answers than statements are known.
#[test]
fn of_unclear_text_every_statement_is_answered() {
    let mut driver = joined();
    feed(&mut driver, ToClient, 1, &ready());
    feed(&mut driver, ToServer, 2, &query(r"SELECT 'it\'s'; SELECT 'secret'"));
    feed(&mut driver, ToClient, 3, &[columns(), complete("SELECT 0"), columns()].concat());
    feed(&mut driver, ToClient, 4, &[complete("SELECT 0"), ready()].concat());
    assert_eq!(told(&driver.exchanges), ["SELECT 2-3", "SELECT 2-4"]);
    assert!(driver.exchanges.iter().all(|exchange| !format!("{exchange:?}").contains("secret")));
    assert_eq!(driver.parser().dropped(), 0);
}
