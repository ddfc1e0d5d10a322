//! One request and its response: the value that owns the spans, the in-flight entry and the upstream connection, and
//! ends them once.
//!
//! It ends ([`ends`]) when the response body ends, or when it is dropped (client gone, panic, drain deadline): then
//! as cancelled. The span status rules are those of OTel's HTTP conventions: 5xx fails a SERVER span, 4xx and 5xx a CLIENT
//! span; and those for gRPC ([`grpc::Status`]).

mod answer;
mod ends;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use super::{Direction, Hop, grpc};
use crate::correlation::Presence;
use crate::proxy::body::{ResponseBody, Upload, Watched};
use crate::proxy::forwarding::websocket;
use crate::proxy::pool::Pooled;
use crate::proxy::pressure::Admitted;
use crate::proxy::server::Connection;
use crate::routing::{SamplerKind, Snapshot};
use crate::telemetry::metrics::RequestLabels;
use crate::trace::sampling::{self, Sampler};
use crate::trace::span::{Moment, Span, Value};
use crate::trace::{Context, Parent, semconv, span};

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// See the module.
pub struct Exchange {
    /// What both directions share.
    pub hop: Arc<Hop>,
    /// The configuration this exchange sees, whole.
    pub snapshot: Arc<Snapshot>,
    /// The client's connection.
    pub connection: Arc<Connection>,
    /// When the request head was read.
    pub started: Moment,
    /// The request's method.
    pub method: Method,
    /// SERVER inbound, CLIENT outbound; none where the route is not traced.
    pub span: Option<Span>,
    /// Inbound: the CLIENT span to the app.
    pub app_span: Option<Span>,
    /// Inbound: the entry that joins the app's calls to this request.
    pub presence: Option<Presence>,
    /// The upstream connection, once there is one.
    pub pooled: Option<Pooled>,
    /// A WebSocket that came by HTTP/2: what the app must answer.
    pub websocket: Option<websocket::Asked>,
    /// Chunked requests: set once trailers have come.
    pub trailers: Option<Arc<AtomicBool>>,
    /// How far the request's content has got, where the response has a time to come in.
    pub upload: Option<Arc<Upload>>,
    /// Whether the request is of gRPC.
    pub grpc: bool,
    /// Whether who asked takes answers of gRPC.
    answers_grpc: bool,
    /// That it was let in.
    pub admitted: Option<Admitted>,
    direction: Direction,
    labels: RequestLabels,
    ended: bool,
}

impl Exchange {
    /// Starts an exchange; its spans are set by the direction's plan.
    pub fn begin(
        hop: &Arc<Hop>,
        direction: Direction,
        request: &Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Box<Exchange> {
        static NO_ROUTE: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
        Box::new(Exchange {
            snapshot: hop.table.load(),
            hop: hop.clone(),
            connection,
            started: Moment::now(),
            method: request.method().clone(),
            span: None,
            app_span: None,
            presence: None,
            pooled: None,
            trailers: None,
            upload: None,
            websocket: None,
            grpc: false,
            answers_grpc: request.version() == Version::HTTP_2 && grpc::is(request.headers()),
            admitted: None,
            direction,
            labels: RequestLabels {
                http_request_method: semconv::known_method(request.method()).unwrap_or("_OTHER"),
                http_response_status_code: 0,
                http_route: NO_ROUTE.clone(),
                error_type: "",
            },
            ended: false,
        })
    }

    /// Names the route for the metrics.
    pub fn set_route(&mut self, route: Arc<str>) {
        self.labels.http_route = route;
    }

    /// The context of a span below `parent`, sampled or not: parent-based, then the route's ratio or the policy's, then
    /// the limit of new traces per second.
    pub fn sampled_context(&self, parent: &Parent, ratio: Option<f64>) -> Context {
        sampled(
            &self.hop,
            &self.snapshot,
            parent,
            ratio,
            self.started.instant,
        )
    }

    /// How much this exchange's spans keep.
    pub fn span_limits(&self) -> span::Limits {
        limits(&self.snapshot)
    }

    /// The innermost span: the one that talks to the upstream.
    pub fn client_span(&mut self) -> Option<&mut Span> {
        self.app_span.as_mut().or(self.span.as_mut())
    }

    /// An answer of the upstream, on its way to the client.
    pub fn respond(mut self: Box<Self>, response: Response<Incoming>) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        if self.had_trailers() {
            parts.headers.insert(header::CONNECTION, CLOSE);
        }
        self.set_status(parts.status);
        // A response without messages has it in its head.
        self.set_grpc_status(&parts.headers);
        self.capture_response(&parts.headers);
        // An event stream may be silent for as long as nothing happens, and so may those of gRPC.
        let silent = is_event_stream(&parts.headers) || grpc::is(&parts.headers);
        let idle = (!silent).then_some(self.snapshot.timeouts.body_idle);
        let bare = self.method == Method::HEAD
            || matches!(
                parts.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        let body = Watched::new(body, self).idle_limit(idle).bare(bare);
        Response::from_parts(parts, body.into())
    }

    /// Where trailers end, hyper takes a line end for the end that others would not: what follows on that connection is
    /// then not what the client means.
    fn had_trailers(&self) -> bool {
        let trailers = self.trailers.as_ref();
        trailers.is_some_and(|seen| seen.load(Ordering::Relaxed))
    }

    /// It is a tunnel now, and takes what it takes: nothing is kept free for it.
    pub fn settle(&mut self) {
        self.admitted.take_if(|admitted| admitted.in_time());
    }

    /// Records the status of an answer that no upstream gave: a client span has one only if one was received.
    fn set_own_status(&mut self, status: StatusCode) {
        let client_span = self.client_span_place().take();
        self.set_status(status);
        *self.client_span_place() = client_span;
    }

    fn client_span_place(&mut self) -> &mut Option<Span> {
        match self.direction {
            Direction::Inbound => &mut self.app_span,
            Direction::Outbound => &mut self.span,
        }
    }

    /// Records the status on spans and labels.
    pub fn set_status(&mut self, status: StatusCode) {
        self.labels.http_response_status_code = status.as_u16();
        let failed_server = status.is_server_error();
        let failed_client = failed_server || status.is_client_error();
        let fails = self.blame(failed_server, failed_client);
        self.outcome(
            semconv::HTTP_RESPONSE_STATUS_CODE,
            Value::from(status.as_u16()),
            status_text(status),
            fails,
        );
    }

    /// Records what a call came to, where it says so.
    fn set_grpc_status(&mut self, fields: &HeaderMap) {
        if let Some(status) = self.grpc.then(|| grpc::Status::read(fields)).flatten() {
            self.set_grpc(status);
        }
    }

    fn set_grpc(&mut self, status: grpc::Status) {
        let fails = self.blame(status.fails_server(), status.fails_client());
        let (name, code) = (status.0, semconv::RPC_RESPONSE_STATUS_CODE);
        self.outcome(code, Value::from(name), name, fails);
    }

    /// Whether a status fails the outer span, and that to the app, given which kinds it fails.
    fn blame(&self, server: bool, client: bool) -> (bool, bool) {
        match self.direction {
            Direction::Inbound => (server, client),
            Direction::Outbound => (client, client),
        }
    }

    fn outcome(
        &mut self,
        key: &'static str,
        value: Value,
        error_type: &'static str,
        fails: (bool, bool),
    ) {
        if fails.0 {
            self.labels.error_type = error_type;
        }
        for (span, fails) in [
            (self.span.as_mut(), fails.0),
            (self.app_span.as_mut(), fails.1),
        ] {
            let Some(span) = span else { continue };
            span.attribute(key, value.clone());
            if fails {
                span.fail(error_type, None);
            }
        }
    }

    fn capture_response(&mut self, headers: &HeaderMap) {
        let snapshot = self.snapshot.clone();
        for (name, key) in &snapshot.capture.response_headers {
            let Some(span) = self.span.as_mut().filter(|span| span.is_recording()) else {
                return;
            };
            super::capture(span, headers, name, key);
        }
    }
}

/// The context of a span below `parent`: see [`Exchange::sampled_context`].
pub(super) fn sampled(
    hop: &Hop,
    snapshot: &Snapshot,
    parent: &Parent,
    ratio: Option<f64>,
    now: Instant,
) -> Context {
    let policy = &snapshot.sampling;
    let root = Context::new_root();
    let sampler = match ratio.map_or(policy.sampler, SamplerKind::for_ratio) {
        SamplerKind::AlwaysOn => Sampler::AlwaysOn,
        SamplerKind::AlwaysOff => Sampler::AlwaysOff,
        SamplerKind::Ratio(share) => Sampler::Ratio(share),
    };
    let mut sampled = sampling::decide(
        sampler,
        policy.parent_based,
        parent.context(),
        root.trace_id,
    );
    if let (true, None, Some(rate)) = (sampled, parent.context(), policy.rate) {
        sampled = hop.limiter.allow(rate, now);
    }
    span::child_context(parent, root, sampled)
}

/// How much spans keep.
pub(super) fn limits(snapshot: &Snapshot) -> span::Limits {
    span::Limits {
        attributes: snapshot.limits.attributes,
        value_bytes: snapshot.limits.attribute_bytes,
        bytes: snapshot.limits.span_bytes,
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// A status as `error.type`, without an allocation.
fn status_text(status: StatusCode) -> &'static str {
    static TEXTS: LazyLock<Vec<String>> =
        LazyLock::new(|| (100..=999).map(|code: u16| code.to_string()).collect());
    usize::from(status.as_u16())
        .checked_sub(100)
        .and_then(|at| TEXTS.get(at))
        .map_or(semconv::error_type::OTHER, String::as_str)
}
