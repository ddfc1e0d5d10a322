//! What happens on the viewer's ports: accept, tell HTTP/1.1, HTTP/2 and TLS apart by the first bytes, answer.
//!
//! Which protocol may use which port is [`Doors::answer`]'s to say; the wrong one gets an answer it can show.

use std::io::{self, Cursor, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::listen::Door;
use super::store::Store;
use super::{ViewAddresses, api, receiver};

/// Connections open at once, per port. Exporters keep one each.
const MAX_CONNECTIONS: usize = 512;
/// Until the first bytes of a connection.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// Idle connections, and request heads under way.
const IDLE: Duration = Duration::from_secs(75);
/// After accept failed (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the three ports share.
pub(super) struct Doors {
    store: Arc<Store>,
    addresses: ViewAddresses,
    receiver: receiver::Receiver,
}

impl Doors {
    pub(super) fn new(
        store: Arc<Store>,
        addresses: ViewAddresses,
        max_message_bytes: usize,
    ) -> Doors {
        Doors {
            receiver: receiver::Receiver::new(Arc::clone(&store), max_message_bytes),
            store,
            addresses,
        }
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Answers a request on a port, also one that belongs to another.
    async fn answer(
        &self,
        door: Door,
        request: Request<Incoming>,
        stop: &CancellationToken,
    ) -> Response<Body> {
        let grpc = request.version() == Version::HTTP_2
            && request
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        match door {
            Door::Grpc if grpc => self.receiver.grpc(request).await,
            Door::Grpc => {
                let sentence = format!(
                    "this port takes OTLP over gRPC: send OTLP over HTTP to http://{}",
                    self.addresses.http
                );
                self.mistake(&sentence);
                plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, &sentence)
            }
            _ if grpc => {
                let sentence = format!(
                    "this port does not speak gRPC: send OTLP over gRPC to http://{}",
                    self.addresses.grpc
                );
                self.mistake(&sentence);
                tonic::Status::unimplemented(sentence).into_http()
            }
            Door::Http => self.receiver.http(request).await,
            Door::Page => api::answer(&self.store, &self.addresses, request, stop).await,
        }
    }

    fn mistake(&self, sentence: &str) {
        self.store.count_protocol_mistake();
        tracing::warn!("a client used the wrong protocol: {sentence}");
    }
}

/// A plain-text answer.
pub(super) fn plain(status: StatusCode, sentence: &str) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
}

/// An answer with a body that nothing may sniff, cache or embed.
pub(super) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// Accepts until `stop`; every connection is a task of `tracker`.
pub(super) async fn serve(
    door: Door,
    listener: TcpListener,
    doors: Arc<Doors>,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (doors, stop) = (Arc::clone(&doors), stop.clone());
                tracker.spawn(async move {
                    connection(door, stream, &doors, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    door: Door,
    mut stream: TcpStream,
    doors: &Arc<Doors>,
    stop: CancellationToken,
) {
    // Only latency is lost without it.
    let _ = stream.set_nodelay(true);
    let mut first = [0; 4];
    let read = tokio::select! {
        () = stop.cancelled() => return,
        read = tokio::time::timeout(FIRST_BYTES, first_bytes(&mut stream, &mut first)) => read,
    };
    let Ok(Ok(first)) = read else {
        return;
    };
    if first.starts_with(&[0x16, 0x03]) {
        doors
            .mistake("TLS came to a plain port: use http:// (or OTEL_EXPORTER_OTLP_INSECURE=true)");
        return;
    }
    let http2 = first.starts_with(b"PRI");
    let (reader, writer) = stream.into_split();
    let stream = tokio::io::join(Cursor::new(first).chain(reader), writer);
    if http2 {
        serve_http2(door, stream, doors, stop).await;
    } else {
        serve_http1(door, stream, doors, stop).await;
    }
}

/// Enough bytes to tell the protocols apart: `PRI` opens HTTP/2, no HTTP/1.1 method starts with it.
async fn first_bytes(stream: &mut TcpStream, first: &mut [u8; 4]) -> io::Result<Vec<u8>> {
    let mut seen = Vec::with_capacity(first.len());
    while seen.len() < 3 {
        let read = stream.read(first).await?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        seen.extend(first.iter().take(read));
    }
    Ok(seen)
}

async fn serve_http1(
    door: Door,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    doors: &Arc<Doors>,
    stop: CancellationToken,
) {
    let service = service(door, doors, &stop);
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_header_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // A client that breaks off is its own affair.
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn serve_http2(
    door: Door,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    doors: &Arc<Doors>,
    stop: CancellationToken,
) {
    let service = service(door, doors, &stop);
    let mut connection = std::pin::pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(64)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .keep_alive_interval(IDLE)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// The handler as hyper wants it.
fn service(
    door: Door,
    doors: &Arc<Doors>,
    stop: &CancellationToken,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = std::convert::Infallible,
    Future: Send,
> + use<> {
    let (doors, stop) = (Arc::clone(doors), stop.clone());
    hyper::service::service_fn(move |request| {
        let (doors, stop) = (Arc::clone(&doors), stop.clone());
        async move { Ok(doors.answer(door, request, &stop).await) }
    })
}
