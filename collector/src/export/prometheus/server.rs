//! The HTTP side of the endpoint. Whoever connects, however slowly, holds a bounded part of the agent for a bounded time.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::Write,
    net::TcpListener,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{Either, Full};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};

use super::{
    format::{self, Format},
    probes::Probes,
    scrape::{ScrapeStats, Scraper, Scrapes, pair},
    text::{Additions, Exposition},
};

/// Connections at once; a further one takes the place of the oldest.
const CONNECTIONS_MAX: usize = 32;
/// Snapshots that are being written at once.
const SCRAPES_MAX: usize = 3;
/// Until the head of the request is there.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// Until a scrape has its snapshot.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The whole connection, which carries one request. Scrapers give up after ten seconds by default.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);
/// Of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Serves `/metrics`, `/healthz` and `/readyz` on `listener` until the runtime ends; returns who is to be given
/// snapshots.
///
/// # Errors
/// The listener cannot be used by the runtime.
pub fn serve(
    listener: TcpListener,
    additions: Additions,
    probes: Arc<Probes>,
    runtime: &Handle,
) -> std::io::Result<(Scrapes, Arc<ScrapeStats>)> {
    let _context = runtime.enter();
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (scraper, scrapes) = pair();
    let stats = Arc::new(ScrapeStats::default());
    let at_once = Arc::new(Semaphore::new(SCRAPES_MAX));
    let endpoint = Endpoint { scraper, additions, probes, stats: Arc::clone(&stats), at_once };
    runtime.spawn(accept(listener, Arc::new(endpoint)));
    Ok((scrapes, stats))
}

struct Endpoint {
    scraper: Scraper,
    additions: Additions,
    probes: Arc<Probes>,
    stats: Arc<ScrapeStats>,
    at_once: Arc<Semaphore>,
}

async fn accept(listener: tokio::net::TcpListener, endpoint: Arc<Endpoint>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptors left, or the peer has gone already; a pause, so that the former is no busy loop.
                tracing::debug!(%error, "the Prometheus endpoint failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        open.retain(|task| !task.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
            endpoint.stats.count_cut_off();
        }
        let endpoint = Arc::clone(&endpoint);
        let task = tokio::spawn(async move {
            let answer = |request| {
                let endpoint = Arc::clone(&endpoint);
                async move { Ok::<_, Infallible>(endpoint.answer(request).await) }
            };
            let mut server = http1::Builder::new();
            // One request for each connection: then a time limit is one of the whole.
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).keep_alive(false);
            server.max_buf_size(HEAD_BYTES_MAX);
            let connection = server.serve_connection(TokioIo::new(stream), service_fn(answer));
            match timeout(CONNECTION_TIME_MAX, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_timeout() => endpoint.stats.count_cut_off(),
                Ok(Err(error)) => tracing::debug!(%error, "a connection to the Prometheus endpoint failed"),
                Err(_) => endpoint.stats.count_cut_off(),
            }
        });
        open.push_back(task.abort_handle());
    }
}

type Answer = Response<Either<Full<Bytes>, Pieces>>;

impl Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        const PATHS: [&str; 3] = ["/metrics", "/healthz", "/readyz"];
        let path = request.uri().path();
        if !PATHS.contains(&path) {
            return text(StatusCode::NOT_FOUND, "there is /metrics, /healthz and /readyz\n".to_owned());
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".to_owned());
            put(&mut answer, ALLOW, "GET, HEAD");
            return answer;
        }
        let (is_well, reason) = match path {
            "/healthz" => self.probes.is_alive(Instant::now()),
            "/readyz" => self.probes.is_ready(Instant::now()),
            _ => return self.scrape(request.headers()).await,
        };
        text(if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, reason)
    }

    async fn scrape(&self, headers: &HeaderMap) -> Answer {
        let waiting = async {
            let permit = Arc::clone(&self.at_once).acquire_owned().await.ok()?;
            Some((permit, self.scraper.snapshot().await?))
        };
        let found = timeout(WAIT_MAX, waiting).await.ok().flatten();
        self.stats.count_scrape(found.is_some());
        let Some((permit, snapshot)) = found else {
            let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at once\n".to_owned());
            put(&mut answer, RETRY_AFTER, "1");
            return answer;
        };
        let header = |name: HeaderName| {
            let all = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            all.collect::<Vec<_>>().join(",")
        };
        let format = Format::wanted(&header(ACCEPT));
        let gzip = format::takes_gzip(&header(ACCEPT_ENCODING));
        let exposition = Exposition::new(snapshot, format, self.additions);
        let gzip_writer = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        let pieces = Pieces { exposition, gzip: gzip_writer, has_ended: false, _permit: permit };
        let mut answer = Response::new(Either::Right(pieces));
        put(&mut answer, CONTENT_TYPE, format.content_type());
        if gzip {
            put(&mut answer, CONTENT_ENCODING, "gzip");
        }
        answer
    }
}

fn text(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(text)));
    *answer.status_mut() = status;
    put(&mut answer, CONTENT_TYPE, "text/plain; charset=utf-8");
    answer
}

fn put(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// The body: written piece by piece, as fast as the scraper reads.
struct Pieces {
    exposition: Exposition,
    gzip: Option<GzEncoder<Vec<u8>>>,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Pieces {
    fn next(&mut self) -> Option<Bytes> {
        while !self.has_ended {
            let mut piece = String::new();
            self.has_ended = !self.exposition.write(&mut piece);
            let bytes = match &mut self.gzip {
                None => piece.into_bytes(),
                // Writing to a vector cannot fail.
                Some(gzip) => {
                    let _ = gzip.write_all(piece.as_bytes());
                    if self.has_ended {
                        let _ = gzip.try_finish();
                    }
                    std::mem::take(gzip.get_mut())
                }
            };
            if !bytes.is_empty() {
                return Some(bytes.into());
            }
        }
        None
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
