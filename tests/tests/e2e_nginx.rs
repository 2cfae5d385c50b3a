//! nginx under wrk: as many server spans as its access log has lines, with the same statuses and durations.

use std::{
    collections::{BTreeMap, HashMap},
    thread,
    time::Duration,
};

use spantap_tests::{
    agent::{Agent, Finished},
    client::{Socket, fetch},
    machine,
    nginx::{Logged, Nginx, by_status},
    otlp::{Kind, Span},
    python,
    wrk::Wrk,
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
    location /missing/ { return 404; }
    location /failed/ { return 500; }
    location /moved/ { return 302 /ok/; }
    location /files/ { try_files /page.html =404; }
";

/// The status of each location.
const STATUSES: &[(&str, u16)] =
    &[("/ok/", 200), ("/missing/", 404), ("/failed/", 500), ("/moved/", 302), ("/files/", 200)];

/// Four that wait for a millisecond between their requests: some 3,000 requests a second.
const CONNECTIONS: usize = 4;
const EACH: usize = 5_000;

#[test]
fn twenty_thousand_requests_are_as_many_spans() {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "openssl"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("page.html", &[b'x'; 1024]);
    let agent = Agent::start();
    let prefixes: Vec<&str> = STATUSES.iter().map(|(prefix, _)| *prefix).collect();
    let wrk = Wrk::start(&nginx.url(""), CONNECTIONS, EACH, &prefixes);
    nginx.wait_for_log(CONNECTIONS * EACH);
    println!("{}", wrk.finish());
    let port = nginx.port;
    let log = nginx.stop();
    let finished = agent.finish();
    assert_eq!(log.len(), CONNECTIONS * EACH);
    println!("{:#?}", finished.accounts);
    finished.accounts.assert_nothing_lost();
    for (service, kind) in [("nginx", Kind::Server), ("wrk", Kind::Client)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(port));
        assert_same_requests(&spans, &log);
        assert_durations(&spans, &log, kind);
        for span in &spans {
            assert_attributes(span, port);
        }
        assert_metric(&finished, service, kind, port, log.len());
    }
}

#[test]
fn many_connections_at_once_are_told_apart() {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "openssl"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("page.html", &[b'x'; 1024]);
    let agent = Agent::start();
    let prefixes: Vec<&str> = STATUSES.iter().map(|(prefix, _)| *prefix).collect();
    let wrk = Wrk::start(&nginx.url(""), 32, 250, &prefixes);
    nginx.wait_for_log(8_000);
    println!("{}", wrk.finish());
    let port = nginx.port;
    let log = nginx.stop();
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    finished.accounts.assert_nothing_lost();
    assert_eq!(log.len(), 8_000);
    let mut ends: HashMap<(&str, &str), usize> = HashMap::new();
    for (service, kind) in [("nginx", Kind::Server), ("wrk", Kind::Client)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(port));
        assert_same_requests(&spans, &log);
        spans.iter().for_each(|span| assert_attributes(span, port));
    }
    // The server's span names the port that its client had.
    for span in finished.select(|span| span.is("nginx", Kind::Server) && span.is_at(port)) {
        *ends.entry((span.path(), span.get("network.peer.port"))).or_default() += 1;
    }
    for line in &log {
        let client_port = line.client_port.to_string();
        assert!(ends.contains_key(&(line.uri.as_str(), client_port.as_str())), "{line:?}");
    }
}

#[test]
fn slow_requests_take_as_long_as_nginx_says() {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "openssl", "python3"]) else { return };
    let backend = python::serve("slow_server.py", &[], |command| {
        command.env("OTEL_SERVICE_NAME", "slow-backend");
    });
    let locations = format!("location / {{ proxy_pass http://127.0.0.1:{}; }}", backend.port);
    let nginx = Nginx::start(&locations);
    let agent = Agent::start();
    let wrk = Wrk::start(&nginx.url(""), 4, 50, &["/wait/5/", "/wait/20/", "/wait/60/", "/wait/100/"]);
    nginx.wait_for_log(200);
    let _ = wrk.finish();
    let port = nginx.port;
    let log = nginx.stop();
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    for (service, kind) in [("nginx", Kind::Server), ("wrk", Kind::Client)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(port));
        assert_same_requests(&spans, &log);
        assert_durations(&spans, &log, kind);
    }
    // nginx asks in turn, and its backend answers: HTTP/1.0 with a connection for each request.
    for (service, kind) in [("nginx", Kind::Client), ("slow-backend", Kind::Server)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(backend.port));
        assert_same_requests(&spans, &log);
        assert_durations(&spans, &log, kind);
    }
}

/// Each line of the log is one span, and each span one line: the same path, with the same status.
fn assert_same_requests(spans: &[&Span], log: &[Logged]) {
    assert_eq!(
        by_status(spans.iter().map(|span| span.status())),
        by_status(log.iter().map(|line| line.status)),
        "spans by status, and the log's lines"
    );
    assert_eq!(spans.len(), log.len(), "spans, and lines of the log");
    let mut lines: BTreeMap<&str, u16> = log.iter().map(|line| (line.uri.as_str(), line.status)).collect();
    assert_eq!(lines.len(), log.len(), "every path is asked for once");
    for span in spans {
        assert_eq!(lines.remove(span.path()), Some(span.status()), "{span} is no line of the log, or twice");
    }
}

/// The median difference is at most 1 ms or 10 % of what nginx says.
fn assert_durations(spans: &[&Span], log: &[Logged], kind: Kind) {
    let said: HashMap<&str, f64> = log.iter().map(|line| (line.uri.as_str(), line.milliseconds)).collect();
    let mut off: Vec<(f64, f64)> = spans
        .iter()
        .map(|span| {
            let said = said[span.path()];
            let difference = span.milliseconds() - said;
            (difference.abs() - (said / 10.0).max(1.0), difference)
        })
        .collect();
    off.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (median, difference) = off[off.len() / 2];
    let mut lengths: Vec<f64> = spans.iter().map(|span| span.milliseconds()).collect();
    lengths.sort_by(f64::total_cmp);
    let within = off.iter().filter(|(excess, _)| *excess <= 0.0).count();
    println!(
        "{kind:?} {}: median duration {:.3} ms, median difference {difference:.3} ms, {within} of {} within 1 ms or 10 %",
        spans[0].service,
        lengths[lengths.len() / 2],
        off.len()
    );
    assert!(median <= 0.0, "the median is off by {difference} ms");
    assert!(lengths[0] >= 0.0 && lengths[lengths.len() - 1] < 60_000.0, "durations make sense");
}

fn assert_attributes(span: &Span, port: u16) {
    let port = port.to_string();
    assert_eq!(span.get("http.request.method"), "GET", "{span}");
    assert_eq!(span.get("network.protocol.version"), "1.1", "{span}");
    assert_eq!(span.get("network.peer.address"), "127.0.0.1", "{span}");
    assert_eq!(span.get("server.address"), "127.0.0.1", "{span}");
    assert_eq!(span.get("server.port"), port, "{span}");
    let prefix = span.path().find('/').and_then(|_| span.path().get(..span.path()[1..].find('/')? + 2));
    let expected = STATUSES.iter().find(|(known, _)| Some(*known) == prefix).map(|(_, status)| *status);
    assert_eq!(expected, Some(span.status()), "{span}");
    // 4xx is an error of the caller's, 5xx of both.
    let is_error = span.status() >= if span.kind == Kind::Client { 400 } else { 500 };
    assert_eq!(span.is_error, is_error, "{span}");
    assert_eq!(span.get("error.type"), if is_error { span.get("http.response.status_code") } else { "" });
    match span.kind {
        Kind::Server => {
            assert_eq!(span.get("url.scheme"), "http", "{span}");
            assert_eq!(span.get("client.address"), "127.0.0.1", "{span}");
        }
        _ => assert!(span.get("url.full").starts_with(&format!("http://127.0.0.1:{port}/")), "{span}"),
    }
}

/// The histogram has as many values as there were requests.
fn assert_metric(finished: &Finished, service: &str, kind: Kind, port: u16, count: usize) {
    let name = match kind {
        Kind::Server => "http.server.request.duration",
        _ => "http.client.request.duration",
    };
    let points = finished.points.iter().filter(|point| point.service == service && point.metric == name);
    let total: u64 = points
        .inspect(|point| assert_eq!(point.unit, "s"))
        // The server's points do not tell ports apart.
        .filter(|point| kind == Kind::Server || point.attributes["server.port"] == port.to_string())
        .map(|point| point.count)
        .sum();
    // Another nginx may be about on this machine, which its own spans account for.
    let others = finished.select(|span| kind == Kind::Server && span.is(service, kind) && !span.is_at(port));
    assert_eq!(total, (count + others.len()) as u64, "values of {name} of {service}");
}

/// A body that leaves by `sendfile` passes through no system call that carries its bytes.
#[test]
fn slow_downloads_take_as_long_as_nginx_says() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl"]) else { return };
    let nginx = Nginx::start(
        "location /sent/ { sendfile on; limit_rate 100k; try_files /body.bin =404; }
         location /written/ { sendfile off; limit_rate 100k; try_files /body.bin =404; }",
    );
    nginx.file("body.bin", &vec![b'x'; 150_000]);
    let agent = Agent::start();
    for path in ["/written/1", "/written/2", "/sent/1", "/sent/2"] {
        assert_eq!(fetch(&[&nginx.url(path)]), (200, 150_000));
    }
    let port = nginx.port;
    let log = nginx.stop();
    let finished = agent.finish();
    for (service, kind) in [("curl", Kind::Client), ("nginx", Kind::Server)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(port));
        assert_same_requests(&spans, &log);
        for span in &spans {
            let said = log.iter().find(|line| line.uri == span.path()).map_or(0.0, |line| line.milliseconds);
            println!("{span}; nginx says {said} ms");
        }
        for span in spans {
            let said = log.iter().find(|line| line.uri == span.path()).map_or(0.0, |line| line.milliseconds);
            assert!((span.milliseconds() - said).abs() <= said / 10.0, "{span}; nginx says {said} ms");
        }
    }
}

/// A span ends with its response, not with what comes next on the connection.
#[test]
fn silence_after_a_response_is_not_part_of_it() {
    let Some(_turn) = machine::ready(&["nginx", "openssl"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("page.html", &[b'x'; 100_000]);
    let agent = Agent::start();
    let mut socket = Socket::connect(nginx.port);
    for n in 0..3 {
        assert_eq!(socket.get(&format!("/files/{n}")), (200, 100_000));
        thread::sleep(Duration::from_millis(400));
        assert_eq!(socket.get(&format!("/ok/{n}")), (200, 6));
        thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(socket.get("/files/last"), (200, 100_000));
    // Its spans are there before anything else happens on the connection.
    agent.wait_for(7, |span| span.is("nginx", Kind::Server) && span.is_at(nginx.port));
    thread::sleep(Duration::from_millis(400));
    drop(socket);
    let finished = agent.finish();
    let spans = finished.select(|span| span.kind != Kind::Client && span.is_at(nginx.port));
    assert_eq!(spans.len(), 7);
    for span in spans {
        assert!(span.status() == 200 && !span.is_error, "{span}");
        assert!(span.milliseconds() < 100.0, "{span}");
    }
}
