//! OTLP/HTTP with protobuf bodies, over a pooled HTTP/1.1 or HTTP/2 client.

use std::{io::Write, time::Duration};

use bytes::Bytes;
use flate2::{Compression as Level, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT as USER_AGENT_HEADER},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use prost::Message;

use super::{
    client::ExportResponse,
    retry::{self, Failure},
    settings::{Compression, DestinationSettings, USER_AGENT},
    tls::SetupError,
};

#[derive(Debug)]
pub(super) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    gzip: bool,
}

impl HttpClient {
    /// Connects nothing yet.
    pub(super) fn new(settings: &DestinationSettings) -> Result<Self, SetupError> {
        let wrong = |reason: &str| SetupError::Endpoint {
            endpoint: settings.endpoint.to_string(),
            reason: reason.to_owned(),
        };
        if settings.endpoint.authority().is_none() {
            return Err(wrong("names no host"));
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(settings.timeout.min(CONNECT_TIMEOUT_MAX)));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_nodelay(true);
        let tls = match settings.endpoint.scheme_str() {
            // Reading the system's roots takes 10 ms and more; plain HTTP does without.
            Some("http") => rustls_without_roots()?,
            Some("https") => settings.tls.rustls()?,
            _ => return Err(wrong("is neither http nor https")),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(1)
            .build(connector);
        let gzip = settings.compression == Compression::Gzip;
        Ok(Self { client, uri: settings.endpoint.clone(), headers: headers(settings, gzip), gzip })
    }

    /// Compresses a body, if so configured: once, however often it is sent.
    pub(super) fn prepare(&self, body: &Bytes) -> Bytes {
        if !self.gzip {
            return body.clone();
        }
        let mut gzip = GzEncoder::new(Vec::with_capacity(body.len() / 8), Level::default());
        // Writing to a Vec cannot fail.
        let _ = gzip.write_all(body);
        gzip.finish().unwrap_or_default().into()
    }

    /// One attempt with a prepared body, without a limit of time.
    pub(super) async fn send(&self, body: Bytes) -> Result<ExportResponse, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let answer = self.client.request(request).await.map_err(|error| retry::of_transport(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await;
        if !head.status.is_success() {
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            return Err(retry::of_http(head.status, &head.headers, &body));
        }
        // The server has taken the request; an answer that is cut or does not decode is no reason to send it again.
        let answer = body.ok().and_then(|body| ExportResponse::decode(body.to_bytes()).ok());
        Ok(answer.unwrap_or_default())
    }
}

/// The limit that the specification sets for answers.
const RESPONSE_BYTES_MAX: usize = 4 << 20;
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

fn headers(settings: &DestinationSettings, gzip: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT_HEADER, HeaderValue::from_static(USER_AGENT));
    headers.extend(settings.headers.iter().cloned());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers
}

fn rustls_without_roots() -> Result<rustls::ClientConfig, SetupError> {
    let builder =
        rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| SetupError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}
