//! Export to rotel, a collector that nobody here wrote: by gRPC and HTTP, with and without gzip, and when it comes late.

use std::{path::Path, process::Command, time::Duration};

use spantap_tests::{
    agent::{self, Accounts},
    client::fetch,
    machine,
    nginx::Nginx,
    otlp::{Kind, Point, Span},
    program::{Program, wait_until},
    rotel::{self, Ports, Received, Rotel},
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
            rotel.received().spans.iter().filter(|span| span.is_at(nginx.port)).count() >= 4
        });
        agent.signal(libc::SIGTERM);
        assert!(agent.wait(PATIENCE).success());
        let accounts = Accounts::parse(&agent.stderr());
        let is_ours = |point: &&Point| point.metric.starts_with("http.");
        wait_until("metrics in rotel's log", PATIENCE, || {
            rotel.received().points.iter().filter(is_ours).count() >= 4
        });
        let received = rotel.received();
        for (service, kind, name) in [("nginx", Kind::Server, "GET /{path}"), ("curl", Kind::Client, "GET")] {
            for (path, status) in [(path.clone(), 200), (format!("/missing{path}"), 404)] {
                let found = |span: &&Span| span.is(service, kind) && span.path() == path;
                let spans: Vec<&Span> = received.spans.iter().filter(found).collect();
                let [span] = spans[..] else {
                    panic!("{protocol}, {compression}: {path} of {service}: {spans:?}")
                };
                assert_span(span, nginx.port, status);
                assert_eq!(span.name, name.replace("/{path}", &path));
                let metric = match kind {
                    Kind::Server => "http.server.request.duration",
                    _ => "http.client.request.duration",
                };
                let of = |point: &&Point| {
                    point.service == service
                        && point.metric == metric
                        && point.attributes["http.response.status_code"] == status.to_string()
                };
                let point =
                    received.points.iter().rfind(of).unwrap_or_else(|| panic!("no {metric} of {service}"));
                assert_eq!(point.unit, "s");
                let seconds = span.milliseconds() / 1e3;
                assert!(point.count > 1 || (point.sum - seconds).abs() < 1e-9, "{point:?}: {span}");
            }
        }
        assert!(accounts.seen["traces exported"] >= 4, "{accounts:?}");
        assert!(accounts.seen["metrics exported"] >= 2, "{accounts:?}");
        assert!(accounts.left_out.keys().all(|name| !name.contains("dropped:")), "{accounts:?}");
        let stderr = agent.stderr();
        assert!(!stderr.contains("WARN") && !stderr.contains("ERROR"), "{stderr}");
        let endpoint = format!(
            "spans go to http://127.0.0.1:{}/",
            if protocol == "grpc" { ports.grpc } else { ports.http }
        );
        assert!(stderr.contains(&endpoint) && stderr.contains("; metrics go to http"), "{stderr}");
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
        assert_eq!(fetch(&[&nginx.url(&format!("/ok/early-{n}"))]), (200, 6));
    }
    // Long enough for several attempts.
    std::thread::sleep(Duration::from_secs(5));
    let rotel = Rotel::start(&rotel_binary, ports);
    let times = |received: &Received, n: usize, kind: Kind| {
        let path = format!("/ok/early-{n}");
        received.spans.iter().filter(|span| span.kind == kind && span.path() == path).count()
    };
    wait_until("all spans in rotel's log", Duration::from_secs(60), || {
        let received = rotel.received();
        (0..20).all(|n| times(&received, n, Kind::Server) > 0 && times(&received, n, Kind::Client) > 0)
    });
    agent.signal(libc::SIGINT);
    assert!(agent.wait(PATIENCE).success());
    let received = rotel.received();
    for n in 0..20 {
        assert_eq!(times(&received, n, Kind::Server), 1, "server spans of request {n}");
        assert_eq!(times(&received, n, Kind::Client), 1, "client spans of request {n}");
    }
    let stderr = agent.stderr();
    let traces = stderr.lines().filter(|line| line.contains("WARN") && line.contains("traces")).count();
    assert_eq!(traces, 1, "one line says that the backend is away:\n{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.contains("WARN")).count(), 1, "{stderr}");
    let accounts = Accounts::parse(&stderr);
    assert!(accounts.left_out.keys().all(|name| !name.contains("dropped:")), "{accounts:?}");
}

fn assert_span(span: &Span, port: u16, status: u16) {
    assert_eq!(span.status(), status, "{span}");
    assert_eq!(span.is_error, span.kind == Kind::Client && status == 404, "{span}");
    assert!(span.end_unix_ns > span.start_unix_ns && span.trace_id.len() == 32, "{span}");
    let port = port.to_string();
    let mut expected = vec![
        ("http.request.method", "GET"),
        ("server.address", "127.0.0.1"),
        ("server.port", port.as_str()),
        ("network.peer.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
    ];
    if span.kind == Kind::Server {
        expected.extend([("url.scheme", "http"), ("client.address", "127.0.0.1")]);
        assert!(span.get("user_agent.original").starts_with("curl/"), "{span}");
    }
    for (name, value) in expected {
        assert_eq!(span.get(name), value, "{name} of {span}");
    }
    for name in ["host.name", "process.executable.name", "telemetry.sdk.name"] {
        assert!(span.resource.contains_key(name), "no {name} in {:?}", span.resource);
    }
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
