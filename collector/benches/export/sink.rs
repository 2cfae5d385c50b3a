//! A backend that takes everything and does nothing with it, as a process of its own: its CPU time is not ours.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Makes the bench be the backend.
pub const ARGUMENT: &str = "--sink";

/// A running backend; ends with its value.
pub struct Sink {
    child: Child,
    /// Takes OTLP/HTTP.
    pub http: u16,
    /// Takes OTLP/gRPC.
    pub grpc: u16,
}

impl Sink {
    pub fn start() -> Self {
        let own = std::env::current_exe().expect("this runs from a file");
        let mut child = Command::new(own)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started again");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says its ports");
        let mut ports = line.split_whitespace().map(|port| port.parse().expect("a port"));
        let mut port = || ports.next().expect("two ports");
        Self { http: port(), grpc: port(), child }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until standard input ends, as it does when the bench has gone.
pub fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let [http, grpc] = [listen().await, listen().await];
        println!("{} {}", port(&http), port(&grpc));
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
        tokio::select! {
            () = accept(http, false) => {}
            () = accept(grpc, true) => {}
            _ = ended => {}
        }
    });
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("it listens").port()
}

async fn accept(listener: TcpListener, is_grpc: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        let io = TokioIo::new(stream);
        tokio::spawn(async move {
            if is_grpc {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(io, service_fn(grpc)).await;
            } else {
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(io, service_fn(http)).await;
            }
        });
    }
}

async fn drain(mut request: Request<Incoming>) -> Result<(), hyper::Error> {
    while let Some(frame) = request.frame().await {
        frame?;
    }
    Ok(())
}

async fn http(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    drain(request).await?;
    Ok(Response::new(Full::default()))
}

/// An empty message, and the status in trailers.
async fn grpc(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>>, hyper::Error> {
    drain(request).await?;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
    let response = Response::builder().header("content-type", "application/grpc").body(body);
    Ok(response.expect("its parts are valid"))
}
