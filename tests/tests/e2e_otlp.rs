//! Export to rotel, a collector that nobody here wrote: by gRPC and HTTP, with and without gzip, and when it comes late.

use std::{path::Path, process::Command, time::Duration};

use spantap_tests::{
    agent::{self, Accounts},
    client::fetch,
    machine,
    nginx::Nginx,
    program::{Program, wait_until},
    rotel::{self, Ports, Rotel},
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
    location /missing/ { return 404; }
";
const PROGRAMS: &[&str] = &["nginx", "curl", "openssl", "python3"];
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn rotel_takes_spans_and_metrics_by_every_way() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let rotel_binary = match rotel::install(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(binary) => binary,
        Err(skip) => return machine::skipped(&skip),
    };
    let nginx = Nginx::start(LOCATIONS);
    for (protocol, compression) in
        [("grpc", "none"), ("grpc", "gzip"), ("http/protobuf", "none"), ("http/protobuf", "gzip")]
    {
        let ports = Ports::free();
        let rotel = Rotel::start(&rotel_binary, ports);
        let mut agent = start(ports, protocol, compression);
        let path = format!("/ok/{}-{compression}", protocol.replace('/', "-"));
        assert_eq!(fetch(&[&nginx.url(&path)]), (200, 6));
        assert_eq!(fetch(&[&nginx.url(&format!("/missing{path}"))]).0, 404);
        wait_until("spans in rotel's log", PATIENCE, || {
            rotel.received().matches(&format!("url.path: Str(/missing{path})")).count() > 0
                || rotel.received().contains(&format!("/missing{path}"))
        });
        agent.signal(libc::SIGTERM);
        assert!(agent.wait(PATIENCE).success());
        let accounts = Accounts::parse(&agent.stderr());
        wait_until("metrics in rotel's log", PATIENCE, || {
            rotel.received().contains("http.server.request.duration")
        });
        let received = rotel.received();
        if std::env::var_os("SHOW_ROTEL").is_some() {
            println!("{received}");
        }
        for part in [
            "service.name",
            "nginx",
            "curl",
            "http.request.method",
            "http.response.status_code",
            "404",
            "url.path",
            path.as_str(),
            "http.client.request.duration",
            "network.peer.address",
            "host.name",
        ] {
            assert!(received.contains(part), "{protocol}, {compression}: no `{part}` in\n{received}");
        }
        assert!(accounts.seen["traces exported"] >= 4, "{accounts:?}");
        assert!(accounts.seen["metrics exported"] >= 2, "{accounts:?}");
        assert!(accounts.left_out.keys().all(|name| !name.contains("dropped:")), "{accounts:?}");
        let stderr = agent.stderr();
        assert!(!stderr.contains("WARN") && !stderr.contains("ERROR"), "{stderr}");
    }
}

#[test]
fn a_backend_that_comes_late_misses_nothing() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let rotel_binary = match rotel::install(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(binary) => binary,
        Err(skip) => return machine::skipped(&skip),
    };
    let nginx = Nginx::start(LOCATIONS);
    let ports = Ports::free();
    let mut agent = start(ports, "grpc", "none");
    for n in 0..20 {
        assert_eq!(fetch(&[&nginx.url(&format!("/ok/early-{n}."))]), (200, 6));
    }
    // Long enough for several attempts.
    std::thread::sleep(Duration::from_secs(5));
    let rotel = Rotel::start(&rotel_binary, ports);
    let complete = || {
        let received = rotel.received();
        (0..20).all(|n| received.matches(&format!("/ok/early-{n}.")).count() >= 2)
    };
    wait_until("all spans in rotel's log", Duration::from_secs(60), complete);
    agent.signal(libc::SIGINT);
    assert!(agent.wait(PATIENCE).success());
    let received = rotel.received();
    for n in 0..20 {
        // Once by nginx and once by curl.
        let count = received.matches(&format!("/ok/early-{n}.")).count();
        assert_eq!(count, 2, "spans of /ok/early-{n}.");
    }
    let stderr = agent.stderr();
    let traces = stderr.lines().filter(|line| line.contains("WARN") && line.contains("traces")).count();
    assert_eq!(traces, 1, "one line says that the backend is away:\n{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.contains("WARN")).count(), 1, "{stderr}");
    let accounts = Accounts::parse(&stderr);
    assert!(accounts.left_out.keys().all(|name| !name.contains("dropped:")), "{accounts:?}");
}

/// The agent with nothing but the environment to tell it where to.
fn start(ports: Ports, protocol: &str, compression: &str) -> Program {
    let mut command: Command = agent::command(&["--accounts"]);
    let port = if protocol == "grpc" { ports.grpc } else { ports.http };
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"));
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    command.env("OTEL_EXPORTER_OTLP_COMPRESSION", compression);
    let mut program = Program::start("spantap", &mut command);
    program.wait_ready("watched", |program| program.stderr().contains("watching every process"));
    program
}
