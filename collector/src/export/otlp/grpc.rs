//! OTLP/gRPC: one lazily connected channel, and a codec that passes our encoded bytes through.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderName, HeaderValue, Uri, uri::PathAndQuery};
use prost::Message;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use super::{
    client::ExportResponse,
    retry::{self, Failure},
    settings::{Compression, DestinationSettings, Signal, USER_AGENT},
    tls::SetupError,
};

#[derive(Debug)]
pub(super) struct GrpcClient {
    channel: Channel,
    path: PathAndQuery,
    metadata: MetadataMap,
    gzip: bool,
}

impl GrpcClient {
    /// Connects nothing yet. Needs the runtime's context.
    pub(super) fn new(signal: Signal, settings: &DestinationSettings) -> Result<Self, SetupError> {
        let wrong = |reason: String| SetupError::Endpoint { endpoint: settings.endpoint.to_string(), reason };
        let mut endpoint = Endpoint::from(origin(&settings.endpoint).map_err(wrong)?)
            .user_agent(USER_AGENT)
            .map_err(|error| wrong(error.to_string()))?
            .connect_timeout(settings.timeout.min(CONNECT_TIMEOUT_MAX))
            .tcp_keepalive(Some(Duration::from_secs(60)))
            // Only while a request is open: servers answer pings of an idle client with GOAWAY (too_many_pings).
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        if settings.endpoint.scheme_str() == Some("https") {
            endpoint = endpoint
                .tls_config(settings.tls.tonic()?)
                .map_err(|error| SetupError::Tls(error.to_string()))?;
        }
        Ok(Self {
            channel: endpoint.connect_lazy(),
            path: PathAndQuery::from_static(signal.grpc_path()),
            metadata: metadata(&settings.headers),
            gzip: settings.compression == Compression::Gzip,
        })
    }

    /// One attempt, without a limit of time.
    pub(super) async fn send(&self, body: Bytes) -> Result<ExportResponse, Failure> {
        let mut client = Grpc::new(self.channel.clone());
        if self.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client.ready().await.map_err(|error| retry::of_transport(&error))?;
        let mut request = Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        let answer = client.unary(request, self.path.clone(), PassThrough).await;
        answer.map(tonic::Response::into_inner).map_err(|status| retry::of_grpc(&status))
    }
}

const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Scheme and authority: a path would be put before the method's.
fn origin(endpoint: &Uri) -> Result<Uri, String> {
    let authority = endpoint.authority().ok_or("names no host")?;
    let scheme = endpoint.scheme_str().unwrap_or("http");
    if !matches!(scheme, "http" | "https") {
        return Err("is neither http nor https".to_owned());
    }
    let uri = Uri::builder().scheme(scheme).authority(authority.as_str()).path_and_query("/").build();
    uri.map_err(|error| error.to_string())
}

fn metadata(headers: &[(HeaderName, HeaderValue)]) -> MetadataMap {
    MetadataMap::from_headers(headers.iter().cloned().collect())
}

/// Bytes that are already a message go out; the answer is decoded.
#[derive(Clone, Copy, Debug)]
struct PassThrough;

impl Codec for PassThrough {
    type Encode = Bytes;
    type Decode = ExportResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for PassThrough {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for PassThrough {
    type Item = ExportResponse;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<ExportResponse>, Status> {
        // The server has said OK; an answer that does not decode is no reason to send the spans again.
        let answer = ExportResponse::decode(&mut *bytes).unwrap_or_default();
        bytes.advance(bytes.remaining());
        Ok(Some(answer))
    }
}
