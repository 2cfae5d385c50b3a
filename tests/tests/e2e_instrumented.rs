//! Processes that export their own telemetry: are they recognised, and is nothing of theirs there twice?

use std::path::{Path, PathBuf};

use spantap_tests::{
    agent::{Agent, Finished},
    client::fetch,
    config::ConfigFile,
    machine::{self, Skip},
    nginx::Nginx,
    otlp::{Kind, Span},
    program::{folder, wait_until},
    python::{self, Server},
    rotel::{self, Ports, Rotel},
};

const PROGRAMS: &[&str] = &["python3", "curl"];
const REQUESTS: usize = 20;
/// The SDK, and its exporters.
const SDK: &str = "opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 \
                   opentelemetry-exporter-otlp-proto-grpc==1.45.2";
const SERVER_TIMES: &str = "http.server.request.duration";
const CLIENT_TIMES: &str = "http.client.request.duration";

/// Python with the SDK, and a collector.
struct Tools {
    python: PathBuf,
    rotel: PathBuf,
}

fn tools() -> Result<Tools, Skip> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let python = python::install(target, SDK)?.join("bin/python");
    Ok(Tools { python, rotel: rotel::install(target)? })
}

fn agent(instrumented: &str) -> Agent {
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ndistribution: {{spantap: {{discovery: {{instrumented: {instrumented}}}}}}}\n"
    ));
    Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    })
}

/// The Python service `name`, which exports `kind` to `backend` and asks `other` each time it is asked.
fn service(python: &Path, name: &str, kind: &str, backend: &str, other: &str) -> Server {
    python::serve_by(python, "instrumented.py", &[kind, backend, other], |command| {
        command.env("OTEL_SERVICE_NAME", name);
    })
}

fn ask(port: u16) {
    for n in 0..REQUESTS {
        assert_eq!(fetch(&[&format!("http://127.0.0.1:{port}/work/{n}")]), (200, 6));
    }
}

fn spans<'a>(finished: &'a Finished, service: &str, kind: Kind) -> Vec<&'a Span> {
    finished.select(|span| span.is(service, kind))
}

/// How many requests the histogram `metric` of a service has counted.
fn counted(finished: &Finished, service: &str, metric: &str) -> u64 {
    let of = finished.points.iter().filter(|point| point.service == service && point.metric == metric);
    of.map(|point| point.count).sum()
}

/// Services that export spans, metrics and nothing, each asked as often, the first one asking the last one. Waits until
/// the collector has all spans of the first one.
fn watch(tools: &Tools, instrumented: &str) -> Finished {
    let ports = Ports::free();
    let rotel = Rotel::start(&tools.rotel, ports);
    let backend = format!("http://127.0.0.1:{}", ports.http);
    let agent = agent(instrumented);
    let plain = service(&tools.python, "plain", "nothing", "", "");
    let counting = service(&tools.python, "counting", "metrics", &backend, "");
    let other = format!("http://127.0.0.1:{}", plain.port);
    let traced = service(&tools.python, "traced", "traces", &backend, &other);
    for port in [traced.port, counting.port, plain.port] {
        ask(port);
    }
    wait_until("the SDK's spans in rotel's log", machine::patience(), || {
        rotel.received().spans.iter().filter(|span| span.name.starts_with("/work/")).count() == REQUESTS
    });
    let plain_spans = |span: &Span| span.is("plain", Kind::Server);
    agent.wait_for(2 * REQUESTS, plain_spans);
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    // Who exports only metrics, or nothing, has all spans, whatever becomes of others; and nobody's export is a span.
    assert_eq!(spans(&finished, "counting", Kind::Server).len(), REQUESTS);
    assert_eq!(spans(&finished, "plain", Kind::Server).len(), 2 * REQUESTS);
    assert_eq!(counted(&finished, "plain", SERVER_TIMES), 2 * REQUESTS as u64);
    let exports = finished.select(|span| span.path().starts_with("/v1/"));
    assert!(exports.is_empty(), "{exports:?}");
    finished
}

fn left_out(finished: &Finished, reason: &str) -> usize {
    finished.accounts.left_out.get(reason).map_or(0, |count| usize::try_from(*count).expect("few"))
}

/// Lines that say that a service exports its own spans.
fn told(finished: &Finished, service: &str) -> usize {
    let of = |line: &&str| {
        line.contains("exports its own spans") && line.contains(&format!("service=\"{service}\""))
    };
    finished.stderr.lines().filter(of).count()
}

const SPANS: &str = "spans of processes that export their own";
const EXCHANGES: &str = "exchanges of processes that export their own spans";

#[test]
fn a_process_that_exports_its_own_spans_gives_metrics_and_no_second_spans() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let tools = match tools() {
        Ok(tools) => tools,
        Err(skip) => return machine::skipped(&skip),
    };
    let finished = watch(&tools, "metrics_only");
    let ours = finished.select(|span| span.service == "traced");
    assert!(ours.is_empty(), "{ours:?}");
    assert_eq!(counted(&finished, "traced", SERVER_TIMES), REQUESTS as u64);
    assert_eq!(counted(&finished, "traced", CLIENT_TIMES), REQUESTS as u64);
    assert_eq!(left_out(&finished, SPANS), 2 * REQUESTS, "as server and as client");
    assert_eq!(left_out(&finished, EXCHANGES), 0);
    let services = ["traced", "counting", "plain"].map(|service| told(&finished, service));
    assert_eq!(services, [1, 0, 0], "{}", finished.stderr);

    let finished = watch(&tools, "all");
    assert_eq!(spans(&finished, "traced", Kind::Server).len(), REQUESTS);
    assert_eq!(spans(&finished, "traced", Kind::Client).len(), REQUESTS);
    assert_eq!((left_out(&finished, SPANS), told(&finished, "traced")), (0, 0));

    let finished = watch(&tools, "skip");
    assert!(finished.select(|span| span.service == "traced").is_empty());
    assert_eq!(counted(&finished, "traced", SERVER_TIMES), 0);
    assert_eq!((left_out(&finished, SPANS), left_out(&finished, EXCHANGES)), (0, 2 * REQUESTS));
    assert_eq!(told(&finished, "traced"), 1, "{}", finished.stderr);
}

#[test]
fn spans_by_grpc_tell_it_as_well() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let tools = match tools() {
        Ok(tools) => tools,
        Err(skip) => return machine::skipped(&skip),
    };
    let ports = Ports::free();
    let rotel = Rotel::start(&tools.rotel, ports);
    let agent = agent("metrics_only");
    let backend = format!("http://127.0.0.1:{}", ports.grpc);
    let traced = service(&tools.python, "traced", "traces-grpc", &backend, "");
    ask(traced.port);
    wait_until("the SDK's spans in rotel's log", machine::patience(), || {
        rotel.received().spans.iter().filter(|span| span.name.starts_with("/work/")).count() == REQUESTS
    });
    agent.wait_for(REQUESTS, |span| span.is("curl", Kind::Client) && span.is_at(traced.port));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let ours = finished.select(|span| span.service == "traced");
    assert!(ours.is_empty(), "{ours:?}");
    assert_eq!(counted(&finished, "traced", SERVER_TIMES), REQUESTS as u64);
    assert_eq!((left_out(&finished, SPANS), told(&finished, "traced")), (REQUESTS, 1));
}

#[test]
fn a_published_context_tells_it_from_the_first_request_on() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let publisher = || python::serve("publisher.py", &["shop"], |_| ());
    let agent_ = agent("metrics_only");
    let (server, plain) = (publisher(), python::http_server(folder().path()));
    ask(server.port);
    let missing = format!("http://127.0.0.1:{}/missing", plain.port);
    assert_eq!(fetch(&[&missing]).0, 404);
    agent_.wait_for(1, |span| span.is_at(plain.port) && span.kind == Kind::Server);
    let finished = agent_.finish();
    let ours = finished.select(|span| span.is_at(server.port) && span.kind == Kind::Server);
    assert!(ours.is_empty(), "{ours:?}");
    assert_eq!(
        counted(&finished, "shop", SERVER_TIMES),
        REQUESTS as u64,
        "by the name that it has given itself"
    );
    assert_eq!(left_out(&finished, SPANS), REQUESTS);
    assert_eq!(told(&finished, "shop"), 1, "{}", finished.stderr);

    // One that runs already is left alone in the kernel from its first request on.
    let server = publisher();
    let agent_ = agent("skip");
    ask(server.port);
    agent_.wait_for(REQUESTS, |span| span.is("curl", Kind::Client) && span.is_at(server.port));
    let finished = agent_.finish();
    assert!(finished.select(|span| span.service == "shop").is_empty());
    assert_eq!(counted(&finished, "shop", SERVER_TIMES), 0);
    assert_eq!(told(&finished, "shop"), 1, "{}", finished.stderr);
    assert!(left_out(&finished, EXCHANGES) >= 1, "{:?}", finished.accounts);

    let agent_ = agent("all");
    ask(server.port);
    agent_.wait_for(REQUESTS, |span| span.is("shop", Kind::Server));
    let finished = agent_.finish();
    assert_eq!(spans(&finished, "shop", Kind::Server).len(), REQUESTS);
    assert_eq!((left_out(&finished, SPANS), told(&finished, "shop")), (0, 0));
}

#[test]
fn a_proxy_that_passes_spans_on_keeps_its_own() {
    let Some(_turn) = machine::ready(&["python3", "curl", "nginx", "openssl"]) else { return };
    let tools = match tools() {
        Ok(tools) => tools,
        Err(skip) => return machine::skipped(&skip),
    };
    let ports = Ports::free();
    let rotel = Rotel::start(&tools.rotel, ports);
    let agent = agent("metrics_only");
    let nginx = Nginx::start(&format!(
        "location /v1/traces {{ proxy_pass http://127.0.0.1:{}; }}\nlocation /work/ {{ return 200 'hello\\n'; }}",
        ports.http
    ));
    let traced = service(&tools.python, "traced", "traces", &format!("http://127.0.0.1:{}", nginx.port), "");
    for port in [traced.port, nginx.port] {
        ask(port);
    }
    wait_until("the SDK's spans in rotel's log", machine::patience(), || {
        rotel.received().spans.iter().filter(|span| span.name.starts_with("/work/")).count() == REQUESTS
    });
    let at_nginx = |span: &Span| span.is("nginx", Kind::Server) && span.path().starts_with("/work/");
    agent.wait_for(REQUESTS, at_nginx);
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert_eq!(finished.select(at_nginx).len(), REQUESTS);
    assert!(finished.select(|span| span.service == "traced").is_empty());
    assert_eq!(left_out(&finished, SPANS), REQUESTS);
    assert_eq!((told(&finished, "traced"), told(&finished, "nginx")), (1, 0), "{}", finished.stderr);
}
