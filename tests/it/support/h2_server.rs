//! An HTTP/2 server over hyper, for an app or a service that speaks it without TLS; and one whose every frame is the
//! test's ([`frames`]).
//!
//! It takes WebSockets by extended CONNECT (RFC 8441) where it was started so ([`sockets`]), and gives their bytes to the
//! test; a path `/forbidden` gets none. It answers `/echo` with the body and trailers it gets, `/refuse` as gRPC does without a message, `/gate` when [`Server::open_gate`] was called, and everything
//! else with its name; it remembers every request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::h2::{self, Frames};
use super::journal::Journal;
use super::raw;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A request as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// `:protocol` of an extended CONNECT.
    pub(crate) protocol: Option<String>,
    /// Number of the connection, from 0.
    pub(crate) connection: usize,
}

impl Asked {
    /// The only value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} occurs more than once");
        value
    }
}

/// A running server; ends, with its connections, when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Requests, as soon as their heads are there.
    pub(crate) received: Journal<Asked>,
    /// Tunnels, for the test to speak.
    pub(crate) tunnels: mpsc::UnboundedReceiver<Upgraded>,
    /// Connections accepted.
    pub(crate) accepted: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Server {
    /// Lets this many requests for `/gate` go.
    pub(crate) fn open_gate(&self, count: usize) {
        self.gate.add_permits(count);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts one.
pub(crate) async fn run(name: &'static str) -> Server {
    retiring(name, usize::MAX).await
}

/// One whose every connection is told to go (GOAWAY) after so many requests.
pub(crate) async fn retiring(name: &'static str, requests: usize) -> Server {
    start(name, requests, false).await
}

/// One that takes WebSockets.
pub(crate) async fn sockets(name: &'static str) -> Server {
    start(name, usize::MAX, true).await
}

async fn start(name: &'static str, requests: usize, sockets: bool) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = Journal::default();
    let (opened, tunnels) = mpsc::unbounded_channel();
    let (accepted, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (journal, count, wait) = (received.clone(), Arc::clone(&accepted), Arc::clone(&gate));
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let (journal, wait) = (journal.clone(), Arc::clone(&wait));
            let opened = opened.clone();
            connections.spawn(async move {
                let (served, retire) = (AtomicUsize::new(0), tokio::sync::Notify::new());
                let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
                    if served.fetch_add(1, Ordering::SeqCst) + 1 == requests {
                        retire.notify_one();
                    }
                    let (journal, wait) = (journal.clone(), Arc::clone(&wait));
                    if request.method() == Method::CONNECT && request.uri().path() != "/forbidden" {
                        let (upgrade, opened) = (hyper::upgrade::on(&mut request), opened.clone());
                        tokio::spawn(async move {
                            let _ = upgrade.await.map(|tunnel| opened.send(tunnel));
                        });
                    }
                    async move {
                        Ok::<_, Infallible>(answer(name, request, &journal, &wait, number).await)
                    }
                });
                let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                if sockets {
                    http2.enable_connect_protocol();
                }
                let serving = http2.serve_connection(TokioIo::new(stream), service);
                let mut serving = std::pin::pin!(serving);
                tokio::select! {
                    _ = &mut serving => return,
                    () = retire.notified() => serving.as_mut().graceful_shutdown(),
                }
                let _ = serving.await;
            });
        }
    });
    Server {
        address,
        received,
        tunnels,
        accepted,
        gate,
        task,
    }
}

async fn answer(
    name: &'static str,
    request: Request<Incoming>,
    received: &Journal<Asked>,
    gate: &Semaphore,
    connection: usize,
) -> Response<Body> {
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    let asked = Asked {
        method: request.method().to_string(),
        uri: request.uri().to_string(),
        version: request.version(),
        headers: request.headers().clone(),
        protocol: protocol.map(|protocol| protocol.as_str().to_owned()),
        connection,
    };
    received.push(asked);
    match request.uri().path() {
        "/forbidden" => {
            let mut response = text(name);
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        }
        _ if request.method() == Method::CONNECT => {
            let mut response = text("");
            let chosen = request.headers().get("sec-websocket-protocol").cloned();
            response
                .headers_mut()
                .extend(chosen.map(|chosen| (SEC_WEBSOCKET_PROTOCOL, chosen)));
            response
        }
        "/echo" => Response::new(request.into_body().boxed_unsync()),
        "/refuse" => {
            let mut response =
                Response::new(Full::default().map_err(|n| match n {}).boxed_unsync());
            let refused = http::HeaderValue::from_static("12");
            response.headers_mut().insert("grpc-status", refused);
            response
        }
        "/gate" => {
            gate.acquire().await.unwrap().forget();
            text(name)
        }
        _ => text(name),
    }
}

fn text(text: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    Response::new(body.map_err(|never| match never {}).boxed_unsync())
}

/// A server whose every connection runs a script of frames, after its preface and settings were exchanged.
pub(crate) async fn frames<F, R>(script: F) -> raw::Server
where
    F: Fn(Frames, usize) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    raw::server(move |mut peer| {
        let script = script.clone();
        async move {
            peer.exactly(h2::PREFACE.len()).await;
            let number = peer.number;
            let mut frames = Frames { peer };
            frames.send(h2::SETTINGS, 0, 0, &[]).await;
            script(frames, number).await;
        }
    })
    .await
}
