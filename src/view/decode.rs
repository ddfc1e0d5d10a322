//! OTLP (opentelemetry-proto) to the viewer's spans: what is not valid is left out and counted.

use std::sync::Arc;

use opentelemetry::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use serde_json::Value;

use super::span::{Attributes, Event, Kind, SERVICE_NAME, Source, Span, Status};
use super::weight;

/// The name of a service that did not say its name (OTel's resource conventions).
const UNKNOWN_SERVICE: &str = "unknown_service";

/// The spans of an OTLP request, and how many of them had no valid trace or span ID.
pub(super) fn from_otlp(request: ExportTraceServiceRequest) -> (Vec<Span>, usize) {
    let mut spans = Vec::new();
    let mut rejected = 0;
    for group in request.resource_spans {
        let resource = Arc::new(attributes(
            group.resource.map(|r| r.attributes).unwrap_or_default(),
        ));
        let service: Arc<str> = resource
            .iter()
            .find(|(name, _)| &**name == SERVICE_NAME)
            .and_then(|(_, value)| value.as_str())
            .filter(|name| !name.is_empty())
            .unwrap_or(UNKNOWN_SERVICE)
            .into();
        let together: usize = group.scope_spans.iter().map(|s| s.spans.len()).sum();
        let resource_share = weight::attributes(&resource) / together.max(1);
        for scoped in group.scope_spans {
            let scope = scoped.scope.map(|s| s.name).unwrap_or_default();
            let source = Arc::new(Source {
                service: Arc::clone(&service),
                resource: Arc::clone(&resource),
                share: resource_share + weight::chunk(scope.len()) / scoped.spans.len().max(1),
                scope: scope.into(),
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
        kind: kind(span.kind),
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

fn kind(kind: i32) -> Kind {
    match otlp::span::SpanKind::try_from(kind) {
        Ok(otlp::span::SpanKind::Server) => Kind::Server,
        Ok(otlp::span::SpanKind::Client) => Kind::Client,
        Ok(otlp::span::SpanKind::Producer) => Kind::Producer,
        Ok(otlp::span::SpanKind::Consumer) => Kind::Consumer,
        _ => Kind::Internal,
    }
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
    let mut kept: Attributes = list
        .into_iter()
        .map(|pair| (pair.key.into_boxed_str(), value(pair.value)))
        .collect();
    // Collecting may reuse the decoded list, whose elements are larger.
    kept.shrink_to_fit();
    kept
}

/// Nesting is bounded by the decoders (prost 100 levels, serde_json 128), so the recursion is.
fn value(any: Option<AnyValue>) -> Value {
    let Some(inner) = any.and_then(|any| any.value) else {
        return Value::Null;
    };
    match inner {
        any_value::Value::StringValue(mut text) => {
            text.shrink_to_fit();
            Value::String(text)
        }
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

#[cfg(test)]
mod tests;
