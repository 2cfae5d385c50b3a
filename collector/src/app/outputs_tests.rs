//! Outputs at their end: no destination takes time from another.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

use spantap_protocols::Role;

use super::*;
use crate::telemetry::span::tests::record;

/// An OTLP/HTTP backend that takes one request.
fn backend() -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let (mut length, mut line) = (0, String::new());
        while stream.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    };
    (port, thread::spawn(serve))
}

#[test]
fn a_dead_backend_of_traces_costs_no_metrics() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, served) = backend();
    let environment = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => Some(format!("http://127.0.0.1:{dead}")),
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" => Some(format!("http://127.0.0.1:{port}")),
        _ => None,
    };
    let config = config::Config::from_environment(&environment).unwrap().config;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut outputs = Outputs::start(&config, runtime.handle(), Pressure::Drop).unwrap();
    outputs.on_record(&record(Role::Server, 200));
    outputs.shutdown(Instant::now() + Duration::from_secs(2), UnixNanos(2_000_000_000_000_000_000));
    let [traces, metrics] = outputs.destinations().collect::<Vec<_>>()[..] else {
        panic!("two destinations")
    };
    assert_eq!((traces.received(), traces.exported()), (1, 0));
    assert!(traces.undelivered().is_some());
    assert!(metrics.received() > 0);
    assert_eq!((metrics.exported(), metrics.undelivered()), (metrics.received(), None));
    served.join().unwrap();
}
