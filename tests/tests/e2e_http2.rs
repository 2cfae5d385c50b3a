//! HTTP/2: as many spans as requests were made, with a hundred streams at once, each with its own path, status and time.

use std::{collections::BTreeMap, fs, process::Command};

use spantap_tests::{
    agent::Finished,
    http2::{self, Nghttpd},
    machine,
    nginx::{Nginx, by_status},
    otlp::{Kind, Span},
    program::{Program, folder, free_port, listens},
};

const REQUESTS: usize = 3_000;
const STREAMS: usize = 100;

/// The value of `n` in a URL's query, or in a path's last segment.
fn number(span: &Span) -> String {
    let query = span.get("url.query");
    let url = if query.is_empty() { span.get("url.full") } else { query };
    url.rsplit_once("n=").map_or_else(String::new, |(_, number)| number.to_owned())
}

/// Each of the requests is one span, and has the path and status that `expected` gives for its number.
fn assert_each(spans: &[&Span], count: usize, expected: impl Fn(usize) -> (&'static str, u16)) {
    let mut found: BTreeMap<String, (&str, u16)> = BTreeMap::new();
    for span in spans {
        let told = (span.path(), span.status());
        assert_eq!(found.insert(number(span), told), None, "{span} is there twice");
    }
    for n in 0..count {
        assert_eq!(found.remove(&n.to_string()), Some(expected(n)), "request {n}");
    }
    assert_eq!(found.len(), 0, "spans that nobody made: {found:?}");
}

#[test]
fn a_hundred_streams_of_nghttpd_are_told_apart() {
    let Some(_turn) = machine::ready(&["nghttpd", "h2load"]) else { return };
    let files = folder();
    fs::write(files.path().join("small.txt"), [b'x'; 100]).expect("a fresh folder");
    let server = Nghttpd::start(files.path());
    let (agent, _config) = http2::agent();
    let expected = |n: usize| if n.is_multiple_of(7) { ("/nothing", 404) } else { ("/small.txt", 200) };
    let url = |n: usize| format!("http://127.0.0.1:{}{}?n={n}", server.port, expected(n).0);
    let urls: Vec<String> = (0..REQUESTS).map(url).collect();
    let classes = http2::load(&urls, STREAMS);
    assert_eq!(classes["4xx"], REQUESTS.div_ceil(7));
    agent.wait_for(REQUESTS, |span| span.is("nghttpd", Kind::Server) && span.is_at(server.port));
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    finished.accounts.assert_nothing_lost();
    for (service, kind) in [("nghttpd", Kind::Server), ("h2load", Kind::Client)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(server.port));
        assert_each(&spans, REQUESTS, expected);
        spans.iter().for_each(|span| assert_attributes(span, "http", server.port));
    }
}

#[test]
fn a_hundred_streams_of_nginx_over_tls_are_its_access_log() {
    let Some(_turn) = machine::ready(&["nginx", "h2load", "openssl"]) else { return };
    let nginx = Nginx::start_http2(
        "location /ok { return 200 'hello\\n'; } location /missing { return 404; } location /failed { return 500; }",
    );
    let (mut agent, _config) = http2::agent();
    agent.wait_for_tls();
    let expected = |n: usize| [("/ok", 200), ("/ok", 200), ("/missing", 404), ("/failed", 500)][n % 4];
    let urls: Vec<String> =
        (0..REQUESTS).map(|n| nginx.tls_url(&format!("{}?n={n}", expected(n).0))).collect();
    let _ = http2::load(&urls, STREAMS);
    nginx.wait_for_log(REQUESTS);
    let port = nginx.tls_port;
    let log = nginx.stop();
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    finished.accounts.assert_nothing_lost();
    for (service, kind) in [("nginx", Kind::Server), ("h2load", Kind::Client)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(port));
        assert_each(&spans, REQUESTS, expected);
        assert_eq!(
            by_status(spans.iter().map(|span| span.status())),
            by_status(log.iter().map(|line| line.status)),
            "spans of {service}, and lines of the log"
        );
        spans.iter().for_each(|span| assert_attributes(span, "https", port));
    }
    assert_eq!(log.len(), REQUESTS);
}

fn assert_attributes(span: &Span, scheme: &str, port: u16) {
    assert_eq!(span.get("http.request.method"), "GET", "{span}");
    assert_eq!(span.get("network.protocol.version"), "2", "{span}");
    assert_eq!(span.get("server.address"), "127.0.0.1", "{span}");
    assert_eq!(span.get("server.port"), port.to_string(), "{span}");
    match span.kind {
        Kind::Client => assert!(span.get("url.full").starts_with(&format!("{scheme}://127.0.0.1:{port}/"))),
        _ => {
            assert_eq!(span.get("url.scheme"), scheme, "{span}");
            assert_eq!(span.name, format!("GET {}", span.path()), "{span}");
            assert!(span.get("user_agent.original").starts_with("h2load"), "{span}");
        }
    }
    let is_error = span.status() >= if span.kind == Kind::Client { 400 } else { 500 };
    assert_eq!(span.is_error, is_error, "{span}");
}

fn node_server(port: u16) -> Program {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/http2_server.js");
    let mut command = Command::new("node");
    command.arg(script).arg(port.to_string()).env("OTEL_SERVICE_NAME", "h2-server");
    let mut server = Program::start("node", &mut command);
    server.wait_ready("listened", |_| listens(port));
    server
}

fn node_client(port: u16, groups: &[String]) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/http2_client.js");
    let mut command = Command::new("node");
    command.arg(script).arg(port.to_string()).args(groups).env("OTEL_SERVICE_NAME", "h2-client");
    command
}

fn both_ends(finished: &Finished, port: u16) -> [(Kind, Vec<&Span>); 2] {
    [("h2-server", Kind::Server), ("h2-client", Kind::Client)]
        .map(|(service, kind)| (kind, finished.select(|span| span.is(service, kind) && span.is_at(port))))
}

/// A hundred requests that begin together and take from 0 to 495 ms, on one connection.
#[test]
fn each_of_a_hundred_streams_has_its_own_time() {
    let Some(_turn) = machine::ready(&["node"]) else { return };
    let port = free_port();
    let _server = node_server(port);
    let (agent, _config) = http2::agent();
    let paths: Vec<String> = (0..STREAMS).map(|n| format!("/wait/{}/{n}", 5 * (n * 37 % STREAMS))).collect();
    let _ = Program::run("node", &mut node_client(port, &[paths.join(",")])).success("node");
    agent.wait_for(STREAMS, |span| span.is("h2-server", Kind::Server));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    for (kind, spans) in both_ends(&finished, port) {
        let mut found: Vec<&str> = spans.iter().map(|span| span.path()).collect();
        let mut expected: Vec<&str> = paths.iter().map(String::as_str).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{kind:?}");
        let waited = |span: &Span| span.path().split('/').nth(2).and_then(|ms| ms.parse::<f64>().ok());
        let mut late: Vec<f64> = Vec::new();
        for span in &spans {
            let excess = span.milliseconds() - waited(span).expect("a number");
            assert!(excess > -2.0, "{span} took less than it waited");
            late.push(excess);
        }
        late.sort_by(f64::total_cmp);
        println!("{kind:?}: longer than asked for by {:.1} ms in the median", late[late.len() / 2]);
        // Node begins them all before it looks at a timer; a mixed-up pair is off by hundreds.
        assert!(late[late.len() / 2] < 60.0, "{late:?}");
    }
}

/// The connection is thousands of requests old when the agent comes.
#[test]
fn an_old_connection_is_joined() {
    let Some(_turn) = machine::ready(&["node"]) else { return };
    let port = free_port();
    let _server = node_server(port);
    let files = folder();
    let signal = files.path().join("go");
    let group = |from: usize| (from..from + 50).map(|n| format!("/ok/{n}")).collect::<Vec<_>>().join(",");
    let mut groups: Vec<String> = (0..50).map(|n| group(50 * n)).collect();
    groups.push(format!("@{}", signal.display()));
    let after: Vec<String> =
        (0..400).map(|n| format!("/status/{}/{n}", [200, 201, 404, 503][n % 4])).collect();
    groups.extend(after.iter().cloned());
    let mut client = Program::start("node", &mut node_client(port, &groups));
    client.wait_ready("made its first requests", |client| client.stdout().contains("waiting"));
    let (agent, _config) = http2::agent();
    fs::write(&signal, "").expect("a fresh folder");
    assert!(client.wait(machine::patience()).success());
    agent.wait_for(after.len(), |span| span.is("h2-server", Kind::Server));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    for (kind, spans) in both_ends(&finished, port) {
        assert_eq!(spans.len(), after.len(), "{kind:?}");
        for span in &spans {
            assert!(after.iter().any(|path| path == span.path()), "{span}");
            // What stands in the static table, or came in full, is known; of other statuses the first few are not.
            let status = span.path().split('/').nth(2).unwrap_or_default();
            assert!([status, ""].contains(&span.get("http.response.status_code")), "{span}");
        }
        let known = spans.iter().filter(|span| span.status() > 0).count();
        println!("{kind:?}: {known} of {} statuses known", spans.len());
        assert_eq!(known, after.len(), "{kind:?}");
    }
}
