//! An OTLP receiver in a runtime of its own, over gRPC or HTTP, which can fail in the ways collectors do.
//!
//! ```ignore
//! let mut collector = collector::grpc();
//! let spans = collector.spans(2).await;
//! collector.set(Mode::Hang);   // or Refuse(503), Partial(1)
//! collector.stop();            // sockets closed, port refused
//! collector.start();           // again, on the same port
//! ```

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::runtime::Runtime;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;

use super::journal::Journal;
use super::port;
use super::spans::{self, Span, Trace};

/// What the collector does with an export.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mode {
    /// Takes it.
    Accept,
    /// Reads it and never answers.
    Hang,
    /// Refuses it with this HTTP status, or the gRPC code that goes with it.
    Refuse(u16),
    /// Takes it, and says that so many spans were rejected.
    Partial(i64),
}

/// One attempt to export, whatever came of it.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    /// Header fields or gRPC metadata.
    pub(crate) headers: Vec<(String, String)>,
    /// How many spans it had.
    pub(crate) spans: usize,
}

#[derive(Clone)]
struct Receiver {
    mode: Arc<Mutex<Mode>>,
    exports: Journal<Export>,
    spans: Journal<Span>,
}

#[derive(Clone, Copy)]
enum Protocol {
    Grpc,
    Http,
}

/// The collector.
pub(crate) struct Collector {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Every attempt.
    pub(crate) exports: Journal<Export>,
    /// Spans it took.
    pub(crate) spans: Journal<Span>,
    receiver: Receiver,
    protocol: Protocol,
    runtime: Option<Runtime>,
    /// Nobody else gets its port while it is stopped.
    _port: socket2::Socket,
}

/// A collector that speaks OTLP/gRPC.
pub(crate) fn grpc() -> Collector {
    Collector::new(Protocol::Grpc)
}

/// A collector that speaks OTLP/HTTP with protobuf bodies, at `/v1/traces`.
pub(crate) fn http() -> Collector {
    Collector::new(Protocol::Http)
}

impl Collector {
    fn new(protocol: Protocol) -> Collector {
        let receiver = Receiver {
            mode: Arc::new(Mutex::new(Mode::Accept)),
            exports: Journal::default(),
            spans: Journal::default(),
        };
        let port = port::hold(([127, 0, 0, 1], 0).into());
        let mut collector = Collector {
            address: port.local_addr().unwrap().as_socket().unwrap(),
            _port: port,
            exports: receiver.exports.clone(),
            spans: receiver.spans.clone(),
            receiver,
            protocol,
            runtime: None,
        };
        collector.start();
        collector
    }

    /// `http://host:port`, as for OTEL_EXPORTER_OTLP_ENDPOINT.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The value of OTEL_EXPORTER_OTLP_PROTOCOL.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.protocol {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http/protobuf",
        }
    }

    /// Changes what happens to exports from now on.
    pub(crate) fn set(&self, mode: Mode) {
        *self.receiver.mode.lock().unwrap() = mode;
    }

    /// Listens, again on the same port after [`Collector::stop`].
    pub(crate) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("collector")
            .enable_all()
            .build()
            .unwrap();
        // std sets SO_REUSEADDR, so neither connections of the last run nor we ourselves hold the port against it.
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (receiver, protocol) = (self.receiver.clone(), self.protocol);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            match protocol {
                Protocol::Grpc => receiver.serve_grpc(listener).await,
                Protocol::Http => receiver.serve_http(listener).await,
            }
        });
        self.runtime = Some(runtime);
    }

    /// As if killed: every socket is closed, the port refuses.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping it may not be waited for inside another runtime.
            std::thread::spawn(move || drop(runtime)).join().unwrap();
        }
    }

    /// Waits for `count` spans and returns all so far.
    pub(crate) async fn spans(&self, count: usize) -> Vec<Span> {
        self.spans.at_least(count).await
    }

    /// Waits until a trace has `count` spans, and returns it.
    pub(crate) async fn trace(&self, trace_id: &str, count: usize) -> Trace {
        let what = format!("{count} spans of trace {trace_id}");
        let found = self.spans.until(&what, |spans| {
            let trace = Trace::of(trace_id, spans);
            (trace.spans.len() >= count).then_some(trace)
        });
        found.await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What to answer.
enum Verdict {
    Accepted(ExportTraceServiceResponse),
    Refused(u16),
}

impl Receiver {
    async fn take(
        &self,
        request: ExportTraceServiceRequest,
        headers: Vec<(String, String)>,
    ) -> Verdict {
        let spans = spans::decode(request);
        self.exports.push(Export {
            headers,
            spans: spans.len(),
        });
        let mode = self.mode.lock().unwrap().clone();
        let partial_success = match mode {
            Mode::Hang => std::future::pending().await,
            Mode::Refuse(status) => return Verdict::Refused(status),
            Mode::Accept => None,
            Mode::Partial(rejected_spans) => Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: "rejected by the test".to_owned(),
            }),
        };
        for span in spans {
            self.spans.push(span);
        }
        Verdict::Accepted(ExportTraceServiceResponse { partial_success })
    }

    async fn serve_grpc(self, listener: tokio::net::TcpListener) {
        let service = TraceServiceServer::new(self)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(64 << 20);
        let served = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener));
        served.await.unwrap();
    }

    async fn serve_http(self, listener: tokio::net::TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let receiver = self.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(|request| receiver.answer(request));
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(
        &self,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, Infallible> {
        let mut response = http::Response::new(Full::default());
        let (head, body) = request.into_parts();
        if head.uri.path() != "/v1/traces" || head.method != "POST" {
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            return Ok(response);
        }
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
        let headers = head.headers.iter();
        let headers = headers.map(|(n, v)| (n.to_string(), text(v))).collect();
        let Ok(body) = body.collect().await else {
            return Ok(response);
        };
        let Ok(request) = ExportTraceServiceRequest::decode(body.to_bytes()) else {
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            return Ok(response);
        };
        match self.take(request, headers).await {
            Verdict::Refused(status) => {
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            }
            Verdict::Accepted(answer) => {
                let kind = http::HeaderValue::from_static("application/x-protobuf");
                response.headers_mut().insert("content-type", kind);
                *response.body_mut() = Full::new(answer.encode_to_vec().into());
            }
        }
        Ok(response)
    }
}

#[async_trait::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let headers = request.metadata().clone().into_headers();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
        let headers = headers.iter().map(|(n, v)| (n.to_string(), text(v)));
        let headers = headers.collect();
        match self.take(request.into_inner(), headers).await {
            Verdict::Accepted(answer) => Ok(tonic::Response::new(answer)),
            Verdict::Refused(status) => Err(tonic::Status::new(
                match status {
                    400 => tonic::Code::InvalidArgument,
                    401 => tonic::Code::Unauthenticated,
                    429 => tonic::Code::ResourceExhausted,
                    503 => tonic::Code::Unavailable,
                    _ => tonic::Code::Internal,
                },
                "refused by the test",
            )),
        }
    }
}
