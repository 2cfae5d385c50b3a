//! redis-server under redis-benchmark, redis-cli and redis-py: as many spans of each command as the server has counted.

use std::{collections::BTreeMap, path::Path, process::Command};

use spantap_tests::{
    agent::{Agent, Finished},
    applications::assert_end,
    machine::{self, Skip},
    nginx,
    otlp::{Kind, Span},
    program::{Program, folder, free_port, listens},
    python,
};
use tempfile::TempDir;

/// A redis-server of its own that nobody has asked anything yet.
struct Redis {
    port: u16,
    program: Program,
    /// What redis-cli needs to reach it.
    options: Vec<String>,
    _folder: TempDir,
}

impl Redis {
    fn start(tls: bool) -> Self {
        let (port, folder) = (free_port(), folder());
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).current_dir(folder.path());
        let mut options = vec!["-p".to_owned(), port.to_string()];
        if tls {
            nginx::certificate(folder.path());
            command.args(["--port", "0", "--tls-auth-clients", "no", "--tls-port", &port.to_string()]);
            command.args([
                "--tls-cert-file",
                "cert.pem",
                "--tls-key-file",
                "key.pem",
                "--tls-ca-cert-file",
                "cert.pem",
            ]);
            // It says the port of each client then.
            command.args(["--loglevel", "verbose"]);
            options.extend(["--tls", "--insecure"].map(str::to_owned));
        } else {
            command.args(["--port", &port.to_string()]);
        }
        let mut program = Program::start("redis-server", &mut command);
        program.wait_ready("listened", |_| listens(port));
        Self { port, program, options, _folder: folder }
    }

    /// Runs one command with redis-cli; errors of the server are no errors of it.
    fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        Program::run("redis-cli", command.args(&self.options).args(words)).success("redis-cli").stdout
    }

    fn benchmark(&self, options: &[&str]) {
        let mut command = Command::new("redis-benchmark");
        command.args(&self.options).args(["-q", "-r", "1000"]).args(options);
        let _ = Program::run("redis-benchmark", &mut command).success("redis-benchmark");
    }

    /// What `INFO` says: `cmdstat_get:calls=3,...` is 3 of `get`.
    fn counts(&self, section: &str, prefix: &str, field: &str) -> BTreeMap<String, u64> {
        let text = self.cli(&["info", section]);
        let count = |line: &str| {
            let (name, fields) = line.strip_prefix(prefix)?.split_once(':')?;
            let count = fields.split(',').find_map(|pair| pair.strip_prefix(field))?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        };
        text.lines().filter_map(count).filter(|(_, count)| *count > 0).collect()
    }

    /// Stops the server, so that all its connections have ended, and compares.
    fn compare(mut self, agent: Agent, clients: &[&str]) -> Finished {
        let commands = self.counts("commandstats", "cmdstat_", "calls=");
        let errors = self.counts("errorstats", "errorstat_", "count=");
        let port = self.port;
        self.program.signal(libc::SIGTERM);
        assert!(self.program.wait(machine::patience()).success());
        let finished = agent.finish();
        println!("{commands:#?}\n{errors:#?}\n{:#?}", finished.accounts);
        finished.accounts.assert_nothing_lost();
        for loss in ["dropped messages", "records dropped by standard output: queue full"] {
            assert_eq!(finished.accounts.left_out.get(loss), None, "{loss}");
        }
        let server = finished.select(|span| span.kind == Kind::Server && span.is_at(port));
        let client = finished.select(|span| {
            span.kind == Kind::Client && span.is_at(port) && clients.contains(&&*span.service)
        });
        if self.options.iter().any(|option| option == "--tls") {
            let said = self.program.stdout();
            let accepted = |line: &str| line.split_once("Accepted 127.0.0.1:")?.1.trim().parse().ok();
            let accepted: Vec<u16> = said.lines().filter_map(accepted).collect();
            assert_end("redis-server (Server)", server.len(), &server, |_, peer| accepted.contains(&peer));
            assert_end(&format!("{clients:?} (Client)"), client.len(), &client, |_, peer| peer == port);
        }
        for spans in [&server, &client] {
            // Those that asked for these counts, and what this server does not know, which it does not count.
            let mut seen = tally(
                spans.iter().map(|span| span.get("db.operation.name").to_lowercase().replace(' ', "|")),
            );
            let mut expected = commands.clone();
            for counts in [&mut seen, &mut expected] {
                counts.retain(|name, _| {
                    !matches!(name.as_str(), "info" | "client|setinfo" | "client|maint_notifications")
                });
            }
            assert_eq!(seen, expected, "spans by command, and the server's count");
            let failed = spans
                .iter()
                .filter(|span| span.is_error)
                .map(|span| span.get("db.response.status_code").to_owned());
            assert_eq!(tally(failed), errors, "spans by error, and the server's count");
            for span in spans {
                assert_eq!(span.get("db.system.name"), "redis", "{span}");
                assert_eq!(span.get("server.address"), "127.0.0.1", "{span}");
                assert_eq!(span.get("server.port"), port.to_string(), "{span}");
                assert_eq!(span.name, span.get("db.operation.name"), "{span}");
                assert!(span.end_unix_ns >= span.start_unix_ns, "{span}");
            }
        }
        assert_metric(&finished, &client, clients);
        finished
    }
}

fn tally(names: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn assert_metric(finished: &Finished, spans: &[&Span], clients: &[&str]) {
    let points = finished.points.iter().filter(|point| {
        point.metric == "db.client.operation.duration" && clients.contains(&point.service.as_str())
    });
    let count: u64 = points.map(|point| point.count).sum();
    assert_eq!(count, spans.len() as u64, "the histogram counts what the spans are");
}

fn ready() -> Option<machine::Turn> {
    let turn = machine::ready(&[])?;
    for program in ["redis-server", "redis-benchmark", "redis-cli", "openssl", "python3"] {
        if machine::find_program(program).is_none() {
            machine::skipped(&Skip::NoProgram(program.to_owned()));
            return None;
        }
    }
    Some(turn)
}

#[test]
fn every_command_of_a_benchmark_is_a_span_at_both_ends() {
    let Some(_turn) = ready() else { return };
    let redis = Redis::start(false);
    let agent = Agent::start();
    redis.benchmark(&["-P", "64", "-c", "4", "-n", "1280", "-t", "ping,set,get,incr,lpush,lpop,sadd"]);
    redis.benchmark(&["-P", "1", "-c", "8", "-n", "400", "-t", "ping,set,get,hset,lrange_100"]);
    redis.cli(&["lpush", "key:000000000001", "x"]);
    redis.cli(&["lpush", "text", "x"]);
    redis.cli(&["get", "text"]);
    redis.cli(&["config", "get", "maxmemory"]);
    redis.cli(&["-n", "3", "set", "other", "a value that nobody should see"]);
    redis.cli(&["auth", "wrong-secret"]);
    let port = redis.port;
    let finished = redis.compare(agent, &["redis-benchmark", "redis-cli"]);
    for kind in [Kind::Server, Kind::Client] {
        let spans = finished.select(|span| span.kind == kind && span.is_at(port));
        let of = |name: &str, key: &str| {
            let found =
                spans.iter().filter(|span| span.name == name && span.get("db.query.text").contains(key));
            found.map(|span| (span.get("db.namespace"), span.get("db.query.text"))).collect::<Vec<_>>()
        };
        assert_eq!(of("set", "other"), [("3", "set other ?")]);
        assert_eq!(of("get", "text"), [("0", "get text")]);
        assert_eq!(of("auth", ""), [("0", "auth ?")]);
    }
    assert_no_value(&finished);
}

#[test]
fn an_application_with_redis_py_is_seen_whole() {
    let Some(_turn) = ready() else { return };
    let venv = match python::install(Path::new(env!("CARGO_TARGET_TMPDIR")), "redis==8.1.0") {
        Ok(venv) => venv,
        Err(skip) => return machine::skipped(&skip),
    };
    let redis = Redis::start(false);
    let agent = Agent::start();
    let mut command = Command::new(venv.join("bin/python"));
    let script = python::script("redis_client.py", &[&redis.port.to_string()]);
    command.args(script.get_args()).env("OTEL_SERVICE_NAME", "application");
    let _ = Program::run("redis-py", &mut command).success("redis-py");
    let finished = redis.compare(agent, &["application", "redis-cli"]);
    assert_no_value(&finished);
    let blocked = finished.select(|span| span.is("application", Kind::Client) && span.name == "BLPOP");
    assert!(blocked.iter().all(|span| span.milliseconds() >= 100.0), "it waits for what does not come");
}

#[test]
fn over_tls_it_is_the_same() {
    let Some(_turn) = ready() else { return };
    let redis = Redis::start(true);
    let mut agent = Agent::start();
    agent.wait_for_tls();
    for number in 0..20 {
        redis.cli(&["set", &format!("key:{number}"), "a value that nobody should see"]);
        redis.cli(&["get", &format!("key:{number}")]);
    }
    redis.cli(&["lpush", "key:1", "x"]);
    redis.benchmark(&["-P", "1", "-c", "8", "-n", "400", "-t", "ping,set,get,hset"]);
    redis.benchmark(&["-P", "16", "-c", "2", "-n", "640", "-t", "set,get,incr"]);
    let finished = redis.compare(agent, &["redis-cli", "redis-benchmark"]);
    assert_no_value(&finished);
}

fn assert_no_value(finished: &Finished) {
    for span in &finished.spans {
        let shown = span
            .attributes
            .values()
            .any(|value| value.contains("nobody should see") || value.contains("secret"));
        assert!(!shown, "{span}: {:?}", span.attributes);
    }
}

/// The connection is thousands of requests old when the agent comes; then 64 are in flight at once, and the one in the
/// middle blocks: those before it are over before, those behind it are not.
#[test]
fn an_old_connection_is_joined_and_its_pipeline_has_times_of_its_own() {
    let Some(_turn) = ready() else { return };
    let venv = match python::install(Path::new(env!("CARGO_TARGET_TMPDIR")), "redis==8.1.0") {
        Ok(venv) => venv,
        Err(skip) => return machine::skipped(&skip),
    };
    let redis = Redis::start(false);
    let files = folder();
    let signal = files.path().join("go");
    let mut command = Command::new(venv.join("bin/python"));
    let script =
        python::script("redis_pipeline.py", &[&redis.port.to_string(), &signal.display().to_string()]);
    command.args(script.get_args()).env("OTEL_SERVICE_NAME", "application");
    let mut client = Program::start("redis-py", &mut command);
    client.wait_ready("made its first requests", |client| client.stdout().contains("waiting"));
    redis.cli(&["config", "resetstat"]);
    let agent = Agent::start();
    std::fs::write(&signal, "").expect("a fresh folder");
    assert!(client.wait(machine::patience()).success());
    let (port, calls) = (redis.port, redis.counts("commandstats", "cmdstat_", "calls="));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    // The client's PING: whether it waits for the first reply or for one before it is not known there.
    assert_eq!(finished.accounts.left_out.get("dropped messages"), Some(&1), "{:#?}", finished.accounts);
    assert_eq!((calls["set"], calls["get"], calls["incrby"], calls["blpop"]), (200, 200, 63, 1));
    assert_no_value(&finished);
    for (service, kind) in [("", Kind::Server), ("application", Kind::Client)] {
        let of = |name: &str| {
            let mut spans = finished.select(|span| {
                let is_end = span.kind == kind && span.is_at(port) && span.service.ends_with(service);
                is_end && span.name.eq_ignore_ascii_case(name)
            });
            spans.sort_by_key(|span| span.end_unix_ns);
            spans
        };
        assert_eq!((of("SET").len(), of("GET").len()), (200, 200), "{kind:?}");
        let (blocked, counted) = (of("BLPOP"), of("INCRBY"));
        assert_eq!((blocked.len(), counted.len()), (1, 63), "{kind:?}");
        assert!(blocked[0].milliseconds() >= 100.0, "{kind:?}: {}", blocked[0]);
        let (before, after) = counted.split_at(31);
        let end = blocked[0].end_unix_ns;
        assert!(before.iter().all(|span| span.end_unix_ns + 50_000_000 < end), "{kind:?}: {before:?}");
        assert!(after.iter().all(|span| span.end_unix_ns >= end), "{kind:?}: {after:?}");
        assert!(after.iter().all(|span| span.milliseconds() >= 100.0), "{kind:?}: {after:?}");
    }
}
