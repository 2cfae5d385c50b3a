//! Node over TLS on both ends, by HTTP/1.1 and by HTTP/2: OpenSSL is linked into it, and it moves the bytes itself.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use spantap_tests::{
    applications::{assert_end, program},
    http2, machine, nginx,
    otlp::{Kind, Span},
    program::{Program, folder, free_port, listens, wait_until},
};

const REQUESTS: usize = 100;

fn node(files: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.arg(program("node_tls.js")).args(arguments).current_dir(files);
    command.env("OTEL_SERVICE_NAME", format!("node-{}", arguments[0]));
    command
}

#[test]
fn both_ends_are_seen_with_their_peers() {
    let Some(_turn) = machine::ready(&["node", "openssl"]) else { return };
    for (version, number) in [("https", "1.1"), ("http2", "2")] {
        let (files, port) = (folder(), free_port());
        nginx::certificate(files.path());
        let port_text = port.to_string();
        let mut server = Program::start("node", &mut node(files.path(), &["server", version, &port_text]));
        server.wait_ready("listened", |_| listens(port));
        let (mut agent, _config) = http2::agent();
        let maps = fs::read_to_string(format!("/proc/{}/maps", server.tgid())).expect("it runs");
        if maps.contains("/libssl.so") {
            agent.wait_for_tls(); // Debian's Node uses the host's library
        } else {
            wait_until("node is watched", machine::patience(), || agent.stderr().contains("/node\""));
        }
        let mut client = node(files.path(), &["client", version, &port_text, &REQUESTS.to_string()]);
        let said = Program::run("node", &mut client).success("node").stdout;
        let own_ports: BTreeMap<&str, &str> = said.lines().filter_map(|line| line.split_once(' ')).collect();
        assert_eq!(own_ports.len(), REQUESTS, "{said}");
        for (service, kind) in [("node-server", Kind::Server), ("node-client", Kind::Client)] {
            agent.wait_for(REQUESTS, |span| span.is(service, kind));
        }
        let finished = agent.finish();
        finished.accounts.assert_nothing_lost();
        for (service, kind) in [("node-server", Kind::Server), ("node-client", Kind::Client)] {
            let spans = finished.select(|span| span.is(service, kind));
            let is_right = |span: &Span, peer: u16| match kind {
                Kind::Server => own_ports.get(span.path()).is_some_and(|own| *own == peer.to_string()),
                _ => peer == port,
            };
            assert_end(&format!("{service}, {version} ({kind:?})"), REQUESTS, &spans, is_right);
            let mut paths: Vec<&str> = spans.iter().map(|span| span.path()).collect();
            paths.sort_unstable();
            assert!(paths.iter().eq(own_ports.keys()), "{service}: {paths:?}");
            for span in spans {
                assert_eq!((span.status(), span.get("network.protocol.version")), (202, number), "{span}");
            }
        }
    }
}
