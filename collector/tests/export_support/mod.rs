//! What the exporter tests share: records as the pipeline makes them, and an exporter on a runtime.
#![allow(dead_code, clippy::unwrap_used, reason = "test code, and each test file uses its part of it")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use spantap::{
    export::{
        Exporter,
        otlp::{
            DestinationSettings, DestinationStats, OtlpExporter, OtlpSettings,
            settings::{Protocol, Signal},
        },
    },
    processors::{Processors, RouteSettings, Verdict},
    telemetry::{
        Aggregator, Clock, Endpoint, Endpoints, IdGenerator, MetricSettings, MetricsSnapshot, OlderNames,
        Record, Service, Temporality,
    },
};
use spantap_protocols::{
    Attributes, BootNanos, Exchange, Outcome, Role, Value,
    exchange::TraceContext,
    semconv::{self, key},
};

pub fn service(id: u32, name: &str) -> Arc<Service> {
    let mut attributes = Attributes::new();
    attributes.push(key::SERVICE_NAME, Value::Text(name.into()));
    attributes.push(key::PROCESS_PID, Value::Int(1000 + i64::from(id)));
    Arc::new(Service { id, name: name.into(), attributes })
}

pub struct Pipeline {
    clock: Clock,
    ids: IdGenerator,
    processors: Processors,
    pub metrics: Aggregator,
}

impl Pipeline {
    pub fn new() -> Self {
        Self {
            clock: Clock::system(),
            ids: IdGenerator::new(),
            processors: Processors::standard(RouteSettings::default(), OlderNames::default()),
            metrics: Aggregator::new(MetricSettings::default()),
        }
    }

    /// A finished request of 20 ms, run through processors and metrics.
    pub fn record(&mut self, service: &Arc<Service>, path: &str, status: i64) -> Record {
        let mut attributes = Attributes::new();
        attributes.push(key::HTTP_REQUEST_METHOD, Value::Static("GET"));
        attributes.push(key::URL_PATH, Value::Text(path.into()));
        attributes.push(key::URL_SCHEME, Value::Static("http"));
        attributes.push(key::HTTP_RESPONSE_STATUS_CODE, Value::Int(status));
        attributes.push(key::NETWORK_PROTOCOL_VERSION, Value::Static("1.1"));
        let end = spantap::telemetry::clock::boot_now();
        let start = BootNanos(end.0 - 20_000_000);
        let exchange = Exchange {
            protocol: "http1",
            role: Role::Server,
            start,
            request_end: start,
            response_start: Some(end),
            end,
            request_bytes: 100,
            response_bytes: 1000,
            operation: "GET".into(),
            target: None,
            attributes,
            outcome: if status >= 500 { Outcome::Error(status.to_string().into()) } else { Outcome::Unset },
            trace: Some(TraceContext {
                trace_id: [7; 16],
                parent_id: [9; 8],
                flags: 1,
                is_decided: true,
                state: "vendor=1".into(),
            }),
            metric: Some(&semconv::HTTP_SERVER_REQUEST_DURATION),
        };
        let endpoints = Endpoints {
            local: Some(Endpoint::Inet("10.0.0.1:8080".parse().unwrap())),
            peer: Some(Endpoint::Inet("10.0.0.2:51234".parse().unwrap())),
            tls: false,
        };
        let mut record = Record::from_exchange(exchange, service, &endpoints, &self.clock, &mut self.ids);
        assert_eq!(self.processors.process(&mut record), Verdict::Keep);
        self.metrics.record(&record);
        record
    }

    pub fn snapshot(&mut self) -> MetricsSnapshot {
        self.metrics.collect(self.clock.now(), spantap::telemetry::UnixNanos(0))
    }
}

/// Settings that retry fast enough for a test.
pub fn destination(signal: Signal, protocol: Protocol, endpoint: &str) -> DestinationSettings {
    let mut settings = DestinationSettings::new(signal, protocol, endpoint.parse().unwrap());
    settings.timeout = Duration::from_secs(5);
    settings.retry.initial = Duration::from_millis(20);
    settings.retry.max = Duration::from_millis(100);
    settings.retry.give_up_after = Duration::from_secs(20);
    settings
}

pub fn traces_only(settings: DestinationSettings) -> OtlpSettings {
    OtlpSettings { traces: Some(settings), metrics: None }
}

pub fn start(settings: &OtlpSettings) -> (OtlpExporter, Vec<Arc<DestinationStats>>) {
    let runtime = tokio::runtime::Handle::current();
    let exporter = OtlpExporter::start(settings, Temporality::Cumulative, &runtime).unwrap();
    let stats = exporter.stats().collect();
    (exporter, stats)
}

/// Flushes what is open, whatever its age.
pub fn flush(exporter: &mut OtlpExporter) {
    exporter.tick(Instant::now() + Duration::from_secs(60));
}

/// Shuts down on a plain thread, as the agent does.
pub async fn shutdown(mut exporter: OtlpExporter, patience: Duration) -> Duration {
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || exporter.shutdown(begun + patience)).await.unwrap();
    begun.elapsed()
}

/// Waits until `ready`, for ten seconds at most.
pub async fn until(what: &str, ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
