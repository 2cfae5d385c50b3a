//! Real connections: what is answered, and what slow and hostile ones get.

use std::{net::SocketAddr, sync::Mutex};

use flate2::read::GzDecoder;
use spantap_protocols::Role;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::telemetry::{Aggregator, MetricSettings, UnixNanos, span::tests::record};

struct Running {
    address: SocketAddr,
    probes: Arc<Probes>,
    stats: Arc<ScrapeStats>,
    scrapes: Arc<Mutex<Scrapes>>,
}

fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let probes = Arc::new(Probes::default());
    let additions = Additions { scope_info: false, target_info: false };
    let (scrapes, stats) = serve(listener, additions, Arc::clone(&probes), &Handle::current()).unwrap();
    Running { address, probes, stats, scrapes: Arc::new(Mutex::new(scrapes)) }
}

/// The pipeline's thread: answers until the test ends.
fn pipeline(running: &Running) {
    let scrapes = Arc::clone(&running.scrapes);
    let mut metrics = Aggregator::new(MetricSettings::default());
    metrics.record(&record(Role::Server, 200));
    tokio::spawn(async move {
        loop {
            answer(&scrapes, &mut metrics);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

fn answer(scrapes: &Mutex<Scrapes>, metrics: &mut Aggregator) {
    let collect = || metrics.collect(UnixNanos(2_000_000_000), UnixNanos(0));
    scrapes.lock().unwrap().answer(Instant::now(), collect);
}

/// Head and body of the answer to a request with these lines.
async fn ask(address: SocketAddr, lines: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{lines}\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut whole = Vec::new();
    stream.read_to_end(&mut whole).await.unwrap();
    let end = whole.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let body = whole.split_off(end);
    let head = String::from_utf8(whole).unwrap().to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") { dechunked(&body) } else { body };
    (head, body)
}

fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|bytes| bytes == b"\r\n").expect("a size");
        let size = usize::from_str_radix(str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        bytes = &bytes[line + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
}

#[tokio::test]
async fn a_scrape_gets_what_it_asks_for() {
    let running = start();
    pipeline(&running);
    let (head, body) = ask(running.address, "GET /metrics HTTP/1.1").await;
    assert!(head.starts_with("http/1.1 200 ") && head.contains("text/plain; version=0.0.4"), "{head}");
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("\nhttp_server_request_duration_seconds_count{") && !body.contains("# EOF"));
    let lines = "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text;version=1.0.0\r\naccept-encoding: gzip";
    let (head, body) = ask(running.address, lines).await;
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut GzDecoder::new(&body[..]), &mut text).unwrap();
    assert!(text.ends_with("# EOF\n") && text.contains(" # {trace_id=\""), "{text}");
    let (_, body) = ask(running.address, "HEAD /metrics HTTP/1.1").await;
    assert!(body.is_empty());
    assert_eq!((running.stats.answered(), running.stats.refused()), (3, 0));
}

#[tokio::test]
async fn other_requests_are_told_what_there_is() {
    let running = start();
    for (line, status) in [
        ("GET / HTTP/1.1", "404"),
        ("POST /metrics HTTP/1.1", "405"),
        ("GET /healthz HTTP/1.1", "200"),
        ("GET /readyz HTTP/1.1", "503"),
        ("nonsense", "400"),
    ] {
        let (head, _) = ask(running.address, line).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{line}: {head}");
    }
    running.probes.attached(Vec::new());
    let (head, body) = ask(running.address, "GET /readyz?verbose HTTP/1.1").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, b"ok\nattached\n");
}

#[tokio::test]
async fn many_idle_connections_keep_nobody_out() {
    let running = start();
    let mut idle = Vec::new();
    for _ in 0..3 * CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"GET /metrics HT").await.unwrap();
        idle.push(stream);
    }
    let (head, _) = ask(running.address, "GET /healthz HTTP/1.1").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(running.stats.cut_off() > CONNECTIONS_MAX as u64, "{}", running.stats.cut_off());
    // The first of them was ended, not only forgotten.
    assert!(matches!(idle[0].read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_is_cut_off() {
    let running = start();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nx: ").await.unwrap();
    // Time passes by itself while all wait.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{rest:?}");
    while running.stats.cut_off() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_scrape_is_refused_while_the_pipeline_stands_still() {
    let running = start();
    let (head, body) = ask(running.address, "GET /metrics HTTP/1.1").await;
    assert!(head.starts_with("http/1.1 503 ") && head.contains("retry-after: 1"), "{head}");
    assert_eq!(body, b"too many scrapes at once\n");
    assert_eq!((running.stats.answered(), running.stats.refused()), (0, 1));
}

#[tokio::test]
async fn a_scraper_that_does_not_read_holds_no_more_than_a_piece() {
    let running = start();
    let mut metrics =
        Aggregator::new(MetricSettings { series_max_per_service: 20_000, ..Default::default() });
    for route in 0..5_000 {
        let mut record = record(Role::Server, 200);
        let value = spantap_protocols::Value::Text(compact_str::format_compact!("/{route}"));
        record.attributes.set(spantap_protocols::semconv::key::HTTP_ROUTE, value);
        metrics.record(&record);
    }
    let mut readers = Vec::new();
    for _ in 0..SCRAPES_MAX {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        while running.stats.answered() == readers.len() as u64 {
            answer(&running.scrapes, &mut metrics);
            tokio::task::yield_now().await;
        }
        readers.push(stream);
    }
    // All places are taken by those who do not read; the rest of the endpoint is there.
    let (head, _) = ask(running.address, "GET /healthz HTTP/1.1").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    // One leaves, and its place is free.
    readers.pop();
    let stats = Arc::clone(&running.stats);
    pipeline(&running);
    let (head, _) = ask(running.address, "GET /metrics HTTP/1.1").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(stats.answered(), SCRAPES_MAX as u64 + 1);
}
