//! What becomes of statements, and the cases that the conventions publish.

use super::{Backslash, Statement, prepared, simple};
use crate::limits::{QUERY_SUMMARY_BYTES_MAX, QUERY_TEXT_BYTES_MAX};

/// The text and the summary of a query that holds one statement.
fn one(text: &str) -> (String, String) {
    let statements = simple(text.as_bytes(), false, Backslash::Plain);
    assert_eq!(statements.len(), 1, "{text}: {statements:?}");
    assert!(!statements[0].cut, "{text}");
    (statements[0].text.to_string(), statements[0].summary.to_string())
}

#[test]
fn literals_are_replaced() {
    for (text, expected) in [
        ("SELECT 'a''b', E'c\\'d', $$e$$, $x$f$x$, B'01', X'1F', U&'g'", "SELECT ?, ?, ?, ?, ?, ?, ?"),
        ("select 1, -1, +1, .5, 1e5, 0xFF, a-1, a - 1, 2+3", "select ?, ?, ?, ?, ?, ?, a-?, a - ?, ??"),
        ("SELECT x::int, '1'::jsonb, date '2020-01-01', true", "SELECT x::int, ?::jsonb, date ?, ?"),
        ("SELECT a[1], ARRAY[1,2], '{1,2}', b[1:2]", "SELECT a[?], ARRAY[?,?], ?, b[?:?]"),
        ("SELECT c3po FROM \"t 1\" WHERE k IN (1, 'b', -3)", "SELECT c3po FROM \"t 1\" WHERE k IN (?)"),
        ("SELECT 1 WHERE k IN (1, x) OR k NOT IN (2)", "SELECT ? WHERE k IN (?, x) OR k NOT IN (?)"),
        ("SELECT a -- secret\n, b /* secret /* nested */ more */ FROM t", "SELECT a \n, b  FROM t"),
        ("ALTER USER bob PASSWORD 'hunter2'", "ALTER USER bob PASSWORD ?"),
        // The server refuses it, and yet it is a password.
        ("alter user bob password hunter2 login", "alter user bob password ? login"),
        ("create role bob encrypted password hunter2", "create role bob encrypted password ?"),
        ("CREATE TABLE users (name text, password text)", "CREATE TABLE users (name text, password text)"),
        ("  SELECT 1 ;  ", "SELECT ?"),
        ("SELECT 'caf\u{e9}', \"\u{e9}t\u{e9}\"", "SELECT ?, \"\u{e9}t\u{e9}\""),
        ("SELECT data->'k'->>0, data #>> '{a}'", "SELECT data->?->>?, data #>> ?"),
    ] {
        assert_eq!(one(text).0, expected, "{text}");
    }
}

/// PostgreSQL takes words there for text.
#[test]
fn what_is_set_is_a_value_without_quotes_too() {
    for (text, expected) in [
        ("set my.s = SEC", "set my.s = ?"),
        ("SET LOCAL app.token TO SEC", "SET LOCAL app.token TO ?"),
        ("set session my.s = \"SEC V\"", "set session my.s = ?"),
        ("SET my.s=SEC", "SET my.s=?"),
        ("SET search_path TO a, b, 'c'", "SET search_path TO ?, ?, ?"),
        ("SET a = -1", "SET a = ?"),
        ("set my.s = SEC OOPS; select a from b", "set my.s = ? ?"),
        ("alter role bob set my.s = SEC", "alter role bob set my.s = ?"),
        ("ALTER SYSTEM SET a.b TO \"SEC\"", "ALTER SYSTEM SET a.b TO ?"),
        (
            "create function f() returns int set my.s = SEC set b to C as $$x$$ language sql",
            "create function f() returns int set my.s = ? set b to ? as ? language sql",
        ),
        ("UPDATE t SET a = b, c = d.e WHERE f = g", "UPDATE t SET a = b, c = d.e WHERE f = g"),
        (
            "ALTER TABLE t ALTER a SET DATA TYPE text USING b = c",
            "ALTER TABLE t ALTER a SET DATA TYPE text USING b = c",
        ),
        ("ALTER TABLE t SET SCHEMA u", "ALTER TABLE t SET SCHEMA u"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        ("create table t (a int); set x to SEC", "create table t (a int)"),
    ] {
        let statements = simple(text.as_bytes(), false, Backslash::Plain);
        assert_eq!(statements[0].text, expected, "{text}");
        assert!(statements.iter().all(|statement| !statement.summary.contains("SEC")), "{statements:?}");
        assert!(statements.iter().all(|statement| !statement.text.contains("SEC")), "{statements:?}");
    }
    let cut = simple(b"SET my.s = SECRE", true, Backslash::Plain);
    assert!(!cut[0].text.contains("SEC"), "{cut:?}");
}

#[test]
fn summaries_name_what_is_done_and_to_which_tables() {
    for (text, expected) in [
        ("SELECT 1", "SELECT"),
        ("select * from a.b x, c as y join d using (e) where f = 1", "select a.b c d"),
        ("SELECT x FROM t ORDER BY a, b", "SELECT t"),
        ("SELECT a FROM t WHERE b IN (SELECT c FROM u) AND d > 1", "SELECT t SELECT u"),
        ("SELECT extract(year FROM ts), x IS DISTINCT FROM y, trim(both FROM z) FROM t", "SELECT t"),
        ("SELECT * FROM generate_series(1, 10) g, t", "SELECT t"),
        ("SELECT * FROM t FOR UPDATE", "SELECT t"),
        ("SELECT a FROM t UNION ALL SELECT b FROM u", "SELECT t SELECT u"),
        ("SELECT * FROM ONLY (t)", "SELECT"),
        ("SELECT t.update, x.from FROM t, LATERAL (SELECT 1) l", "SELECT t SELECT"),
        ("INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = 3", "INSERT t"),
        ("INSERT INTO s.t SELECT * FROM u", "INSERT s.t SELECT u"),
        ("UPDATE t SET a = 1 FROM u WHERE t.i = u.i", "UPDATE t u"),
        ("DELETE FROM t USING u WHERE t.i = u.i", "DELETE t u"),
        ("MERGE INTO t USING u ON t.i = u.i WHEN MATCHED THEN DELETE", "MERGE t u"),
        ("WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x", "DELETE a INSERT b SELECT x"),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n FROM r) SELECT n FROM r",
            "SELECT SELECT r SELECT r",
        ),
        ("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM t", "EXPLAIN SELECT t"),
        ("EXPLAIN ANALYZE UPDATE t SET a = 1", "EXPLAIN UPDATE t"),
        ("CREATE TABLE IF NOT EXISTS s.t (a int, comment text)", "CREATE TABLE s.t"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i"),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM t", "CREATE MATERIALIZED VIEW v SELECT t"),
        (
            "CREATE OR REPLACE FUNCTION f(a int) RETURNS int AS $$ SELECT 1 $$ LANGUAGE sql",
            "CREATE FUNCTION f",
        ),
        ("DROP TABLE IF EXISTS a, b CASCADE", "DROP TABLE a b"),
        ("ALTER TABLE ONLY t ADD COLUMN a int, ADD b int", "ALTER TABLE t"),
        ("ALTER SYSTEM SET work_mem = '1GB'", "ALTER SYSTEM"),
        ("COMMENT ON TABLE t IS 'x'", "COMMENT TABLE t"),
        ("TRUNCATE TABLE a, b", "TRUNCATE a b"),
        ("vacuum (full, analyze) t", "vacuum t"),
        ("COPY t (a, b) FROM STDIN WITH (FORMAT csv)", "COPY t"),
        ("COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t"),
        ("CALL p(1, 2)", "CALL p"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN"),
        ("START TRANSACTION READ ONLY", "START TRANSACTION"),
        ("ROLLBACK TO SAVEPOINT sa_savepoint_1", "ROLLBACK"),
        ("FETCH 10 FROM c", "FETCH"),
        ("DECLARE c CURSOR FOR SELECT * FROM t", "DECLARE SELECT t"),
        ("PREPARE p (int) AS UPDATE t SET a = $1", "PREPARE UPDATE t"),
        ("EXECUTE p(1)", "EXECUTE"),
        ("GRANT SELECT, INSERT ON t TO bob", "GRANT"),
        ("LISTEN jobs", "LISTEN"),
        ("(SELECT a FROM t) UNION (SELECT b FROM u)", "SELECT t SELECT u"),
        ("SELEC 1 FROM secrets", ""),
        ("SELECT * FROM \"song list\"", "SELECT \"song list\""),
    ] {
        assert_eq!(one(text).1, expected, "{text}");
    }
}

#[test]
fn statements_are_told_apart() {
    let texts = |text: &str| {
        simple(text.as_bytes(), false, Backslash::Plain)
            .iter()
            .map(|statement| statement.text.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(texts("BEGIN; SELECT ';', $$;$$ ;; -- ;\n ; COMMIT"), ["BEGIN", "SELECT ?, ?", "COMMIT"]);
    assert_eq!(texts(" ; -- nothing\n;"), [""; 0]);
    assert_eq!(texts("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3").len(), 2);
    let function = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3";
    assert_eq!(texts(function).len(), 2, "{:?}", texts(function));
    assert_eq!(texts(&"SELECT 1;".repeat(1000)).len(), crate::limits::STATEMENTS_MAX);
}

#[test]
fn prepared_text_keeps_its_placeholders_and_no_literals() {
    assert_eq!(
        prepared(b"UPDATE t SET b = 'x' /* c */ WHERE a = $1 AND c = 2", false, Backslash::Plain).text,
        "UPDATE t SET b = ?  WHERE a = $1 AND c = ?"
    );
    assert_eq!(
        prepared(b"SELECT 'x' /* c */ FROM t WHERE a = 1; ", false, Backslash::Plain).text,
        "SELECT ?  FROM t WHERE a = ?;"
    );
    let cut = prepared(b"SELECT 'x' FROM t WHERE a", true, Backslash::Plain);
    assert_eq!(
        (cut.text.as_str(), cut.summary.as_str(), cut.cut),
        ("SELECT ? FROM t WHERE", "SELECT t", true)
    );
}

#[test]
fn what_may_be_text_is_not_shown() {
    let text = r"SELECT 'it\'s a secret'' or two', a FROM t; SELECT 'b'";
    let shown = |backslash| {
        let statements = simple(text.as_bytes(), false, backslash);
        statements.iter().map(|one| (one.text.to_string(), one.cut)).collect::<Vec<_>>()
    };
    let told = |text: &str, cut| (text.to_owned(), cut);
    assert_eq!(shown(Backslash::Escape), [told("SELECT ?, a FROM t", false), told("SELECT ?", false)]);
    assert_eq!(shown(Backslash::Unclear), [told("SELECT ?", true)]);
    let unclear = |text: &str| prepared(text.as_bytes(), false, Backslash::Unclear);
    assert_eq!(unclear(r"SELECT a FROM t WHERE b LIKE 'x\'").text, "SELECT a FROM t WHERE b LIKE ?");
    assert!(unclear(r"SELECT a FROM t WHERE b LIKE 'x\'").cut);
}

/// In SJIS the character at the end of the first literal is 0x95 0x5c, in UTF-8 nobody writes such bytes.
#[test]
fn a_character_that_ends_like_a_backslash_shows_nothing() {
    let shown = |text: &[u8], backslash| {
        let statements = simple(text, false, backslash);
        statements.iter().map(|one| (one.text.to_string(), one.cut)).collect::<Vec<_>>()
    };
    for (text, backslash) in [
        (&b"insert into t values (E'\\\\srv\\\\\x95\x5c', 'topsecret')"[..], Backslash::Plain),
        (b"insert into t values ('\x95\x5c', 'topsecret')", Backslash::Escape),
        (b"insert into t values (E'\\\x95\x5c', 'topsecret')", Backslash::Plain),
        (b"insert into t values (E'\x95\x5c\\', 'topsecret')", Backslash::Plain),
    ] {
        assert_eq!(shown(text, backslash), [("insert into t values (?".to_owned(), true)], "{text:?}");
    }
    let harmless = "insert into t values (E'\u{e9}\\n', E'\\'', 'b')";
    assert_eq!(
        shown(harmless.as_bytes(), Backslash::Plain),
        [("insert into t values (?, ?, ?)".to_owned(), false)]
    );
}

#[test]
fn cut_text_says_less_and_nothing_else() {
    let text = "WITH w AS (SELECT 'a''b', E'c\\'d' FROM s.t1) SELECT $$secret$$, -12.5e3, 'x' IN ('1', 2) FROM s.t2 \
                JOIN \"t 3\" ON /* t4 */ true WHERE f(x) = 3 FOR UPDATE";
    let whole = &simple(text.as_bytes(), false, Backslash::Plain)[0];
    for length in 0..text.len() {
        let Some(Statement { text: shown, summary, cut }) =
            simple(&text.as_bytes()[..length], true, Backslash::Plain).first().cloned()
        else {
            assert!(length == 0, "{length}");
            continue;
        };
        assert!(cut);
        assert!(
            whole.summary.starts_with(summary.as_str()),
            "{}: {summary} {}",
            &text[..length],
            whole.summary
        );
        let shown_so_far = shown.trim_ascii_end().trim_end_matches("?)").trim_end_matches('?');
        assert!(whole.text.starts_with(shown_so_far), "{shown}");
        for secret in ["secret", "sec", "12", "b'", "'"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert_eq!(
        simple(b"SELECT a FROM orders", true, Backslash::Plain)[0].summary,
        "SELECT",
        "it may be orders_2"
    );
    assert_eq!(
        simple(b"SELECT a FROM orders ", true, Backslash::Plain)[0].summary,
        "SELECT",
        "it may be a function: orders (1)"
    );
    assert_eq!(simple(b"SELECT a FROM orders o ", true, Backslash::Plain)[0].summary, "SELECT orders");
}

#[test]
fn whatever_the_text_it_is_bounded_and_clean() {
    let long = format!("SELECT {} FROM t", "abc, ".repeat(10_000));
    let statement = &simple(long.as_bytes(), false, Backslash::Plain)[0];
    assert!(statement.text.len() <= 2048 && statement.cut && statement.summary == "SELECT t");
    let many = format!("DROP TABLE {}x", "a_long_table_name, ".repeat(1_000));
    assert!(simple(many.as_bytes(), false, Backslash::Plain)[0].summary.len() <= 255);
    let list = format!("SELECT a FROM t WHERE b IN ({}1) AND c = 2", "'abc', ".repeat(1_000));
    for (length, expected) in
        [(list.len(), "SELECT a FROM t WHERE b IN (?) AND c = ?"), (5_000, "SELECT a FROM t WHERE b IN (?")]
    {
        let statements = simple(&list.as_bytes()[..length], length < list.len(), Backslash::Plain);
        assert_eq!((statements[0].text.as_str(), statements[0].cut), (expected, length < list.len()));
    }
    let odd = simple(b"SELECT \"\xff\x1b[31m\x07\" FROM \"\x01\"", false, Backslash::Plain);
    assert!(!odd[0].text.contains(|c: char| c.is_control()), "{odd:?}");
    assert_eq!(odd[0].summary, "SELECT");
    let deep = format!("SELECT {}1{} FROM t; SELECT 2", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(simple(deep.as_bytes(), false, Backslash::Plain).len(), 2);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text: String, bytes: Vec<u8>, cut: bool) {
        for text in [text.as_bytes(), &bytes] {
            for statement in simple(text, cut, Backslash::Plain) {
                proptest::prop_assert!(statement.text.len() <= crate::limits::QUERY_TEXT_BYTES_MAX);
            }
            let _ = prepared(text, cut, Backslash::Plain);
        }
    }

    #[test]
    fn no_literal_passes(parts in proptest::collection::vec(0usize..12, 1..20), cut: proptest::sample::Index) {
        const PARTS: &[&str] = &[
            "SELECT ", "'Zz'", "E'Zz\\'Zz'", "$$Zz$$", "$q$Zz'$q$", "/* Zz */", "-- Zz\n", "(", ") ", ", ", "'Zz''Zz'", "U&'Zz' ",
        ];
        let text: String = parts.iter().map(|part| PARTS[*part]).collect();
        for text in [text.as_bytes(), &text.as_bytes()[..cut.index(text.len() + 1)]] {
            for statement in simple(text, text.len() % 2 == 0, Backslash::Plain) {
                proptest::prop_assert!(!statement.text.contains('Z'), "{:?}", statement);
            }
        }
    }
}

/// <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/non-normative/database-test-cases>
#[test]
fn the_published_cases_pass() {
    let corpus = format!("{}/../../shared/corpora", env!("CARGO_MANIFEST_DIR"));
    let corpus = std::env::var("SPANTAP_CORPORA").unwrap_or(corpus);
    let Ok(text) = std::fs::read_to_string(format!("{corpus}/semconv/db-sql-test-cases.json")) else {
        println!("skipped: corpus semconv absent");
        return;
    };
    let strings = |text: &str| {
        let text = text.replace("\\\"", "\u{1}");
        let quoted: Vec<_> =
            text.split('"').skip(1).step_by(2).map(|part| part.replace('\u{1}', "\"")).collect();
        quoted.into_iter().map(|part| part.replace("\\n", "\n")).collect::<Vec<_>>()
    };
    let mut count = 0;
    for case in text.split("\"name\":").skip(1) {
        let strings = strings(case);
        let after =
            |name: &str| strings.iter().position(|text| text == name).expect("a key of the corpus") + 1;
        let (query, summary) = (&strings[after("query")], &strings[after("db.query.summary")]);
        let texts = &strings[after("db.query.text")..after("db.query.summary") - 1];
        let (found, found_summary) = one(query);
        assert!(texts.contains(&found), "{query}: {found}");
        assert_eq!(&found_summary, summary, "{query}");
        count += 1;
    }
    assert_eq!(count, 24);
}

#[test]
fn what_stands_for_other_bytes_does_not_exceed_the_limits() {
    // Each becomes three bytes.
    for byte in [0x01, 0xff] {
        let text = [&b"SELECT "[..], &[byte; 4_000]].concat();
        let shown = simple(&text, false, Backslash::Plain);
        assert!(shown[0].text.len() <= QUERY_TEXT_BYTES_MAX, "{}", shown[0].text.len());
        assert!(shown[0].text.ends_with('\u{fffd}'));
    }
    for table in [&b""[..], b"s."] {
        let text = [&b"SELECT * FROM "[..], table, &[0xff; 240], b", t"].concat();
        let summary = &simple(&text, false, Backslash::Plain)[0].summary;
        assert!(summary.len() <= QUERY_SUMMARY_BYTES_MAX && !summary.contains('\u{fffd}'), "{summary:?}");
    }
}
