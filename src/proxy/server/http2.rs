//! HTTP/2 with a client (RFC 9113), by hyper and h2, with limits for a sidecar.
//!
//! What h2 bounds itself, it is told how narrowly: streams, the size of a head, windows, resets (CVE-2023-44487,
//! CVE-2025-8671). What it does not: the number of fields, heads over all connections, connections without a stream,
//! clients that open no window. Server push is not spoken; WebSockets are (RFC 8441). `100 (Continue)` is not sent: a client on HTTP/2 need not
//! wait for it.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_util::either::Either;

use super::glitches::{Glitch, Glitches};
use super::heads::{self, Entered, HeadBudget};
use super::short::has_room;
use super::streams::{Paced, Streams};
use super::{Caught, Client, Handler, ServeLimits, Wire, own_answer};
use crate::proxy::body::{ResponseBody, io_kind};
use crate::proxy::held::{Held, Pieces};
use crate::proxy::sniff::Spoken;
use crate::proxy::windows::Windows;

/// A client that is silent is asked whether it is there, and has so long to answer.
const PING_AFTER: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// After it was told to go, until the connection is closed.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves a connection until it closes, a stop (gracefully) or a cut (at once).
pub(super) async fn serve<G, H>(mut io: Wire<G>, client: Client<'_, H>)
where
    G: Send + Unpin + 'static,
    H: Handler,
{
    if !has_room(Spoken::Http2, &mut io, &client).await {
        return;
    }
    let windows = Arc::new(Windows::new());
    let io = io.framed(client.limits.http2_head_bytes, &windows);
    let Client {
        connection,
        options,
        limits,
        clock,
        handler,
        stop,
    } = client;
    // What a client still sends when it is told to go is read, or the farewell would be lost with a RST.
    clock.request_begins(true);
    clock.idles_from(std::time::Instant::now());
    let streams = Streams::new(limits.write_timeout, &clock, &options.metrics);
    let glitches = Glitches::new(limits.http2_glitches, &options.metrics);
    let service = {
        let glitches = glitches.clone();
        let (metrics, heads) = (options.metrics.clone(), options.heads.clone());
        let (limits, options) = (limits.clone(), options.clone());
        let held = Held::responses(&metrics);
        let streams = streams.clone();
        service_fn(move |request: Request<Incoming>| {
            if let Some(most) = limits.http2_unopened.and_then(|few| windows.most(few))
                && streams.in_hand() >= most
            {
                options.count("unopened");
                return Either::Left(ready(Err(h2::Error::from(h2::Reason::REFUSED_STREAM))));
            }
            let handling = admitted(request, &heads, &limits).map(|(request, entered)| {
                let handling = handler.handle(request, connection.clone());
                (Caught::new(handling, &metrics), entered)
            });
            let (held, streams) = (held.clone(), streams.clone());
            if let Err(refused) = &handling {
                options.count(refused.reason);
            }
            let unanswered = glitches.unanswered();
            Either::Right(async move {
                let (response, entered) = match handling {
                    Ok((handling, entered)) => {
                        let Ok(response) = handling.await;
                        (response, Some(entered))
                    }
                    Err(refused) => (refused.answer(), None),
                };
                unanswered.answered(response.extensions().get::<Glitch>().is_some());
                let pieces: Option<Arc<Pieces>> = response.extensions().get().cloned();
                if let Some(pieces) = pieces.as_ref().filter(|_| streams.client_reads()) {
                    pieces.are_taken();
                }
                Ok(response.map(|body| Paced::new(body, entered, held, pieces)))
            })
        })
    };
    let mut builder = builder(&limits, streams.clone());
    if options.websocket {
        builder.enable_connect_protocol();
    }
    let served = builder.serve_connection(TokioIo::new(io), service);
    {
        let mut served = std::pin::pin!(served);
        let mut going = false;
        let mut alarm = std::pin::pin!(tokio::time::sleep(limits.idle_timeout));
        let result = loop {
            tokio::select! {
                biased;
                result = &mut served => break result,
                () = options.cut.cancelled() => break Ok(()),
                () = stop.cancelled(), if !going => {
                    served.as_mut().graceful_shutdown();
                    going = true;
                    // One that has nothing in hand does not stay because it does not answer.
                    alarm.as_mut().reset(Instant::now() + GOODBYE);
                }
                cut = glitches.many() => {
                    if cut {
                        break Ok(());
                    }
                    options.count("glitches");
                    served.as_mut().graceful_shutdown();
                    going = true;
                    alarm.as_mut().reset(Instant::now() + GOODBYE);
                }
                () = &mut alarm => match streams.idle_since() {
                    None => alarm.as_mut().reset(Instant::now() + limits.idle_timeout),
                    Some(_) if going => break Ok(()),
                    Some(since) if since.elapsed() < limits.idle_timeout => {
                        alarm.as_mut().reset(since + limits.idle_timeout);
                    }
                    Some(_) => {
                        served.as_mut().graceful_shutdown();
                        going = true;
                        alarm.as_mut().reset(Instant::now() + GOODBYE);
                    }
                }
            }
        };
        if let Err(error) = result {
            if let Some(reason) = protocol_error(&error) {
                options.count(reason);
            }
            tracing::debug!(error = %error, "client connection ended");
        }
    }
    // With the connection gone they end at once; what they tell on the way out is not to be missed.
    streams.wait().await;
}

fn builder(limits: &ServeLimits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.http2_head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_window)
        .max_send_buf_size(limits.body_buffer)
        // CVE-2023-44487 and CVE-2025-8671.
        .max_pending_accept_reset_streams(limits.http2_resets)
        .max_local_error_reset_streams(limits.http2_local_resets)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PONG_WITHIN)
        .auto_date_header(true);
    builder
}

/// Why a request is answered before anybody looks at it.
struct Refused {
    reason: &'static str,
    status: StatusCode,
    proxy_status: &'static str,
}

impl Refused {
    /// Without content: content would wait for a window, and whoever is refused here may never open one.
    fn answer(&self) -> Response<ResponseBody> {
        let mut response = own_answer(self.status, self.proxy_status, "");
        // Budgets are all clients' doing.
        if self.status.is_client_error() {
            response.extensions_mut().insert(Glitch);
        }
        response
    }
}

/// The request with its room in the budget, for as long as the head is held, and its place among the streams.
fn admitted(
    request: Request<Incoming>,
    budget: &Arc<HeadBudget>,
    limits: &ServeLimits,
) -> Result<(Request<Incoming>, Entered), Refused> {
    let (mut parts, body) = request.into_parts();
    if parts.headers.len() > limits.max_headers {
        return Err(Refused {
            reason: "too_large",
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            proxy_status: "hopspan; error=http_request_error",
        });
    }
    let Some(entered) = budget.enter(limits.http2_requests) else {
        return Err(Refused {
            reason: "stream_budget",
            status: StatusCode::SERVICE_UNAVAILABLE,
            proxy_status: "hopspan; error=proxy_internal_error",
        });
    };
    let Some(room) = budget.take(heads::size(&parts), limits.http2_heads) else {
        return Err(Refused {
            reason: "head_budget",
            status: StatusCode::SERVICE_UNAVAILABLE,
            proxy_status: "hopspan; error=proxy_internal_error",
        });
    };
    parts.extensions.insert(Arc::new(room));
    Ok((Request::from_parts(parts, body), entered))
}

/// The class of an error that ended the connection; `None` where the client merely left.
fn protocol_error(error: &hyper::Error) -> Option<&'static str> {
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref::<h2::Error>() {
            return match error.reason() {
                Some(h2::Reason::NO_ERROR) | None => None,
                // Too many resets, or too much of what costs only us.
                Some(h2::Reason::ENHANCE_YOUR_CALM) => Some("http2_abuse"),
                Some(h2::Reason::COMPRESSION_ERROR) => Some("http2_compression"),
                Some(h2::Reason::FLOW_CONTROL_ERROR) => Some("http2_flow_control"),
                Some(_) => Some("http2_protocol"),
            };
        }
        cause = current.source();
    }
    match io_kind(error) {
        Some(std::io::ErrorKind::TimedOut) => Some("stalled_client"),
        Some(std::io::ErrorKind::OutOfMemory) => Some("memory"),
        _ => None,
    }
}
