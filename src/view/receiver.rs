//! OTLP in, over gRPC and over HTTP (OTLP specification 1.x): traces only, gzip accepted, requests bounded.
//!
//! An HTTP error carries a `google.rpc.Status` in the encoding of the request, as the specification asks. What is not
//! a trace (logs, metrics) is refused with the setting that turns it off.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;

use super::decode::from_otlp;
use super::doors::respond;
use super::store::Store;

/// Requests read or decoded at once, over all connections: bounds the memory beside the store.
const MAX_IN_FLIGHT: usize = 16;
/// For the whole body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Where OTLP/HTTP traces go.
const TRACES: &str = "/v1/traces";

/// Takes export requests into the store.
pub(super) struct Receiver {
    sink: Sink,
    grpc: TraceServiceServer<Sink>,
    max_bytes: usize,
    in_flight: Semaphore,
}

#[derive(Clone)]
struct Sink(Arc<Store>);

impl Sink {
    fn take(&self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse {
        let (spans, rejected) = from_otlp(request);
        self.0.add(spans, rejected);
        ExportTraceServiceResponse {
            partial_success: (rejected > 0).then(|| ExportTracePartialSuccess {
                rejected_spans: i64::try_from(rejected).unwrap_or(i64::MAX),
                error_message: "spans need a trace ID of 16 bytes and a span ID of 8, not all zero"
                    .to_owned(),
            }),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        Ok(tonic::Response::new(self.take(request.into_inner())))
    }
}

/// Why an HTTP request was refused: status, `google.rpc.Code`, sentence.
struct Refusal(StatusCode, i32, String);

/// `google.rpc.Status`, without details.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn content_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

impl Receiver {
    pub(super) fn new(store: Arc<Store>, max_bytes: usize) -> Receiver {
        let sink = Sink(store);
        Receiver {
            // tonic holds both the message and what it decompresses to against the limit.
            grpc: TraceServiceServer::new(sink.clone())
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(max_bytes),
            sink,
            max_bytes,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
        }
    }

    /// A gRPC call; of unknown services and methods it says UNIMPLEMENTED.
    pub(super) async fn grpc(&self, request: Request<Incoming>) -> Response<Body> {
        // The semaphore is never closed, so this waits at most.
        let _slot = self.in_flight.acquire().await;
        let answered = tokio::time::timeout(BODY_TIMEOUT, self.grpc.clone().call(request)).await;
        match answered {
            Ok(Ok(response)) => response,
            Err(_) => {
                tonic::Status::deadline_exceeded("the request took too long to arrive").into_http()
            }
        }
    }

    /// An OTLP/HTTP request.
    pub(super) async fn http(&self, request: Request<Incoming>) -> Response<Body> {
        let encoding = encoding_of(&request);
        match self.try_http(request, encoding).await {
            Ok(response) => answer(StatusCode::OK, encoding, &response),
            Err(Refusal(status, code, message)) => {
                tracing::debug!(%status, message, "refused an OTLP request");
                refuse(status, encoding, &RpcStatus { code, message })
            }
        }
    }

    async fn try_http(
        &self,
        request: Request<Incoming>,
        encoding: Option<Encoding>,
    ) -> Result<ExportTraceServiceResponse, Refusal> {
        check_target(&request)?;
        let Some(encoding) = encoding else {
            return Err(invalid(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send application/x-protobuf or application/json".to_owned(),
            ));
        };
        let gzip = is_gzip(&request)?;
        let _slot = self.in_flight.acquire().await;
        let body = tokio::time::timeout(BODY_TIMEOUT, self.read(request.into_body()))
            .await
            .map_err(|_| {
                invalid(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body took too long".to_owned(),
                )
            })??;
        let body = if gzip { self.gunzip(&body)? } else { body };
        let request = match encoding {
            Encoding::Protobuf => ExportTraceServiceRequest::decode(body)
                .map_err(|error| format!("the body is not an OTLP export request: {error}")),
            Encoding::Json => serde_json::from_slice(&body)
                .map_err(|error| format!("the body is not an OTLP/JSON export request: {error}")),
        };
        let request = request.map_err(|why| invalid(StatusCode::BAD_REQUEST, why))?;
        Ok(self.sink.take(request))
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Refusal> {
        match Limited::new(body, self.max_bytes).collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(self.too_large()),
            Err(error) => Err(invalid(
                StatusCode::BAD_REQUEST,
                format!("the body ended early: {error}"),
            )),
        }
    }

    fn gunzip(&self, body: &[u8]) -> Result<Bytes, Refusal> {
        let mut whole = Vec::new();
        // One byte more than allowed tells "too large" from "just fits".
        let limit = (self.max_bytes as u64).saturating_add(1);
        flate2::read::MultiGzDecoder::new(body)
            .take(limit)
            .read_to_end(&mut whole)
            .map_err(|error| {
                invalid(
                    StatusCode::BAD_REQUEST,
                    format!("the body is not gzip as its content-encoding says: {error}"),
                )
            })?;
        if whole.len() > self.max_bytes {
            return Err(self.too_large());
        }
        Ok(whole.into())
    }

    fn too_large(&self) -> Refusal {
        Refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            tonic::Code::ResourceExhausted as i32,
            format!(
                "the request is larger than {} bytes: export smaller batches",
                self.max_bytes
            ),
        )
    }
}

fn invalid(status: StatusCode, message: String) -> Refusal {
    Refusal(status, tonic::Code::InvalidArgument as i32, message)
}

fn check_target(request: &Request<Incoming>) -> Result<(), Refusal> {
    let unimplemented = |status, message: &str| {
        Err(Refusal(
            status,
            tonic::Code::Unimplemented as i32,
            message.to_owned(),
        ))
    };
    match request.uri().path() {
        TRACES if request.method() == Method::POST => Ok(()),
        TRACES => unimplemented(StatusCode::METHOD_NOT_ALLOWED, "POST traces here"),
        "/v1/metrics" => unimplemented(
            StatusCode::NOT_FOUND,
            "the viewer takes traces only: set OTEL_METRICS_EXPORTER=none",
        ),
        "/v1/logs" => unimplemented(
            StatusCode::NOT_FOUND,
            "the viewer takes traces only: set OTEL_LOGS_EXPORTER=none",
        ),
        _ => unimplemented(
            StatusCode::NOT_FOUND,
            "nothing is here: POST OTLP traces to /v1/traces",
        ),
    }
}

fn encoding_of(request: &Request<Incoming>) -> Option<Encoding> {
    let kind = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    match kind.split(';').next()?.trim() {
        "application/x-protobuf" | "application/protobuf" => Some(Encoding::Protobuf),
        "application/json" => Some(Encoding::Json),
        _ => None,
    }
}

fn is_gzip(request: &Request<Incoming>) -> Result<bool, Refusal> {
    match request.headers().get(header::CONTENT_ENCODING) {
        None => Ok(false),
        Some(coding) if coding == "gzip" => Ok(true),
        Some(coding) if coding == "identity" => Ok(false),
        Some(_) => Err(invalid(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-encoding can be gzip or absent".to_owned(),
        )),
    }
}

fn answer(
    status: StatusCode,
    encoding: Option<Encoding>,
    response: &ExportTraceServiceResponse,
) -> Response<Body> {
    match encoding.unwrap_or(Encoding::Protobuf) {
        Encoding::Protobuf => respond(
            status,
            Encoding::Protobuf.content_type(),
            response.encode_to_vec(),
        ),
        Encoding::Json => respond(status, Encoding::Json.content_type(), json(response)),
    }
}

/// By hand, since ProtoJSON leaves out what is absent and writes 64-bit numbers as text.
fn json(response: &ExportTraceServiceResponse) -> String {
    match &response.partial_success {
        None => "{}".to_owned(),
        Some(partial) => serde_json::json!({ "partialSuccess": {
            "rejectedSpans": partial.rejected_spans.to_string(),
            "errorMessage": partial.error_message,
        }})
        .to_string(),
    }
}

fn refuse(status: StatusCode, encoding: Option<Encoding>, refusal: &RpcStatus) -> Response<Body> {
    match encoding {
        Some(Encoding::Protobuf) => respond(
            status,
            Encoding::Protobuf.content_type(),
            refusal.encode_to_vec(),
        ),
        _ => {
            let body = serde_json::json!({ "code": refusal.code, "message": refusal.message });
            respond(status, Encoding::Json.content_type(), body.to_string())
        }
    }
}
