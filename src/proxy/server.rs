//! One client connection: HTTP/1.1 by hyper, around a [`Handler`].
//!
//! Adds what hyper leaves open: a slow head is answered 408 while an idle connection may wait far longer, a stalled
//! reader is cut off, a panicking handler becomes a 500, requests that never reached the handler are counted, and a
//! stop lets the exchange in flight finish with `connection: close`.
//!
//! `half_close` is off, knowingly (as in Nginx): a client that shuts its write side counts as gone, which is how the
//! handler is cancelled the moment a client disconnects. With it on, hyper would notice only at the next write.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::body::ResponseBody;
use super::stamped::Received;
use super::timed::{Clock, HeadTimer, Timed};
use crate::telemetry::metrics::{Metrics, Reason};

/// What is done with requests. A clone is made for each request, so it should be an `Arc` or two.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request. Dropped half-way when the client goes away or the drain deadline passes.
    fn handle(
        &self,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;
}

/// The client connection a request came on.
#[derive(Debug)]
pub struct Connection {
    /// Unique among the connections of this process.
    pub id: u64,
    /// The client.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// When it was accepted.
    pub accepted: Instant,
    /// Receive times, where the listener asks for them ([`ServeOptions::stamp`]).
    pub received: Arc<Received>,
}

/// How connections are served. What may change while serving is in `limits`.
#[derive(Clone)]
pub struct ServeOptions {
    /// `inbound`, `outbound`, `status` or `admin`: the label of metrics.
    pub direction: &'static str,
    /// Whether to ask the kernel for receive times.
    pub stamp: bool,
    /// Whether the names of a request's fields go on in the case they came in. Costs about 400 instructions a field
    /// (hyper keeps a second map), a tenth of an exchange; without it they are in lower case, as HTTP/2's always are.
    pub preserve_case: bool,
    /// Read once per new connection.
    pub limits: Arc<ArcSwap<ServeLimits>>,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the drain deadline has passed: connections still open are dropped, whatever they do.
    pub cut: CancellationToken,
}

impl ServeOptions {
    /// Default limits, never cut.
    pub fn new(direction: &'static str, metrics: Arc<Metrics>) -> ServeOptions {
        ServeOptions {
            direction,
            stamp: false,
            preserve_case: true,
            limits: Arc::new(ArcSwap::from_pointee(ServeLimits::default())),
            metrics,
            cut: CancellationToken::new(),
        }
    }
}

/// Limits of one listener; a change applies to new connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeLimits {
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// Without a byte between requests. Above the idle limit of whatever is in front, so that it closes first.
    pub idle_timeout: Duration,
    /// A client that takes no byte of a response for so long is cut off; `None`: never. Tunnels are exempt.
    pub write_timeout: Option<Duration>,
    /// Request line and fields together; above: 431.
    pub max_head_bytes: usize,
    /// Fields of a head; above: 431.
    pub max_headers: usize,
    /// Open client connections; above: refused.
    pub max_connections: usize,
}

impl Default for ServeLimits {
    fn default() -> ServeLimits {
        ServeLimits {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Some(Duration::from_secs(60)),
            max_head_bytes: 32 * 1024,
            max_headers: HYPER_MAX_HEADERS,
            max_connections: 10_000,
        }
    }
}

/// hyper's own default, for which it needs no allocation.
const HYPER_MAX_HEADERS: usize = 100;
/// hyper's buffer each way. Also the largest single read, so larger than a head may be.
const BUFFER: usize = 64 * 1024;
/// How long a 408 may take to be sent.
const LAST_WORD: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves one connection until it closes, `stop` (gracefully) or `options.cut` (at once). `guard` is dropped when the
/// socket is closed, which for tunnels is later than this returns.
pub(crate) async fn serve_connection<S, G, H>(
    socket: S,
    guard: G,
    connection: Arc<Connection>,
    options: &ServeOptions,
    handler: H,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: Send + Unpin + 'static,
    H: Handler,
{
    let limits = options.limits.load_full();
    let clock = Clock::new(limits.idle_timeout);
    let io = Timed::new(socket, clock.clone(), limits.write_timeout, guard);
    let service = {
        let (metrics, clock) = (options.metrics.clone(), clock.clone());
        service_fn(move |request: Request<Incoming>| {
            let (handler, connection) = (handler.clone(), connection.clone());
            let connect = request.method() == Method::CONNECT;
            clock.request_begins(!request.body().is_end_stream());
            Caught {
                // Boxed so that an idle connection does not keep the room of a whole exchange.
                handling: Box::pin(async move { handler.handle(request, connection).await }),
                metrics: metrics.clone(),
                clock: clock.clone(),
                connect,
            }
        })
    };
    let mut served = builder(&limits, &clock, options.preserve_case)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let result = tokio::select! {
        biased;
        result = &mut served => result,
        () = stop.cancelled() => {
            Pin::new(&mut served).graceful_shutdown();
            tokio::select! {
                result = &mut served => result,
                () = options.cut.cancelled() => return,
            }
        }
    };
    let Err(error) = result else { return };
    if let Some(reason) = protocol_error(&error, &clock) {
        options
            .metrics
            .protocol_errors
            .get_or_create(&Reason { reason })
            .inc();
    }
    tracing::debug!(error = %error, "client connection ended");
    if error.is_timeout() && clock.head_was_late() {
        // hyper hangs up without a word here (RFC 9110 section 15.5.9 has one).
        if let Some(parts) = served.into_parts() {
            let mut io = parts.io.into_inner();
            let said = async {
                io.write_all(REQUEST_TIMEOUT).await?;
                io.shutdown().await
            };
            let _ = tokio::time::timeout(LAST_WORD, said).await;
        }
    }
}

fn builder(limits: &ServeLimits, clock: &Arc<Clock>, preserve_case: bool) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(HeadTimer::new(clock.clone(), limits.header_timeout))
        // The idle limit: `HeadTimer` shortens it once a head has begun.
        .header_read_timeout(limits.idle_timeout)
        .half_close(false)
        .preserve_header_case(preserve_case)
        .max_header_size(limits.max_head_bytes)
        .max_buf_size(BUFFER.max(limits.max_head_bytes))
        // Upstream's own Date passes; hyper adds one where there is none (RFC 9110 section 6.6.1).
        .auto_date_header(true);
    if limits.max_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    builder
}

/// The class of an error for which hyper answered (or hung up) without calling the handler.
fn protocol_error(error: &hyper::Error, clock: &Clock) -> Option<&'static str> {
    if error.is_parse_too_large() {
        Some("too_large")
    } else if error.is_parse_version_h2() {
        Some("http2_preface")
    } else if error.is_parse() {
        Some("malformed")
    } else if error.is_timeout() {
        clock.head_was_late().then_some("slow_head")
    } else {
        None
    }
}

/// A handler whose panic is an answer, so that neither the process nor the accounting of a connection is lost.
struct Caught<F> {
    handling: Pin<Box<F>>,
    metrics: Arc<Metrics>,
    clock: Arc<Clock>,
    connect: bool,
}

impl<F: Future<Output = Response<ResponseBody>>> Future for Caught<F> {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let handling = self.handling.as_mut();
        // Unwind safety: after a panic the future is dropped and never looked at again.
        let polled = catch_unwind(AssertUnwindSafe(|| handling.poll(cx)));
        let response = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(response)) => response,
            Err(_) => {
                self.metrics.panics.inc();
                tracing::error!("a request handler panicked; this is a bug in hopspan");
                panicked()
            }
        };
        let tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS
            || (self.connect && response.status().is_success());
        if tunnel {
            self.clock.lift();
        }
        Poll::Ready(Ok(response))
    }
}

fn panicked() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from("hopspan failed on this request\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        "proxy-status",
        HeaderValue::from_static("hopspan; error=proxy_internal_error"),
    );
    // What the handler had read of the request is unknown, so nothing more is read from this connection.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
