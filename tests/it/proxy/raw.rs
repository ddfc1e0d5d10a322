//! Raw TCP peers: what is sent is exactly what the test says, what comes back is read as bytes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use hopspan::config::Address;
use hopspan::proxy::body::{BodyEnd, Content, ResponseBody, Watch, Watched};
use hopspan::proxy::forwarding;
use hopspan::proxy::listener;
use hopspan::proxy::pool::{Pool, Pooled};
use hopspan::proxy::server::{Connection, Handler, ServeLimits, ServeOptions};
use hopspan::proxy::tunnel;
use hopspan::telemetry::metrics::Metrics;

/// Far above anything that should happen; a test that waits so long has failed.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// A TCP client that writes and reads bytes.
pub(super) struct Raw {
    pub(super) stream: TcpStream,
    pub(super) seen: Vec<u8>,
}

impl Raw {
    pub(super) async fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw::over(stream)
    }

    pub(super) fn over(stream: TcpStream) -> Raw {
        Raw {
            stream,
            seen: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until what was read since the last call contains `needle`; gives all up to there.
    pub(super) async fn until(&mut self, needle: &str) -> String {
        loop {
            if let Some(at) = find(&self.seen, needle.as_bytes()) {
                let after = self.seen.split_off(at + needle.len());
                let head = std::mem::replace(&mut self.seen, after);
                return String::from_utf8_lossy(&head).into_owned();
            }
            let mut buf = [0; 16 * 1024];
            let read = tokio::time::timeout(LONG, self.stream.read(&mut buf))
                .await
                .unwrap_or_else(|_| panic!("no {needle:?} in {:?}", self.text()))
                .unwrap();
            assert!(read > 0, "EOF before {needle:?} in {:?}", self.text());
            self.seen.extend_from_slice(&buf[..read]);
        }
    }

    /// Reads to EOF (or reset) and gives everything not yet given.
    pub(super) async fn rest(&mut self) -> String {
        let mut buf = [0; 16 * 1024];
        loop {
            let read = tokio::time::timeout(LONG, self.stream.read(&mut buf))
                .await
                .unwrap_or_else(|_| panic!("not closed after {:?}", self.text()));
            match read {
                Ok(0) | Err(_) => break,
                Ok(read) => self.seen.extend_from_slice(&buf[..read]),
            }
        }
        let text = self.text();
        self.seen.clear();
        text
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// A TCP server whose every connection runs `talk`. Lives as long as the runtime.
pub(super) async fn upstream<F, T>(talk: F) -> SocketAddr
where
    F: Fn(Raw, usize) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(talk(Raw::over(stream), number));
        }
    });
    address
}

/// A running listener of the crate.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
    pub(super) cut: CancellationToken,
    pub(super) tracker: TaskTracker,
    pub(super) accepting: tokio::task::JoinHandle<()>,
}

impl Served {
    pub(super) async fn start<H: Handler>(
        handler: H,
        limits: ServeLimits,
        metrics: Arc<Metrics>,
    ) -> Served {
        Served::start_with(handler, limits, metrics, false).await
    }

    pub(super) async fn start_with<H: Handler>(
        handler: H,
        limits: ServeLimits,
        metrics: Arc<Metrics>,
        stamp: bool,
    ) -> Served {
        let bound = listener::bind_tcp(&Address::tcp("127.0.0.1", 0))
            .await
            .unwrap();
        let address = bound.tcp_address().unwrap();
        let mut options = ServeOptions::new("inbound", metrics.clone());
        options.stamp = stamp;
        options.limits = Arc::new(ArcSwap::from_pointee(limits));
        let (stop, cut, tracker) = (
            CancellationToken::new(),
            options.cut.clone(),
            TaskTracker::new(),
        );
        let accepting = tokio::spawn(listener::serve(
            bound,
            options,
            handler,
            stop.clone(),
            tracker.clone(),
        ));
        Served {
            address,
            metrics,
            stop,
            cut,
            tracker,
            accepting,
        }
    }

    pub(super) fn metric(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|l| l == line)
    }
}

/// Waits for what has no event to await, politely.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A handler from a closure.
pub(super) struct Answer<F>(Arc<F>);

impl<F> Clone for Answer<F> {
    fn clone(&self) -> Answer<F> {
        Answer(self.0.clone())
    }
}

pub(super) fn answer<F, T>(answer: F) -> Answer<F>
where
    F: Fn(Request<Incoming>, Arc<Connection>) -> T + Send + Sync + 'static,
    T: Future<Output = Response<ResponseBody>> + Send,
{
    Answer(Arc::new(answer))
}

impl<F, T> Handler for Answer<F>
where
    F: Fn(Request<Incoming>, Arc<Connection>) -> T + Send + Sync + 'static,
    T: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    fn handle(
        &self,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<F, T> {
        (self.0)(request, connection)
    }
}

/// The least a hop does: every request goes to one upstream; how response bodies end is noted.
#[derive(Clone)]
pub(super) struct Forward {
    pub(super) pool: Arc<Pool>,
    pub(super) upstream: Address,
    pub(super) ends: Arc<Mutex<Vec<String>>>,
    /// How long an upload may stall.
    pub(super) upload_limit: Option<Duration>,
    /// Ends tunnels.
    pub(super) stop: CancellationToken,
}

impl Forward {
    pub(super) fn new(pool: Arc<Pool>, upstream: SocketAddr) -> Forward {
        Forward {
            pool,
            upstream: upstream.into(),
            ends: Arc::default(),
            upload_limit: Some(LONG),
            stop: CancellationToken::new(),
        }
    }
}

impl Handler for Forward {
    fn handle(
        &self,
        request: Request<Incoming>,
        _: Arc<Connection>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<> {
        let this = self.clone();
        async move { this.forward(request).await }
    }
}

impl Forward {
    async fn forward(&self, mut request: Request<Incoming>) -> Response<ResponseBody> {
        if let Err(bad) = forwarding::request::validate(&request) {
            return refusal(bad.status, bad.why);
        }
        let client = hyper::upgrade::on(&mut request);
        let asked = forwarding::clean_request(&mut request, &[]);
        let mut pooled = match self.pool.checkout(&self.upstream.clone().into()).await {
            Ok(pooled) => pooled,
            Err(error) => return refusal(StatusCode::BAD_GATEWAY, error.proxy_status()),
        };
        let mut response = match pooled
            .send(request.map(|body| Content::limited(body, self.upload_limit, None, None)))
            .await
        {
            Ok(response) => response,
            Err(error) => {
                self.note(format!("{:?}", error.fault));
                return refusal(StatusCode::BAD_GATEWAY, error.proxy_status());
            }
        };
        if let Err(bad) = forwarding::clean_response(&mut response, asked) {
            return refusal(StatusCode::BAD_GATEWAY, bad.0);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upstream = hyper::upgrade::on(&mut response);
            pooled.switched();
            let this = self.clone();
            tokio::spawn(async move {
                let (end, _) = tunnel::upgraded(client, upstream, None, &this.stop).await;
                this.note(format!("tunnel {} {}", end.sent, end.received));
            });
            return response.map(|_| ResponseBody::Empty);
        }
        let ends = self.ends.clone();
        response.map(|body| Watched::new(body, Box::new(Returns { pooled, ends })).into())
    }
}

impl Forward {
    fn note(&self, what: String) {
        self.ends.lock().unwrap().push(what);
    }

    pub(super) fn told(&self) -> Vec<String> {
        self.ends.lock().unwrap().clone()
    }
}

fn refusal(status: StatusCode, why: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(why));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("connection", http::HeaderValue::from_static("close"));
    response
}

struct Returns {
    pooled: Pooled,
    ends: Arc<Mutex<Vec<String>>>,
}

impl Watch for Returns {
    fn end(self: Box<Self>, how: BodyEnd<'_>) {
        let (complete, how) = match how {
            BodyEnd::Complete => (true, "complete".to_owned()),
            BodyEnd::Failed(error) => (false, format!("failed {:?}", error.fault())),
            BodyEnd::Cancelled | BodyEnd::Untaken => (false, "cancelled".to_owned()),
        };
        self.ends.lock().unwrap().push(how);
        self.pooled.finish(complete);
    }
}
