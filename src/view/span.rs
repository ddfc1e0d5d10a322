//! A span as the viewer keeps it, made from OTLP by `decode`, from whoever sent it.
//!
//! Everything in it was chosen by someone else: names and values are kept as they came and made harmless where they
//! are shown. Attribute names that the viewer reads are constants here; the other attributes it only passes on.

use std::sync::Arc;

use opentelemetry::{SpanId, TraceId};
use serde_json::Value;

/// `service.name`, of the resource.
pub const SERVICE_NAME: &str = "service.name";
/// `http.request.method`
pub const METHOD: &str = "http.request.method";
/// `http.response.status_code`
pub const STATUS_CODE: &str = "http.response.status_code";
/// `http.route`
pub const ROUTE: &str = "http.route";
/// `url.path`
pub const PATH: &str = "url.path";
/// `url.full`
pub const URL: &str = "url.full";
/// `server.address`
pub const SERVER_ADDRESS: &str = "server.address";
/// `server.port`
pub const SERVER_PORT: &str = "server.port";
/// `hopspan.route.to`
pub const ROUTE_TO: &str = "hopspan.route.to";
/// `error.type`
pub const ERROR_TYPE: &str = "error.type";
/// `network.peer.address`
pub const PEER_ADDRESS: &str = "network.peer.address";
/// `network.peer.port`
pub const PEER_PORT: &str = "network.peer.port";
/// `rpc.response.status_code`
pub const RPC_STATUS: &str = "rpc.response.status_code";
/// `hopspan.tunnel.sent_bytes`: it was a tunnel.
pub const TUNNEL: &str = "hopspan.tunnel.sent_bytes";
/// Scope name of hopspan's own spans.
pub const HOPSPAN: &str = "hopspan";
/// `hopspan.parent.evidence`
pub const EVIDENCE: &str = "hopspan.parent.evidence";
/// `hopspan.unlinked.reason`
pub const UNLINKED: &str = "hopspan.unlinked.reason";

/// OTel's span kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Work inside a service; also spans that name no kind.
    Internal,
    /// Serves a request.
    Server,
    /// Makes a request.
    Client,
    /// Hands over a message.
    Producer,
    /// Takes a message.
    Consumer,
}

impl Kind {
    /// The kind as one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Internal => "internal",
            Kind::Server => "server",
            Kind::Client => "client",
            Kind::Producer => "producer",
            Kind::Consumer => "consumer",
        }
    }
}

/// OTel's span status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nobody said.
    Unset,
    /// Someone said that it went well.
    Ok,
    /// It failed, with a description that may be empty.
    Error(Box<str>),
}

/// Attributes in the order they came.
pub type Attributes = Vec<(Box<str>, Value)>;

/// What all spans of one batch entry share.
#[derive(Debug, PartialEq)]
pub struct Source {
    /// `service.name`, or `unknown_service`.
    pub service: Arc<str>,
    /// The resource's attributes.
    pub resource: Arc<Attributes>,
    /// Name of the instrumentation scope.
    pub scope: Box<str>,
    /// Bytes of this that each span is charged with.
    pub share: usize,
}

/// Something that happened during a span.
#[derive(Debug, PartialEq)]
pub struct Event {
    /// What.
    pub name: Box<str>,
    /// When, nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
    /// Details.
    pub attributes: Attributes,
}

/// A received span.
#[derive(Debug, PartialEq)]
pub struct Span {
    /// Never zero.
    pub trace_id: TraceId,
    /// Never zero.
    pub span_id: SpanId,
    /// The parent, if the span names one.
    pub parent_id: Option<SpanId>,
    /// Who made it.
    pub source: Arc<Source>,
    /// The span's name.
    pub name: Box<str>,
    /// Its kind.
    pub kind: Kind,
    /// Nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// Nanoseconds since the Unix epoch; never before the start.
    pub end_unix_nanos: u64,
    /// Its status.
    pub status: Status,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its events.
    pub events: Vec<Event>,
    /// Spans that are related without being the parent.
    pub links: Vec<(TraceId, SpanId)>,
}

impl Span {
    /// Who made it.
    pub fn service(&self) -> &str {
        &self.source.service
    }

    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes
            .iter()
            .find(|(known, _)| &**known == name)
            .map(|(_, value)| value)
    }

    /// A text attribute.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attribute(name).and_then(Value::as_str)
    }

    /// The HTTP status, if the span has one in range.
    pub fn status_code(&self) -> Option<u16> {
        let code = self.attribute(STATUS_CODE)?.as_i64()?;
        u16::try_from(code)
            .ok()
            .filter(|code| (100..1000).contains(code))
    }

    /// Whether it failed: it says so, or says nothing and answered 5xx.
    pub fn failed(&self) -> bool {
        match self.status {
            Status::Error(_) => true,
            Status::Ok => false,
            Status::Unset => self.status_code().is_some_and(|code| code >= 500),
        }
    }

    /// Nanoseconds it took.
    pub fn duration(&self) -> u64 {
        self.end_unix_nanos.saturating_sub(self.start_unix_nanos)
    }
}
