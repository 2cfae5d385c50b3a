//! A real Prometheus scrapes the agent: metrics come back by PromQL, and their exemplars are spans that were exported.

use std::{collections::HashSet, net::TcpListener, process::Command};

use spantap_tests::{
    agent::{self, Agent},
    client::{curl, fetch},
    config::ConfigFile,
    machine,
    nginx::Nginx,
    otlp::{Kind, Number},
    program::{Program, free_port, wait_until},
    prometheus::Prometheus,
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
    location /missing/ { return 404; }
";
const REQUESTS: usize = 20;

/// Spans to standard output, metrics for Prometheus.
fn config(port: u16) -> String {
    format!(
        "file_format: \"1.1\"\n\
         tracer_provider: {{processors: [{{batch: {{exporter: {{console: }}}}}}]}}\n\
         meter_provider:\n  readers:\n    - pull: {{exporter: {{prometheus/development: {{host: 127.0.0.1, port: {port}}}}}}}\n"
    )
}

/// Spans to a backend that is not there, metrics for who fetches them.
#[test]
fn an_agent_whose_backend_is_away_is_alive_and_not_ready() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let (port, dead) = (free_port(), free_port());
    let mut command = agent::command(&["--accounts"]);
    command.env("OTEL_TRACES_EXPORTER", "otlp");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{dead}"));
    command.env("OTEL_METRICS_EXPORTER", "prometheus");
    command.env("OTEL_EXPORTER_PROMETHEUS_PORT", port.to_string());
    let mut agent = Program::start("spantap", &mut command);
    agent.wait_ready("watched", |program| program.stderr().contains("watching every process"));
    let url = |path: &str| format!("http://localhost:{port}{path}");
    assert_eq!(fetch(&[&url("/readyz")]).0, 200, "nothing had to be sent yet");
    assert_eq!(fetch(&[&nginx.url("/ok/")]).0, 200);
    wait_until("not ready", machine::patience(), || fetch(&[&url("/readyz")]).0 == 503);
    let reason = curl(&[&url("/readyz")]).success("curl").stdout;
    assert_eq!(reason, format!("ok\nattached\nhttp://127.0.0.1:{dead}/v1/traces does not take traces\n"));
    assert_eq!(fetch(&[&url("/healthz")]).0, 200);
    let metrics = curl(&[&url("/metrics")]).success("curl").stdout;
    let waiting: u64 = ["otel_sdk_exporter_span_inflight{", "otel_sdk_processor_span_queue_size{"]
        .iter()
        .filter_map(|name| metrics.lines().find(|line| line.starts_with(name)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert!(waiting >= 2, "{metrics}");
    let failed = |line: &&str| {
        line.starts_with("otel_sdk_exporter_operation_duration_seconds_count{")
            && line.contains("error_type=\"_OTHER\"")
    };
    let attempts = metrics.lines().find(failed).and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(attempts.is_some_and(|attempts| attempts > 0), "{metrics}");
    assert!(metrics.contains("otel_sdk_component_name=\"otlp_http_span_exporter/0\""), "{metrics}");
    agent.signal(libc::SIGTERM);
    assert!(agent.wait(machine::patience()).success());
}

/// As on a host whose agent runs with the same file.
#[test]
fn a_replay_needs_no_port_and_an_agent_says_which_one_is_taken() {
    let Some(_turn) = machine::ready(&[]) else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = ConfigFile::new(&config(port));
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/../collector/src/demo/recording.pcap");
    let ended = agent::run(&["replay", recording, "--config", file.name(), "--format", "none", "--accounts"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.contains("without an endpoint for Prometheus"), "{}", ended.stderr);
    let ended = agent::run(&["run", "--config", file.name()]);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let expected =
        format!("failed to set up the exporter to http://127.0.0.1:{port}/metrics: Address already in use");
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
}

#[test]
fn prometheus_reads_back_what_happened() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl", "prometheus"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let port = free_port();
    let file = ConfigFile::new(&config(port));
    let agent = Agent::start_with(|command: &mut Command| {
        command.args(["--config", file.name()]);
    });
    assert!(
        agent.stderr().contains(&format!(
            "metrics go to standard output (otlp-json) and http://127.0.0.1:{port}/metrics"
        )),
        "{}",
        agent.stderr()
    );
    for path in ["/healthz", "/readyz"] {
        assert_eq!(fetch(&[&format!("http://127.0.0.1:{port}{path}")]).0, 200, "{path}");
    }
    let prometheus = Prometheus::start(port);
    for number in 0..REQUESTS {
        let path = if number % 4 == 0 { "/missing/" } else { "/ok/" };
        let _ = fetch(&[&nginx.url(path)]);
    }
    agent.wait_for(2 * REQUESTS, |span| span.is_at(nginx.port));
    let of = |code: u16| {
        format!(
            "http_server_request_duration_seconds_count{{job=\"nginx\",http_response_status_code=\"{code}\",\
             http_request_method=\"GET\",url_scheme=\"http\"}}"
        )
    };
    wait_until("all requests in Prometheus", machine::patience(), || {
        let found = prometheus.value(&format!("sum({})", of(200))).unwrap_or(0.0)
            + prometheus.value(&format!("sum({})", of(404))).unwrap_or(0.0);
        assert_eq!(prometheus.scrape_error(), "", "{}", prometheus.stderr());
        found >= REQUESTS as f64
    });
    assert_eq!(prometheus.value(&format!("sum({})", of(404))), Some(REQUESTS as f64 / 4.0));
    assert_eq!(prometheus.value(&format!("sum({})", of(200))), Some(REQUESTS as f64 * 0.75));

    // The other end, quantiles, and the join with what the resource says.
    let client = "sum(http_client_request_duration_seconds_count{job=\"curl\",error_type=\"404\"})";
    assert_eq!(prometheus.value(client), Some(REQUESTS as f64 / 4.0));
    let quantile =
        "histogram_quantile(0.99, sum by (le) (http_server_request_duration_seconds_bucket{job=\"nginx\"}))";
    let p99 = prometheus.value(quantile).expect("there are buckets");
    assert!(p99 > 0.0 && p99 <= 10.0, "{p99}");
    let joined = format!(
        "sum by (process_executable_name) ({} * on (job, instance) group_left (process_executable_name) target_info)",
        of(200)
    );
    let [(labels, _)] = &prometheus.query(&joined)[..] else { panic!("no target_info of nginx") };
    assert_eq!(labels["process_executable_name"], "nginx");
    let scope = "count by (otel_scope_name) (http_server_request_duration_seconds_count{job=\"nginx\"})";
    assert_eq!(prometheus.query(scope)[0].0["otel_scope_name"], "spantap");
    // Nothing gave an instance, so that of the scrape stands.
    let [(labels, _), ..] = &prometheus.query("target_info{job=\"nginx\"}")[..] else { panic!("one") };
    assert_eq!(labels["instance"], format!("127.0.0.1:{port}"));

    let exemplars = prometheus.exemplars("http_server_request_duration_seconds_bucket{job=\"nginx\"}");
    assert!(!exemplars.is_empty());
    let text = curl(&["--header", "accept: text/plain", &format!("http://127.0.0.1:{port}/metrics")]);
    let text = text.success("curl").stdout;
    let mut lint = Command::new("sh");
    // Standard input is ours to give; promtool reads nothing else.
    lint.args(["-c", &format!("curl -s http://127.0.0.1:{port}/metrics | promtool check metrics")]);
    let _ = Program::run("promtool", &mut lint).success("promtool");
    assert!(text.contains("# TYPE http_server_request_duration_seconds histogram\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("trace_id"), "the older format has neither");

    // The agent itself is a job, and tells the same as its accounts do at the end.
    let records = "spantap_seen_total{job=\"spantap\",spantap_what=\"kernel records\"}";
    assert!(prometheus.value(records).is_some_and(|records| records >= REQUESTS as f64));
    let lost = "sum(spantap_left_out_total{job=\"spantap\",spantap_reason=\"kernel: ring full\"})";
    assert_eq!(prometheus.value(lost), Some(0.0), "also where nothing was lost");
    let [memory, cpu] = ["process_memory_usage_bytes", "process_cpu_time_seconds_total"]
        .map(|name| prometheus.value(&format!("{name}{{job=\"spantap\"}}")).unwrap_or(0.0));
    assert!(memory > 1e6 && cpu > 0.0, "{memory} bytes, {cpu} s");
    assert!(prometheus.value("spantap_metric_series{job=\"spantap\"}").is_some_and(|series| series >= 4.0));

    let finished = agent.finish();
    for (name, rows) in
        [("spantap.seen", &finished.accounts.seen), ("spantap.left_out", &finished.accounts.left_out)]
    {
        for row in rows.keys() {
            let is_row = |number: &&Number| {
                let metric = if row.ends_with("bytes") { format!("{name}.bytes") } else { name.to_owned() };
                number.metric == metric && number.attributes.values().any(|value| value == row)
            };
            let told =
                finished.numbers.iter().rfind(is_row).unwrap_or_else(|| panic!("no `{row}` in {name}"));
            assert_eq!(told.resource["service.name"], "spantap");
            if row == "kernel records" {
                assert_eq!(told.value, rows[row] as f64);
            }
        }
    }
    finished.accounts.assert_nothing_lost();
    let exported: HashSet<&str> = finished
        .spans
        .iter()
        .filter(|span| span.is("nginx", Kind::Server))
        .map(|span| span.trace_id.as_str())
        .collect();
    for (labels, value) in &exemplars {
        let trace = labels["trace_id"].as_str().expect("a trace id");
        assert!(exported.contains(trace), "{trace} was not exported");
        assert!(*value > 0.0 && labels["span_id"].as_str().is_some_and(|id| id.len() == 16), "{labels}");
    }
    assert!(finished.accounts.seen["scrapes answered"] > 1, "{:?}", finished.accounts);
    assert_eq!(finished.accounts.left_out.get("scrapes refused"), None);
}
