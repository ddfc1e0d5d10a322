//! Inbound: a client's request on its way to the app.
//!
//! Answers, in the order of the path: which route, which parent (only from peers that are trusted), which spans (SERVER,
//! and CLIENT to the app), what leaves with the request. Span attributes: OTel's HTTP server conventions.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::ext::Protocol;

use super::error::ExchangeError;
use super::exchange::Exchange;
use super::{Baggage, Leaves, Plan, capture, check, grpc};
use crate::config::Address;
use crate::correlation::token;
use crate::proxy::forwarding::{self, forwarded, request as checked};
use crate::proxy::server::Session;
use crate::proxy::upstream::Upstream;
use crate::routing::{InboundRoute, InboundTable};
use crate::trace::span::{Kind, Name, Span, Value};
use crate::trace::w3c::Extracted;
use crate::trace::{Context, Parent, baggage, redact, semconv, span};

/// Decides where an inbound request goes and what goes with it, and starts its spans.
pub fn plan(
    exchange: &mut Exchange,
    request: &mut Request<Incoming>,
) -> Result<Plan, ExchangeError> {
    let snapshot = exchange.snapshot.clone();
    // Ours to choose, never a client's.
    let fields = request.headers().len();
    token::strip(request.headers_mut());
    if request.headers().len() < fields {
        exchange.hop.metrics.tokens_refused.inc();
    }
    let route = snapshot.inbound.route(request.uri().path());
    if let Some(pattern) = &route.pattern {
        exchange.set_route(pattern.clone());
    }
    let connection = exchange.connection.clone();
    let peer = connection.peer.ip();
    let trusted = snapshot.inbound.trusts(peer, connection.identity());
    let (parent, stranger) = parent(exchange, request.headers(), trusted);
    let mut leaves = if route.trace {
        start_span(exchange, route, &parent, stranger, request)
    } else {
        passed_through(&parent)
    };
    let propagation = snapshot.propagation;
    if parent.context().is_none() && propagation.baggage && trusted {
        // Baggage needs no trace to travel with.
        leaves.baggage = baggage::extract(request.headers()).0;
    }
    check(request)?;
    checked::within(
        request,
        snapshot.limits.target_bytes,
        snapshot.limits.field_bytes,
    )?;
    if request.extensions().get::<Protocol>().is_some() && exchange.websocket.is_none() {
        return Err(ExchangeError::BadRequest {
            status: StatusCode::NOT_IMPLEMENTED,
            why: "of the protocols for CONNECT only websocket is known".into(),
        });
    }
    if request.method() == Method::CONNECT {
        // A tunnel to the app would carry requests that nothing here sees.
        return Err(ExchangeError::BadRequest {
            status: StatusCode::METHOD_NOT_ALLOWED,
            why: "CONNECT is for the outbound listener".into(),
        });
    }
    start_app_span(exchange, route, &mut leaves, request);
    // The app is told of the host that counts: HTTP/2 and absolute-form have it in the target.
    forwarding::to_origin_form(request);
    let known = snapshot.inbound.is_trusted_proxy(peer);
    let scheme = connection.scheme();
    forwarded::add(request.headers_mut(), connection.caller(), scheme, known);
    Ok(Plan {
        upstreams: upstreams(route, request),
        leaves: if propagation.trace_context {
            Leaves::Context(leaves)
        } else {
            Leaves::Untouched
        },
        baggage: if propagation.baggage {
            Baggage::Restored
        } else {
            Baggage::Own
        },
        timeout: route.timeout,
        ..Plan::default()
    })
}

/// Where the app is, and which HTTP it gets: HTTP/1.1 by TLS, too, unless the config says otherwise.
fn upstreams(route: &InboundRoute, request: &Request<Incoming>) -> Vec<Upstream> {
    let apps = route.app.iter();
    apps.map(|app| Upstream {
        address: app.address.clone(),
        tls: app.tls.clone(),
        offer: grpc::offer(app.protocol, false, request),
    })
    .collect()
}

/// The parent by the caller's headers, and a context that was refused for lack of trust.
fn parent(exchange: &Exchange, headers: &HeaderMap, trusted: bool) -> (Parent, Option<Context>) {
    let root = Parent::Root { unlinked: None };
    match super::extract(exchange, headers) {
        Extracted::Valid(context) if trusted => (Parent::Remote(context), None),
        Extracted::Valid(context) => (root, Some(context)),
        Extracted::Absent | Extracted::Malformed(_) => (root, None),
    }
}

/// What leaves where a route is not traced: the caller's context untouched, or an unsampled one where there was none.
fn passed_through(parent: &Parent) -> Context {
    parent.context().cloned().unwrap_or_else(Context::new_root)
}

fn start_span(
    exchange: &mut Exchange,
    route: &Arc<InboundRoute>,
    parent: &Parent,
    stranger: Option<Context>,
    request: &Request<Incoming>,
) -> Context {
    let context = exchange.sampled_context(parent, route.ratio);
    let method = semconv::known_method(request.method());
    let name = Name {
        method: method.unwrap_or("HTTP"),
        target: route.pattern.clone(),
    };
    let (started, sink) = (exchange.started, exchange.hop.sink.clone());
    let limits = exchange.span_limits();
    let mut server =
        Span::start(Kind::Server, name, parent, context, started, sink).limited(limits);
    if let Some(stranger) = stranger {
        server.link(stranger);
    }
    if server.is_recording() {
        describe(&mut server, exchange, route, request);
    }
    let below = server.context().clone();
    exchange.span = Some(server);
    below
}

/// The span of the call to the app, where there is to be one; what `leaves` with the request is its context then. Not of a
/// request that is refused here: the app has no part in that.
fn start_app_span(
    exchange: &mut Exchange,
    route: &Arc<InboundRoute>,
    leaves: &mut Context,
    request: &Request<Incoming>,
) {
    let Some(server) = exchange.span.as_ref() else {
        return;
    };
    if !exchange.snapshot.inbound.app_span {
        return;
    }
    let below = server.context().clone();
    let parent = Parent::Local(below.clone());
    let sampled = below.flags.is_sampled();
    let context = span::child_context(&parent, below, sampled);
    let name = Name {
        method: semconv::known_method(request.method()).unwrap_or("HTTP"),
        target: None,
    };
    let (started, sink) = (exchange.started, exchange.hop.sink.clone());
    let mut client = Span::start(Kind::Client, name, &parent, context, started, sink)
        .limited(exchange.span_limits());
    if client.is_recording() {
        super::describe_method(&mut client, request.method());
        describe_app(&mut client, exchange, route, request);
    }
    let baggage = leaves.baggage.take();
    *leaves = Context {
        baggage,
        ..client.context().clone()
    };
    exchange.app_span = Some(client);
}

/// The SERVER span's attributes, as the HTTP conventions name them.
fn describe(
    span: &mut Span,
    exchange: &Exchange,
    route: &InboundRoute,
    request: &Request<Incoming>,
) {
    let snapshot = &exchange.snapshot;
    let headers = request.headers();
    super::describe_method(span, request.method());
    span.new_attribute(semconv::URL_SCHEME, exchange.connection.scheme());
    span.new_attribute(semconv::URL_PATH, request.uri().path().to_owned());
    if let Some(query) = request.uri().query() {
        span.new_attribute(
            semconv::URL_QUERY,
            redact::query(query, &snapshot.capture.redact).into_owned(),
        );
    }
    if let Some(pattern) = &route.pattern {
        span.new_attribute(semconv::HTTP_ROUTE, pattern.clone());
    }
    if let Ok(target) = checked::target(request, exchange.connection.tls.is_some()) {
        span.new_attribute(semconv::SERVER_ADDRESS, target.host.to_owned());
        span.new_attribute(semconv::SERVER_PORT, target.port);
    }
    let peer = exchange.connection.peer;
    let client = client_address(headers, peer.ip(), &snapshot.inbound);
    let by = exchange.connection.balancer.unwrap_or(peer);
    match &exchange.connection.unix {
        None => {
            let text = exchange.connection.peer_text();
            let client = match client == by.ip() {
                true => Value::from(text.clone()),
                false => Value::from(client.to_string()),
            };
            span.new_attribute(semconv::CLIENT_ADDRESS, client);
            span.new_attribute(semconv::NETWORK_PEER_ADDRESS, text.clone());
            span.new_attribute(semconv::NETWORK_PEER_PORT, by.port());
        }
        Some(path) => {
            let path = path.display().to_string();
            // 127.0.0.1 is what it counts as, not where it is.
            let known = client != by.ip();
            let client = known.then(|| client.to_string());
            span.new_attribute(semconv::CLIENT_ADDRESS, client.unwrap_or(path.clone()));
            span.new_attribute(semconv::NETWORK_PEER_ADDRESS, path);
            span.new_attribute(semconv::NETWORK_TRANSPORT, "unix");
        }
    }
    span.new_attribute(
        semconv::NETWORK_PROTOCOL_VERSION,
        match exchange.websocket {
            Some(_) => "2",
            None => super::version(request.version()),
        },
    );
    if let Some(agent) = headers.get(header::USER_AGENT) {
        span.new_attribute(
            semconv::USER_AGENT_ORIGINAL,
            String::from_utf8_lossy(agent.as_bytes()).into_owned(),
        );
    }
    if let Some(tls) = &exchange.connection.tls {
        describe_tls(span, tls);
    }
    for (name, key) in &snapshot.capture.request_headers {
        capture(span, headers, name, key);
    }
}

/// What TLS says of the client.
fn describe_tls(span: &mut Span, tls: &Session) {
    span.attribute(semconv::TLS_PROTOCOL_VERSION, tls.version);
    if let Some(client) = &tls.client {
        span.attribute(semconv::TLS_CLIENT_SUBJECT, client.subject.clone());
        if !client.names.is_empty() {
            span.attribute(semconv::TLS_CLIENT_SAN, Value::List(client.names.to_vec()));
        }
    }
}

/// The app as the CLIENT span names it. With several addresses the first, until one answers.
fn describe_app(
    span: &mut Span,
    exchange: &Exchange,
    route: &InboundRoute,
    request: &Request<Incoming>,
) {
    let Some(app) = route.app.first() else { return };
    let (path, query) = (request.uri().path(), request.uri().query());
    let redacted = query.map(|query| redact::query(query, &exchange.snapshot.capture.redact));
    let more = redacted.as_ref().map_or(0, |query| query.len() + 1);
    let mut url = String::with_capacity(app.origin.len() + path.len() + more);
    url.push_str(&app.origin);
    url.push_str(path);
    if let Some(query) = redacted {
        url.push('?');
        url.push_str(&query);
    }
    match &app.address {
        Address::Tcp { host, port } => {
            span.new_attribute(semconv::SERVER_ADDRESS, host.clone());
            span.new_attribute(semconv::SERVER_PORT, *port);
        }
        Address::Unix(socket) => {
            span.new_attribute(semconv::SERVER_ADDRESS, socket.display().to_string());
        }
    }
    span.new_attribute(semconv::URL_FULL, url);
}

/// The client by `X-Forwarded-For`, read from the right as far as proxies are trusted; else the peer.
fn client_address(headers: &HeaderMap, peer: IpAddr, table: &InboundTable) -> IpAddr {
    let mut client = peer.to_canonical();
    let lines: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !table.is_trusted_proxy(client) {
            break;
        }
        let Ok(before) = entry.trim().trim_matches(['[', ']']).parse::<IpAddr>() else {
            break;
        };
        client = before.to_canonical();
    }
    client
}
