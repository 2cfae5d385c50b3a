//! PostgreSQL under pgbench and psycopg: as many spans as `pg_stat_statements` has calls, on both ends.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use spantap_tests::{
    agent::{Agent, Finished},
    machine,
    otlp::{Kind, Span},
    postgres::Postgres,
    program::Program,
    python,
};

/// Slow enough that a busy machine decides nothing: `-R` is in transactions of seven statements a second.
const PACE: &[&str] = &["-n", "-c", "4", "-j", "2", "-t", "50", "-R", "100"];
const TRANSACTIONS: u64 = 200;

#[test]
fn pgbench_is_counted_as_the_server_counts_it() {
    let Some(_turn) = machine::ready(&["psql", "pgbench", "setpriv"]) else { return };
    let postgres = match Postgres::start() {
        Ok(postgres) => postgres,
        Err(skip) => return machine::skipped(&skip),
    };
    for mode in ["simple", "extended", "prepared"] {
        postgres.reset_statements();
        let agent = Agent::start();
        let mut pgbench = postgres.pgbench(&[PACE, &["-M", mode]].concat());
        let said = Program::run("pgbench", &mut pgbench).success("pgbench").stdout;
        assert!(said.contains(&format!("processed: {TRANSACTIONS}/{TRANSACTIONS}")), "{said}");
        let mut calls = postgres.calls();
        let finished = agent.finish();
        if mode == "prepared" {
            // It counts a prepared BEGIN or END only at the first execution (pgss_ProcessUtility resets its query's id).
            calls.extend(["BEGIN", "END"].map(|verb| (verb.to_owned(), TRANSACTIONS)));
        }
        finished.accounts.assert_nothing_lost();
        assert_eq!(finished.accounts.left_out.get("dropped messages"), None, "{:#?}", finished.accounts);
        // BEGIN, three UPDATEs, SELECT, INSERT, END; and what pgbench asks once.
        assert_eq!((calls["UPDATE"], calls["INSERT"]), (3 * TRANSACTIONS, TRANSACTIONS), "{calls:?}");
        for (service, kind) in [("pgbench", Kind::Client), ("postgres", Kind::Server)] {
            let spans = of_shop(&finished, &postgres, service, kind);
            assert_eq!(by_verb(&spans), calls, "{mode}: {service}");
            for span in &spans {
                assert_eq!(span.get("db.system.name"), "postgresql");
                assert!(
                    !span.is_error && span.get("db.query.summary") == span.name,
                    "{span}: {:?}",
                    span.attributes
                );
                assert_text(span, mode);
            }
            let rows = spans.iter().filter(|span| span.name == "SELECT pgbench_accounts");
            assert!(rows.clone().all(|span| span.get("db.response.returned_rows") == "1"));
            assert_eq!(rows.count() as u64, TRANSACTIONS);
            println!("{mode}: {service}: {} spans, {:?}", spans.len(), by_verb(&spans));
        }
        let metric = finished
            .points
            .iter()
            .filter(|point| point.service == "pgbench" && point.metric == "db.client.operation.duration");
        let count: u64 = metric.map(|point| point.count).sum();
        assert_eq!(count, calls.values().sum::<u64>(), "values of the histogram");
    }
    postgres.stop();
}

#[test]
fn pipelines_are_told_apart_and_errors_are_right() {
    let Some(_turn) = machine::ready(&["psql", "pgbench", "setpriv", "python3"]) else { return };
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let venv = match python::install(target, "psycopg==3.3.9 psycopg-binary==3.3.9") {
        Ok(venv) => venv,
        Err(skip) => return machine::skipped(&skip),
    };
    let postgres = match Postgres::start() {
        Ok(postgres) => postgres,
        Err(skip) => return machine::skipped(&skip),
    };
    postgres.reset_statements();
    let agent = Agent::start();
    let script = python::script("psycopg_pipeline.py", &[&postgres.port.to_string()]);
    let mut client = Command::new(venv.join("bin/python"));
    client.args(script.get_args()).env("OTEL_SERVICE_NAME", "pipeliner");
    let _ = Program::run("psycopg_pipeline.py", &mut client).success("psycopg");
    let mut psql = postgres.client("psql");
    psql.args([
        "-X",
        "-d",
        "shop",
        "-c",
        "SELECT * FROM missing WHERE a = 'secret'",
        "-c",
        "SELECT 1; SELECT 'secret'",
    ]);
    let _ = Program::run("psql", &mut psql);
    let calls = postgres.calls();
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    for (service, kind) in [("pipeliner", Kind::Client), ("postgres", Kind::Server)] {
        let mut spans = of_shop(&finished, &postgres, service, kind);
        spans.retain(|span| {
            !span.get("db.query.text").contains("missing") && span.get("db.query.text") != "SELECT ?"
        });
        let count = |verb: &str| {
            spans.iter().filter(|span| span.name.starts_with(verb) && !span.is_error).count() as u64
        };
        // 400 of each; the pipelines with an error are rolled back, but their statements were executed.
        assert_eq!((count("INSERT items"), count("SELECT items")), (400, 400), "{service}");
        assert_eq!(calls["INSERT"], 400, "{calls:?}");
        let errors: Vec<_> = spans.iter().filter(|span| span.is_error).collect();
        assert_eq!(errors.len(), 5, "{service}");
        assert!(errors.iter().all(|span| span.get("db.response.status_code") == "22012"));
        assert!(errors.iter().all(|span| span.get("error.type") == "22012"));
    }
    for (service, kind) in [("psql", Kind::Client), ("postgres", Kind::Server)] {
        let spans = of_shop(&finished, &postgres, service, kind);
        let missing: Vec<_> = spans.iter().filter(|span| span.name == "SELECT missing").collect();
        assert_eq!(missing.len(), 1, "{service}");
        assert_eq!(missing[0].get("error.type"), "42P01");
        assert_eq!(missing[0].get("db.query.text"), "SELECT * FROM missing WHERE a = ?");
        assert_eq!(
            spans.iter().filter(|span| span.get("db.query.text") == "SELECT ?").count(),
            2,
            "{service}"
        );
    }
    for span in &finished.spans {
        assert!(!span.attributes.values().any(|value| value.contains("secret")), "{span}");
    }
    postgres.stop();
}

/// COPY, a session in which backslashes escape, and cycles that are pipelined: each ends when it ends.
#[test]
fn copy_backslashes_and_pipelined_cycles_are_as_they_were() {
    let Some(_turn) = machine::ready(&["psql", "pgbench", "setpriv", "python3"]) else { return };
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let venv = match python::install(target, "psycopg==3.3.9 psycopg-binary==3.3.9") {
        Ok(venv) => venv,
        Err(skip) => return machine::skipped(&skip),
    };
    let postgres = match Postgres::start() {
        Ok(postgres) => postgres,
        Err(skip) => return machine::skipped(&skip),
    };
    postgres.reset_statements();
    let agent = Agent::start();
    let script = python::script("postgres_session.py", &[&postgres.port.to_string()]);
    let mut client = Command::new(venv.join("bin/python"));
    client.args(script.get_args()).env("OTEL_SERVICE_NAME", "session");
    let _ = Program::run("postgres_session.py", &mut client).success("psycopg");
    let calls = postgres.calls();
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    for (service, kind) in [("session", Kind::Client), ("postgres", Kind::Server)] {
        let spans = of_shop(&finished, &postgres, service, kind);
        assert_eq!(by_verb(&spans), calls, "{service}");
        let of = |text: &str| spans.iter().filter(|span| span.get("db.query.text") == text).count();
        assert_eq!((of("COPY notes FROM STDIN"), of("COPY notes TO STDOUT")), (1, 1), "{service}");
        let rows = |text: &str| {
            let span = spans.iter().find(|span| span.get("db.query.text") == text);
            span.map(|span| span.get("db.response.returned_rows"))
        };
        let copied = (rows("COPY notes TO STDOUT"), rows("COPY notes FROM STDIN"));
        assert_eq!(copied, (Some("100"), Some("")), "{service}");
        assert_eq!(of("SELECT ?, count(*) FROM notes WHERE body = ?"), 1, "{service}");
        assert_eq!(of("SELECT ?, count(*) FROM notes"), 1, "{service}");
        let mut slept: Vec<&&Span> =
            spans.iter().filter(|span| span.get("db.query.text") == "SELECT pg_sleep($1)").collect();
        slept.sort_by_key(|span| span.end_unix_ns);
        assert_eq!(slept.len(), 32, "{service}");
        let began = slept.iter().map(|span| span.start_unix_ns).min().unwrap_or_default();
        for (nth, span) in (1..).zip(&slept) {
            let since = span.end_unix_ns.saturating_sub(began);
            assert!(since >= nth * 5_000_000, "{service}: {nth} ends after {since} ns");
        }
        for span in &spans {
            assert!(!span.is_error, "{span}");
            let shown = span.attributes.values().any(|value| value.contains("secret"));
            assert!(!shown, "{span}: {:?}", span.attributes);
        }
    }
    postgres.stop();
}

#[test]
fn a_pgbench_that_is_older_than_the_agent_is_joined() {
    let Some(_turn) = machine::ready(&["psql", "pgbench", "setpriv"]) else { return };
    let postgres = match Postgres::start() {
        Ok(postgres) => postgres,
        Err(skip) => return machine::skipped(&skip),
    };
    // Its statements are prepared before anybody looks.
    let mut pgbench =
        postgres.pgbench(&["-n", "-c", "2", "-M", "prepared", "-R", "50", "-T", "60", "-P", "1"]);
    let mut pgbench = Program::start("pgbench", &mut pgbench);
    pgbench.wait_ready("worked", |program| program.stderr().contains("progress: 2"));
    let agent = Agent::start();
    agent.wait_for(400, |span| span.is("pgbench", Kind::Client) && span.is_at(postgres.port));
    // All of them are there while it works: no end of a connection helps. (An interrupt would only cancel a query, if
    // there is one.)
    pgbench.signal(libc::SIGTERM);
    pgbench.wait(Duration::from_secs(20));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    // What each connection was doing at that moment cannot be paired, and is counted.
    println!("{:?}", finished.accounts.left_out);
    let dropped = finished.accounts.left_out.get("dropped messages");
    assert!(dropped.is_some_and(|count| (1..=40).contains(count)), "{dropped:?}");
    for (service, kind) in [("pgbench", Kind::Client), ("postgres", Kind::Server)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(postgres.port));
        let verbs = by(&spans, |span| span.get("db.operation.name").to_owned());
        println!("{service}: {verbs:?}");
        // Each transaction has as many of each but for those under way at both ends of the watch.
        for (verb, times) in [("BEGIN", 1), ("UPDATE", 3), ("SELECT", 1), ("INSERT", 1), ("COMMIT", 1)] {
            let (found, begun) = (verbs[verb], verbs["BEGIN"] * times);
            assert!(found.abs_diff(begun) <= 3 * 4, "{service}: {verbs:?}");
        }
        for span in spans.iter().filter(|span| !span.is_error) {
            assert!(
                span.get("spantap.db.unknown_statement").starts_with("P"),
                "{span}: {:?}",
                span.attributes
            );
            assert_eq!((span.get("db.namespace"), span.get("db.query.text")), ("", ""), "{span}");
        }
    }
    postgres.stop();
}

/// The spans of the database that is counted.
fn of_shop<'a>(finished: &'a Finished, postgres: &Postgres, service: &str, kind: Kind) -> Vec<&'a Span> {
    finished.select(|span| {
        span.is(service, kind) && span.is_at(postgres.port) && span.get("db.namespace") == "shop"
    })
}

fn by(spans: &[&Span], key: impl Fn(&Span) -> String) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for span in spans {
        *counts.entry(key(span)).or_default() += 1;
    }
    counts
}

fn by_verb(spans: &[&Span]) -> BTreeMap<String, u64> {
    by(spans, |span| span.name.split(' ').next().unwrap_or_default().to_uppercase())
}

/// Values are shown in neither mode: with simple queries they are replaced, else they are elsewhere.
fn assert_text(span: &Span, mode: &str) {
    if span.name != "UPDATE pgbench_tellers" {
        return;
    }
    let expected = match mode {
        "simple" => "UPDATE pgbench_tellers SET tbalance = tbalance + ? WHERE tid = ?",
        _ => "UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2;",
    };
    assert_eq!(span.get("db.query.text"), expected);
}
