//! Sending a request on: which connection, what leaves with it, and the one retry that cannot repeat an effect.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use super::error::ExchangeError;
use super::exchange::Exchange;
use super::spare::Spare;
use super::{Baggage, Direction, Hop, Leaves, Plan};
use crate::config::Address;
use crate::correlation::token;
use crate::proxy::body::RequestBody;
use crate::proxy::connect::{ConnectError, TlsFault};
use crate::proxy::forwarding::upgrade_of;
use crate::proxy::pool::{Pool, Pooled, SendError, SendFault};
use crate::proxy::upstream::Upstream;
use crate::telemetry::metrics::Reason;
use crate::trace::{semconv, w3c};

impl Hop {
    /// Sends the request: next address on a failed connect, once more on a new connection where that cannot repeat an effect.
    #[allow(clippy::manual_async_fn)] // that would have room for the request twice
    pub(super) fn send<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        direction: Direction,
        plan: &'a Plan,
        mut request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, ExchangeError>> + Send + 'a {
        async move {
            let pool = match direction {
                Direction::Inbound => &self.app_pool,
                Direction::Outbound => &self.service_pool,
            };
            let mut retrying = false;
            let switches = upgrade_of(request.headers()).is_some();
            loop {
                let connect = || checkout(pool, &plan.upstreams, retrying, switches);
                let (mut pooled, upstream) = match direction {
                    Direction::Inbound => self.startup.patiently(connect).await?,
                    Direction::Outbound => connect().await?,
                };
                self.prepare(exchange, direction, plan, &pooled, &mut request);
                let shared = pooled.connection().multiplexed;
                let spare = match pooled.is_reused() || shared {
                    true => Spare::of(&request, shared),
                    false => None,
                };
                let idempotent = request.method().is_idempotent();
                let (sending, sent) = pooled.begin(request);
                let outcome = match plan.timeout {
                    // Boxed: most exchanges have no such limit.
                    Some(limit) => Box::pin(in_time(limit, exchange, sending)).await,
                    None => Some(sending.await),
                };
                let error = match outcome.map(|outcome| sent.told(outcome)) {
                    Some(Ok(response)) => {
                        exchange.pooled = Some(pooled);
                        return Ok(response);
                    }
                    Some(Err(error)) => error,
                    None => return Err(ExchangeError::HttpResponseTimeout(upstream.to_string())),
                };
                exchange.presence = None;
                // A fresh connection that failed is news; a kept one that was closed meanwhile is not (RFC 9110 9.2.2). What
                // an upstream says it has not processed may always be sent again.
                let again = error.is_unprocessed() || (idempotent && error.may_be_idle_close());
                let refused = send_error(upstream, &error);
                request = match (error.request, spare) {
                    _ if retrying => return Err(refused),
                    (Some(unwritten), _) if error.reused => *unwritten,
                    (None, Some(spare)) if again => spare.request(),
                    _ => return Err(refused),
                };
                retrying = true;
                self.metrics
                    .upstream_retries
                    .get_or_create(&Reason {
                        reason: "connection_reused",
                    })
                    .inc();
                if let Some(span) = exchange.client_span() {
                    span.attribute(semconv::HTTP_REQUEST_RESEND_COUNT, 1_i64);
                }
            }
        }
    }

    /// What depends on the connection: the in-flight entry, the context that leaves, and what the span says of the peer.
    fn prepare(
        &self,
        exchange: &mut Exchange,
        direction: Direction,
        plan: &Plan,
        pooled: &Pooled,
        request: &mut Request<RequestBody>,
    ) {
        let opened = pooled.connection();
        let head = request.headers_mut();
        match &plan.leaves {
            Leaves::Untouched => {}
            Leaves::Nothing => w3c::strip(head),
            Leaves::Context(context) => {
                let baggage = match plan.baggage {
                    Baggage::Own => false,
                    Baggage::Restored => true,
                    Baggage::RestoredIfPrivate => {
                        opened.peer.is_none_or(|peer| is_private(peer.ip()))
                    }
                };
                match baggage {
                    true => w3c::inject(head, context),
                    false => w3c::inject_without_baggage(head, context),
                }
                if direction == Direction::Inbound {
                    let received = opened.received.as_ref().map(|received| received.total());
                    let presence = self.correlator.enter(opened.id, context.clone(), received);
                    if let Some(token) = presence.token() {
                        request.headers_mut().insert(token::HEADER, token);
                    }
                    exchange.presence = Some(presence);
                }
            }
        }
        let (reused, connect) = (pooled.is_reused(), pooled.connect_time());
        let tls = pooled.tls_time();
        let Some(span) = exchange.client_span().filter(|span| span.is_recording()) else {
            return;
        };
        span.attribute(semconv::CONNECTION_REUSED, reused);
        match (opened.peer, &opened.peer_text) {
            (Some(peer), Some(address)) => {
                span.attribute(semconv::NETWORK_PEER_ADDRESS, address.clone());
                span.attribute(semconv::NETWORK_PEER_PORT, peer.port());
            }
            _ => span.attribute(semconv::NETWORK_TRANSPORT, "unix"),
        }
        if opened.multiplexed {
            // What is usual is not said.
            span.attribute(semconv::NETWORK_PROTOCOL_VERSION, "2");
        }
        if let Some(tls) = tls {
            span.attribute(
                semconv::TLS_NANOS,
                i64::try_from(tls.as_nanos()).unwrap_or(i64::MAX),
            );
        }
        if !reused {
            span.attribute(
                semconv::CONNECT_NANOS,
                i64::try_from(connect.as_nanos()).unwrap_or(i64::MAX),
            );
        }
    }
}

/// What comes of sending a request, unless the head of the response is late: from when the request was sent whole, since
/// until then it may be its client who is slow. An upstream that takes nothing more of it is late, too.
async fn in_time<T>(
    limit: Duration,
    exchange: &Exchange,
    sending: impl Future<Output = T>,
) -> Option<T> {
    let stalled = exchange.snapshot.timeouts.body_idle.max(limit);
    let late = async {
        match &exchange.upload {
            Some(upload) => upload.late(limit, stalled).await,
            None => tokio::time::sleep(limit).await,
        }
    };
    tokio::select! {
        biased;
        sent = sending => Some(sent),
        () = late => None,
    }
}

/// A connection to the first address that takes one. After a failed try it must be a new one: the other idle ones are
/// likely dead as well.
async fn checkout<'a>(
    pool: &Arc<Pool>,
    upstreams: &'a [Upstream],
    fresh: bool,
    switches: bool,
) -> Result<(Pooled, &'a Upstream), ExchangeError> {
    let mut last = None;
    for upstream in upstreams {
        let pooled = match fresh {
            true => pool.checkout_new(upstream).await,
            false => pool.checkout(upstream).await,
        };
        match pooled {
            Ok(shared) if switches && shared.connection().multiplexed => {
                match Box::pin(switching(pool, upstream, shared)).await {
                    Ok(pooled) => return Ok((pooled, upstream)),
                    Err(error) => last = Some(connect_error(&upstream.address, &error)),
                }
            }
            Ok(pooled) => return Ok((pooled, upstream)),
            Err(error) => last = Some(connect_error(&upstream.address, &error)),
        }
    }
    let none = || ExchangeError::DestinationNotFound("no upstream is configured".to_owned());
    Err(last.unwrap_or_else(none))
}

/// A connection for an upgrade, which is HTTP/1.1's own but for who takes it by HTTP/2: `shared` tells that.
async fn switching(
    pool: &Arc<Pool>,
    upstream: &Upstream,
    shared: Pooled,
) -> Result<Pooled, ConnectError> {
    let takes = shared.takes_websockets().await;
    drop(shared); // with its place at the upstream
    if takes {
        let alone = pool.checkout_alone(upstream).await?;
        if alone.takes_websockets().await {
            return Ok(alone);
        }
    }
    pool.checkout(&upstream.by_http1()).await
}

pub(super) fn connect_error(upstream: &Address, error: &ConnectError) -> ExchangeError {
    let upstream = upstream.to_string();
    match error {
        ConnectError::Refused => ExchangeError::ConnectionRefused(upstream),
        ConnectError::NoSocket => ExchangeError::SocketMissing(upstream),
        ConnectError::Timeout(_) => ExchangeError::ConnectionTimeout(upstream),
        ConnectError::Dns(_) => ExchangeError::DnsError(upstream),
        ConnectError::DnsTimeout => ExchangeError::DnsTimeout(upstream),
        ConnectError::Loop => ExchangeError::ProxyLoopDetected(upstream),
        ConnectError::Prohibited(why) => ExchangeError::DestinationProhibited(upstream, why),
        ConnectError::Busy => ExchangeError::ConnectionLimitReached(upstream),
        ConnectError::Unreachable => ExchangeError::DestinationUnroutable(upstream),
        ConnectError::Tls(fault, why) => {
            tracing::debug!(upstream, error = %why, "no TLS with an upstream");
            match fault {
                TlsFault::Certificate => ExchangeError::TlsCertificateError(upstream, why.clone()),
                TlsFault::Alert => ExchangeError::TlsAlertReceived(upstream, why.clone()),
                TlsFault::Protocol => ExchangeError::TlsProtocolError(upstream, why.clone()),
            }
        }
        ConnectError::Io(why) => {
            tracing::warn!(upstream, error = %why, "cannot connect");
            ExchangeError::DestinationUnavailable(upstream, why.to_string())
        }
    }
}

fn send_error(upstream: &Upstream, error: &SendError) -> ExchangeError {
    let upstream = upstream.to_string();
    match error.fault {
        SendFault::RequestBody => ExchangeError::RequestIncomplete,
        SendFault::RequestMalformed => ExchangeError::RequestMalformed,
        SendFault::RequestStalled => ExchangeError::RequestStalled,
        SendFault::TooLarge => ExchangeError::HttpResponseHeaderSectionSize(upstream),
        SendFault::TlsAlert(alert) => {
            let why = rustls::Error::AlertReceived(alert).to_string();
            ExchangeError::TlsAlertReceived(upstream, why)
        }
        SendFault::Malformed => ExchangeError::HttpProtocolError(upstream),
        SendFault::Incomplete | SendFault::StreamReset => {
            ExchangeError::HttpResponseIncomplete(upstream)
        }
        SendFault::Closed | SendFault::Reset | SendFault::Unprocessed | SendFault::Other => {
            ExchangeError::ConnectionTerminated(upstream)
        }
    }
}

/// Addresses that no third party answers on: loopback, private and link-local ranges, IPv6 ULA.
fn is_private(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        std::net::IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_private(ip.into()),
            None => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        },
    }
}
