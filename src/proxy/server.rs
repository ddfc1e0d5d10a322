//! One client connection: what it speaks is found out by its first bytes, then HTTP/1.x or HTTP/2 by hyper, around a
//! [`Handler`].
//!
//! Adds what hyper leaves open: every wait has a deadline, a stalled reader is cut off, a panicking handler becomes a
//! 500, requests that never reached the handler are counted, and a stop lets the exchanges in flight finish.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use super::body::ResponseBody;
use super::held::Held;
use super::local::is_ours;
use super::proxy_protocol::{self, Origin, Refusal};
use super::sniff::{Rewound, Spoken, Unheard, sniff};
use super::socket::Socket;
use super::stamped::Received;
use super::timed::{Clock, Timed};
use crate::telemetry::metrics::Metrics;
pub use glitches::Glitch;
pub use heads::HeadBudget;
pub(super) use named::Named;
pub use options::{ServeLimits, ServeOptions};
pub use redirected::Opaque;
pub use tls::{ServeTls, Session};

mod glitches;
mod heads;
mod http1;
mod http2;
mod last_word;
mod named;
mod options;
mod redirected;
mod rest;
mod short;
mod streams;
mod tls;

/// What is done with requests. A clone is made for each request, so it should be an `Arc` or two.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Passes on a redirected connection that is not HTTP, until it ends.
    fn relay(
        &self,
        client: Opaque,
        _connection: Arc<Connection>,
    ) -> impl Future<Output = ()> + Send {
        async move { client.reset() }
    }

    /// Answers one request. Dropped half-way when the client goes away or the drain deadline passes.
    // What it gives borrows nothing: who has to keep the handler for it would keep the request twice.
    fn handle(
        &self,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<Self>;
}

/// The client connection a request came on.
#[derive(Debug)]
pub struct Connection {
    /// Unique among the connections of this process.
    pub id: u64,
    /// The client: the peer, or whom the peer's PROXY header names.
    pub peer: SocketAddr,
    /// The load balancer, where a PROXY header named the client.
    pub balancer: Option<SocketAddr>,
    /// The unix socket it came by; `peer` is 127.0.0.1 then.
    pub unix: Option<Arc<Path>>,
    /// Where it was to go, where it was redirected here.
    pub original: Option<SocketAddr>,
    /// Our end.
    pub local: SocketAddr,
    /// When it was accepted.
    pub accepted: Instant,
    /// Receive times, where the listener asks for them ([`ServeOptions::stamp`]).
    pub received: Arc<Received>,
    /// What TLS knows of the client, where it came by TLS.
    pub tls: Option<Box<Session>>,
    /// See [`Connection::is_from_this_host`].
    pub(super) from_here: OnceLock<bool>,
    /// What requests say of it.
    pub(super) named: Named,
    /// How a tunnel on it is broken off.
    pub(super) breaks: Option<fn(Upgraded)>,
}

impl Connection {
    /// Breaks off a tunnel on it, so that its client does not take what came for all there is: with RST, or RST_STREAM.
    pub(crate) fn break_off(&self, tunnel: Upgraded) {
        match self.breaks {
            Some(breaks) => breaks(tunnel),
            // A stream that is dropped before its end is reset.
            None => drop(tunnel),
        }
    }

    /// Whether the client is a program on this host (or in this network namespace): its address is one of ours.
    pub fn is_from_this_host(&self) -> bool {
        let peer = self.peer.ip().to_canonical();
        if peer.is_loopback() || peer == self.local.ip().to_canonical() {
            return true;
        }
        // With connections redirected here the two differ.
        *self.from_here.get_or_init(|| is_ours(self.peer))
    }
}

/// How long a client that is connected when a stop begins has to send what is on its way; and from when it connected, or
/// had its last answer, for those whose request is a round trip behind.
const FRESH: Duration = Duration::from_millis(50);
const NEW: Duration = Duration::from_secs(1);

/// Until a connection that a stop finds without a request is closed; `since`: when it connected, or had its last answer.
async fn leaves(stop: &CancellationToken, since: impl Fn() -> Instant) {
    stop.cancelled().await;
    let left = FRESH.max(NEW.saturating_sub(since().elapsed()));
    // Boxed: who waits should not have the room of it.
    Box::pin(tokio::time::sleep(left)).await;
}

/// A client's connection as HTTP is spoken on it. `G` is dropped when the socket is closed.
type Wire<G> = Timed<Rewound<Socket>, G>;

/// Serves one connection until it closes, `stop` (gracefully) or `options.cut` (at once). `guard` is dropped when the
/// socket is closed, which for tunnels is later than this returns. `clock` is the connection's own.
pub(crate) async fn serve_connection<G, H>(
    mut socket: Socket,
    guard: G,
    clock: Arc<Clock>,
    mut connection: Box<Connection>,
    options: &ServeOptions,
    handler: H,
    stop: CancellationToken,
) where
    G: Send + Unpin + 'static,
    H: Handler,
{
    if let Some(redirected) = &options.redirected {
        let serving = redirected::serve(
            socket, guard, clock, connection, options, redirected, handler, stop,
        );
        return Box::pin(serving).await;
    }
    let limits = options.limits.load_full();
    let heard = {
        let accepted = connection.accepted;
        let hearing = hear(&mut socket, &mut connection, options, &limits, &clock);
        tokio::select! {
            biased;
            heard = hearing => heard,
            () = leaves(&stop, || accepted) => return,
        }
    };
    let (spoken, ahead) = match heard {
        Ok(heard) => heard,
        Err(Unheard::Silent) => return,
        Err(Unheard::Slow) => return options.count("slow_head"),
    };
    let rewound = Rewound::new(ahead, socket).counting(&clock);
    // Boxed: most connections should not have the room of a handshake.
    let (spoken, rewound) = match (spoken, options.tls.load_full()) {
        (Spoken::Tls, Some(tls)) => {
            if !clock.growing.begins(spoken.takes()) {
                return options.count("memory");
            }
            let accepting = Box::pin(tls::accept(rewound, &tls, &limits, options));
            let Some((spoken, stream, session)) = accepting.await else {
                return;
            };
            connection.tls = Some(Box::new(session));
            clock.growing.settle();
            (spoken, stream)
        }
        (_, Some(tls)) if !tls.plaintext => {
            options.count("plaintext");
            return Box::pin(tls::refuse(rewound)).await;
        }
        (Spoken::Tls, _) => return options.count("tls"),
        (spoken, _) => (spoken, rewound),
    };
    speak(
        spoken, rewound, guard, clock, connection, options, handler, stop,
    )
    .await;
}

/// HTTP on a connection, now that it is known which. Boxed, and no async fn, which would keep the room of what it passes on:
/// a connection that says nothing takes a quarter of it.
#[allow(clippy::too_many_arguments)] // those of `serve_connection`, and what was found out
fn speak<'a, G, H>(
    spoken: Spoken,
    rewound: Rewound<Socket>,
    guard: G,
    clock: Arc<Clock>,
    mut connection: Box<Connection>,
    options: &'a ServeOptions,
    handler: H,
    stop: CancellationToken,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>
where
    G: Send + Unpin + 'static,
    H: Handler,
{
    let limits = options.limits.load_full();
    let held = Held::requests(&options.metrics);
    connection.breaks = (spoken != Spoken::Http2).then_some(http1::break_off::<G>);
    let io = Timed::new(rewound, clock.clone(), limits.write_timeout, held, guard);
    let client = Client {
        connection: Arc::from(connection),
        options,
        limits,
        clock,
        handler,
        stop,
    };
    match spoken {
        Spoken::Http2 if options.http2 => Box::pin(http2::serve(io, client)),
        Spoken::Http1 | Spoken::Http2 | Spoken::Tls => Box::pin(http1::serve(io, client)),
    }
}

/// What the client speaks, and what was read of it; behind the PROXY header, where there must be one.
async fn hear(
    socket: &mut Socket,
    connection: &mut Connection,
    options: &ServeOptions,
    limits: &ServeLimits,
    clock: &Clock,
) -> Result<(Spoken, Vec<u8>), Unheard> {
    let balancer = connection.peer.ip().to_canonical();
    let known = |network: &IpNet| network.contains(&balancer);
    let ahead = match options.balancers.load().iter().any(known) {
        // Boxed: most connections should not have the room of it.
        true => Box::pin(introduced(socket, connection, options, limits)).await?,
        false => Vec::new(),
    };
    let (idle, head) = (limits.idle_timeout, limits.header_timeout);
    sniff(socket, ahead, clock, idle, head).await
}

/// Reads a load balancer's PROXY header, and gives what was read behind it.
async fn introduced(
    socket: &mut Socket,
    connection: &mut Connection,
    options: &ServeOptions,
    limits: &ServeLimits,
) -> Result<Vec<u8>, Unheard> {
    let reading = proxy_protocol::read(socket);
    match tokio::time::timeout(limits.header_timeout, reading).await {
        Ok(Ok((Origin::Peer, ahead))) => Ok(ahead),
        Ok(Ok((Origin::Client(client), ahead))) => {
            connection.balancer = Some(std::mem::replace(&mut connection.peer, client));
            Ok(ahead)
        }
        Ok(Err(Refusal::Silent)) => Err(Unheard::Silent),
        Ok(Err(Refusal::Malformed(why))) => {
            tracing::debug!(peer = %connection.peer, why, "no PROXY header that can be read");
            options.count("proxy_protocol");
            Err(Unheard::Silent)
        }
        Err(_) => Err(Unheard::Slow),
    }
}

/// What serving a connection takes, besides the connection.
struct Client<'a, H> {
    connection: Arc<Connection>,
    options: &'a ServeOptions,
    limits: Arc<ServeLimits>,
    clock: Arc<Clock>,
    handler: H,
    stop: CancellationToken,
}

/// A handler whose panic is an answer, so that neither the process nor the accounting of a connection is lost.
struct Caught<F> {
    /// Boxed so that an idle connection does not keep the room of a whole exchange.
    handling: Pin<Box<F>>,
    metrics: Arc<Metrics>,
}

impl<F: Future<Output = Response<ResponseBody>>> Caught<F> {
    fn new(handling: F, metrics: &Arc<Metrics>) -> Caught<F> {
        Caught {
            handling: Box::pin(handling),
            metrics: metrics.clone(),
        }
    }
}

impl<F: Future<Output = Response<ResponseBody>>> Future for Caught<F> {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let handling = self.handling.as_mut();
        // Unwind safety: after a panic the future is dropped and never looked at again.
        let polled = catch_unwind(AssertUnwindSafe(|| handling.poll(cx)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => {
                self.metrics.panics.inc();
                tracing::error!("a request handler panicked; this is a bug in hopspan");
                Poll::Ready(Ok(own_answer(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "hopspan; error=proxy_internal_error",
                    "hopspan failed on this request\n",
                )))
            }
        }
    }
}

/// An answer to a request that the handler never saw, or failed on. `proxy_status`: RFC 9209.
fn own_answer(
    status: StatusCode,
    proxy_status: &'static str,
    text: &'static str,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert("proxy-status", HeaderValue::from_static(proxy_status));
    // What was read of the request is unknown, so nothing more is read from this connection.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests;
