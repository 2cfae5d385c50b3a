//! Are connections over Unix sockets seen as those over TCP are, under the right path and of the right process?
//!
//! Runs in guests with other kernels, too (`cargo xtask test --only kernels`).

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    time::Duration,
};

use spantap_tests::{
    agent::{Agent, Finished},
    client::{curl, fetch},
    config::ConfigFile,
    machine,
    nginx::Nginx,
    otlp::{Kind, Span},
    program::{Program, folder},
    python,
};

/// nginx serves a Unix socket, and asks itself there for what it is asked for over TCP: in HTTP/1.0, and by a kept
/// connection.
const LOCATIONS: &str = r#"
    listen unix:%BASE%/web.sock;
    location /ok/ { return 200 'hello\n'; }
    location /gone/ { return 404; }
    location /old/ { proxy_pass http://unix:%BASE%/web.sock:/ok/old/; }
    location /kept/ {
        proxy_pass http://unix:%BASE%/web.sock:/page.txt?kept=;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }
"#;
/// Requests of each kind.
const EACH: usize = 20;

#[test]
fn nginx_and_its_clients_over_a_unix_socket() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("page.txt", &[b'x'; 20_000]);
    let path = nginx.folder().join("web.sock").display().to_string();
    for backend in backends() {
        println!("--- {backend}");
        // Older than the agent: its first exchange is over, its second one is seen.
        let mut older = BufReader::new(UnixStream::connect(&path).expect("nginx listens"));
        let before = nginx.log_lines() + 1;
        assert_eq!(ask(&mut older, "/ok/older/1"), 6);
        nginx.wait_for_log(before);
        let agent = start(&backend);
        assert_eq!(ask(&mut older, "/ok/older/2"), 6);
        drop(older);
        let at_socket = |path_of: &str| format!("http://shop.example{path_of}");
        let quiet = ["--output", "/dev/null"];
        for i in 0..EACH {
            let urls = ["/ok/", "/gone/", "/page.txt?"].map(|path| at_socket(&format!("{path}{i}")));
            let each: Vec<&str> = urls.iter().flat_map(|url| [&quiet[..], &[url]].concat()).collect();
            let _ = curl(&[&["--unix-socket", &path], &each[..]].concat()).success("curl");
            assert_eq!(fetch(&[&nginx.url(&format!("/old/{i}"))]), (200, 6));
            assert_eq!(fetch(&[&nginx.url(&format!("/kept/{i}"))]), (200, 20_000));
        }
        let body = "b".repeat(120_000);
        let _ = curl(&["--unix-socket", &path, "--data", &body, &at_socket("/ok/form")]).success("curl");
        // Each proxied request is in the log twice.
        let expected = 1 + 3 * EACH + 2 * 2 * EACH + 1;
        nginx.wait_for_log(before + expected);
        let ours = |span: &Span| span.get("network.transport") == "unix" || span.is_at(nginx.port);
        agent.wait_for(2 * expected, ours);
        let finished = agent.finish();
        finished.accounts.assert_nothing_lost();
        assert!(!finished.stderr.contains("WARN"), "{}", finished.stderr);
        assert_unix_log(&finished, &nginx, before, &path);
        // To the socket there came curl, nginx itself, and this test.
        for (client, count) in [("curl", 3 * EACH + 1), ("nginx", 2 * EACH)] {
            let spans = finished.select(|span| {
                span.kind == Kind::Client && span.service == client && span.get("network.transport") == "unix"
            });
            assert_eq!(spans.len(), count, "{backend}: {client}'s");
        }
        let shop = finished.select(|span| span.get("server.address") == "shop.example");
        assert_eq!(shop.len(), 2 * (3 * EACH + 1), "{backend}: the name in the request is the server's");
    }
}

/// The lines of the access log that came over the socket are one span of the server and one of its client each.
fn assert_unix_log(finished: &Finished, nginx: &Nginx, before: usize, path: &str) {
    let log = nginx.log();
    let over_unix = log[before..].iter().filter(|line| line.client_port == 0);
    let mut logged: Vec<(&str, u16)> =
        over_unix.map(|line| (line.uri.split('?').next().unwrap_or_default(), line.status)).collect();
    logged.sort_unstable();
    assert_eq!(logged.len(), 1 + 3 * EACH + 2 * EACH + 1);
    for (kind, attribute) in [(Kind::Server, "network.local.address"), (Kind::Client, "network.peer.address")]
    {
        let spans = finished.select(|span| span.kind == kind && span.get("network.transport") == "unix");
        let mut seen: Vec<(&str, u16)> = spans.iter().map(|span| (span.path(), span.status())).collect();
        seen.sort_unstable();
        assert_eq!(seen, logged, "{kind:?}");
        for span in spans {
            assert_eq!(span.get(attribute), path, "{span}");
            assert_eq!(span.get("network.peer.port"), "", "{span}");
            assert_eq!(span.is_error, kind == Kind::Client && span.status() == 404, "{span}");
        }
    }
}

#[test]
fn whoever_holds_the_descriptor_is_the_service() {
    let Some(_turn) = machine::ready(&["python3"]) else { return };
    let folder = folder();
    let file = folder.path().join("python.sock").display().to_string();
    let hidden = format!("@{file}");
    let servers = [&file, &hidden].map(|path| {
        let mut command = python::script("unix_server.py", &[path]);
        let mut server = Program::start("python3", command.env("OTEL_SERVICE_NAME", "front"));
        server.wait_ready("listened", |server| server.stdout().contains("listens"));
        server
    });
    for backend in backends() {
        println!("--- {backend}");
        let agent = start(&backend);
        for address in [
            SocketAddr::from_pathname(&file).expect("short enough"),
            SocketAddr::from_abstract_name(&file).expect("short enough"),
        ] {
            for asked in ["/passed", "/forked", "/own"] {
                let mut stream = UnixStream::connect_addr(&address).expect("it listens");
                write!(stream, "GET {asked} HTTP/1.1\r\nHost: python\r\n\r\n").expect("it reads");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("it answers");
                assert!(answer.ends_with("ok"), "{answer}");
            }
        }
        // Both ends, while the agent runs: the end of the connection is noticed.
        let expected = 2 * 2 * (3 + 1);
        agent.wait_for(expected, |span| span.get("network.transport") == "unix");
        let finished = agent.finish();
        finished.accounts.assert_nothing_lost();
        let mut seen: Vec<_> = finished
            .select(|span| span.get("network.transport") == "unix")
            .iter()
            .map(|span| {
                assert_eq!((span.status(), span.is_error), (200, false), "{span}");
                let end = match span.kind {
                    Kind::Server => span.get("network.local.address"),
                    _ => span.get("network.peer.address"),
                };
                (span.path(), span.kind, span.service.as_str(), end)
            })
            .collect();
        seen.sort_unstable();
        let this = finished.select(|span| span.kind == Kind::Client && span.path() == "/own")[0];
        let mut made = Vec::new();
        for path in [file.as_str(), hidden.as_str()] {
            for (asked, service) in [("/passed", "worker"), ("/forked", "front"), ("/own", "front")] {
                made.push((asked, Kind::Server, service, path));
                made.push((asked, Kind::Client, this.service.as_str(), path));
            }
            // Without a name nobody is known to have connected: what they say tells.
            made.push(("/pair", Kind::Server, "front", ""));
            made.push(("/pair", Kind::Client, "front", ""));
        }
        made.sort_unstable();
        assert_eq!(seen, made, "{backend}");
        assert!(finished.accounts.left_out.get("kernel: peeked").is_some_and(|peeked| *peeked >= 6));
    }
    drop(servers);
}

#[test]
fn unix_sockets_can_be_left_alone() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let path = nginx.folder().join("web.sock").display().to_string();
    for backend in backends() {
        let config = capture(&backend, "unix_sockets: false");
        let agent = Agent::start_with(|command| {
            command.args(["--config", config.name()]);
        });
        assert_eq!(fetch(&["--unix-socket", &path, "http://localhost/ok/alone"]), (200, 6));
        assert_eq!(fetch(&[&nginx.url("/old/1")]), (200, 6));
        agent.wait_for(2, |span| span.is_at(nginx.port));
        let finished = agent.finish();
        assert_eq!(finished.select(|span| span.get("network.transport") == "unix").len(), 0, "{backend}");
        assert_eq!(finished.select(|span| span.is_at(nginx.port)).len(), 2, "{backend}");
    }
}

/// Those that see Unix sockets: kprobes do not (docs/capture.md).
fn backends() -> Vec<String> {
    machine::backends().into_iter().filter(|backend| backend != "kprobes").collect()
}

fn capture(backend: &str, setting: &str) -> ConfigFile {
    ConfigFile::new(&format!(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      backend: {backend}\n      {setting}\n"
    ))
}

fn start(backend: &str) -> Agent {
    let config = capture(backend, "unix_sockets: true");
    Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    })
}

/// Asks on a kept connection, and returns the length of the answer's body.
fn ask(stream: &mut BufReader<UnixStream>, path: &str) -> usize {
    stream.get_ref().set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("nginx reads");
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("nginx answers");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("nginx sends what it has announced");
    length
}
