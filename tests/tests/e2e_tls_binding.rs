//! TLS sessions that never see their socket: whose peer a session has must be right, or not said.

use std::{collections::BTreeMap, process::Command, thread, time::Duration};

use spantap_tests::{
    agent::{Agent, Finished},
    client::curl,
    config::ConfigFile,
    machine, nginx,
    otlp::{Kind, Span},
    program::{Program, folder, free_port, listens, wait_until},
    python,
};

/// Path -> the client's port, as the clients themselves say.
type Truth = BTreeMap<String, String>;

fn truth(said: &str) -> Truth {
    let pair = |line: &str| line.split_once(' ').map(|(path, port)| (path.to_owned(), port.to_owned()));
    said.lines().filter_map(pair).collect()
}

/// What the spans of a service say of the peers: how many are right, absent, wrong.
fn peers(spans: &[&Span], truth: &Truth, server_port: u16) -> (usize, usize, usize) {
    let (mut right, mut absent, mut wrong) = (0, 0, 0);
    for span in spans {
        let peer = span.get("network.peer.port");
        let is_right = match span.kind {
            Kind::Server => truth.get(span.path()).is_some_and(|port| port == peer),
            _ => peer == server_port.to_string(),
        };
        match peer {
            "" => absent += 1,
            _ if is_right => right += 1,
            _ => {
                println!("{span}: the truth is {:?}", truth.get(span.path()));
                wrong += 1;
            }
        }
    }
    (right, absent, wrong)
}

fn spans<'a>(finished: &'a Finished, service: &str, kind: Kind) -> Vec<&'a Span> {
    finished.select(|span| span.is(service, kind))
}

/// A server of asyncio with its certificate.
fn asyncio_server(files: &std::path::Path) -> python::Server {
    nginx::certificate(files);
    python::serve("asyncio_server.py", &["cert.pem", "key.pem"], |command| {
        command.current_dir(files).env("OTEL_SERVICE_NAME", "asyncio-server");
    })
}

/// A client of asyncio.
fn asyncio_client(arguments: &[&str]) -> Command {
    let mut command = python::script("asyncio_client.py", arguments);
    command.env("OTEL_SERVICE_NAME", "asyncio-client");
    command
}

/// A hundred connections in one thread, whose requests and responses all have the same lengths.
#[test]
fn a_hundred_interleaved_sessions_each_have_their_own_peer() {
    for backend in ["auto", "syscalls"] {
        let Some(_turn) = machine::ready(&["python3", "openssl"]) else { return };
        let files = folder();
        let server = asyncio_server(files.path());
        let config = ConfigFile::new(&format!(
            "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      backend: {backend}\n"
        ));
        let mut agent = Agent::start_with(|command| {
            command.args(["--config", config.name()]);
        });
        agent.wait_for_tls();
        let port = server.port.to_string();
        let client = Program::run("asyncio", &mut asyncio_client(&[&port, "100", "5"])).success("asyncio");
        agent.wait_for(500, |span| span.is("asyncio-server", Kind::Server));
        agent.wait_for(500, |span| span.is("asyncio-client", Kind::Client));
        let finished = agent.finish();
        finished.accounts.assert_nothing_lost();
        let truth = truth(&client.stdout);
        assert_eq!(truth.len(), 500);
        for (service, kind) in [("asyncio-server", Kind::Server), ("asyncio-client", Kind::Client)] {
            let spans = spans(&finished, service, kind);
            let mut paths: Vec<&str> = spans.iter().map(|span| span.path()).collect();
            paths.sort_unstable();
            assert!(
                paths.iter().copied().eq(truth.keys().map(String::as_str)),
                "{service}: {} spans",
                paths.len()
            );
            assert_eq!(peers(&spans, &truth, server.port), (500, 0, 0), "{service}: right, absent, wrong");
        }
        assert_eq!(finished.accounts.left_out.get("kernel: tls unbound"), None);
    }
}

/// The same with connections that are older than the agent, so that their handshakes were not seen.
#[test]
fn older_sessions_have_the_right_peer_or_none() {
    let Some(_turn) = machine::ready(&["python3", "openssl"]) else { return };
    let files = folder();
    let server = asyncio_server(files.path());
    let port = server.port.to_string();
    let path = files.path().to_str().expect("our own names are UTF-8");
    let mut client = Program::start("asyncio", &mut asyncio_client(&[&port, "100", "11", path]));
    client.wait_ready("had its first answers", |_| files.path().join("ready").exists());
    let mut agent = Agent::start();
    agent.wait_for_tls();
    std::fs::write(files.path().join("go"), "").expect("a folder of ours");
    client.wait(Duration::from_secs(60));
    agent.wait_for(1_000, |span| span.is("asyncio-server", Kind::Server));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let truth = truth(&client.stdout());
    for (service, kind) in [("asyncio-server", Kind::Server), ("asyncio-client", Kind::Client)] {
        let spans = spans(&finished, service, kind);
        let (right, absent, wrong) = peers(&spans, &truth, server.port);
        println!("{service}: {right} right, {absent} absent, {wrong} wrong of {}", spans.len());
        assert_eq!((spans.len(), wrong), (1_000, 0), "{service}");
        assert!(right >= 500, "{service}: only {right} have a peer");
    }
}

/// Node: OpenSSL linked into the executable (of the official builds), and input and output of its own.
#[test]
fn node_is_seen_with_its_peers() {
    let Some(_turn) = machine::ready(&["node", "curl", "openssl"]) else { return };
    for agent_first in [true, false] {
        let files = folder();
        nginx::certificate(files.path());
        let early = agent_first.then(Agent::start);
        let port = free_port();
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/node_server.js");
        let mut command = Command::new("node");
        command.arg(script).args([&port.to_string(), "cert.pem", "key.pem"]);
        command.current_dir(files.path()).env("OTEL_SERVICE_NAME", "node-server");
        let mut server = Program::start("node", &mut command);
        server.wait_ready("listened", |_| listens(port));
        let mut agent = early.unwrap_or_else(Agent::start);
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.tgid())).expect("it runs");
        if maps.contains("/libssl.so") {
            agent.wait_for_tls(); // Debian's Node uses the host's library
        } else {
            wait_until("node is watched", Duration::from_secs(20), || agent.stderr().contains("/node\""));
        }
        let said: Vec<String> = thread::scope(|scope| {
            let ask = |n: usize| {
                let urls = [0, 1, 2].map(|i| format!("https://127.0.0.1:{port}/c{n:03}/{i:03}"));
                let mut arguments = vec!["--write-out", "%{url_effective} %{local_port}\n"];
                arguments.extend(urls.iter().flat_map(|url| ["--output", "/dev/null", url]));
                curl(&arguments).success("curl").stdout
            };
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || ask(n))).collect();
            threads.into_iter().map(|thread| thread.join().expect("curl has been content")).collect()
        });
        let truth = truth(&said.concat().replace(&format!("https://127.0.0.1:{port}"), ""));
        assert_eq!(truth.len(), 24);
        agent.wait_for(24, |span| span.is("node-server", Kind::Server));
        agent.wait_for(24, |span| span.is("curl", Kind::Client));
        let finished = agent.finish();
        finished.accounts.assert_nothing_lost();
        let spans = spans(&finished, "node-server", Kind::Server);
        assert_eq!(spans.len(), 24);
        assert_eq!(peers(&spans, &truth, port), (24, 0, 0), "right, absent, wrong");
        for span in spans {
            assert_eq!((span.status(), span.get("url.scheme")), (202, "https"), "{span}");
        }
    }
}
