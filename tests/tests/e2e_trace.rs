//! Does a span join its caller's trace, and is the caller's decision obeyed, whatever the headers are that say so?

use spantap_tests::{agent::Agent, client::curl, machine, nginx::Nginx, otlp::Kind};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
/// What a client may say (W3C Trace Context, openzipkin/b3-propagation), and whether its trace is kept. What it leaves
/// open is for us to decide.
const SAID: &[(&str, &[&str], bool)] = &[
    ("w3c", &["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"], true),
    ("w3c-not", &["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"], false),
    ("b3", &["b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"], true),
    ("b3-not", &["b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"], false),
    ("b3-open", &["b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"], true),
    (
        "b3-multi",
        &[
            "X-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736",
            "X-B3-SpanId: 00f067aa0ba902b7",
            "X-B3-Sampled: 1",
        ],
        true,
    ),
    (
        "b3-multi-not",
        &[
            "X-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736",
            "X-B3-SpanId: 00f067aa0ba902b7",
            "X-B3-Sampled: 0",
        ],
        false,
    ),
];

#[test]
fn the_callers_trace_goes_on_in_both_versions_of_http() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl"]) else { return };
    let nginx = Nginx::start_http2("location /ok/ { return 200 'hello\n'; }");
    let mut agent = Agent::start();
    agent.wait_for_tls();
    for (version, url) in
        [("--http1.1", nginx.tls_url("/ok/1/")), ("--http2-prior-knowledge", nginx.url("/ok/2/"))]
    {
        let ask = |name: &str, fields: &[&str]| {
            let mut arguments = vec![version.to_owned(), "--output".to_owned(), "/dev/null".to_owned()];
            for field in fields {
                arguments.extend(["--header".to_owned(), (*field).to_owned()]);
            }
            arguments.push(format!("{url}{name}"));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let _ = curl(&arguments).success("curl");
        };
        for (name, fields, _) in SAID {
            ask(name, fields);
        }
        ask(
            "none",
            &["X-Request-Id: 7f3c", "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
        );
    }
    let kept = SAID.iter().filter(|(.., is_sampled)| *is_sampled).count();
    let all = 2 * (kept + 1);
    for (service, kind) in [("nginx", Kind::Server), ("curl", Kind::Client)] {
        agent.wait_for(all, |span| span.is(service, kind));
    }
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    for (service, kind) in [("nginx", Kind::Server), ("curl", Kind::Client)] {
        for (folder, version) in [("/ok/1/", "1.1"), ("/ok/2/", "2")] {
            let of = |name: &str| {
                let path = format!("{folder}{name}");
                finished.select(|span| span.is(service, kind) && span.path() == path)
            };
            let one = |name: &str| {
                let spans = of(name);
                assert_eq!(spans.len(), 1, "{service} {folder}{name}");
                assert_eq!(spans[0].get("network.protocol.version"), version, "{}", spans[0]);
                spans[0]
            };
            for (name, _, is_sampled) in SAID {
                if !is_sampled {
                    assert_eq!(of(name).len(), 0, "{service} {folder}{name}: the caller does not keep it");
                    continue;
                }
                let span = one(name);
                let told = (span.trace_id.as_str(), span.parent.as_str(), span.is_sampled);
                assert_eq!(told, (TRACE, CALLER, true), "{span}");
            }
            let span = one("none");
            assert_eq!(
                (span.trace_id.len(), span.parent.as_str(), span.is_sampled),
                (32, "", true),
                "{span}"
            );
            assert_ne!(span.trace_id, "0".repeat(32), "{span}");
            assert!(span.get("http.request.header.x-request-id").contains("7f3c"), "{:?}", span.attributes);
        }
    }
    let left_out = finished.accounts.left_out["spans sampled out: the caller's decision"];
    assert_eq!(left_out as usize, 4 * (SAID.len() - kept), "two ends, two versions");
}
