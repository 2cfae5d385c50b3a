//! Databases and brokers over TLS: PostgreSQL with the clients that most programs use, statement by statement; as
//! many spans at both ends as the server has counted, each with the right peer.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use spantap_tests::{
    agent::{Agent, Finished},
    applications::{agent, assert_end, program},
    machine,
    otlp::{Kind, Span},
    postgres::Postgres,
    program::{Program, wait_until},
    python,
};

/// Slow enough that a busy machine decides nothing: `-R` is in transactions of seven statements a second.
const PACE: &[&str] = &["-n", "-c", "4", "-j", "2", "-t", "50", "-R", "100"];

/// What is asked of the database that is counted.
fn of_shop<'a>(finished: &'a Finished, service: &str, kind: Kind) -> Vec<&'a Span> {
    finished.select(|span| span.is(service, kind) && span.get("db.namespace") == "shop")
}

/// Both ends have as many statements as the server says, each from a port from which the server says it came, as many.
fn assert_statements(finished: &Finished, postgres: &Postgres, client: &str, made: u64) {
    finished.accounts.assert_nothing_lost();
    let port = postgres.port;
    let made = usize::try_from(made).expect("a number of ours");
    let spans = of_shop(finished, client, Kind::Client);
    assert_end(&format!("{client} (Client)"), made, &spans, |_, peer| peer == port);
    let logged = postgres.statements_by_port("shop");
    let spans = of_shop(finished, "postgres", Kind::Server);
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    for span in &spans {
        *seen.entry(span.get("network.peer.port").parse().unwrap_or(0)).or_default() += 1;
    }
    assert_end(&format!("postgres (Server) with {client}"), made, &spans, |_, peer| {
        logged.contains_key(&peer)
    });
    assert_eq!(seen, logged, "statements by the client's port, and the server's log");
}

#[test]
fn pgbench_and_psql_are_counted_as_the_server_counts_them() {
    let Some(_turn) = machine::ready(&["psql", "pgbench", "setpriv", "openssl"]) else { return };
    for mode in ["simple", "extended", "prepared"] {
        let postgres = match Postgres::start_tls() {
            Ok(postgres) => postgres,
            Err(skip) => return machine::skipped(&skip),
        };
        postgres.reset_statements();
        let agent = agent();
        let mut pgbench = postgres.pgbench(&[PACE, &["-M", mode]].concat());
        let said = Program::run("pgbench", &mut pgbench).success("pgbench").stdout;
        assert!(said.contains("processed: 200/200"), "{said}");
        let calls = postgres.calls();
        let finished = agent.finish();
        let mut made: u64 = calls.values().sum();
        if mode == "prepared" {
            // It counts a prepared BEGIN or END only at the first execution (pgss_ProcessUtility resets its query's id).
            made += 400 - calls["BEGIN"] - calls["END"];
        }
        assert_statements(&finished, &postgres, "pgbench", made);
        postgres.stop();
    }
}

#[test]
fn every_psql_is_seen() {
    let Some(_turn) = machine::ready(&["psql", "pgbench", "setpriv", "openssl"]) else { return };
    let postgres = match Postgres::start_tls() {
        Ok(postgres) => postgres,
        Err(skip) => return machine::skipped(&skip),
    };
    postgres.reset_statements();
    let agent = agent();
    for n in 0..20 {
        assert_eq!(postgres.rows("shop", &format!("SELECT {n} + 1")), format!("{}\n", n + 1));
    }
    let made = postgres.calls().values().sum();
    let finished = agent.finish();
    assert_eq!(made, 20);
    assert_statements(&finished, &postgres, "psql", made);
    postgres.stop();
}

/// A Python with packages, or why there is none.
fn python_with(packages: &str) -> Option<PathBuf> {
    match python::install(Path::new(env!("CARGO_TARGET_TMPDIR")), packages) {
        Ok(folder) => Some(folder.join("bin/python")),
        Err(skip) => {
            machine::skipped(&skip);
            None
        }
    }
}

/// Waits until the libraries that a module brings are watched: a first process may be too quick.
fn wait_watched(agent: &Agent, python: &Path, module: &str, library: &str) {
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {module}, time; time.sleep(100)")]);
    let _holder = Program::start(module, &mut command);
    wait_until(&format!("{library} is watched"), machine::patience(), || {
        agent.stderr().lines().any(|line| line.contains("watching TLS") && line.contains(library))
    });
}

/// The wheel brings OpenSSL and libpq of its own.
#[test]
fn psycopg2_with_its_own_openssl_is_seen() {
    let Some(_turn) = machine::ready(&["psql", "pgbench", "setpriv", "openssl", "python3"]) else { return };
    let Some(python) = python_with("psycopg2-binary==2.9.12") else { return };
    let postgres = match Postgres::start_tls() {
        Ok(postgres) => postgres,
        Err(skip) => return machine::skipped(&skip),
    };
    let agent = agent();
    wait_watched(&agent, &python, "psycopg2", "/psycopg2_binary.libs/libssl-");
    assert_script(agent, postgres, &python, "psycopg2");
}

/// asyncpg speaks the protocol itself, on asyncio's memory; and in plain text.
#[test]
fn asyncpg_is_seen() {
    let Some(_turn) = machine::ready(&["psql", "pgbench", "setpriv", "openssl", "python3"]) else { return };
    let Some(python) = python_with("asyncpg==0.31.0") else { return };
    for start in [Postgres::start_tls, Postgres::start_logging] {
        match start() {
            Ok(postgres) => assert_script(agent(), postgres, &python, "asyncpg"),
            Err(skip) => return machine::skipped(&skip),
        }
    }
}

/// Three connections with 25 statements each, by the script of that client.
fn assert_script(agent: Agent, postgres: Postgres, python: &Path, client: &str) {
    postgres.reset_statements();
    let mut command = Command::new(python);
    command.arg(program("postgres_clients.py")).args([client, &postgres.port.to_string()]);
    command.env("OTEL_SERVICE_NAME", client).env("PGSSLMODE", postgres.ssl_mode());
    let _ = Program::run(client, &mut command).success(client);
    let calls = postgres.calls();
    let finished = agent.finish();
    println!("{calls:?}");
    assert!(calls["SELECT"] >= 75, "{calls:?}");
    assert_statements(&finished, &postgres, client, calls.values().sum());
    postgres.stop();
}
