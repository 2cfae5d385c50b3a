//! A receiver that nobody here wrote takes our spans and metrics by gRPC and by HTTP, plain and compressed, and what it
//! decoded is what we meant.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod export_support;

use std::time::Duration;

use export_support::{Pipeline, destination, service, shutdown, start};
use mock_collector::{MockServer, Protocol as MockProtocol};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use spantap::export::{
    Exporter,
    otlp::{
        OtlpSettings,
        settings::{Compression, Protocol, Signal},
    },
};

const SERVICES: u32 = 5;
const SPANS: usize = 1000;

async fn exported_and_read_back(protocol: Protocol, compression: Compression) {
    let mock = match protocol {
        Protocol::Grpc => MockProtocol::Grpc,
        Protocol::HttpProtobuf => MockProtocol::HttpBinary,
    };
    let server = MockServer::builder().protocol(mock).start().await.unwrap();
    let settings = |signal, path: &str| {
        let path = if protocol == Protocol::Grpc { "" } else { path };
        let mut settings = destination(signal, protocol, &format!("http://{}{path}", server.addr()));
        settings.compression = compression;
        settings
    };
    let (mut exporter, stats) = start(&OtlpSettings {
        traces: Some(settings(Signal::Traces, "/v1/traces")),
        metrics: Some(settings(Signal::Metrics, "/v1/metrics")),
    });

    let mut pipeline = Pipeline::new();
    let services: Vec<_> = (0..SERVICES).map(|id| service(id, &format!("service-{id}"))).collect();
    for at in 0..SPANS {
        let service = &services[at % services.len()];
        let status = if at % 11 == 0 { 500 } else { 200 };
        exporter.on_record(&pipeline.record(service, &format!("/users/{at}"), status));
    }
    exporter.on_metrics(&pipeline.snapshot());
    shutdown(exporter, Duration::from_secs(10)).await;

    for (stats, items) in stats.iter().zip([SPANS as u64, 10]) {
        assert_eq!((stats.received(), stats.exported(), stats.waiting()), (items, items, 0), "{stats}");
        assert_eq!((stats.requests(), stats.retries()), (1, 0), "all services in one request: {stats}");
    }
    server
        .with_collector(|collector| {
            assert_eq!(collector.span_count(), SPANS);
            for id in 0..SERVICES {
                collector
                    .expect_span_with_name("GET /users/{id}")
                    .with_resource_attribute("service.name", format!("service-{id}"))
                    .with_resource_attribute("process.pid", 1000 + i64::from(id))
                    .with_attribute("http.request.method", "GET")
                    .with_attribute("http.route", "/users/{id}")
                    .with_attribute("client.address", "10.0.0.2")
                    .with_attribute("network.peer.port", 51234_i64)
                    .with_attribute("server.address", "10.0.0.1")
                    .assert_count(SPANS / SERVICES as usize);
            }
            collector
                .expect_span()
                .with_attribute("error.type", "500")
                .with_attribute("http.response.status_code", 500_i64)
                .assert_count(SPANS.div_ceil(11));
            for test in collector.spans() {
                let span = test.span();
                assert_eq!((span.kind, span.flags), (2, 0x301));
                assert_eq!((&span.trace_id[..], &span.parent_span_id[..]), (&[7; 16][..], &[9; 8][..]));
                assert_eq!((span.trace_state.as_str(), span.span_id.len()), ("vendor=1", 8));
                assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 20_000_000);
                let failed = span.status.as_ref().is_some_and(|status| status.code == 2);
                assert_eq!(failed, test.span().attributes.iter().any(|kv| kv.key == "error.type"));
            }

            assert_eq!(collector.metric_count(), SERVICES as usize);
            let mut count = 0;
            for test in collector.metrics() {
                assert_eq!(test.metric().name, "http.server.request.duration");
                let Some(Data::Histogram(histogram)) = &test.metric().data else { panic!("no histogram") };
                for point in &histogram.data_points {
                    count += point.count;
                    assert_eq!(point.bucket_counts[2], point.count, "20 ms lie between 10 and 25 ms");
                    assert_eq!(point.exemplars.len(), 1);
                    let exemplar = &point.exemplars[0];
                    assert!(
                        collector.spans().iter().any(|s| s.span().span_id == exemplar.span_id),
                        "an exemplar points at an exported span"
                    );
                }
            }
            assert_eq!(count, SPANS as u64);
        })
        .await;
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc() {
    exported_and_read_back(Protocol::Grpc, Compression::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_gzip() {
    exported_and_read_back(Protocol::Grpc, Compression::Gzip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http() {
    exported_and_read_back(Protocol::HttpProtobuf, Compression::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_gzip() {
    exported_and_read_back(Protocol::HttpProtobuf, Compression::Gzip).await;
}

/// 20,000 spans are about 10 MB: requests are cut below what receivers refuse, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn many_spans_are_cut_into_requests_that_fit() {
    let server = MockServer::builder().protocol(MockProtocol::HttpBinary).start().await.unwrap();
    let endpoint = format!("http://{}/v1/traces", server.addr());
    let mut settings = destination(Signal::Traces, Protocol::HttpProtobuf, &endpoint);
    settings.queue.bytes_max = 64 << 20;
    let (mut exporter, stats) = start(&export_support::traces_only(settings));
    let mut pipeline = Pipeline::new();
    let service = service(1, "shop");
    for at in 0..20_000 {
        exporter.on_record(&pipeline.record(&service, &format!("/users/{at}"), 200));
    }
    shutdown(exporter, Duration::from_secs(30)).await;
    assert_eq!(stats[0].exported(), 20_000, "{}", stats[0]);
    assert!(stats[0].requests() > 3, "{}", stats[0]);
    server.with_collector(|collector| assert_eq!(collector.span_count(), 20_000)).await;
}
