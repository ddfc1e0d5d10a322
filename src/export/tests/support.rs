//! Records, settings, and fake collectors over HTTP and gRPC for the exporter's tests.

pub(crate) mod stock;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::config::{Export, Protocol};
use crate::trace::span::{Kind, Name, Record};
use crate::trace::{Context, Flags};

/// A small span that began at `start`.
pub(crate) fn record(start: u64) -> Box<Record> {
    Box::new(Record {
        kind: Kind::Client,
        name: Name {
            method: "GET",
            target: None,
        },
        context: Context {
            flags: Flags::SAMPLED,
            ..Context::new_root()
        },
        parent_span_id: None,
        parent_is_remote: false,
        start_unix_nanos: start,
        end_unix_nanos: start + 10,
        error: None,
        attributes: Vec::new(),
        dropped_attributes: 0,
        links: Vec::new(),
    })
}

/// A span of twelve attributes, as an inbound request makes it.
pub(crate) fn typical(start: u64) -> Box<Record> {
    use crate::trace::semconv as s;
    let mut record = record(start);
    record.name.target = Some("orders/<int:pk>/".into());
    record.attributes = vec![
        (s::HTTP_REQUEST_METHOD.into(), "GET".into()),
        (
            s::HTTP_ROUTE.into(),
            Arc::<str>::from("orders/<int:pk>/").into(),
        ),
        (s::URL_SCHEME.into(), "http".into()),
        (s::URL_PATH.into(), String::from("/orders/12345/").into()),
        (s::URL_QUERY.into(), String::from("page=2&size=50").into()),
        (
            s::SERVER_ADDRESS.into(),
            String::from("order-service").into(),
        ),
        (s::SERVER_PORT.into(), 8080_i64.into()),
        (s::CLIENT_ADDRESS.into(), String::from("10.1.2.3").into()),
        (
            s::NETWORK_PEER_ADDRESS.into(),
            String::from("10.1.2.3").into(),
        ),
        (s::NETWORK_PROTOCOL_VERSION.into(), "1.1".into()),
        (
            s::USER_AGENT_ORIGINAL.into(),
            String::from("python-requests/2.32").into(),
        ),
        (s::HTTP_RESPONSE_STATUS_CODE.into(), 200_i64.into()),
    ];
    record
}

/// Defaults with short waits, so that outages fit in a test.
pub(crate) fn settings() -> Export {
    Export {
        schedule_delay: Duration::from_millis(20),
        retry_initial_interval: Duration::from_millis(20),
        retry_max_interval: Duration::from_millis(50),
        ..Export::default()
    }
}

/// What a collector does with a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Takes it all.
    Accept,
    /// Takes it but for so many spans.
    Partial(i64),
    /// HTTP: this status and these headers. gRPC: this code.
    Refuse(u16, Vec<(&'static str, String)>),
    /// Never answers.
    Hang,
    /// A success with a body of so many bytes.
    Flood(usize),
}

/// What arrived, and what is to be answered.
#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    pub(crate) requests: watch::Receiver<Vec<(HeaderMap, ExportTraceServiceRequest)>>,
    seen: Arc<watch::Sender<Vec<(HeaderMap, ExportTraceServiceRequest)>>>,
    connections: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

impl Collector {
    fn new(address: SocketAddr) -> Collector {
        let (seen, requests) = watch::channel(Vec::new());
        Collector {
            address,
            answers: Arc::default(),
            requests,
            seen: Arc::new(seen),
            connections: Arc::default(),
        }
    }

    /// The next requests are answered so; then all are accepted.
    pub(crate) fn then(self, answers: impl IntoIterator<Item = Answer>) -> Collector {
        self.answers.lock().unwrap().extend(answers);
        self
    }

    /// Waits until so many requests have come, accepted or not.
    pub(crate) async fn got(&self, count: usize) -> Vec<(HeaderMap, ExportTraceServiceRequest)> {
        let mut requests = self.requests.clone();
        let all = requests.wait_for(|all| all.len() >= count);
        let all = tokio::time::timeout(Duration::from_secs(60), all).await;
        all.unwrap_or_else(|_| panic!("{count} requests did not come"))
            .unwrap()
            .clone()
    }

    /// All spans that came, in order.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let all = self.requests.borrow();
        let scopes = all
            .iter()
            .flat_map(|(_, r)| &r.resource_spans)
            .flat_map(|r| &r.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Number of connections it has had.
    pub(crate) fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        for connection in self.connections.lock().unwrap().iter() {
            connection.abort();
        }
    }

    fn answer(&self, headers: HeaderMap, request: ExportTraceServiceRequest) -> Answer {
        self.seen.send_modify(|all| all.push((headers, request)));
        self.answers
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Answer::Accept)
    }
}

fn response(rejected: i64) -> ExportTraceServiceResponse {
    ExportTraceServiceResponse {
        partial_success: (rejected > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "too old".to_owned(),
        }),
    }
}

/// A collector over HTTP/protobuf. The listener goes when the returned handle is aborted.
pub(crate) async fn http_on(listener: TcpListener) -> (Collector, tokio::task::JoinHandle<()>) {
    let collector = Collector::new(listener.local_addr().unwrap());
    let shared = collector.clone();
    let server = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let shared = shared.clone();
            let own = shared.clone();
            let connection = tokio::spawn(async move {
                let service = service_fn(move |request| serve_http(own.clone(), request));
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(tcp), service).await;
            });
            shared
                .connections
                .lock()
                .unwrap()
                .push(connection.abort_handle());
        }
    });
    (collector, server)
}

/// [`http_on`] a free port, for as long as the test runs.
pub(crate) async fn http() -> Collector {
    http_on(TcpListener::bind("127.0.0.1:0").await.unwrap())
        .await
        .0
}

async fn serve_http(
    collector: Collector,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (mut head, body) = request.into_parts();
    let mut body = body.collect().await.unwrap().to_bytes();
    if head
        .headers
        .get("content-encoding")
        .is_some_and(|v| v == "gzip")
    {
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*body), &mut plain).unwrap();
        body = plain.into();
    }
    head.headers
        .insert("test-path", head.uri.to_string().parse().unwrap());
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let reply = |status: u16, body: Vec<u8>| {
        Response::builder()
            .status(status)
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    Ok(match collector.answer(head.headers, request) {
        Answer::Accept => reply(200, response(0).encode_to_vec()),
        Answer::Partial(n) => reply(200, response(n).encode_to_vec()),
        Answer::Flood(n) => reply(200, vec![0; n]),
        Answer::Hang => std::future::pending().await,
        Answer::Refuse(status, headers) => {
            let mut answer = reply(status, b"go away".to_vec());
            for (name, value) in headers {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            answer
        }
    })
}

/// A collector over gRPC.
pub(crate) async fn grpc() -> Collector {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = Collector::new(listener.local_addr().unwrap());
    let service = TraceServiceServer::new(collector.clone())
        .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    collector
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let (metadata, _, request) = request.into_parts();
        match self.answer(metadata.into_headers(), request) {
            Answer::Accept | Answer::Flood(_) => Ok(tonic::Response::new(response(0))),
            Answer::Partial(n) => Ok(tonic::Response::new(response(n))),
            Answer::Hang => std::future::pending().await,
            Answer::Refuse(code, _) => Err(tonic::Status::new(
                tonic::Code::from(i32::from(code)),
                "go away",
            )),
        }
    }
}

/// TLS in front of a collector, for `localhost`: its port and its certificate as PEM.
pub(crate) async fn tls(collector: &Collector, alpn: &[u8]) -> (u16, String) {
    use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = collector.address;
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate leaves here.
                let Ok(mut tls) = acceptor.accept(tcp).await else {
                    return;
                };
                let mut plain = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    (port, made.cert.pem())
}

/// Where nobody listens, for as long as the socket is there: it is bound, and lets who wants to listen there.
pub(crate) fn closed() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let endpoint = format!("http://{}", socket.local_addr().unwrap());
    (socket, endpoint)
}

/// Settings for a collector.
pub(crate) fn towards(collector: &Collector, protocol: Protocol) -> Export {
    Export {
        endpoint: Some(format!("http://{}", collector.address)),
        protocol,
        ..settings()
    }
}
