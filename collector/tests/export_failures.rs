//! Backends that misbehave: nothing is lost that the specification says must not be, and the rest is counted by reason.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod export_support;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use export_support::{Pipeline, destination, flush, service, shutdown, start, traces_only, until};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use prost::Message;
use spantap::export::{
    Exporter,
    otlp::{
        DropReason, OtlpExporter, OtlpSettings,
        settings::{Protocol, Signal},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, Request, Response, Status};

/// What the HTTP server does with a request, by its number.
#[derive(Clone, Copy)]
enum Answer {
    /// A status line and further header lines.
    Status(&'static str),
    /// Closes the connection without a word.
    Close,
    /// Says nothing for so long, then 200.
    Slow(Duration),
    /// 200 with a partial success of so many rejected spans.
    Partial(i64),
    /// 413 if there are more spans than this, else 200.
    AtMost(usize),
}

/// An HTTP/1.1 server, hand-written: it must be able to do what no library lets it.
struct Server {
    addr: SocketAddr,
    /// Spans of the requests to which it said 200.
    taken: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Instant>>>,
}

impl Server {
    async fn new(answers: Vec<Answer>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers)
    }

    /// Answers in this order; the last one is repeated.
    fn on(listener: TcpListener, answers: Vec<Answer>) -> Self {
        let addr = listener.local_addr().unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (counted, seen) = (Arc::clone(&taken), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, counted, seen) = (answers.clone(), Arc::clone(&counted), Arc::clone(&seen));
                tokio::spawn(async move {
                    while let Some(body) = request(&mut stream).await {
                        let spans = spans(&body);
                        let at = {
                            let mut seen = seen.lock().unwrap();
                            seen.push(Instant::now());
                            seen.len() - 1
                        };
                        let answer = answers.get(at).or(answers.last()).copied().unwrap();
                        let (status, body) = match answer {
                            Answer::Status(status) => (status, Vec::new()),
                            Answer::Close => return,
                            Answer::Slow(pause) => {
                                tokio::time::sleep(pause).await;
                                ("200 OK", Vec::new())
                            }
                            Answer::Partial(rejected) => {
                                let partial = ExportTracePartialSuccess {
                                    rejected_spans: rejected,
                                    error_message: "too old".to_owned(),
                                };
                                let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
                                ("200 OK", answer.encode_to_vec())
                            }
                            Answer::AtMost(most) if spans > most => ("413 Payload Too Large", Vec::new()),
                            Answer::AtMost(_) => ("200 OK", Vec::new()),
                        };
                        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                        // Counted first: the test may look as soon as the client has its answer.
                        if status.starts_with("200") {
                            counted.fetch_add(spans, Ordering::Relaxed);
                        }
                        let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
                    }
                });
            }
        });
        Self { addr, taken, requests }
    }

    fn settings(&self) -> OtlpSettings {
        let endpoint = format!("http://{}/v1/traces", self.addr);
        traces_only(destination(Signal::Traces, Protocol::HttpProtobuf, &endpoint))
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// The body of the next request; `None` at the end of the connection.
async fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap().to_lowercase();
    assert!(text.starts_with("post /v1/traces http/1.1\r\n"), "{text}");
    assert!(text.contains("content-type: application/x-protobuf\r\n"), "{text}");
    assert!(text.contains("user-agent: spantap/"), "{text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let length: usize = length.parse().unwrap();
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(bytes.split_off(head))
}

fn spans(body: &[u8]) -> usize {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum()
}

fn send(exporter: &mut OtlpExporter, count: usize) {
    let (mut pipeline, service) = (Pipeline::new(), service(1, "shop"));
    for _ in 0..count {
        exporter.on_record(&pipeline.record(&service, "/", 200));
    }
    flush(exporter);
}

#[tokio::test(flavor = "multi_thread")]
async fn retryable_answers_lose_nothing() {
    for answer in [
        Answer::Status("503 Service Unavailable"),
        Answer::Status("429 Too Many Requests"),
        Answer::Status("502 Bad Gateway"),
        Answer::Status("504 Gateway Timeout"),
        Answer::Close,
    ] {
        let server = Server::new(vec![answer, answer, Answer::Status("200 OK")]).await;
        let (mut exporter, stats) = start(&server.settings());
        send(&mut exporter, 10);
        shutdown(exporter, Duration::from_secs(10)).await;
        assert_eq!((server.taken(), stats[0].exported(), stats[0].retries()), (10, 10, 2), "{}", stats[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_errors_are_not_repeated() {
    for status in ["400 Bad Request", "401 Unauthorized", "404 Not Found", "500 Oops", "301 Moved"] {
        let server = Server::new(vec![Answer::Status(status), Answer::Status("200 OK")]).await;
        let (mut exporter, stats) = start(&server.settings());
        send(&mut exporter, 10);
        until("it is refused", || stats[0].dropped(DropReason::Refused) == 10).await;
        send(&mut exporter, 5);
        shutdown(exporter, Duration::from_secs(10)).await;
        assert_eq!((server.taken(), stats[0].exported(), stats[0].retries()), (5, 5, 0), "{}", stats[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_obeyed() {
    let wait = Answer::Status("503 Service Unavailable\r\nretry-after: 1");
    let server = Server::new(vec![wait, Answer::Status("200 OK")]).await;
    let (mut exporter, stats) = start(&server.settings());
    send(&mut exporter, 1);
    shutdown(exporter, Duration::from_secs(10)).await;
    assert_eq!(stats[0].exported(), 1);
    let times = server.requests.lock().unwrap().clone();
    assert!(times[1] - times[0] >= Duration::from_millis(1000), "jitter alone would be at most 20 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_split_once() {
    let server = Server::new(vec![Answer::AtMost(60)]).await;
    let (mut exporter, stats) = start(&server.settings());
    send(&mut exporter, 100);
    shutdown(exporter, Duration::from_secs(10)).await;
    assert_eq!((server.taken(), stats[0].exported(), server.requests()), (100, 100, 3), "{}", stats[0]);

    let server = Server::new(vec![Answer::AtMost(10)]).await;
    let (mut exporter, stats) = start(&server.settings());
    send(&mut exporter, 100);
    shutdown(exporter, Duration::from_secs(10)).await;
    assert_eq!((server.taken(), stats[0].dropped(DropReason::TooLarge), server.requests()), (0, 100, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_success_is_counted_and_not_repeated() {
    let server = Server::new(vec![Answer::Partial(3)]).await;
    let (mut exporter, stats) = start(&server.settings());
    send(&mut exporter, 10);
    shutdown(exporter, Duration::from_secs(10)).await;
    assert_eq!((stats[0].exported(), stats[0].dropped(DropReason::Rejected), server.requests()), (7, 3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_backend_is_asked_again() {
    let server = Server::new(vec![Answer::Slow(Duration::from_secs(5)), Answer::Status("200 OK")]).await;
    let mut settings = server.settings();
    settings.traces.as_mut().unwrap().timeout = Duration::from_millis(200);
    let (mut exporter, stats) = start(&settings);
    send(&mut exporter, 10);
    shutdown(exporter, Duration::from_secs(4)).await;
    assert_eq!((stats[0].exported(), stats[0].retries()), (10, 1), "{}", stats[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_starts_late_gets_everything() {
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let endpoint = format!("http://{addr}/v1/traces");
        let (mut exporter, stats) = start(&traces_only(destination(Signal::Traces, protocol, &endpoint)));
        for _ in 0..5 {
            send(&mut exporter, 10);
        }
        until("it has been tried in vain", || stats[0].retries() >= 3).await;
        assert_eq!(stats[0].exported(), 0);
        let listener = TcpListener::bind(addr).await.unwrap();
        let taken: Box<dyn Fn() -> usize> = if protocol == Protocol::Grpc {
            let service = Scripted::default();
            let taken = Arc::clone(&service.taken);
            tokio::spawn(service.serve(listener));
            Box::new(move || taken.load(Ordering::Relaxed))
        } else {
            let server = Server::on(listener, vec![Answer::Status("200 OK")]);
            Box::new(move || server.taken())
        };
        shutdown(exporter, Duration::from_secs(10)).await;
        assert_eq!((taken(), stats[0].exported()), (50, 50), "{protocol:?}: {}", stats[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_backend_costs_what_the_queue_cannot_hold() {
    let mut settings = destination(Signal::Traces, Protocol::HttpProtobuf, "http://127.0.0.1:1/v1/traces");
    settings.queue.bytes_max = 20_000;
    let (mut exporter, stats) = start(&traces_only(settings));
    for _ in 0..100 {
        send(&mut exporter, 10);
    }
    let full = stats[0].dropped(DropReason::QueueFull);
    assert!(full > 500 && full < 1000, "{}", stats[0]);
    let took = shutdown(exporter, Duration::from_millis(300)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    let rest = stats[0].dropped(DropReason::Shutdown);
    assert_eq!((full + rest, stats[0].waiting(), stats[0].exported()), (1000, 0, 0), "{}", stats[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_in_the_past_still_counts_everything() {
    let settings = destination(Signal::Traces, Protocol::HttpProtobuf, "http://127.0.0.1:1/v1/traces");
    for _ in 0..20 {
        let (mut exporter, stats) = start(&traces_only(settings.clone()));
        let (mut pipeline, service) = (Pipeline::new(), service(1, "shop"));
        exporter.on_record(&pipeline.record(&service, "/", 200));
        shutdown(exporter, Duration::ZERO).await;
        assert_eq!(stats[0].dropped(DropReason::Shutdown), 1, "{}", stats[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_up_in_the_end() {
    let mut settings = destination(Signal::Traces, Protocol::Grpc, "http://127.0.0.1:1");
    settings.retry.give_up_after = Duration::from_millis(200);
    let (mut exporter, stats) = start(&traces_only(settings));
    send(&mut exporter, 10);
    until("it has given up", || stats[0].dropped(DropReason::RetryExpired) == 10).await;
    shutdown(exporter, Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_snapshots_give_way_to_newer_ones() {
    let metrics = destination(Signal::Metrics, Protocol::HttpProtobuf, "http://127.0.0.1:1/v1/metrics");
    let (mut exporter, stats) = start(&OtlpSettings { traces: None, metrics: Some(metrics) });
    let (mut pipeline, service) = (Pipeline::new(), service(1, "shop"));
    pipeline.record(&service, "/", 200);
    for _ in 0..5 {
        exporter.on_metrics(&pipeline.snapshot());
    }
    until("old ones are gone", || stats[0].dropped(DropReason::Superseded) == 4).await;
    assert_eq!(stats[0].waiting(), 1);
    shutdown(exporter, Duration::from_millis(100)).await;
    assert_eq!(stats[0].dropped(DropReason::Shutdown), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_enough_batch_leaves_by_itself() {
    let server = Server::new(vec![Answer::Status("200 OK")]).await;
    let (mut exporter, _) = start(&server.settings());
    let (mut pipeline, service) = (Pipeline::new(), service(1, "shop"));
    exporter.on_record(&pipeline.record(&service, "/", 200));
    exporter.tick(Instant::now());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.requests(), 0);
    exporter.tick(Instant::now() + Duration::from_secs(1));
    until("it has arrived", || server.taken() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_told_at_the_start() {
    let runtime = tokio::runtime::Handle::current();
    let dir = tempfile::tempdir().unwrap();
    let garbage = dir.path().join("ca.pem");
    std::fs::write(&garbage, "no certificate").unwrap();
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let mut settings = destination(Signal::Traces, protocol, "https://localhost:4317/");
        for (ca, cert, expected) in [
            (Some("/nowhere/ca.pem".into()), None, "failed to read /nowhere/ca.pem"),
            (Some(garbage.clone()), None, "no certificate in it"),
            (None, Some(garbage.clone()), "needs its key"),
        ] {
            settings.tls.ca_file = ca;
            settings.tls.cert_file = cert;
            let error = OtlpExporter::start(
                &traces_only(settings.clone()),
                spantap::telemetry::Temporality::Cumulative,
                &runtime,
            )
            .unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

/// A gRPC receiver that answers with these codes first.
#[derive(Clone, Default)]
struct Scripted {
    codes: Arc<Mutex<Vec<Status>>>,
    /// Requests with more spans are refused with RESOURCE_EXHAUSTED; 0 means none are.
    most: usize,
    taken: Arc<AtomicUsize>,
}

impl Scripted {
    async fn serve(self, listener: TcpListener) {
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self));
        server.serve_with_incoming(incoming).await.unwrap();
    }

    async fn exporter(&self) -> (OtlpExporter, Arc<spantap::export::otlp::DestinationStats>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(self.clone().serve(listener));
        let (exporter, mut stats) =
            start(&traces_only(destination(Signal::Traces, Protocol::Grpc, &endpoint)));
        (exporter, stats.remove(0))
    }
}

#[tonic::async_trait]
impl TraceService for Scripted {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if let Some(status) = self.codes.lock().unwrap().pop() {
            return Err(status);
        }
        assert!(request.metadata().get("user-agent").unwrap().to_str().unwrap().starts_with("spantap/"));
        let spans = spans(&request.into_inner().encode_to_vec());
        if self.most > 0 && spans > self.most {
            return Err(Status::resource_exhausted("message too large"));
        }
        self.taken.fetch_add(spans, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_codes() {
    for code in 1..=16 {
        let code = Code::from_i32(code);
        let service = Scripted::default();
        service.codes.lock().unwrap().push(Status::new(code, "scripted"));
        let (mut exporter, stats) = service.exporter().await;
        send(&mut exporter, 10);
        shutdown(exporter, Duration::from_secs(10)).await;
        let retryable = matches!(
            code,
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss
        );
        let taken = service.taken.load(Ordering::Relaxed);
        if retryable {
            assert_eq!((taken, stats.exported(), stats.retries()), (10, 10, 1), "{code:?}: {stats}");
        } else if code == Code::ResourceExhausted {
            assert_eq!((taken, stats.exported(), stats.requests()), (10, 10, 3), "halves: {stats}");
        } else {
            assert_eq!((taken, stats.dropped(DropReason::Refused)), (0, 10), "{code:?}: {stats}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_messages_that_are_too_large_are_split_once() {
    let service = Scripted { most: 60, ..Scripted::default() };
    let (mut exporter, stats) = service.exporter().await;
    send(&mut exporter, 100);
    shutdown(exporter, Duration::from_secs(10)).await;
    assert_eq!((service.taken.load(Ordering::Relaxed), stats.requests()), (100, 3), "{stats}");
}
