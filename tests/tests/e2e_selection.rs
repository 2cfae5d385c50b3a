//! Are the selected processes watched, and only they?

use std::process::Command;

use spantap_tests::{
    agent::{Agent, Finished},
    client::fetch,
    config::ConfigFile,
    machine,
    nginx::Nginx,
    otlp::Kind,
    program::{Program, folder},
    wrk::Wrk,
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
";
const REQUESTS: usize = 2_000;

/// Loads nginx with wrk, and asks once more with curl, under these rules.
fn watch(rules: &str) -> (Finished, u16) {
    watch_by("auto", rules)
}

/// The same by another backend.
fn watch_by(backend: &str, rules: &str) -> (Finished, u16) {
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture: {{backend: {backend}}}\n    discovery: {rules}\n"
    ));
    let nginx = Nginx::start(LOCATIONS);
    let agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    });
    let wrk = Wrk::start(&nginx.url(""), 2, REQUESTS / 2, &["/ok/"]);
    nginx.wait_for_log(REQUESTS);
    println!("{}", wrk.finish());
    assert_eq!(fetch(&[&nginx.url("/ok/curl")]).0, 200);
    nginx.wait_for_log(REQUESTS + 1);
    let port = nginx.port;
    drop(nginx);
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    (finished, port)
}

fn count(finished: &Finished, port: u16, service: &str) -> usize {
    let is = |kind, service| finished.select(|span| span.is(service, kind) && span.is_at(port)).len();
    is(Kind::Server, service) + is(Kind::Client, service)
}

#[test]
fn what_is_excluded_is_not_even_copied() {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "curl", "openssl"]) else { return };
    for backend in machine::backends() {
        let (finished, port) = watch_by(&backend, "{exclude: [{executable: wrk}]}");
        assert_eq!(count(&finished, port, "nginx"), REQUESTS + 1, "{backend}");
        assert_eq!(count(&finished, port, "wrk"), 0, "{backend}");
        assert_eq!(count(&finished, port, "curl"), 1, "{backend}");
        // Of wrk only what the kernel side passed on before it was told: a few calls of each connection.
        let of_excluded = finished.accounts.left_out.get("exchanges of processes that are not watched");
        let excluded = of_excluded.copied().unwrap_or(0);
        assert!(excluded < REQUESTS as u64 / 10, "{backend}: {excluded} exchanges of wrk reached the agent");
    }
}

#[test]
fn only_what_is_included_is_seen() {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "curl", "openssl"]) else { return };
    let (finished, port) = watch("{include: [{command_line: \"curl *\"}]}");
    let spans = finished.select(|span| span.is_at(port));
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert!(spans[0].kind == Kind::Client && spans[0].path() == "/ok/curl", "{spans:?}");
}

#[test]
fn a_rule_says_what_is_different_for_what_it_fits() {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "curl", "openssl"]) else { return };
    let (finished, port) = watch(
        "{include: [{executable: nginx, service_name: edge, service_namespace: shop}, {executable: \"*\"}], exclude: [{executable: wrk}]}",
    );
    let edge = finished.select(|span| span.is("edge", Kind::Server) && span.is_at(port));
    assert_eq!(edge.len(), REQUESTS + 1);
    assert_eq!(edge[0].resource.get("service.namespace").map(String::as_str), Some("shop"));
    assert_eq!(edge[0].resource.get("process.executable.name").map(String::as_str), Some("nginx"));
    assert_eq!((count(&finished, port, "nginx"), count(&finished, port, "curl")), (0, 1));
}

#[test]
fn telemetry_backends_are_left_alone_unless_they_are_asked_for() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl"]) else { return };
    let folder = folder();
    let collector = folder.path().join("otelcol-contrib");
    std::fs::copy(machine::find_program("curl").expect("it is there"), &collector).expect("a fresh folder");
    for (rules, expected) in [("{}", 0), ("{telemetry_backends: all}", 1)] {
        let config = ConfigFile::new(&format!(
            "file_format: \"1.1\"\ndistribution: {{spantap: {{discovery: {rules}}}}}\n"
        ));
        let nginx = Nginx::start(LOCATIONS);
        let agent = Agent::start_with(|command| {
            command.args(["--config", config.name()]);
        });
        let mut scrape = Command::new(&collector);
        let _ = Program::run("otelcol", scrape.args(["--silent", &nginx.url("/ok/scrape")])).success("curl");
        agent.wait_for(1, |span| span.is("nginx", Kind::Server) && span.path() == "/ok/scrape");
        let finished = agent.finish();
        assert_eq!(count(&finished, nginx.port, "otelcol-contrib"), expected, "{rules}");
        assert_eq!(count(&finished, nginx.port, "nginx"), 1, "what it asks is watched as ever");
        let said = finished.stderr.matches("a telemetry backend is left alone").count();
        assert!(said >= 1 - expected, "{}", finished.stderr);
    }
}

#[test]
fn a_port_selects_what_arrives_there() {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "curl", "openssl"]) else { return };
    let (finished, port) = watch("{include: [{port: 1}, {executable: curl}]}");
    assert_eq!((count(&finished, port, "nginx"), count(&finished, port, "curl")), (0, 1));
    let (finished, port) = watch("{include: [{port: 1024-65535}]}");
    assert_eq!((count(&finished, port, "nginx"), count(&finished, port, "curl")), (REQUESTS + 1, 0));
}
