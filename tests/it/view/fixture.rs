//! A viewer in the process and OTLP to send it.

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use hopspan::view::{ViewAddresses, ViewOptions, Viewer, client};

use crate::support::within;

/// When fixture traces start, nanoseconds since the Unix epoch.
pub(super) const START: u64 = 1_758_530_823_123_000_000;

/// A viewer that runs until stopped.
pub(super) struct Running {
    pub(super) addresses: ViewAddresses,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(super) async fn start() -> Running {
        Running::with(ViewOptions::on_free_ports()).await
    }

    pub(super) async fn with(options: ViewOptions) -> Running {
        let viewer = Viewer::bind(options).await.unwrap();
        let addresses = viewer.addresses();
        let stop = CancellationToken::new();
        let task = tokio::spawn(viewer.run(stop.clone()));
        Running {
            addresses,
            stop,
            task,
        }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        within("the viewer's end", self.task).await.unwrap();
    }

    pub(super) async fn send_grpc(&self, request: ExportTraceServiceRequest) {
        let mut client = TraceServiceClient::connect(format!("http://{}", self.addresses.grpc))
            .await
            .unwrap()
            .send_compressed(tonic::codec::CompressionEncoding::Gzip);
        client.export(request).await.unwrap();
    }

    pub(super) async fn send_http(&self, request: ExportTraceServiceRequest) -> Response<Bytes> {
        let post = Request::post("/v1/traces")
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::from(request.encode_to_vec()))
            .unwrap();
        exchange(self.addresses.http, post).await
    }

    pub(super) async fn get(&self, target: &str) -> Result<serde_json::Value, String> {
        client::get(&self.addresses.page.into(), target)
            .await
            .map(|text| serde_json::from_str(&text).unwrap())
            .map_err(|error| error.to_string())
    }

    pub(super) async fn trace(&self, trace: u64, query: &str) -> serde_json::Value {
        self.get(&format!("/api/traces/{trace:032x}?{query}"))
            .await
            .unwrap()
    }
}

/// One HTTP/1.1 exchange on a connection of its own; the Host is set unless the request has one.
pub(super) async fn exchange(to: SocketAddr, mut request: Request<Full<Bytes>>) -> Response<Bytes> {
    if !request.headers().contains_key(header::HOST) {
        let host = to.to_string().parse().unwrap();
        request.headers_mut().insert(header::HOST, host);
    }
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// One service's spans as an export request.
pub(super) fn request(service: &str, spans: Vec<Fixture>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![pair("service.name", service)],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: spans.into_iter().map(|fixture| fixture.0).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// A span to be sent.
pub(super) struct Fixture(pub(super) Span);

/// A span of 10 ms, by small numbers; parent 0 is none.
pub(super) fn span(trace: u64, id: u64, parent: u64) -> Fixture {
    let id_of = |id: u64| id.to_be_bytes().to_vec();
    Fixture(Span {
        trace_id: u128::from(trace).to_be_bytes().to_vec(),
        span_id: id_of(id),
        parent_span_id: if parent == 0 {
            Vec::new()
        } else {
            id_of(parent)
        },
        name: "GET /".to_owned(),
        start_time_unix_nano: START + id * 1_000_000,
        end_time_unix_nano: START + id * 1_000_000 + 10_000_000,
        ..Span::default()
    })
}

impl Fixture {
    /// A SERVER span that answered `status`.
    pub(super) fn server(mut self, status: i64) -> Fixture {
        self.0.kind = 2;
        self.0.attributes.push(KeyValue {
            key: "http.response.status_code".to_owned(),
            value: Some(AnyValue {
                value: Some(any_value::Value::IntValue(status)),
            }),
            ..KeyValue::default()
        });
        if status >= 500 {
            self.0.status = Some(Status {
                code: 2,
                ..Status::default()
            });
        }
        self
    }
}
