//! OTLP over gRPC: a tonic channel whose connections are made by [`Dialer`], and requests that are bytes already.
//!
//! The generated client would want prost structs and opentelemetry-otlp's exporter tells failures only as text, so the
//! call is made through tonic's generic client. By the OTLP specification CANCELLED, DEADLINE_EXCEEDED, ABORTED,
//! OUT_OF_RANGE, UNAVAILABLE and DATA_LOSS are tried again, RESOURCE_EXHAUSTED where the server sends RetryInfo, and what
//! never came from a server (a broken connection); anything else is final.

use std::error::Error as _;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tonic::codec::{
    BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder,
};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint as Target};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::ExportError;
use super::dial::Dialer;
use super::endpoint::Endpoint;
use super::transport::{
    Accepted, Again, Failure, MAX_CONNECTION_AGE, MAX_RESPONSE_BYTES, USER_AGENT, short,
};
use crate::config::Export;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The gRPC transport.
pub(super) struct Grpc {
    dialer: Dialer,
    target: Target,
    metadata: MetadataMap,
    gzip: bool,
    channel: Channel,
    opened: Instant,
}

impl Grpc {
    /// Does not connect yet.
    pub(super) fn new(
        dialer: Dialer,
        endpoint: &Endpoint,
        headers: HeaderMap,
        settings: &Export,
    ) -> Result<Grpc, ExportError> {
        let wrong = |why: String| ExportError::Endpoint {
            given: endpoint.shown(),
            why,
        };
        let origin = endpoint
            .shown()
            .parse::<Uri>()
            .map_err(|e| wrong(e.to_string()))?;
        // TLS is the dialer's: to tonic the connection is plain, and only `:scheme` tells.
        let target = Target::from_shared(format!("http://{}", endpoint.authority))
            .and_then(|target| target.user_agent(USER_AGENT))
            .map_err(|e| wrong(e.to_string()))?
            .origin(origin)
            .connect_timeout(settings.timeout)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        let channel = open(&target, &dialer);
        Ok(Grpc {
            dialer,
            target,
            metadata: MetadataMap::from_headers(headers),
            gzip: settings.compression,
            channel,
            opened: Instant::now(),
        })
    }

    /// Forgets the connection: the next attempt makes a new one.
    pub(super) fn reconnect(&mut self) {
        self.channel = open(&self.target, &self.dialer);
        self.opened = Instant::now();
    }

    /// One attempt.
    pub(super) async fn send(&mut self, request: Bytes) -> Result<Accepted, Failure> {
        if self.opened.elapsed() > MAX_CONNECTION_AGE {
            self.reconnect();
        }
        let mut client = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_RESPONSE_BYTES);
        if self.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        let ready = client.ready().await;
        ready.map_err(|error| Failure::transport("connect", &error))?;
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata.clone();
        let answer = client
            .unary(request, PathAndQuery::from_static(EXPORT), Raw)
            .await;
        match answer {
            Ok(response) => Ok(Accepted::from_response(response.into_inner())),
            Err(status) => Err(refusal(&status)),
        }
    }
}

fn open(target: &Target, dialer: &Dialer) -> Channel {
    let dialer = dialer.clone();
    target.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let dialer = dialer.clone();
        async move { dialer.dial().await.map(TokioIo::new) }
    }))
}

fn refusal(status: &Status) -> Failure {
    // A status with a source was made on this side: the collector did not answer.
    if let Some(error) = status.source() {
        return Failure::transport(reason_of(error), error);
    }
    let wait = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    let again = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Again::Later(wait),
        Code::ResourceExhausted if wait.is_some() => Again::Later(wait),
        _ => Again::No,
    };
    Failure {
        reason: if again == Again::No {
            "rejected"
        } else {
            "unavailable"
        },
        detail: format!("{:?}: {}", status.code(), short(status.message())),
        again,
    }
}

/// Whether it failed before there was a connection or on it.
fn reason_of(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return "connect";
        }
        cause = error.source();
    }
    "transport"
}

/// Sends bytes as they are, and reads OTLP's answer.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.len());
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        // A success with a body that cannot be read is a success.
        let bytes = from.copy_to_bytes(from.remaining());
        Ok(Some(
            ExportTraceServiceResponse::decode(bytes).unwrap_or_default(),
        ))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(1024, 32 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, StatusExt};

    #[test]
    fn codes_by_the_specification() {
        let retried = [1, 4, 10, 11, 14, 15];
        for code in 1..=16 {
            let failure = refusal(&Status::new(Code::from(code), "why"));
            let again = retried.contains(&code);
            assert_eq!(failure.again == Again::Later(None), again, "{code}");
        }
        let wait = Some(Duration::from_secs(5));
        for (code, want) in [
            (8, Again::Later(wait)),
            (14, Again::Later(wait)),
            (3, Again::No),
        ] {
            let status = Status::with_error_details(
                Code::from(code),
                "why",
                ErrorDetails::with_retry_info(wait),
            );
            assert_eq!(refusal(&status).again, want, "{code}");
        }
    }
}
