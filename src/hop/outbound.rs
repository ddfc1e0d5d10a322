//! Outbound: the app's own call on its way to a service.
//!
//! Answers, in the order of the path: which destination and route, which parent (the app's own header, else the token of
//! the request in flight, else what correlation proves, else none with the reason), which span (CLIENT), what leaves with the request. Span attributes: OTel's HTTP client
//! conventions. A route with `propagate: false` gets no context at all: not even the app's own.

use http::{HeaderValue, Request, Version, header};
use hyper::body::Incoming;

use super::error::ExchangeError;
use super::exchange::Exchange;
use super::{Baggage, Leaves, Plan, caller, capture, check, grpc};
use crate::config::Address;
use crate::correlation::token::{self, TokenAnswer};
use crate::correlation::{OutboundCall, Unlinked};
use crate::proxy::forwarding::request::{self as checked, Target};
use crate::proxy::server::Connection;
use crate::proxy::upstream::Upstream;
use crate::routing::{Destination, Snapshot};
use crate::telemetry::metrics::EvidenceLabel;
use crate::tls::Offer;
use crate::trace::span::{Kind, Name, Span};
use crate::trace::w3c::Extracted;
use crate::trace::{Context, Evidence, Parent, Unproven, redact, semconv};

/// Decides where an outbound call goes and what goes with it, and starts its span.
pub async fn plan(
    exchange: &mut Exchange,
    request: &mut Request<Incoming>,
) -> Result<Plan, ExchangeError> {
    let snapshot = exchange.snapshot.clone();
    // Not the app's call, so not a span.
    may_call(&snapshot, &exchange.connection)?;
    let call = caller::call(&exchange.connection, request);
    // Off before anything else is decided: wherever the call goes, the token does not.
    let token = token::strip(request.headers_mut());
    let (parent, ended) = parent(exchange, call, request, token).await;
    let original = exchange.connection.original;
    if let (Some(original), Version::HTTP_10) = (original, request.version()) {
        // A client so old need not name the host, and only we know it.
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::try_from(original.to_string()) {
            headers.entry(header::HOST).or_insert(host);
        }
    }
    let target = match checked::target(request, false) {
        Ok(target) => Called::of(&target),
        Err(bad) => {
            // Still a span: the call was made, and failed here.
            start_span(exchange, None, &parent, ended, None, request);
            return Err(bad.into());
        }
    };
    let route = snapshot.outbound.route(&target.host, target.port);
    if let Some(name) = &route.name {
        exchange.set_route(name.clone());
    }
    let leaves = if route.trace {
        let called = Some((&target, route.to.as_ref()));
        start_span(exchange, route.ratio, &parent, ended, called, request)
    } else {
        parent.context().cloned().unwrap_or_else(Context::new_root)
    };
    check(request)?;
    if target.https {
        return Err(ExchangeError::DestinationNotFound(format!(
            "hopspan does not fetch https:// in absolute form: {} must be called by CONNECT",
            target.host
        )));
    }
    let address = match &route.to {
        Some(destination) => destination.address.clone(),
        None => {
            let lists = &snapshot.outbound.destinations;
            if let Some(denial) = lists.by_name(&target.host, target.port) {
                let host = target.host.clone();
                return Err(ExchangeError::DestinationDenied(host, denial.why()));
            }
            match original {
                // Whatever it says of its host: it called this address.
                Some(original) => Address::from(original),
                None => Address::tcp(&target.host, target.port),
            }
        }
    };
    let offer = match (original, request.version(), &route.to) {
        // By prior knowledge of where it called.
        (Some(_), Version::HTTP_2, None) => Offer::Http2,
        _ => grpc::offer(route.protocol, route.tls.is_some(), request),
    };
    Ok(Plan {
        upstreams: vec![Upstream {
            address,
            tls: route.tls.clone(),
            offer,
        }],
        leaves: match (snapshot.propagation.trace_context, route.propagate) {
            (_, false) => Leaves::Nothing,
            (true, true) => Leaves::Context(leaves),
            (false, true) => Leaves::Untouched,
        },
        baggage: match (
            snapshot.propagation.baggage,
            request.headers().contains_key("baggage"),
        ) {
            // The app's own is the newer one.
            (false, _) | (_, true) => Baggage::Own,
            (true, false) if route.name.is_some() => Baggage::Restored,
            (true, false) => Baggage::RestoredIfPrivate,
        },
        timeout: route.timeout,
        path_prefix: route
            .to
            .as_ref()
            .map(|to| to.path_prefix.clone())
            .filter(|prefix| !prefix.is_empty()),
        host: route.host.clone(),
    })
}

/// Whether who connected is served: programs of this host, and whom the config names.
pub(super) fn may_call(snapshot: &Snapshot, connection: &Connection) -> Result<(), ExchangeError> {
    let peer = connection.peer.ip().to_canonical();
    if snapshot.outbound.serves(peer) || connection.is_from_this_host() {
        return Ok(());
    }
    Err(ExchangeError::ClientDenied(peer))
}

/// What the app called.
struct Called {
    https: bool,
    host: String,
    port: u16,
    path_and_query: String,
}

impl Called {
    fn of(target: &Target<'_>) -> Called {
        Called {
            https: target.https,
            host: target.host.to_owned(),
            port: target.port,
            path_and_query: target.path_and_query.to_owned(),
        }
    }

    /// `url.full`, as it was called, with the values of sensitive parameters replaced; a default port is left out.
    fn url(&self, redacted: &[String]) -> String {
        let (scheme, default) = match self.https {
            true => ("https", 443),
            false => ("http", 80),
        };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let port = if self.port == default {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        let (path, query) = match self.path_and_query.split_once('?') {
            Some((path, query)) => (path, format!("?{}", redact::query(query, redacted))),
            None => (self.path_and_query.as_str(), String::new()),
        };
        format!("{scheme}://{host}{port}{path}{query}")
    }
}

/// The parent: the app's own header wins; else the token's request; else what correlation proves; else none, and why.
/// Second, the request that the call descends from and has outlived: no parent, but a link.
async fn parent(
    exchange: &Exchange,
    call: OutboundCall,
    request: &Request<Incoming>,
    token: Option<HeaderValue>,
) -> (Parent, Option<Context>) {
    if let Extracted::Valid(context) = super::extract(exchange, request.headers()) {
        let evidence = Evidence::Header.as_str();
        exchange
            .hop
            .metrics
            .joins
            .get_or_create(&EvidenceLabel { evidence })
            .inc();
        return (Parent::Joined(context, Evidence::Header), None);
    }
    let correlator = &exchange.hop.correlator;
    // A NAT may have given it the addresses of another's connection: nothing is asked of the kernel about it.
    let redirected = exchange.connection.original.is_some();
    match token.map(|token| correlator.by_token(&token)) {
        Some(TokenAnswer::Joined(context)) => {
            if !redirected {
                correlator.double_check(&call, &context, Evidence::Token);
            }
            return (Parent::Joined(context, Evidence::Token), None);
        }
        Some(TokenAnswer::Dead(context)) => {
            return (unproven(Unlinked::TokenExpired), Some(context));
        }
        Some(TokenAnswer::Unknown) | None => {}
    }
    if redirected {
        return (unproven(correlator.abstain(Unlinked::Redirected)), None);
    }
    if request.version() == Version::HTTP_2 {
        return (unproven(correlator.abstain(Unlinked::Multiplexed)), None);
    }
    let parent = match correlator.parent_of(call).await {
        Ok((context, evidence)) => Parent::Joined(context, evidence),
        Err(unlinked) => unproven(unlinked),
    };
    (parent, None)
}

pub(super) fn unproven(why: Unlinked) -> Parent {
    Parent::Root {
        unlinked: Some(Unproven {
            reason: why.as_str(),
            code: why.code().as_str(),
        }),
    }
}

fn start_span(
    exchange: &mut Exchange,
    ratio: Option<f64>,
    parent: &Parent,
    ended: Option<Context>,
    target: Option<(&Called, Option<&Destination>)>,
    request: &Request<Incoming>,
) -> Context {
    let context = exchange.sampled_context(parent, ratio);
    let method = semconv::known_method(request.method()).unwrap_or("HTTP");
    let name = Name {
        method,
        target: None,
    };
    let mut span = Span::start(
        Kind::Client,
        name,
        parent,
        context,
        exchange.started,
        exchange.hop.sink.clone(),
    )
    .limited(exchange.span_limits());
    if let Some(ended) = ended {
        span.link(ended);
    }
    if span.is_recording() {
        describe(&mut span, exchange, parent, target, request);
    }
    let context = span.context().clone();
    exchange.span = Some(span);
    context
}

/// How the parent is known, or why there is none.
pub(super) fn tell_parent(span: &mut Span, parent: &Parent) {
    match parent {
        Parent::Joined(_, evidence) => span.attribute(semconv::PARENT_EVIDENCE, evidence.as_str()),
        Parent::Root {
            unlinked: Some(why),
        } => {
            span.attribute(semconv::UNLINKED_REASON, why.reason);
            span.attribute(semconv::UNLINKED_CODE, why.code);
        }
        _ => {}
    }
}

/// The CLIENT span's attributes, as the HTTP conventions name them, and how the parent is known.
fn describe(
    span: &mut Span,
    exchange: &Exchange,
    parent: &Parent,
    target: Option<(&Called, Option<&Destination>)>,
    request: &Request<Incoming>,
) {
    super::describe_method(span, request.method());
    tell_parent(span, parent);
    if let Some((target, to)) = target {
        span.attribute(semconv::SERVER_ADDRESS, target.host.clone());
        span.attribute(semconv::SERVER_PORT, target.port);
        span.attribute(
            semconv::URL_FULL,
            target.url(&exchange.snapshot.capture.redact),
        );
        if let Some(to) = to {
            span.attribute(semconv::ROUTE_TO, to.to_string());
        }
    }
    if let Some(original) = exchange.connection.original {
        // Known before anybody answers there; where a route leads elsewhere, the connection says so.
        span.attribute(semconv::NETWORK_PEER_ADDRESS, original.ip().to_string());
        span.attribute(semconv::NETWORK_PEER_PORT, original.port());
    }
    for (name, key) in &exchange.snapshot.capture.request_headers {
        capture(span, request.headers(), name, key);
    }
}
