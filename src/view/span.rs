//! A span as the viewer keeps it: made from OTLP (opentelemetry-proto), from whoever sent it.
//!
//! Everything in it was chosen by someone else: names and values are kept as they came and made harmless where they
//! are shown. Attribute names that the viewer reads are constants here; the other attributes it only passes on.

use std::sync::Arc;

use opentelemetry::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
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
/// `error.type`
pub const ERROR_TYPE: &str = "error.type";
/// `hopspan.parent.evidence`
pub const EVIDENCE: &str = "hopspan.parent.evidence";
/// `hopspan.unlinked.reason`
pub const UNLINKED: &str = "hopspan.unlinked.reason";

/// The name of a service that did not say its name (OTel's resource conventions).
const UNKNOWN_SERVICE: &str = "unknown_service";

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

    fn from_otlp(kind: i32) -> Kind {
        match otlp::span::SpanKind::try_from(kind) {
            Ok(otlp::span::SpanKind::Server) => Kind::Server,
            Ok(otlp::span::SpanKind::Client) => Kind::Client,
            Ok(otlp::span::SpanKind::Producer) => Kind::Producer,
            Ok(otlp::span::SpanKind::Consumer) => Kind::Consumer,
            _ => Kind::Internal,
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
    pub resource: Attributes,
    /// Name of the instrumentation scope.
    pub scope: Box<str>,
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

    /// About how much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let events: usize = self
            .events
            .iter()
            .map(|event| size_of::<Event>() + event.name.len() + weigh(&event.attributes))
            .sum();
        // Each span also has an entry in the index of its trace; the source is shared, and charged by a share.
        size_of::<Span>()
            + 96
            + self.name.len()
            + weigh(&self.attributes)
            + events
            + self.links.len() * size_of::<(TraceId, SpanId)>()
    }
}

fn weigh(attributes: &Attributes) -> usize {
    attributes
        .iter()
        .map(|(name, value)| name.len() + size_of::<(Box<str>, Value)>() + weigh_value(value))
        .sum()
}

fn weigh_value(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list
            .iter()
            .map(|v| size_of::<Value>() + weigh_value(v))
            .sum(),
        Value::Object(map) => map
            .iter()
            .map(|(name, v)| 2 * size_of::<Value>() + name.len() + weigh_value(v))
            .sum(),
        _ => 0,
    }
}

/// The spans of an OTLP request, and how many of them had no valid trace or span ID.
pub fn from_otlp(request: ExportTraceServiceRequest) -> (Vec<Span>, usize) {
    let mut spans = Vec::new();
    let mut rejected = 0;
    for group in request.resource_spans {
        let resource = attributes(group.resource.map(|r| r.attributes).unwrap_or_default());
        let service: Arc<str> = resource
            .iter()
            .find(|(name, _)| &**name == SERVICE_NAME)
            .and_then(|(_, value)| value.as_str())
            .filter(|name| !name.is_empty())
            .unwrap_or(UNKNOWN_SERVICE)
            .into();
        for scoped in group.scope_spans {
            let source = Arc::new(Source {
                service: Arc::clone(&service),
                resource: resource.clone(),
                scope: scoped.scope.map(|s| s.name).unwrap_or_default().into(),
            });
            for span in scoped.spans {
                match from_one(span, &source) {
                    Some(span) => spans.push(span),
                    None => rejected += 1,
                }
            }
        }
    }
    (spans, rejected)
}

fn from_one(span: otlp::Span, source: &Arc<Source>) -> Option<Span> {
    let end = span.end_time_unix_nano;
    // A start of 0 means "unknown"; taken at its word it would stretch the trace over fifty years.
    let start = match span.start_time_unix_nano {
        0 => end,
        start => start,
    };
    Some(Span {
        trace_id: trace_id(&span.trace_id)?,
        span_id: span_id(&span.span_id)?,
        parent_id: span_id(&span.parent_span_id),
        source: Arc::clone(source),
        name: span.name.into(),
        kind: Kind::from_otlp(span.kind),
        start_unix_nanos: start,
        end_unix_nanos: end.max(start),
        status: status(span.status),
        attributes: attributes(span.attributes),
        events: span
            .events
            .into_iter()
            .map(|event| Event {
                name: event.name.into(),
                unix_nanos: event.time_unix_nano,
                attributes: attributes(event.attributes),
            })
            .collect(),
        links: span
            .links
            .iter()
            .filter_map(|link| Some((trace_id(&link.trace_id)?, span_id(&link.span_id)?)))
            .collect(),
    })
}

fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    let id = TraceId::from_bytes(bytes.try_into().ok()?);
    (id != TraceId::INVALID).then_some(id)
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    let id = SpanId::from_bytes(bytes.try_into().ok()?);
    (id != SpanId::INVALID).then_some(id)
}

fn status(status: Option<otlp::Status>) -> Status {
    let Some(status) = status else {
        return Status::Unset;
    };
    match otlp::status::StatusCode::try_from(status.code) {
        Ok(otlp::status::StatusCode::Error) => Status::Error(status.message.into()),
        Ok(otlp::status::StatusCode::Ok) => Status::Ok,
        _ => Status::Unset,
    }
}

fn attributes(list: Vec<KeyValue>) -> Attributes {
    list.into_iter()
        .map(|pair| (pair.key.into_boxed_str(), value(pair.value)))
        .collect()
}

/// Nesting is bounded by the decoders (prost 100 levels, serde_json 128), so the recursion is.
fn value(any: Option<AnyValue>) -> Value {
    let Some(inner) = any.and_then(|any| any.value) else {
        return Value::Null;
    };
    match inner {
        any_value::Value::StringValue(text) => Value::String(text),
        any_value::Value::BoolValue(truth) => Value::Bool(truth),
        any_value::Value::IntValue(number) => Value::from(number),
        any_value::Value::DoubleValue(number) => Value::from(number),
        any_value::Value::ArrayValue(list) => {
            Value::Array(list.values.into_iter().map(|v| value(Some(v))).collect())
        }
        any_value::Value::KvlistValue(list) => Value::Object(
            list.values
                .into_iter()
                .map(|pair| (pair.key, value(pair.value)))
                .collect(),
        ),
        any_value::Value::BytesValue(bytes) => {
            Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        // New kinds of value are not shown until they are known here.
        _ => Value::Null,
    }
}
