//! One attempt to deliver a request, whichever the transport.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::{
    grpc::GrpcClient,
    http::HttpClient,
    retry::{self, Failure},
    settings::{DestinationSettings, Protocol, Signal},
    tls::SetupError,
};

#[derive(Debug)]
pub(super) struct Client {
    transport: Transport,
    timeout: Duration,
}

#[derive(Debug)]
enum Transport {
    Grpc(GrpcClient),
    Http(HttpClient),
}

impl Client {
    /// Needs the runtime's context; connects at the first request.
    pub(super) fn new(signal: Signal, settings: &DestinationSettings) -> Result<Self, SetupError> {
        let transport = match settings.protocol {
            Protocol::Grpc => Transport::Grpc(GrpcClient::new(signal, settings)?),
            Protocol::HttpProtobuf => Transport::Http(HttpClient::new(settings)?),
        };
        Ok(Self { transport, timeout: settings.timeout })
    }

    /// The body as it will be sent, for any number of attempts.
    pub(super) fn prepare(&self, body: &Bytes) -> Bytes {
        match &self.transport {
            Transport::Grpc(_) => body.clone(), // tonic compresses message by message
            Transport::Http(http) => http.prepare(body),
        }
    }

    /// One attempt.
    pub(super) async fn send(&self, prepared: Bytes) -> Result<ExportResponse, Failure> {
        let attempt = async {
            match &self.transport {
                Transport::Grpc(grpc) => grpc.send(prepared).await,
                Transport::Http(http) => http.send(prepared).await,
            }
        };
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(retry::timed_out(self.timeout)),
        }
    }
}

/// `ExportTraceServiceResponse` and `ExportMetricsServiceResponse`: the same on the wire.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    /// Spans or data points.
    #[prost(int64, tag = "1")]
    pub rejected: i64,
    /// Also used for warnings when nothing was rejected.
    #[prost(string, tag = "2")]
    pub error_message: String,
}
