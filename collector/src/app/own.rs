//! What does the agent tell of itself? The accounts as metrics, the exporters by the conventions for SDKs, and its own
//! processor time and memory, all under a resource of its own.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/> and
//! <https://opentelemetry.io/docs/specs/semconv/system/process-metrics/>

use std::sync::Arc;

use http::Uri;
use spantap_config as config;
use spantap_protocols::{
    Attributes, Value,
    semconv::{
        key,
        own::{self as names, attribute},
    },
};

use super::{agent::add_configured, pipeline::Pipeline, summary::Summary};
use crate::{
    discovery::procfs,
    export::otlp::{
        DestinationStats, DropReason,
        settings::{Protocol, Signal},
    },
    telemetry::{
        Service, UnixNanos, clock,
        snapshot::{
            Dimensions, HistogramPoint, MetricPoints, NumberKind, NumberMetric, NumberPoint, ServiceMetrics,
        },
    },
};

/// No other service has this number.
const ID: u32 = 0;

/// The agent as a service: what `resource` of the configuration says, and what it knows of itself.
pub(super) fn service(resource: &config::Resource, mut attributes: Attributes) -> Arc<Service> {
    attributes.set(key::SERVICE_NAME, Value::Static("spantap"));
    attributes.set(key::SERVICE_VERSION, Value::Static(env!("CARGO_PKG_VERSION")));
    attributes.set(key::PROCESS_PID, Value::Int(std::process::id().into()));
    add_configured(&mut attributes, resource);
    let name = attributes.get(key::SERVICE_NAME).and_then(Value::as_str).unwrap_or("spantap").into();
    Arc::new(Service { id: ID, name, attributes })
}

/// All of it, counting since `start`.
pub(super) fn metrics(
    service: &Arc<Service>,
    summary: &Summary,
    pipeline: &Pipeline,
    start: UnixNanos,
) -> ServiceMetrics {
    let mut all = Numbers { start, metrics: Vec::new(), durations: Vec::new() };
    accounts(summary, &mut all);
    let mut of_type = std::collections::HashMap::new();
    for destination in pipeline.outputs().destinations() {
        let component = component(destination);
        let instance = of_type.entry(component).or_insert(0_u32);
        exporter(destination, component, *instance, &mut all);
        *instance += 1;
    }
    let usage = pipeline.table().usage();
    let series = pipeline.outputs().series() as u64;
    for (name, description, unit, value) in [
        (names::STREAMS, "Streams with the state of a parser.", "{stream}", usage.streams),
        (names::CONNECTIONS, "Connections that are known.", "{connection}", usage.connections),
        (names::RETAINED, "Bytes kept until a message is complete.", "By", usage.retained_bytes),
        (names::METRIC_SERIES, "Series of metrics.", "{series}", series),
    ] {
        all.add(name, description, unit, NumberKind::UpDown, Vec::new(), value as f64);
    }
    let description = "Processor time that the agent has taken.";
    all.add(names::CPU_TIME, description, "s", NumberKind::Counter, Vec::new(), clock::own_cpu_s());
    if let Some(bytes) = procfs::own_resident_bytes() {
        let description = "Memory of the agent that is resident.";
        all.add(names::MEMORY_USAGE, description, "By", NumberKind::UpDown, Vec::new(), bytes as f64);
    }
    let durations = MetricPoints { metric: &names::EXPORTER_OPERATION_DURATION, points: all.durations };
    let metrics = if durations.points.is_empty() { Vec::new() } else { vec![durations] };
    ServiceMetrics { service: Arc::clone(service), metrics, numbers: all.metrics }
}

/// Metrics being put together; points of one metric come one after the other.
struct Numbers {
    start: UnixNanos,
    metrics: Vec<NumberMetric>,
    /// Of requests of exporters.
    durations: Vec<HistogramPoint>,
}

type Named = Vec<(&'static str, Value)>;

impl Numbers {
    fn add(
        &mut self,
        name: &'static str,
        description: &'static str,
        unit: &'static str,
        kind: NumberKind,
        attributes: Named,
        value: f64,
    ) {
        let point = NumberPoint { attributes, start: self.start, value };
        match self.metrics.iter_mut().find(|metric| metric.name == name) {
            Some(metric) => metric.points.push(point),
            None => self.metrics.push(NumberMetric { name, description, unit, kind, points: vec![point] }),
        }
    }
}

/// What `--accounts` prints, row by row: bytes and other things are different metrics.
fn accounts(summary: &Summary, all: &mut Numbers) {
    let of_seen = (attribute::WHAT, [names::SEEN, names::SEEN_BYTES]);
    let of_left_out = (attribute::REASON, [names::LEFT_OUT, names::LEFT_OUT_BYTES]);
    for (rows, (key, [things, bytes]), description) in [
        (summary.passed(), of_seen, "What came in, and what became of it."),
        (summary.left_out_rows(), of_left_out, "What was left out, by reason."),
    ] {
        for (words, count) in rows {
            let (name, unit) = if words.ends_with("bytes") { (bytes, "By") } else { (things, "{item}") };
            let attributes = vec![(key, Value::Text(words.into()))];
            all.add(name, description, unit, NumberKind::Counter, attributes, *count as f64);
        }
    }
}

fn component(destination: &DestinationStats) -> &'static str {
    match (destination.protocol(), destination.signal()) {
        (Protocol::Grpc, Signal::Traces) => "otlp_grpc_span_exporter",
        (Protocol::Grpc, Signal::Metrics) => "otlp_grpc_metric_exporter",
        (Protocol::HttpProtobuf, Signal::Traces) => "otlp_http_span_exporter",
        (Protocol::HttpProtobuf, Signal::Metrics) => "otlp_http_metric_exporter",
    }
}

fn exporter(destination: &DestinationStats, component: &'static str, instance: u32, all: &mut Numbers) {
    let name = format!("{component}/{instance}");
    let mut common: Named = vec![
        (attribute::COMPONENT_NAME, Value::Text(name.into())),
        (attribute::COMPONENT_TYPE, Value::Static(component)),
    ];
    if let Ok(uri) = destination.endpoint().parse::<Uri>() {
        common.extend(uri.host().map(|host| (key::SERVER_ADDRESS, Value::Text(host.into()))));
        common.extend(uri.port_u16().map(|port| (key::SERVER_PORT, Value::Int(port.into()))));
    }
    let with_error = |reason: DropReason| {
        let mut attributes = common.clone();
        attributes.push((key::ERROR_TYPE, Value::Static(reason.name())));
        attributes
    };
    let [taken, failed] = destination.durations();
    // Which way it failed is in the log; the conventions have this word for all of them.
    let error = (key::ERROR_TYPE, Value::Static("_OTHER"));
    for (histogram, error) in [(taken, None), (failed, Some(error))] {
        let attributes: Named = common.iter().cloned().chain(error).collect();
        let dimensions = Dimensions::of(names::EXPORTER_OPERATION_DURATION.dimensions, &attributes);
        all.durations.push(HistogramPoint { dimensions, start: all.start, histogram });
    }
    let (exported, inflight, unit) = match destination.signal() {
        Signal::Traces => (names::SPAN_EXPORTED, names::SPAN_INFLIGHT, "{span}"),
        Signal::Metrics => (names::POINT_EXPORTED, names::POINT_INFLIGHT, "{data_point}"),
    };
    let description = "Items of which the export has ended, well or not.";
    let count = |n: u64| n as f64;
    all.add(exported, description, unit, NumberKind::Counter, common.clone(), count(destination.exported()));
    // What a full queue refused never came to the exporter.
    for reason in DropReason::ALL.into_iter().filter(|reason| *reason != DropReason::QueueFull) {
        let value = count(destination.dropped(reason));
        all.add(exported, description, unit, NumberKind::Counter, with_error(reason), value);
    }
    let in_flight = destination.in_flight().min(destination.waiting());
    let description = "Items that are being sent.";
    all.add(inflight, description, unit, NumberKind::UpDown, common.clone(), count(in_flight));
    if destination.signal() == Signal::Traces {
        let waiting = destination.waiting() - in_flight;
        let refused = destination.dropped(DropReason::QueueFull);
        let processed = destination.received().saturating_sub(waiting).saturating_sub(refused);
        let (name, description) = (names::SPAN_PROCESSED, "Spans that have left the queue.");
        all.add(name, description, "{span}", NumberKind::Counter, common.clone(), count(processed));
        let attributes = with_error(DropReason::QueueFull);
        all.add(name, description, "{span}", NumberKind::Counter, attributes, count(refused));
        let (name, description) = (names::SPAN_QUEUE_SIZE, "Spans that wait.");
        all.add(name, description, "{span}", NumberKind::UpDown, common, count(waiting));
    }
}
