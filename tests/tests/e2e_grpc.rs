//! gRPC between programs of grpcio: as many spans as calls were made, with the statuses that the client saw.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use spantap_tests::{
    agent::Finished,
    http2, machine,
    otlp::{Kind, Span},
    program::{Program, folder, free_port, listens},
    python,
};

/// The release that the recordings in `protocols` were made with.
const GRPCIO: &str = "grpcio==1.85.1";
const CALLS: usize = 20;

/// (method, status) -> how many calls.
type Counts = BTreeMap<(String, String), usize>;

fn said(stdout: &str) -> Counts {
    let row = |line: &str| {
        let [method, status, count] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        Some(((format!("shop.v1.Cart/{method}"), status.to_owned()), count.parse().ok()?))
    };
    stdout.lines().filter_map(row).collect()
}

fn counted(spans: &[&Span]) -> Counts {
    let mut counts = Counts::new();
    for span in spans {
        let pair = (span.get("rpc.method").to_owned(), span.get("rpc.response.status_code").to_owned());
        *counts.entry(pair).or_default() += 1;
    }
    counts
}

/// The Python with grpcio, or why there is none.
fn python_with_grpc() -> Option<std::path::PathBuf> {
    match python::install(Path::new(env!("CARGO_TARGET_TMPDIR")), GRPCIO) {
        Ok(folder) => Some(folder.join("bin/python")),
        Err(skip) => {
            machine::skipped(&skip);
            None
        }
    }
}

fn script(python: &Path, name: &str, service: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.arg(format!("{}/programs/{name}", env!("CARGO_MANIFEST_DIR"))).args(arguments);
    command.env("OTEL_SERVICE_NAME", service);
    command
}

fn server(python: &Path, port: u16) -> Program {
    let mut server =
        Program::start("server", &mut script(python, "grpc_server.py", "grpc-server", &[&port.to_string()]));
    server.wait_ready("listened", |_| listens(port));
    server
}

fn spans_of<'a>(finished: &'a Finished, service: &str, kind: Kind) -> Vec<&'a Span> {
    finished.select(|span| span.is(service, kind))
}

#[test]
fn every_kind_of_call_is_a_span_with_its_status() {
    let Some(_turn) = machine::ready(&["python3"]) else { return };
    let Some(python) = python_with_grpc() else { return };
    let port = free_port();
    let _server = server(&python, port);
    let (agent, _config) = http2::agent();
    let arguments = [port.to_string(), CALLS.to_string()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = Program::run("client", &mut script(&python, "grpc_client.py", "grpc-client", &arguments));
    let truth = said(&client.success("the client").stdout);
    assert_eq!(truth.values().sum::<usize>(), 9 * CALLS, "{truth:?}");
    agent.wait_for(9 * CALLS, |span| span.is("grpc-server", Kind::Server));
    agent.wait_for(9 * CALLS, |span| span.is("grpc-client", Kind::Client));
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    finished.accounts.assert_nothing_lost();
    for (service, kind) in [("grpc-server", Kind::Server), ("grpc-client", Kind::Client)] {
        let spans = spans_of(&finished, service, kind);
        assert_eq!(counted(&spans), truth, "calls of {service}, and what the client says");
        spans.iter().for_each(|span| assert_attributes(span, port));
        let traced = spans.iter().filter(|span| span.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(traced.count(), CALLS, "{service}");
        let metric =
            if kind == Kind::Server { "rpc.server.call.duration" } else { "rpc.client.call.duration" };
        let points =
            finished.points.iter().filter(|point| point.service == service && point.metric == metric);
        assert_eq!(points.map(|point| point.count).sum::<u64>(), spans.len() as u64, "{metric}");
    }
}

fn assert_attributes(span: &Span, port: u16) {
    assert_eq!(span.get("rpc.system.name"), "grpc", "{span}");
    assert_eq!(span.name, span.get("rpc.method"), "{span}");
    assert_eq!(span.get("server.port"), port.to_string(), "{span}");
    assert_eq!(span.get("network.peer.address"), "127.0.0.1", "{span}");
    assert_eq!(span.get("http.request.method"), "", "{span}: a call is not told twice");
    let status = span.get("rpc.response.status_code");
    let is_error = match span.kind {
        Kind::Client => status != "OK",
        _ => ["UNIMPLEMENTED", "INTERNAL", "DEADLINE_EXCEEDED"].contains(&status),
    };
    assert_eq!(span.is_error, is_error, "{span}");
    assert_eq!(span.get("error.type"), if is_error { status } else { "" }, "{span}");
    if ["NOT_FOUND", "INTERNAL"].contains(&status) {
        assert_eq!(span.get("spantap.rpc.response.message"), "as asked: 100 % Übermut", "{span}");
    }
    if status == "DEADLINE_EXCEEDED" {
        assert!((150.0..1_000.0).contains(&span.milliseconds()), "{span}");
    }
}

/// Answers go out with their trailers in one call, of which the beginning and the end are copied, from the first one on,
/// since what later statuses refer to is in the first. What is longer than all that both ends move in one call can hide
/// the head of a frame, and then a status is unknown, which is said.
#[test]
fn a_status_behind_a_long_answer_is_right_or_said_to_be_unknown() {
    let Some(_turn) = machine::ready(&["python3"]) else { return };
    let Some(python) = python_with_grpc() else { return };
    let port = free_port();
    let _server = server(&python, port);
    for (bytes, all_known) in [(6_000, true), (40_000, true), (3_000_000, false)] {
        let (agent, _config) = http2::agent();
        let calls = if all_known { 30 } else { 6 };
        let arguments = [port.to_string(), calls.to_string(), bytes.to_string()];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let client =
            Program::run("client", &mut script(&python, "grpc_sequence.py", "grpc-client", &arguments));
        let truth = said(&client.success("the client").stdout);
        assert_eq!(truth.values().sum::<usize>(), calls, "{truth:?}");
        // Calls whose heads were hidden are counted, and no spans.
        let wanted = if all_known { calls } else { 1 };
        agent.wait_for(wanted, |span| span.is("grpc-server", Kind::Server));
        agent.wait_for(wanted, |span| span.is("grpc-client", Kind::Client));
        let finished = agent.finish();
        for (service, kind) in [("grpc-server", Kind::Server), ("grpc-client", Kind::Client)] {
            let mut spans = spans_of(&finished, service, kind);
            assert!(
                spans.len() == calls || (!all_known && spans.len() < calls),
                "{service}: {}",
                spans.len()
            );
            spans.sort_by_key(|span| span.start_unix_ns);
            for (number, span) in spans.iter().enumerate() {
                let expected = match number % 3 {
                    _ if spans.len() < calls => ["INTERNAL", "OK"].as_slice(),
                    2 => &["INTERNAL"],
                    _ => &["OK"],
                };
                let status = span.get("rpc.response.status_code");
                let unknown = span.get("spantap.response.status_unknown") == "true";
                assert_ne!(
                    status.is_empty(),
                    expected.contains(&status),
                    "{bytes} bytes, call {number}: {span}"
                );
                assert_eq!(status.is_empty(), unknown, "{bytes} bytes, call {number}: {span}");
                assert!(!unknown || !all_known, "{bytes} bytes, call {number}: {span}");
            }
        }
    }
}

/// What refers to HPACK's table from before the agent came is unknown; what is said in spite of it is true.
#[test]
fn calls_on_an_old_connection_are_found_and_nothing_wrong_is_said() {
    let Some(_turn) = machine::ready(&["python3"]) else { return };
    let Some(python) = python_with_grpc() else { return };
    let port = free_port();
    let _server = server(&python, port);
    let files = folder();
    let signal = files.path().join("go");
    let arguments = [port.to_string(), CALLS.to_string(), signal.display().to_string()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut client =
        Program::start("client", &mut script(&python, "grpc_client.py", "grpc-client", &arguments));
    client.wait_ready("made its first calls", |client| client.stdout().contains("waiting"));
    let (agent, _config) = http2::agent();
    fs::write(&signal, "").expect("a fresh folder");
    assert!(client.wait(machine::patience()).success());
    let truth = said(&client.stdout());
    agent.wait_for(9 * CALLS, |span| span.is("grpc-server", Kind::Server));
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    for (service, kind) in [("grpc-server", Kind::Server), ("grpc-client", Kind::Client)] {
        let spans = spans_of(&finished, service, kind);
        assert_eq!(spans.len(), 9 * CALLS, "calls of {service}");
        println!("{service}: {:?}", counted(&spans));
        for span in &spans {
            assert_eq!(span.get("rpc.system.name"), "grpc", "{span}: its messages say so");
        }
        for ((method, status), count) in counted(&spans) {
            let possible: usize = truth
                .iter()
                .filter(|((m, s), _)| {
                    (method == *m || !method.contains('/')) && (status == *s || status.is_empty())
                })
                .map(|(_, count)| count)
                .sum();
            assert!(count <= possible, "{count} calls of {method} with {status}, there were {possible}");
        }
    }
}
