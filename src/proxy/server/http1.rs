//! HTTP/1.x with a client, by hyper.
//!
//! A slow head is answered 408 while an idle connection may wait far longer, a large one that finds no memory 503; a stop
//! lets the exchange in flight finish with `connection: close`.
//!
//! `half_close` is off, knowingly (as in Nginx): a client that shuts its write side counts as gone, which is how the
//! handler is cancelled the moment a client disconnects. With it on, hyper would notice only at the next write.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::last_word::last_word;
use super::rest::{Begun, Resting, begun, leave};
use super::short::has_room;
use super::{Caught, Client, Handler, ServeLimits, Wire};
use crate::proxy::HYPER_MAX_HEADERS;
use crate::proxy::body::io_kind;
use crate::proxy::held::{Gated, Held};
use crate::proxy::refusal;
use crate::proxy::sniff::Spoken;
use crate::proxy::timed::{Clock, HeadTimer};

/// Serves a connection until it closes, a stop (gracefully) or a cut (at once).
///
/// hyper has it while there is a request in hand, and for a while after; else it takes no more than its socket does, and
/// what is there of a head.
pub(super) async fn serve<G, H>(mut io: Wire<G>, client: Client<'_, H>)
where
    G: Send + Unpin + 'static,
    H: Handler,
{
    client.clock.idles_from(Instant::now());
    let mut resting = None;
    loop {
        let stopping = client.stop.is_cancelled();
        let begun = begun(&mut io, &client).await;
        drop(resting.take());
        match begun {
            Begun::Head => {}
            Begun::Late => {
                client.options.count("slow_head");
                return refuse(&mut io, &client.clock, 408).await;
            }
            Begun::Nothing => return leave(&mut io, &client).await,
        }
        if !has_room(Spoken::Http1, &mut io, &client).await {
            return;
        }
        // Boxed: what waits should not have the room of it.
        match Box::pin(exchanges(io, &client, stopping)).await {
            Some(rests) => io = rests,
            None => return,
        }
        resting = Some(Resting::new(&client.options.metrics));
    }
}

/// The exchanges of a client until it rests, or a stop comes between two: then it is given back. `None`: the connection has
/// ended. `stopping`: there was a stop before it was given back last.
async fn exchanges<G, H>(io: Wire<G>, client: &Client<'_, H>, stopping: bool) -> Option<Wire<G>>
where
    G: Send + Unpin + 'static,
    H: Handler,
{
    let Client {
        connection,
        options,
        limits,
        clock,
        handler,
        stop,
    } = client;
    let service = {
        let held = Held::responses(&options.metrics);
        service_fn(move |request: Request<Incoming>| {
            let connect = request.method() == Method::CONNECT;
            let old = request.version() == Version::HTTP_10;
            clock.request_begins(!request.body().is_end_stream());
            let handling = handler.handle(request, connection.clone());
            let handled = Caught::new(handling, &options.metrics);
            let (clock, held) = (clock.clone(), held.clone());
            async move {
                let mut response = handled.await?;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS
                    || (connect && response.status().is_success())
                {
                    clock.lift();
                } else if stop.is_cancelled() {
                    // hyper does not know of it.
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                if old && response.body().size_hint().exact().is_none() {
                    // Its end is the connection's: else hyper would tell who asked for it that the connection is kept.
                    *response.version_mut() = Version::HTTP_10;
                }
                let pieces = response.extensions().get().cloned();
                let gated = response.map(|body| Gated::new(body, clock, held, pieces));
                Ok::<_, std::convert::Infallible>(gated)
            }
        })
    };
    let mut served = builder(limits, clock, options.preserve_case)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    // A stop takes it between two exchanges, too: hyper's own would close it as soon as the answer in hand is sent, whose
    // head may have gone out before.
    let mut until = |leaves: bool, cx: &mut Context<'_>| match Pin::new(&mut served).poll(cx) {
        Poll::Pending if clock.rests() || leaves && clock.is_between() => Poll::Ready(None),
        polled => polled.map(Some),
    };
    let result = tokio::select! {
        biased;
        result = poll_fn(|cx| until(false, cx)) => result,
        () = stop.cancelled() => tokio::select! {
            biased;
            result = poll_fn(|cx| until(!stopping, cx)) => result,
            () = options.cut.cancelled() => return None,
        }
    };
    let Some(result) = result else {
        let parts = served.into_parts()?;
        let mut io = parts.io.into_inner();
        io.socket().rewind(&parts.read_buf);
        clock.growing.passed_on();
        return Some(io);
    };
    // Boxed: most connections have no need of the room.
    Box::pin(ended(result.err()?, served.into_parts(), client)).await;
    None
}

/// Closes a tunnel's socket with RST.
pub(super) fn break_off<G>(tunnel: Upgraded)
where
    G: Send + Unpin + 'static,
{
    if let Ok(parts) = tunnel.downcast::<TokioIo<Wire<G>>>() {
        parts.io.into_inner().socket().get_ref().reset();
    }
}

/// What there is to do when hyper ends a connection; `parts`: unless it is a tunnel's now.
async fn ended<G: Unpin, S, H>(
    error: hyper::Error,
    parts: Option<http1::Parts<TokioIo<Wire<G>>, S>>,
    client: &Client<'_, H>,
) {
    let clock = &client.clock;
    if let Some(reason) = protocol_error(&error, clock) {
        client.options.count(reason);
    }
    tracing::debug!(error = %error, "client connection ended");
    let status = match () {
        // hyper hangs up without a word here (RFC 9110 section 15.5.9 has one).
        () if error.is_timeout() && clock.head_was_late() => 408,
        () if no_room(&error, clock) => 503,
        () => return,
    };
    if let Some(parts) = parts {
        // Not to be held meanwhile.
        drop((parts.read_buf, parts.service));
        refuse(&mut parts.io.into_inner(), clock, status).await;
    }
}

/// Tells the client what became of its head, and closes.
async fn refuse<G: Unpin>(io: &mut Wire<G>, clock: &Clock, status: u16) {
    // What the client still sends is read, or the answer would be lost with a RST.
    clock.request_begins(true);
    last_word(io, &refusal::answer(status)).await;
}

/// Whether it is about a head that found no memory.
fn no_room(error: &hyper::Error, clock: &Clock) -> bool {
    io_kind(error) == Some(io::ErrorKind::OutOfMemory) && clock.idle_since().is_some()
}

fn builder(limits: &ServeLimits, clock: &Arc<Clock>, preserve_case: bool) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(HeadTimer::new(
            clock.clone(),
            limits.idle_timeout,
            limits.header_timeout,
        ))
        // The idle limit: `HeadTimer` shortens it once a head has begun.
        .header_read_timeout(limits.idle_timeout)
        .half_close(false)
        .preserve_header_case(preserve_case)
        .max_header_size(limits.max_head_bytes)
        // Each way. Also the largest single read, so never below what a head may be.
        .max_buf_size(limits.body_buffer.max(limits.max_head_bytes))
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
    } else if no_room(error, clock) {
        Some("memory")
    } else if io_kind(error) == Some(io::ErrorKind::TimedOut) {
        // A response that the client does not take.
        Some("stalled_client")
    } else {
        None
    }
}
