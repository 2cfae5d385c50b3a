//! Plaintext of TLS connections: nginx, curl, wrk and Python, which use OpenSSL in different ways.

use std::thread;

use spantap_tests::{
    agent::{Agent, Finished},
    applications::assert_logged,
    client::{curl, fetch},
    machine,
    nginx::{self, Nginx},
    otlp::{Kind, Span},
    program::{Program, folder},
    python,
    wrk::Wrk,
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
    location /missing/ { return 404; }
";

const PROGRAMS: &[&str] = &["nginx", "wrk", "curl", "openssl"];

/// Each curl is a new process, gone within milliseconds: its library is known already when it starts.
#[test]
fn short_lived_clients_are_seen_when_nginx_runs_first() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    // The library is found in a process that runs already.
    let mut agent = Agent::start();
    agent.wait_for_tls();
    ten_requests(agent, &nginx);
}

#[test]
fn short_lived_clients_are_seen_when_the_agent_runs_first() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let mut agent = Agent::start();
    let nginx = Nginx::start(LOCATIONS);
    agent.wait_for_tls();
    ten_requests(agent, &nginx);
}

fn ten_requests(agent: Agent, nginx: &Nginx) {
    for n in 0..10 {
        let (status, bytes) = fetch(&[&nginx.tls_url(&format!("/ok/{n}"))]);
        assert_eq!((status, bytes), (200, 6));
    }
    nginx.wait_for_log(10);
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let port = nginx.tls_port;
    let mut client_ports: Vec<u16> = nginx.log().iter().map(|line| line.client_port).collect();
    client_ports.sort_unstable();
    for (service, kind) in [("nginx", Kind::Server), ("curl", Kind::Client)] {
        let spans = tls_spans(&finished, service, kind, port);
        let mut paths: Vec<&str> = spans.iter().map(|span| span.path()).collect();
        paths.sort_unstable();
        let expected: Vec<String> = (0..10).map(|n| format!("/ok/{n}")).collect();
        assert_eq!(paths, expected, "paths of {service}");
        for span in &spans {
            assert_eq!((span.status(), span.is_error), (200, false), "{span}");
            assert_eq!(span.get("network.peer.address"), "127.0.0.1", "{span}");
            assert!(span.get("user_agent.original").starts_with("curl/") || kind == Kind::Client, "{span}");
            assert_eq!(span.get("server.port"), port.to_string(), "{span}");
        }
        let mut peer_ports: Vec<u16> =
            spans.iter().map(|span| span.get("network.peer.port").parse().expect("a port")).collect();
        peer_ports.sort_unstable();
        match kind {
            Kind::Server => assert_eq!(peer_ports, client_ports, "each with its own peer"),
            _ => assert!(peer_ports.iter().all(|peer| *peer == port), "{peer_ports:?}"),
        }
    }
}

#[test]
fn five_thousand_requests_are_as_many_spans() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let mut agent = Agent::start();
    agent.wait_for_tls();
    let wrk = Wrk::start(&nginx.tls_url(""), 4, 1_250, &["/ok/", "/missing/"]);
    nginx.wait_for_log(5_000);
    println!("{}", wrk.finish());
    let port = nginx.tls_port;
    let log = nginx.stop();
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    finished.accounts.assert_nothing_lost();
    assert_eq!(log.len(), 5_000);
    // Debian's wrk has OpenSSL in a library of its own as well: it is watched like any other.
    assert_logged(&finished, "wrk", "nginx", port, &log);
}

/// What is already open when the agent comes: sessions whose handshake it has not seen.
#[test]
fn sessions_older_than_the_agent_are_joined() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let wrk = Wrk::start(&nginx.tls_url(""), 2, 1_000_000, &["/ok/", "/missing/"]);
    nginx.wait_for_log(100);
    let mut agent = Agent::start();
    agent.wait_for_tls();
    let from = nginx.log_lines();
    nginx.wait_for_log(from + 2_000);
    let _ = wrk.finish();
    let port = nginx.tls_port;
    let log = nginx.stop();
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    for (service, kind) in [("nginx", Kind::Server), ("wrk", Kind::Client)] {
        let spans = finished.select(|span| {
            span.is(service, kind)
                && (span.path().starts_with("/ok/") || span.path().starts_with("/missing/"))
        });
        println!("{} spans of {service} for {} requests", spans.len(), log.len() - from);
        assert!(spans.len() >= 1_900, "{} spans of {service}", spans.len());
        // The two that were under way when wrk was stopped have no answer.
        let answered: Vec<_> = spans.iter().filter(|span| span.status() != 0).collect();
        assert!(spans.len() - answered.len() <= 2, "{} without an answer", spans.len() - answered.len());
        for span in answered {
            let expected = if span.path().starts_with("/ok/") { 200 } else { 404 };
            assert_eq!(span.status(), expected, "{span} is a wrong pair");
            assert!(span.is_at(port), "{span}: the socket below was found");
            assert_eq!(span.get("network.peer.address"), "127.0.0.1", "{span}");
        }
    }
}

/// Python reads and writes through `SSL_read_ex` and `SSL_write_ex`, and closes after each response.
#[test]
fn python_speaks_tls_on_both_ends() {
    let Some(_turn) = machine::ready(&["python3", "curl", "openssl"]) else { return };
    let files = folder();
    nginx::certificate(files.path());
    std::fs::write(files.path().join("page.txt"), vec![b'x'; 3000]).expect("a fresh folder");
    let server = python::serve("https_server.py", &["cert.pem", "key.pem"], |command| {
        command.current_dir(files.path()).env("OTEL_SERVICE_NAME", "python-https");
    });
    let mut agent = Agent::start();
    agent.wait_for_tls();
    let port = server.port;
    let url = |path: &str| format!("https://127.0.0.1:{port}{path}");
    assert_eq!(fetch(&[&url("/page.txt?by=curl")]), (200, 3000));
    let missing =
        curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &url("/missing.txt?by=curl")]);
    assert_eq!(missing.stdout, "404");
    let mut urllib =
        python::script("https_client.py", &[&url("/page.txt?by=urllib"), &url("/missing.txt?by=urllib")]);
    let urllib = Program::run("urllib", urllib.env("OTEL_SERVICE_NAME", "python-client")).success("urllib");
    assert!(urllib.stdout.starts_with("200 3000\n404 "), "{}", urllib.stdout);
    agent.wait_for(4, |span| span.is("python-https", Kind::Server));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    for (service, kind, by) in [
        ("python-https", Kind::Server, "curl"),
        ("python-https", Kind::Server, "urllib"),
        ("curl", Kind::Client, "curl"),
        ("python-client", Kind::Client, "urllib"),
    ] {
        let query = format!("by={by}");
        let spans = tls_spans(&finished, service, kind, port);
        let mut seen: Vec<(&str, u16)> = spans
            .iter()
            .filter(|span| span.get("url.query") == query || span.get("url.full").ends_with(&query))
            .map(|span| (span.path(), span.status()))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [("/missing.txt", 404), ("/page.txt", 200)], "{service} asked by {by}");
    }
}

/// The spans of a service at a TLS port, all of which must say that they are.
fn tls_spans<'a>(finished: &'a Finished, service: &str, kind: Kind, port: u16) -> Vec<&'a Span> {
    let spans = finished.select(|span| span.is(service, kind) && span.is_at(port));
    for span in &spans {
        match kind {
            Kind::Server => assert_eq!(span.get("url.scheme"), "https", "{span}"),
            _ => assert!(span.get("url.full").starts_with("https://"), "{span}"),
        }
    }
    spans
}

/// OpenSSL as asyncio uses it reads from memory and writes to it (which peer each session has: `e2e_tls_binding`).
#[test]
fn sessions_without_a_socket_are_seen() {
    let Some(_turn) = machine::ready(&["python3", "curl", "openssl"]) else { return };
    let files = folder();
    nginx::certificate(files.path());
    let server = python::serve("asyncio_server.py", &["cert.pem", "key.pem"], |command| {
        command.current_dir(files.path()).env("OTEL_SERVICE_NAME", "asyncio");
    });
    let mut agent = Agent::start();
    agent.wait_for_tls();
    // Interleaved in one thread: eight clients at a time, each with three requests on its session.
    let port = server.port;
    let urls = |n: usize| [1, 2, 3].map(|i| format!("https://127.0.0.1:{port}/c{n}/{i}"));
    thread::scope(|scope| {
        for n in 0..8 {
            scope.spawn(move || {
                let urls = urls(n);
                let arguments: Vec<&str> =
                    urls.iter().flat_map(|url| ["--output", "/dev/null", url]).collect();
                let _ = curl(&arguments).success("curl");
            });
        }
    });
    agent.wait_for(24, |span| span.is("asyncio", Kind::Server));
    let finished = agent.finish();
    let mut expected: Vec<String> = (0..8).flat_map(|n| [1, 2, 3].map(|i| format!("/c{n}/{i}"))).collect();
    expected.sort_unstable();
    for (service, kind) in [("asyncio", Kind::Server), ("curl", Kind::Client)] {
        let spans = tls_spans(&finished, service, kind, server.port);
        let mut paths: Vec<&str> = spans.iter().map(|span| span.path()).collect();
        paths.sort_unstable();
        assert_eq!(paths, expected, "{service}");
        for span in spans {
            assert_eq!((span.status(), span.is_error), (202, false), "{span}");
            assert!(span.milliseconds() >= 9.0, "{span}: the server waits for 10 ms");
        }
    }
}
