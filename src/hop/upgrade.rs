//! Requests that turn into byte tunnels: `Upgrade` (WebSocket, RFC 6455 over RFC 9110 7.8) and CONNECT (RFC 9110 9.3.6).
//!
//! The exchange moves into the tunnel's task, so its spans end when the tunnel does. CONNECT carries no header: its bytes
//! are opaque, so it gets a span and nothing is injected.

use std::borrow::Cow;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::error::ExchangeError;
use super::exchange::Exchange;
use super::send::connect_error;
use super::{Hop, Plan};
use crate::config::duration;
use crate::proxy::body::ResponseBody;
use crate::proxy::pool::{self, Place, Pooled};
use crate::proxy::socket::Socket;
use crate::proxy::tunnel::{self, TunnelEnd};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Reason;
use crate::trace::semconv;
use crate::trace::span::{End, Span};

/// The upstream said 101: passes it on and joins both ends until one closes.
pub fn switch(
    hop: &Arc<Hop>,
    mut exchange: Box<Exchange>,
    mut response: Response<Incoming>,
    client: OnUpgrade,
) -> Response<ResponseBody> {
    let upstream = hyper::upgrade::on(&mut response);
    exchange.set_status(response.status());
    exchange.settle();
    let place = exchange.pooled.take().map(Pooled::switched);
    let (parts, _) = response.into_parts();
    let hop_ = hop.clone();
    hop.tunnels.spawn(async move {
        hop_.metrics.tunnels.inc();
        let idle = exchange.snapshot.timeouts.tunnel_idle;
        let (end, sides) = tunnel::upgraded(client, upstream, idle, &hop_.cut).await;
        hop_.metrics.tunnels.dec();
        if let Some((client, upstream)) = sides.filter(|_| end.is_cut()) {
            exchange.connection.break_off(client);
            pool::break_off(upstream);
        }
        drop(place);
        told(exchange, end);
    });
    Response::from_parts(parts, ResponseBody::Empty)
}

/// CONNECT: dials the target, answers 200 and tunnels.
pub async fn connect(
    hop: &Arc<Hop>,
    exchange: &mut Exchange,
    plan: &Plan,
    mut request: Request<Incoming>,
) -> Result<Connected, ExchangeError> {
    let Some(upstream) = plan.upstreams.first() else {
        return Err(ExchangeError::DestinationNotFound(
            "CONNECT needs host:port".to_owned(),
        ));
    };
    let (dialled, place) = hop
        .service_pool
        .dial(&upstream.address)
        .await
        .map_err(|error| connect_error(&upstream.address, &error))?;
    if let (Some(span), Some(peer)) = (exchange.client_span(), dialled.peer) {
        span.attribute(semconv::NETWORK_PEER_ADDRESS, peer.ip().to_string());
        span.attribute(semconv::NETWORK_PEER_PORT, peer.port());
    }
    Ok(Connected {
        client: hyper::upgrade::on(&mut request),
        upstream: dialled.socket,
        place,
    })
}

/// A CONNECT whose upstream is dialled.
pub struct Connected {
    client: OnUpgrade,
    upstream: Socket,
    place: Place,
}

impl Connected {
    /// Answers 200; the tunnel starts once the client has read it.
    pub fn answer(self, hop: &Arc<Hop>, mut exchange: Box<Exchange>) -> Response<ResponseBody> {
        exchange.set_status(StatusCode::OK);
        exchange.settle();
        let hop_ = hop.clone();
        hop.tunnels.spawn(async move {
            hop_.metrics.tunnels.inc();
            let idle = exchange.snapshot.timeouts.tunnel_idle;
            let end = match self.client.await {
                Ok(client) => {
                    let (mut client, mut upstream) = (TokioIo::new(client), self.upstream);
                    let end = tunnel::run(&mut client, &mut upstream, idle, &hop_.cut).await;
                    if end.is_cut() {
                        exchange.connection.break_off(client.into_inner());
                        upstream.reset();
                    }
                    end
                }
                Err(error) => TunnelEnd::broken(error),
            };
            hop_.metrics.tunnels.dec();
            drop(self.place);
            told(exchange, end);
        });
        Response::new(ResponseBody::Empty)
    }
}

/// Ends the exchange of a tunnel that has ended.
fn told(mut exchange: Box<Exchange>, end: TunnelEnd) {
    if let Some(span) = exchange.client_span() {
        measure(span, &end);
    }
    let how = how(&exchange.hop.metrics, &end);
    exchange.finish(how);
}

/// How much went through a tunnel.
pub(super) fn measure(span: &mut Span, end: &TunnelEnd) {
    let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    span.attribute(semconv::TUNNEL_SENT, count(end.sent));
    span.attribute(semconv::TUNNEL_RECEIVED, count(end.received));
}

/// What a span says of how a tunnel ended. One that hopspan ended for its silence is counted.
pub(super) fn how(metrics: &Metrics, end: &TunnelEnd) -> End {
    match (&end.error, end.idle) {
        (Some(_), _) if end.client_left() => End::Complete,
        (Some(_), _) if end.by_client => cut("the client's host does not answer"),
        (Some(error), _) => {
            End::Failed("connection_terminated", Some(Cow::Owned(error.to_string())))
        }
        (None, Some(idle)) => {
            let reason = "connection_read_timeout";
            metrics.proxy_errors.get_or_create(&Reason { reason }).inc();
            let why = format!("no byte came either way for {}", duration::show(idle));
            End::Failed(reason, Some(Cow::Owned(why)))
        }
        (None, None) if end.stopped => cut("hopspan stopped"),
        (None, None) => End::Complete,
    }
}

/// Neither side wanted its end.
fn cut(why: &'static str) -> End {
    End::Failed(semconv::error_type::CANCELLED, Some(Cow::Borrowed(why)))
}
