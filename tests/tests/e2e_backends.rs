//! Do all socket backends see the same, and is it all that there was?
//!
//! This is also what runs in guests with other kernels (`cargo xtask test --only kernels`): those are slow, so that
//! counts are small and nothing is timed.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use spantap_tests::{
    agent::{Agent, Finished},
    client::{curl, fetch},
    config::ConfigFile,
    machine,
    nginx::{Logged, Nginx},
    otlp::{Kind, Span},
    program::folder,
    python::{self, Server},
    wrk::Wrk,
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
    location /gone/ { return 404; }
";
/// What wrk asks for on each of its connections, and how many it has.
const EACH: usize = 100;
const CONNECTIONS: usize = 2;

/// What is said of a request, whoever saw it: service, kind, port, path, status, error.
type Seen = (String, Kind, u16, String, u16, bool);

#[test]
fn every_backend_sees_every_request() {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "curl", "openssl", "python3"]) else { return };
    let files = folder();
    fs::write(files.path().join("page.txt"), vec![b'x'; 30_000]).expect("a fresh folder");
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("page.html", &[b'x'; 20_000]);
    let python = python::http_server(files.path());
    let mut all: Vec<(String, BTreeMap<Seen, usize>)> = Vec::new();
    for backend in machine::backends() {
        println!("--- {backend}");
        let before = nginx.log_lines();
        let finished = watch(&backend, &nginx, &python);
        let log = &nginx.log()[before..];
        println!("{:#?}", finished.accounts);
        finished.accounts.assert_nothing_lost();
        assert!(!finished.stderr.contains("WARN"), "{backend}: {}", finished.stderr);
        assert_log(&finished, log, &nginx, &backend);
        let mut seen = BTreeMap::new();
        for span in
            finished.select(|span| [nginx.port, nginx.tls_port, python.port].iter().any(|p| span.is_at(*p)))
        {
            *seen.entry(facts(span)).or_default() += 1;
        }
        // The five requests to Python have two ends, too.
        assert_eq!(seen.values().sum::<usize>(), 2 * (log.len() + 5), "{backend}: {seen:#?}");
        all.push((backend, seen));
    }
    for pair in all.windows(2) {
        for (fact, count) in &pair[0].1 {
            assert_eq!(pair[1].1.get(fact), Some(count), "{fact:?}, by {} and by {}", pair[0].0, pair[1].0);
        }
    }
}

#[test]
fn auto_takes_the_best_backend() {
    let Some(_turn) = machine::ready(&[]) else { return };
    let agent = Agent::start_with(|command| {
        command.env("RUST_LOG", "info,spantap::app::agent=debug");
    });
    let stderr = agent.stderr();
    drop(agent);
    let expected = machine::best_backend();
    assert!(stderr.contains(&format!("backend=\"{expected}\"")), "not {expected}: {stderr}");
    // That TLS is seen by either way is what the test above says.
    let way = if machine::has_probe_links() { "uprobe_multi links" } else { "perf events" };
    assert!(stderr.contains(&format!("probes=\"{way}\"")), "not {way}: {stderr}");
}

/// The workload under one backend: plain and TLS, small and large, HTTP/1.1 kept and HTTP/1.0 closed, bodies that come
/// from a file and bodies that go up.
fn watch(backend: &str, nginx: &Nginx, python: &Server) -> Finished {
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      backend: {backend}\n"
    ));
    let mut agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]).env("RUST_LOG", "info,spantap::app::agent=debug");
    });
    agent.wait_for_tls();
    let said = format!("backend=\"{backend}\"");
    assert!(agent.stderr().contains(&said), "no {said} in {}", agent.stderr());
    let lines = nginx.log_lines();
    let wrk = Wrk::start(&nginx.url(""), CONNECTIONS, EACH, &["/ok/", "/gone/"]);
    nginx.wait_for_log(lines + CONNECTIONS * EACH);
    let _ = wrk.finish();
    let quiet = ["--output", "/dev/null"];
    // On one connection: what follows the body that nobody's memory held must be found again.
    let (page, after) = (nginx.url("/page.html"), nginx.url("/ok/curl"));
    let _ =
        curl(&[&quiet[..], &[&page], &quiet[..], &[&after], &quiet[..], &[&page]].concat()).success("curl");
    let (page, after) = (nginx.tls_url("/page.html"), nginx.tls_url("/gone/curl"));
    for _ in 0..2 {
        let _ = curl(&[&quiet[..], &[&page], &quiet[..], &[&after]].concat()).success("curl");
    }
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", python.port);
    assert_eq!(fetch(&[&url("/page.txt")]), (200, 30_000));
    assert_eq!(fetch(&["--http1.0", &url("/page.txt?old")]), (200, 30_000));
    assert_eq!(fetch(&[&url("/missing")]).0, 404);
    let body = "b".repeat(50_000);
    assert_eq!(fetch(&["--data", &body, &url("/form")]).0, 501);
    let _ = curl(&["--head", &url("/page.txt?head")]).success("curl");
    nginx.wait_for_log(lines + CONNECTIONS * EACH + 3 + 4);
    let ports = [nginx.port, nginx.tls_port, python.port];
    let expected = 2 * (CONNECTIONS * EACH + 3 + 4 + 5);
    // If they do not come, what the agent says at its end tells more than that they did not.
    let deadline = Instant::now() + machine::patience();
    let count = || agent.spans().iter().filter(|span| ports.iter().any(|port| span.is_at(*port))).count();
    while count() < expected && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    agent.finish()
}

/// Each line of the access log is one span of the server and one of its client.
fn assert_log(finished: &Finished, log: &[Logged], nginx: &Nginx, backend: &str) {
    let mut logged: Vec<(&str, u16)> = log.iter().map(|line| (line.uri.as_str(), line.status)).collect();
    logged.sort_unstable();
    for kind in [Kind::Server, Kind::Client] {
        let spans = finished
            .select(|span| span.kind == kind && (span.is_at(nginx.port) || span.is_at(nginx.tls_port)));
        let mut seen: Vec<(&str, u16)> = spans.iter().map(|span| (span.path(), span.status())).collect();
        seen.sort_unstable();
        assert!(seen == logged, "{backend}: {kind:?} spans {seen:?} are not the log {logged:?}");
        for span in spans {
            assert_eq!(span.get("network.peer.address"), "127.0.0.1", "{span}");
        }
    }
}

fn facts(span: &Span) -> Seen {
    let port = span.get("server.port").parse().unwrap_or(0);
    (span.service.clone(), span.kind, port, span.path().to_owned(), span.status(), span.is_error)
}
