//! `https` endpoints over both transports: a private authority, our own certificate, and a server we must not trust.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod export_support;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use export_support::{Pipeline, destination, flush, service, shutdown, start, traces_only, until};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use spantap::export::{
    Exporter,
    otlp::{
        DropReason,
        settings::{Protocol, Signal, TlsSettings},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

/// An authority, a server's and a client's certificate, as PEM texts and files.
struct Pki {
    dir: tempfile::TempDir,
    ca: String,
    server: (String, String),
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
        };
        let (server, client) = (issue("localhost"), issue("spantap"));
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("ca.pem", &ca.pem()), ("client.pem", &client.0), ("client.key", &client.1)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self { dir, ca: ca.pem(), server }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.path().join(name))
    }
}

#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn add(&self, request: &ExportTraceServiceRequest) {
        let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
        self.0.fetch_add(scopes.map(|s| s.spans.len()).sum(), Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl TraceService for Count {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.add(request.get_ref());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn serve_grpc(listener: TcpListener, pki: &Pki, count: Count) {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&pki.server.0, &pki.server.1))
        .client_ca_root(Certificate::from_pem(&pki.ca));
    let router = Server::builder().tls_config(tls).unwrap().add_service(TraceServiceServer::new(count));
    tokio::spawn(async move { router.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
}

async fn serve_http(listener: TcpListener, pki: &Pki, count: Count) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(pki.server.0.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pki.server.1.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut bytes = Vec::new();
            // One request per connection, of at most what the client sends at once.
            while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                let Ok(request) = <ExportTraceServiceRequest as prost::Message>::decode(&bytes[head + 4..])
                else {
                    continue;
                };
                count.add(&request);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
                break;
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_show_certificates() {
    let pki = Pki::new();
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = Count::default();
        match protocol {
            Protocol::Grpc => serve_grpc(listener, &pki, count.clone()).await,
            Protocol::HttpProtobuf => serve_http(listener, &pki, count.clone()).await,
        }
        let endpoint = format!("https://localhost:{port}/v1/traces");
        let trusted = TlsSettings {
            ca_file: pki.file("ca.pem"),
            cert_file: pki.file("client.pem"),
            key_file: pki.file("client.key"),
        };
        let stranger = TlsSettings { ca_file: None, ..trusted.clone() };
        for (tls, expected) in [(stranger, 0), (trusted, 1)] {
            let mut settings = destination(Signal::Traces, protocol, &endpoint);
            settings.tls = tls;
            let (mut exporter, stats) = start(&traces_only(settings));
            exporter.on_record(&Pipeline::new().record(&service(1, "shop"), "/", 200));
            flush(&mut exporter);
            until("it was taken or tried in vain", || stats[0].exported() + stats[0].retries() >= 1).await;
            shutdown(exporter, Duration::from_millis(300)).await;
            let got = (stats[0].exported(), stats[0].dropped(DropReason::Shutdown));
            assert_eq!(got, (expected, 1 - expected), "{protocol:?}: {}", stats[0]);
            assert_eq!(count.0.load(Ordering::Relaxed) as u64, expected);
        }
    }
}
