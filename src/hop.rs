//! One passage of a request through hopspan: where proxy, trace, routing and correlation meet.
//!
//! Read [`Hop::handle`]: every request, inbound and outbound, walks down it in the same order. The two directions answer
//! the same questions differently, in [`inbound`] and [`outbound`]; what both own until the end is [`exchange::Exchange`].
//! An error is a value until `handle` turns it into a response; a span, an in-flight entry or a connection that is
//! dropped on the way ends as cancelled, so no early return can lose one.

pub mod caller;
pub mod error;
pub mod exchange;
mod grpc;
pub mod inbound;
pub mod outbound;
mod redirected;
mod send;
mod spare;
pub mod startup;
pub mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use http_body::Body;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::correlation::{Correlator, token};
use crate::proxy::body::{RequestBody, ResponseBody};
use crate::proxy::forwarding;
use crate::proxy::forwarding::request::{self, BadRequest};
use crate::proxy::forwarding::websocket;
use crate::proxy::pool::Pool;
use crate::proxy::pressure::Pressure;
use crate::proxy::server::{Connection, Handler, Opaque};
use crate::proxy::upstream::Upstream;
use crate::routing::Table;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Reason;
use crate::trace::sampling::RateLimiter;
use crate::trace::span::{Key, Sink, Span, Value};
use crate::trace::w3c::{self, Extracted};
use crate::trace::{Context, semconv};

use error::ExchangeError;
use exchange::Exchange;
use hyper::upgrade::OnUpgrade;
use startup::Startup;
use upgrade::Connected;

/// Everything both directions share. One per sidecar.
pub struct Hop {
    /// The hot configuration.
    pub table: Arc<Table>,
    /// Connections to the app.
    pub app_pool: Arc<Pool>,
    /// Connections to services.
    pub service_pool: Arc<Pool>,
    /// Who joins outbound calls to their cause.
    pub correlator: Arc<Correlator>,
    /// Where finished spans go.
    pub sink: Arc<dyn Sink>,
    /// hopspan's own counters.
    pub metrics: Arc<Metrics>,
    /// Whether there is memory for new requests.
    pub pressure: Arc<Pressure>,
    /// Whether the app may still be starting (wrap mode).
    pub startup: Startup,
    /// Limits new traces per second, where configured.
    pub limiter: RateLimiter,
    /// Fires when tunnels must end.
    pub cut: CancellationToken,
    /// Tunnels outlive the handler of their exchange.
    pub tunnels: TaskTracker,
}

/// Which way a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client to the app.
    Inbound,
    /// From the app to a service.
    Outbound,
}

/// The handler of one listener.
#[derive(Clone)]
pub struct Side {
    hop: Arc<Hop>,
    direction: Direction,
}

impl Side {
    /// Serves requests that pass in `direction`.
    pub fn new(hop: Arc<Hop>, direction: Direction) -> Side {
        Side { hop, direction }
    }
}

impl Handler for Side {
    fn handle(
        &self,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<> {
        let hop = self.hop.clone();
        hop.handle(self.direction, request, connection)
    }

    async fn relay(&self, client: Opaque, connection: Arc<Connection>) {
        redirected::relay(&self.hop, client, &connection).await;
    }
}

/// What a direction decides about a request before anything is sent.
#[derive(Default)]
pub struct Plan {
    /// Where to, in order of preference.
    pub upstreams: Vec<Upstream>,
    /// The trace context that leaves with the request.
    pub leaves: Leaves,
    /// The baggage that leaves with it.
    pub baggage: Baggage,
    /// Longest wait for the response head, once the request was sent.
    pub timeout: Option<Duration>,
    /// Outbound: goes before the path, where the route's `to:` has one.
    pub path_prefix: Option<Arc<str>>,
    /// Outbound: what `Host` becomes, where the route says so.
    pub host: Option<HeaderValue>,
}

/// The trace context that leaves with a request.
#[derive(Default)]
pub enum Leaves {
    /// Whatever came: no propagator is configured.
    #[default]
    Untouched,
    /// None: nothing may leak to this destination.
    Nothing,
    /// Exactly this one, whatever came.
    Context(Context),
}

/// The baggage that leaves with a request.
#[derive(Clone, Copy, Default)]
pub enum Baggage {
    /// What the request itself carries.
    #[default]
    Own,
    /// The context's.
    Restored,
    /// The context's, unless the upstream turns out to be a public address; then the request's own.
    RestoredIfPrivate,
}

/// What came of sending a request on.
enum Outcome {
    Answered(Response<Incoming>),
    Upgraded(Response<Incoming>, OnUpgrade),
    Connected(Connected),
}

impl Hop {
    /// The path. Each line is a question; each has one answer per exchange.
    #[allow(clippy::manual_async_fn)] // that would have room for the request twice
    pub fn handle(
        self: Arc<Hop>,
        direction: Direction,
        mut request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<> {
        async move {
            // the one hot read: the exchange sees one generation
            let websocket = websocket::ask(&mut request);
            let mut exchange = Exchange::begin(&self, direction, &request, connection);
            exchange.websocket = websocket;
            exchange.admitted = self.pressure.admit();
            // which route, which parent, which spans, what leaves
            let plan = match direction {
                // No span: it would take of what there is too little of.
                _ if exchange.admitted.is_none() => Err(ExchangeError::OutOfMemory),
                Direction::Inbound => inbound::plan(&mut exchange, &mut request),
                // Boxed: what it takes to look for a parent is no room that an inbound request should have.
                Direction::Outbound => Box::pin(outbound::plan(&mut exchange, &mut request)).await,
            };
            // rewrite, connect, send, await the response head
            let outcome = match plan {
                Ok(plan) => self.forward(&mut exchange, direction, &plan, request).await,
                Err(error) => Err(error),
            };
            // from here on the exchange lives in the response body or the tunnel, and ends with it
            match outcome {
                Ok(Outcome::Answered(response)) => exchange.respond(response),
                Ok(Outcome::Upgraded(response, client)) => {
                    upgrade::switch(&self, exchange, response, client)
                }
                Ok(Outcome::Connected(connected)) => connected.answer(&self, exchange),
                Err(error) => exchange.answer(&error),
            }
        }
    }

    #[allow(clippy::manual_async_fn)] // as above
    fn forward<'a>(
        self: &'a Arc<Hop>,
        exchange: &'a mut Exchange,
        direction: Direction,
        plan: &'a Plan,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Outcome, ExchangeError>> + Send + 'a {
        async move {
            exchange.grpc = grpc::is(request.headers());
            let http1 = request.version() < Version::HTTP_2;
            if direction == Direction::Outbound && request.method() == Method::CONNECT {
                let connecting = upgrade::connect(self, exchange, plan, request);
                return Ok(Outcome::Connected(Box::pin(connecting).await?));
            }
            let asked = forwarding::clean_request(&mut request, &[]);
            let client = asked.map(|_| hyper::upgrade::on(&mut request));
            if let Some(prefix) = &plan.path_prefix {
                prefix_path(&mut request, prefix);
            }
            if let Some(host) = &plan.host {
                request.headers_mut().insert(header::HOST, host.clone());
            }
            // Streams of gRPC may be silent for as long as nothing happens.
            let stalled = (!exchange.grpc).then_some(exchange.snapshot.timeouts.body_idle);
            if http1 && request.body().size_hint().exact().is_none() {
                exchange.trailers = Some(Arc::default());
            }
            let trailers = exchange.trailers.as_ref();
            exchange.upload = plan.timeout.map(|_| Arc::default());
            let upload = exchange.upload.as_ref();
            let request = request.map(|body| RequestBody::limited(body, stalled, trailers, upload));
            let mut response = self.send(exchange, direction, plan, request).await?;
            let cleaned = forwarding::clean_response(&mut response, asked);
            let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let cleaned = cleaned.and_then(|()| match &exchange.websocket {
                Some(asked) => websocket::answer(&mut response, asked),
                None => Ok(()),
            });
            if let Err(bad) = cleaned {
                tracing::debug!(
                    upstream = plan.upstream_name(),
                    why = bad.0,
                    "refused a response"
                );
                return Err(ExchangeError::HttpProtocolError(plan.upstream_name()));
            }
            // An app that echoes its headers must not tell the token to a client, nor a service give one to the app.
            token::strip(response.headers_mut());
            Ok(match client {
                Some(client) if switched => Outcome::Upgraded(response, client),
                _ => Outcome::Answered(response),
            })
        }
    }
}

impl Plan {
    fn upstream_name(&self) -> String {
        self.upstreams
            .first()
            .map(Upstream::to_string)
            .unwrap_or_default()
    }
}

fn check(request: &Request<Incoming>) -> Result<(), ExchangeError> {
    request::validate(request).map_err(ExchangeError::from)
}

impl From<BadRequest> for ExchangeError {
    fn from(bad: BadRequest) -> ExchangeError {
        ExchangeError::BadRequest {
            status: bad.status,
            why: bad.why.into(),
        }
    }
}

/// Puts a route's prefix before the path. What cannot be one leaves the path as it is: the config was checked.
fn prefix_path(request: &mut Request<Incoming>, prefix: &str) {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    if let Ok(uri) = format!("{}{path}", prefix.trim_end_matches('/')).parse() {
        *request.uri_mut() = uri;
    }
}

/// The context in a request's headers, where the propagators include one; malformed parts are counted.
fn extract(exchange: &Exchange, headers: &HeaderMap) -> Extracted {
    if !exchange.snapshot.propagation.trace_context {
        return Extracted::Absent;
    }
    let malformed = &exchange.hop.metrics.context_malformed;
    w3c::extract_reporting(headers, |reason| {
        malformed.get_or_create(&Reason { reason }).inc();
    })
}

fn describe_method(span: &mut Span, method: &Method) {
    match semconv::known_method(method) {
        Some(known) => span.new_attribute(semconv::HTTP_REQUEST_METHOD, known),
        None => {
            span.new_attribute(semconv::HTTP_REQUEST_METHOD, semconv::error_type::OTHER);
            span.new_attribute(
                semconv::HTTP_REQUEST_METHOD_ORIGINAL,
                method.as_str().to_owned(),
            );
        }
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// Captures a header by `capture:` into the attribute the snapshot prepared.
fn capture(span: &mut Span, headers: &HeaderMap, name: &HeaderName, key: &Arc<str>) {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    if !values.is_empty() {
        span.attribute(Key::Shared(key.clone()), Value::List(values));
    }
}
