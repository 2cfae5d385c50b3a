//! The text, line by line.

use spantap_protocols::{Role, Value};

use super::*;
use crate::telemetry::{
    Aggregator, MetricSettings,
    span::tests::{record, service},
};

const ALL: Additions = Additions { scope_info: false, target_info: true };

fn snapshot() -> MetricsSnapshot {
    let mut metrics = Aggregator::new(MetricSettings::default());
    metrics.record(&record(Role::Server, 200));
    let mut slow = record(Role::Server, 200);
    slow.end.0 += 20_000_000_000;
    slow.is_span = false;
    metrics.record(&slow);
    let mut other = record(Role::Client, 404);
    other.service = service(2, "cart");
    metrics.record(&other);
    let mut snapshot = metrics.collect(UnixNanos(1_700_000_009_000_000_000), UnixNanos(0));
    let point = |reason, value: f64| NumberPoint {
        attributes: vec![("error.type", Value::Static(reason))],
        start: UnixNanos(1_700_000_000_000_000_000),
        value,
    };
    snapshot.services[1].numbers = vec![
        NumberMetric {
            name: "spantap.test.spans",
            description: "Two \"lines\"\nof help.",
            unit: "{span}",
            kind: NumberKind::Counter,
            points: vec![point("queue_full", 3.0), point("a\"b", 0.0)],
        },
        NumberMetric {
            name: "spantap.test.size",
            description: "Bytes.",
            unit: "By",
            kind: NumberKind::Gauge,
            points: vec![NumberPoint { attributes: Vec::new(), start: UnixNanos(0), value: 7.5 }],
        },
    ];
    snapshot
}

fn text(format: Format, additions: Additions) -> String {
    let mut exposition = Exposition::new(Arc::new(snapshot()), format, additions);
    let mut out = String::new();
    while exposition.write(&mut out) {}
    out
}

#[test]
fn open_metrics() {
    insta::assert_snapshot!(text(Format::OpenMetrics("1.0.0"), ALL));
}

#[test]
fn prometheus_text() {
    insta::assert_snapshot!(text(Format::Text, ALL));
}

#[test]
fn additions_are_left_out_where_they_are_not_wanted() {
    let bare = text(Format::Text, Additions { scope_info: false, target_info: false });
    assert!(!bare.contains("target_info") && !bare.contains("otel_scope"));
    let whole = text(Format::Text, Additions { scope_info: true, target_info: true });
    let version = env!("CARGO_PKG_VERSION");
    let labels = format!(r#"job="shop",otel_scope_name="spantap",otel_scope_version="{version}","#);
    assert!(whole.contains(&format!("http_server_request_duration_seconds_bucket{{{labels}")), "{whole}");
}

#[test]
fn pieces_are_small_and_together_are_the_whole() {
    let mut metrics = Aggregator::new(MetricSettings::default());
    for id in 0..500 {
        let mut record = record(Role::Server, 200);
        record.service = service(id, &format!("service-{id}"));
        metrics.record(&record);
    }
    let snapshot = Arc::new(metrics.collect(UnixNanos(1_700_000_009_000_000_000), UnixNanos(0)));
    let mut exposition = Exposition::new(Arc::clone(&snapshot), Format::OpenMetrics("1.0.0"), ALL);
    let (mut whole, mut pieces) = (String::new(), 0);
    loop {
        let mut piece = String::new();
        if !exposition.write(&mut piece) {
            break;
        }
        assert!(!piece.is_empty() && piece.len() < 2 * PIECE_BYTES, "{}", piece.len());
        assert!(piece.ends_with('\n'), "a sample is whole");
        whole.push_str(&piece);
        pieces += 1;
    }
    assert!(pieces > 10, "{pieces}");
    assert_eq!(whole.matches("_count{").count(), 500);
    assert_eq!(whole.matches("# TYPE http_server_request_duration_seconds histogram\n").count(), 1);
    assert!(whole.ends_with("# EOF\n") && whole.matches("# EOF").count() == 1);
    assert!(!exposition.write(&mut String::new()));
}

#[test]
fn nothing_is_an_exposition_too() {
    let empty = MetricsSnapshot { services: Vec::new(), ..snapshot() };
    for (format, expected) in [(Format::Text, ""), (Format::OpenMetrics("1.0.0"), "# EOF\n")] {
        let mut out = String::new();
        let mut exposition = Exposition::new(Arc::new(empty.clone()), format, ALL);
        while exposition.write(&mut out) {}
        assert_eq!(out, expected);
    }
}
