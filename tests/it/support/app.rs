//! A server over hyper with routes, for the app behind hopspan and for the services it calls. It remembers every
//! request: the bytes of its head, its body, and on which connection it came.
//!
//! ```ignore
//! let app = app::http()
//!     .reply("/hello", app::reply(200).text("hi"))
//!     .route("/slow", |asked| async move { gate.wait().await; app::reply(200).text(asked.body.len()) })
//!     .run().await;
//! let asked = app.received(1).await;
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Channel, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::journal::Journal;
use super::message::{self, Head};
use super::tap::Tap;
use super::within;

/// What a handler answers with.
pub(crate) type Reply = http::Response<UnsyncBoxBody<Bytes, std::io::Error>>;
type Answer = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = Arc<dyn Fn(Asked) -> Answer + Send + Sync>;
type RawHandler = Arc<dyn Fn(http::Request<Incoming>) -> Answer + Send + Sync>;

/// A request as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Start line and fields as they were on the wire.
    pub(crate) head: Head,
    /// The body, without its framing; empty for streaming routes.
    pub(crate) body: Bytes,
    /// Trailer fields.
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body ended as promised.
    pub(crate) complete: bool,
    /// Number of the connection, from 0.
    pub(crate) connection: usize,
}

impl Asked {
    /// The only value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.one(name)
    }

    /// The path of the target.
    pub(crate) fn path(&self) -> &str {
        self.head.target().split('?').next().unwrap()
    }
}

/// A reply with a status and nothing else.
pub(crate) fn reply(status: u16) -> Reply {
    let mut reply = http::Response::new(Full::default().map_err(never).boxed_unsync());
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap();
    reply
}

/// A reply whose content never ends: pieces of 64 KiB, as fast as they are taken.
pub(crate) fn endless() -> Reply {
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        let chunk = Bytes::from(vec![b'd'; 65536]);
        while sender.send_data(chunk.clone()).await.is_ok() {}
    });
    reply(200).stream(body)
}

fn never(never: Infallible) -> std::io::Error {
    match never {}
}

/// Fluent additions to a [`Reply`].
pub(crate) trait ReplyExt {
    /// Adds a field.
    fn header(self, name: &'static str, value: &str) -> Self;
    /// A body with its length.
    fn text(self, text: impl Into<Bytes>) -> Self;
    /// Any body.
    fn stream<B>(self, body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static;
}

impl ReplyExt for Reply {
    fn header(mut self, name: &'static str, value: &str) -> Reply {
        self.headers_mut().append(name, value.parse().unwrap());
        self
    }

    fn text(self, text: impl Into<Bytes>) -> Reply {
        let body = Full::new(text.into()).map_err(never).boxed_unsync();
        self.map(|_| body)
    }

    fn stream<B>(self, body: B) -> Reply
    where
        B: http_body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static,
    {
        self.map(|_| body.boxed_unsync())
    }
}

/// A server in the making.
#[derive(Clone, Default)]
pub(crate) struct Builder {
    routes: HashMap<String, Handler>,
    streaming: HashMap<String, RawHandler>,
    any: Option<Handler>,
}

/// A server without routes: it answers 404.
pub(crate) fn http() -> Builder {
    Builder::default()
}

/// A server that answers everything with 200 and `name`.
pub(crate) async fn service(name: &'static str) -> App {
    let answer = move |_| async move { reply(200).text(name) };
    http().any(answer).run().await
}

impl Builder {
    /// Answers a path (without query) by a function that gets the whole request.
    pub(crate) fn route<F, R>(mut self, path: &str, handler: F) -> Builder
    where
        F: Fn(Asked) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |asked| Box::pin(handler(asked)));
        self.routes.insert(path.to_owned(), handler);
        self
    }

    /// Answers every path that has no route.
    pub(crate) fn any<F, R>(mut self, handler: F) -> Builder
    where
        F: Fn(Asked) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        self.any = Some(Arc::new(move |asked| Box::pin(handler(asked))));
        self
    }

    /// Answers a path with 200 and `text`, but only when told to.
    pub(crate) fn held(self, path: &str, text: &'static str) -> (Builder, Held) {
        let held = Held::default();
        let at_app = held.clone();
        let builder = self.route(path, move |_| {
            let at_app = at_app.clone();
            async move {
                at_app.reached.notify_one();
                at_app.released.notified().await;
                reply(200).text(text)
            }
        });
        (builder, held)
    }

    /// Answers a path by a function that reads the body itself.
    pub(crate) fn streaming<F, R>(mut self, path: &str, handler: F) -> Builder
    where
        F: Fn(http::Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let handler: RawHandler = Arc::new(move |request| Box::pin(handler(request)));
        self.streaming.insert(path.to_owned(), handler);
        self
    }

    /// Serves on a port of the loopback interface.
    pub(crate) async fn run(self) -> App {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (received, connections) = (Journal::default(), Journal::default());
        let open = Arc::new(AtomicUsize::new(0));
        let shared = Arc::new(Shared {
            builder: self,
            received: received.clone(),
            open: Arc::clone(&open),
        });
        let journal = connections.clone();
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0.. {
                let (stream, from) = listener.accept().await.unwrap();
                journal.push(from);
                tasks.spawn(connection(Arc::clone(&shared), stream, number));
            }
        });
        App {
            address,
            received,
            connections,
            open,
            task,
        }
    }
}

/// A request that waits at the app for its answer.
#[derive(Clone, Default)]
pub(crate) struct Held {
    reached: Arc<Notify>,
    released: Arc<Notify>,
}

impl Held {
    /// Waits for the request to reach the app.
    pub(crate) async fn reached(&self) {
        within("the request to reach the app", self.reached.notified()).await;
    }

    /// Lets the app answer.
    pub(crate) fn release(&self) {
        self.released.notify_one();
    }
}

struct Shared {
    builder: Builder,
    received: Journal<Asked>,
    open: Arc<AtomicUsize>,
}

async fn connection(shared: Arc<Shared>, stream: tokio::net::TcpStream, number: usize) {
    stream.set_nodelay(true).unwrap();
    let (tap, heard) = Tap::new(stream);
    shared.open.fetch_add(1, Ordering::SeqCst);
    let service = hyper::service::service_fn(|request| {
        let heard = heard.bytes();
        let end = message::head_end(&heard).unwrap();
        let head = Head::parse(heard[..end].to_vec());
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(handle(&shared, request, head, number).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .serve_connection(TokioIo::new(tap), service)
        .with_upgrades()
        .await;
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

async fn handle(
    shared: &Shared,
    request: http::Request<Incoming>,
    head: Head,
    connection: usize,
) -> Reply {
    let mut asked = Asked {
        head,
        body: Bytes::new(),
        trailers: Vec::new(),
        complete: true,
        connection,
    };
    if let Some(handler) = shared.builder.streaming.get(asked.path()) {
        shared.received.push(asked);
        return handler(request).await;
    }
    match request.into_body().collect().await {
        Err(_) => asked.complete = false,
        Ok(collected) => {
            let trailers = collected.trailers().into_iter().flatten();
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
            asked.trailers = trailers.map(|(n, v)| (n.to_string(), text(v))).collect();
            asked.body = collected.to_bytes();
        }
    }
    shared.received.push(asked.clone());
    let handler = shared.builder.routes.get(asked.path());
    match handler.or(shared.builder.any.as_ref()) {
        Some(handler) => handler(asked).await,
        None => reply(404).text("no such route"),
    }
}

/// A running server; ends, with its connections, when dropped.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    /// Requests, as soon as they are whole.
    pub(crate) received: Journal<Asked>,
    /// Peer addresses, as accepted.
    pub(crate) connections: Journal<SocketAddr>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl App {
    /// Waits for `count` requests and returns all so far.
    pub(crate) async fn received(&self, count: usize) -> Vec<Asked> {
        self.received.at_least(count).await
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}
