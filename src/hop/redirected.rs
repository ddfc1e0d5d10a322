//! Outbound: a redirected connection that is not HTTP: passed on to where it was to go, byte for byte, under a span.
//!
//! It carries no header, so it has no parent but by a proof about its connection, which a NAT takes away. A CLIENT span of
//! its own says where it went, how many bytes passed, and how it ended.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use super::outbound::{may_call, unproven};
use super::send::connect_error;
use super::upgrade::{how, measure};
use super::{Hop, exchange};
use crate::config::Address;
use crate::correlation::Unlinked;
use crate::hop::error::ExchangeError;
use crate::proxy::pool::Place;
use crate::proxy::server::{Connection, Opaque};
use crate::proxy::socket::Socket;
use crate::proxy::tunnel;
use crate::routing::Snapshot;
use crate::telemetry::metrics::Reason;
use crate::trace::semconv;
use crate::trace::span::{End, Kind, Moment, Name, Span};

/// Passes a connection on until either side ends it.
pub(super) async fn relay(hop: &Arc<Hop>, mut client: Opaque, connection: &Connection) {
    let Some(original) = connection.original else {
        return;
    };
    let snapshot = hop.table.load();
    if let Err(denied) = may_call(&snapshot, connection) {
        return fail(hop, client, &denied);
    }
    let mut span = begin(hop, &snapshot, &client, original);
    let (mut upstream, place) = match dial(hop, &snapshot, original).await {
        Ok(upstream) => upstream,
        Err(error) => {
            let told = error.told().name;
            fail(hop, client, &error);
            return span.end(End::Failed(told, Some(Cow::Owned(error.to_string()))));
        }
    };
    hop.metrics.tunnels.inc();
    let idle = snapshot.timeouts.tunnel_idle;
    let end = tunnel::run(client.stream(), &mut upstream, idle, &hop.cut).await;
    hop.metrics.tunnels.dec();
    drop(place);
    measure(&mut span, &end);
    span.end(how(&hop.metrics, &end));
    if end.is_cut() {
        client.reset();
        upstream.reset();
    }
}

async fn dial(
    hop: &Hop,
    snapshot: &Snapshot,
    original: SocketAddr,
) -> Result<(Socket, Place), ExchangeError> {
    let address = Address::from(original);
    let host = original.ip().to_string();
    let lists = &snapshot.outbound.destinations;
    if let Some(denial) = lists.by_name(&host, original.port()) {
        return Err(ExchangeError::DestinationDenied(host, denial.why()));
    }
    let dialled = hop.service_pool.dial(&address).await;
    let (connected, place) = dialled.map_err(|error| connect_error(&address, &error))?;
    Ok((connected.socket, place))
}

/// What an HTTP client would read as an answer, this one learns by a reset: as close as it gets to a connect that failed.
fn fail(hop: &Hop, client: Opaque, error: &ExchangeError) {
    let reason = error.told().name;
    let errors = &hop.metrics.proxy_errors;
    errors.get_or_create(&Reason { reason }).inc();
    client.reset();
}

fn begin(hop: &Arc<Hop>, snapshot: &Snapshot, client: &Opaque, original: SocketAddr) -> Span {
    let parent = unproven(hop.correlator.abstain(Unlinked::Redirected));
    let started = Moment::now();
    let context = exchange::sampled(hop, snapshot, &parent, None, started.instant);
    let name = Name {
        method: "TCP",
        target: None,
    };
    let sink = hop.sink.clone();
    let mut span = Span::start(Kind::Client, name, &parent, context, started, sink)
        .limited(exchange::limits(snapshot));
    if span.is_recording() {
        let ip = original.ip().to_string();
        let server = client.server_name.clone();
        span.attribute(semconv::SERVER_ADDRESS, server.unwrap_or(ip.clone()));
        span.attribute(semconv::SERVER_PORT, original.port());
        span.attribute(semconv::NETWORK_PEER_ADDRESS, ip);
        span.attribute(semconv::NETWORK_PEER_PORT, original.port());
        span.attribute(semconv::NETWORK_TRANSPORT, "tcp");
        span.attribute(semconv::TUNNEL_PROTOCOL, client.protocol);
        super::outbound::tell_parent(&mut span, &parent);
    }
    span
}
