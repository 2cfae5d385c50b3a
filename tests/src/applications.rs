//! What was seen of an application that speaks TLS: as many spans as operations at each end, whose peers are right.

use std::path::Path;

use crate::{
    agent::{Agent, Finished},
    nginx::Logged,
    otlp::{Kind, Span},
};

/// An agent that watches the libraries of the host.
#[must_use]
pub fn agent() -> Agent {
    let mut agent = Agent::start();
    agent.wait_for_tls();
    agent
}

/// Asserts that the spans of one end are as many as the operations that were made, and that each names the peer that
/// it had. Prints what `docs/applications.md` has in its table.
pub fn assert_end(end: &str, made: usize, spans: &[&Span], is_right: impl Fn(&Span, u16) -> bool) {
    let (mut right, mut absent, mut wrong) = (0, 0, 0);
    for span in spans {
        match span.get("network.peer.port").parse::<u16>() {
            Err(_) => absent += 1,
            Ok(port) if is_right(span, port) && span.get("network.peer.address") == "127.0.0.1" => right += 1,
            Ok(_) => {
                println!("{end}: {span} has a wrong peer");
                wrong += 1;
            }
        }
    }
    println!(
        "| {end} | {made} made | {} seen | peers: {right} right, {absent} absent, {wrong} wrong |",
        spans.len()
    );
    assert_eq!((spans.len(), right, absent, wrong), (made, made, 0, 0), "{end}: spans, right, absent, wrong");
}

/// Asserts that the requests that are in a server's log are seen at both ends, each with its path, its status and its
/// peer, and that all of them were made over TLS. Both ends are named by their services.
pub fn assert_logged(finished: &Finished, client: &str, server: &str, port: u16, log: &[Logged]) {
    for (service, kind) in [(client, Kind::Client), (server, Kind::Server)] {
        let spans = finished.select(|span| span.is(service, kind));
        let logged = |line: &Logged| {
            let path = line.uri.split('?').next().unwrap_or_default().to_owned();
            let peer = if kind == Kind::Client { port } else { line.client_port };
            (path, line.status, peer.to_string())
        };
        let told =
            |span: &&Span| (span.path().to_owned(), span.status(), span.get("network.peer.port").to_owned());
        let mut expected: Vec<_> = log.iter().map(logged).collect();
        let mut seen: Vec<_> = spans.iter().map(told).collect();
        expected.sort_unstable();
        seen.sort_unstable();
        let end = format!("{service} ({kind:?})");
        if seen != expected {
            println!("{end}: {seen:?} instead of {expected:?}");
        }
        assert_end(&end, log.len(), &spans, |_, peer| match kind {
            Kind::Client => peer == port,
            _ => log.iter().any(|line| line.client_port == peer),
        });
        assert!(seen == expected, "{end}: the spans are not the log's lines");
        for span in &spans {
            let scheme = span.get("url.scheme");
            assert!(
                scheme == "https" || span.get("url.full").starts_with("https://"),
                "{span} is said to be plain"
            );
        }
    }
}

/// A script of the folder `programs`.
#[must_use]
pub fn program(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}
