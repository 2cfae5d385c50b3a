//! Are the spans exported that the configuration asks for, and no others, and are metrics exact all the same?

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use spantap_tests::{
    agent::{Agent, Finished},
    client::curl,
    config::ConfigFile,
    machine,
    nginx::Nginx,
    otlp::{Kind, Span},
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
    location /health/ { return 200 'well\n'; }
    location /fail/ { return 503 'not now\n'; }
";
const PROGRAMS: &[&str] = &["nginx", "curl", "openssl"];

/// Requests of one curl, one after the other, on one connection: `/ok/[1-400]`.
fn ask(nginx: &Nginx, paths: &str, fields: &[&str]) {
    let url = nginx.url(paths);
    let mut arguments = vec!["--output", "/dev/null"];
    fields.iter().for_each(|field| arguments.extend(["--header", field]));
    arguments.push(&url);
    let _ = curl(&arguments).success("curl");
}

/// Server spans of nginx below `folder`.
fn served<'a>(finished: &'a Finished, folder: &str) -> Vec<&'a Span> {
    finished.select(|span| span.is("nginx", Kind::Server) && span.path().starts_with(folder))
}

/// What histograms have counted of nginx and curl.
fn counted(finished: &Finished) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for point in finished.points.iter().filter(|point| point.metric.ends_with(".request.duration")) {
        *counts.entry(point.service.as_str()).or_default() += point.count;
    }
    counts
}

fn left_out(finished: &Finished, reason: &str) -> u64 {
    finished.accounts.left_out.get(&format!("spans sampled out: {reason}")).copied().unwrap_or(0)
}

/// All spans, those of others on this machine too, and what was left out of them: that is what metrics have counted.
fn assert_exact(finished: &Finished, requests: u64) {
    finished.accounts.assert_nothing_lost();
    let counts = counted(finished);
    assert_eq!((counts["nginx"], counts["curl"]), (requests, requests), "{counts:?}");
    let accounts = &finished.accounts;
    let all: u64 = finished.points.iter().map(|point| point.count).sum();
    let sampled_out = accounts.left_out.iter().filter(|(name, _)| name.starts_with("spans sampled out"));
    let sampled_out: u64 = sampled_out.map(|(_, n)| n).sum();
    let own = accounts.left_out.get("spans of processes that export their own").copied().unwrap_or(0);
    let spans = accounts.seen.get("spans").copied().unwrap_or(0);
    assert_eq!(spans, finished.spans.len() as u64);
    assert_eq!(all, spans + sampled_out + own, "{accounts:?}");
    let ids: HashSet<&str> = finished.spans.iter().map(|span| span.span_id.as_str()).collect();
    let exemplars: Vec<&String> = finished.points.iter().flat_map(|point| &point.exemplars).collect();
    assert!(exemplars.iter().all(|id| ids.contains(id.as_str())), "exemplars without a span");
    assert_eq!(exemplars.is_empty(), spans == 0);
}

#[test]
fn a_ratio_keeps_its_part_and_all_errors_and_obeys_callers() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let agent = Agent::start_with(|command| {
        command.env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio").env("OTEL_TRACES_SAMPLER_ARG", "0.25");
    });
    ask(&nginx, "/ok/[1-1000]", &[]);
    ask(&nginx, "/fail/[1-50]", &[]);
    let caller =
        |flag: &str| format!("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flag}");
    ask(&nginx, "/ok/yes/[1-20]", &[&caller("01"), "tracestate: a=1,ot=th:8;rv:90000000000000"]);
    ask(&nginx, "/ok/wrong/[1-20]", &[&caller("01"), "tracestate: a=1,ot=th:f"]);
    ask(&nginx, "/ok/no/[1-20]", &[&caller("00")]);
    ask(&nginx, "/fail/no/[1-20]", &[&caller("00")]);
    // The randomness of this id is above the threshold, of the other below it.
    let open = |id: &str| format!("b3: 463ac35c9f6413ad48{id}-a2fb4a1d1a96d312");
    ask(&nginx, "/ok/open-high/[1-20]", &[&open("ff000000000000")]);
    ask(&nginx, "/ok/open-low/[1-20]", &[&open("01000000000000")]);
    nginx.wait_for_log(1170);
    let finished = agent.finish();
    assert_exact(&finished, 1170);

    let all = served(&finished, "/ok/");
    let begun: Vec<&&Span> = all.iter().filter(|span| span.parent.is_empty()).collect();
    // 250 are expected; four standard deviations are 55. Of a few the slowest are kept besides.
    let by_ratio = begun.iter().filter(|span| span.state == "ot=th:c").count();
    assert!((195..=305).contains(&by_ratio), "{by_ratio}");
    for span in &begun {
        assert!(["ot=th:c", "ot=th:0"].contains(&span.state.as_str()), "{}: {span}", span.state);
        let is_above = &span.trace_id[18..] >= "c0000000000000";
        assert!(is_above || span.state == "ot=th:0", "{span}");
    }
    let errors = served(&finished, "/fail/");
    assert_eq!(errors.len(), 50, "each of them, and none whose caller does not keep it");
    for span in &errors {
        assert!(span.is_error && span.state == "ot=th:0" && span.parent.is_empty(), "{}: {span}", span.state);
    }
    for (folder, state, expected) in [
        ("/ok/yes/", "a=1,ot=th:8;rv:90000000000000", 20),
        ("/ok/wrong/", "a=1", 20),
        ("/ok/no/", "", 0),
        ("/ok/open-high/", "ot=th:c", 20),
        ("/ok/open-low/", "", 0),
    ] {
        let spans = served(&finished, folder);
        let spans: Vec<_> = spans.iter().filter(|span| span.state != "ot=th:0").collect();
        assert_eq!(spans.len(), expected, "{folder}");
        assert!(spans.iter().all(|span| span.state == state), "{folder}: {}", spans[0].state);
    }
    assert!(finished.spans.iter().all(|span| span.is_sampled));
    assert_eq!(left_out(&finished, "the caller's decision"), 2 * 40, "both ends");
    assert!(left_out(&finished, "ratio") > 2 * 600);
    assert!(finished.accounts.seen["spans kept as errors"] > 50);
}

#[test]
fn rules_are_by_service_and_the_ceiling_is_kept_each_second() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    const CEILING: u64 = 40;
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    sampling:\n      spans_per_second: {CEILING}\n      keep_slowest: like_others\n      rules:\n        \
         - {{service: cur?, sampler: {{always_off: }}}}\n        \
         - {{service: nginx, span_name: \"GET /health/*\", sampler: {{always_off: }}}}\n"
    ));
    let nginx = Nginx::start(LOCATIONS);
    let agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    });
    let began = std::time::Instant::now();
    for part in 0..4 {
        ask(&nginx, &format!("/ok/{part}/[1-400]"), &[]);
        // Each in a second of its own.
        std::thread::sleep(Duration::from_millis(1100));
    }
    ask(&nginx, "/health/[1-100]", &[]);
    ask(&nginx, "/fail/[1-10]", &[]);
    nginx.wait_for_log(1710);
    let finished = agent.finish();
    // Of each second that has begun, the one that was under way and the one that was cut short.
    let seconds = began.elapsed().as_secs() + 2;
    assert_exact(&finished, 1710);
    assert_eq!(finished.select(|span| span.service == "curl").len(), 0);
    assert_eq!(served(&finished, "/health/").len(), 0);
    assert_eq!(left_out(&finished, "always_off"), 1710 + 100, "all of curl, and what asks for health");
    let spans = finished.spans.len() as u64;
    assert!(spans > 2 * CEILING && spans <= CEILING * seconds, "{spans} spans in {seconds} s");
    assert!(left_out(&finished, "spans_per_second") >= 1610 - spans);
    for part in 0..4 {
        assert!(!served(&finished, &format!("/ok/{part}/")).is_empty(), "some of each second");
    }
    assert_eq!(served(&finished, "/fail/").len(), 10, "errors go last");
    // What is kept stands for what is not: each second's threshold is that of its own.
    let adjusted = |span: &Span| {
        let digits = span.state.strip_prefix("ot=th:").unwrap_or_else(|| panic!("{}: {span}", span.state));
        let threshold = u64::from_str_radix(&format!("{digits:0<14}"), 16).expect("digits") as f64;
        1.0 / (1.0 - threshold / 2_f64.powi(56))
    };
    let total: f64 = finished.spans.iter().map(adjusted).sum();
    // One deviation of what 40 spans stand for is a sixth.
    assert!((800.0..3200.0).contains(&total), "{total} by {spans} spans");
    for span in finished.spans.iter().filter(|span| span.state != "ot=th:0") {
        let threshold = format!("{:0<14}", &span.state["ot=th:".len()..]);
        assert!(span.trace_id[18..] >= threshold[..], "{}: {}", span.state, span.trace_id);
    }
}

#[test]
fn what_is_always_off_is_only_counted() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let agent = Agent::start_with(|command| {
        command.env("OTEL_TRACES_SAMPLER", "always_off");
    });
    ask(&nginx, "/ok/[1-100]", &[]);
    ask(&nginx, "/fail/[1-10]", &[]);
    nginx.wait_for_log(110);
    let finished = agent.finish();
    assert_exact(&finished, 110);
    assert_eq!(finished.spans.len(), 0);
    assert!(left_out(&finished, "always_off") >= 220);
}
