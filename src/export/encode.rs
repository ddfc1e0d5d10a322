//! OTLP requests (opentelemetry-proto 1.x, `ExportTraceServiceRequest`) written straight from records.
//!
//! Building SDK and prost structs first costs about ten times the CPU, most of it in allocation. What is written here
//! is canonical protobuf: fields in order, shortest lengths, defaults left out. A test holds it equal, field by field,
//! to what opentelemetry-otlp's own exporter sends for the same spans.

use bytes::Bytes;
use http::HeaderValue;

use crate::trace::span::{Key, Kind, Record, Value};
use crate::trace::{Context, SpanId, semconv};

/// OTLP span flags: bits 8 and 9 say whether the parent (of a link: its context) came over the network.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Protobuf wire types.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// All of a request but its spans, encoded once.
#[derive(Debug)]
pub(super) struct Envelope {
    /// `ResourceSpans.resource`, with its tag.
    resource: Vec<u8>,
    /// `ScopeSpans.scope`, with its tag.
    scope: Vec<u8>,
    /// `ScopeSpans.schema_url`, with its tag.
    schema: Vec<u8>,
}

impl Envelope {
    /// For spans of `resource`, to which what hopspan says of itself is added.
    pub(super) fn new(resource: &[(String, String)]) -> Envelope {
        let own = [
            (semconv::SERVICE_NAME, "unknown_service"),
            (semconv::TELEMETRY_DISTRO_NAME, "hopspan"),
            (semconv::TELEMETRY_DISTRO_VERSION, env!("CARGO_PKG_VERSION")),
        ];
        let own = own
            .into_iter()
            .filter(|(name, _)| resource.iter().all(|(known, _)| known != name));
        let given = resource.iter().map(|(name, value)| (&**name, &**value));
        let mut envelope = Envelope {
            resource: Vec::new(),
            scope: Vec::new(),
            schema: Vec::new(),
        };
        message(&mut envelope.resource, 1, |out| {
            for (name, value) in given.chain(own) {
                message(out, 1, |out| {
                    text(out, 1, name);
                    message(out, 2, |out| bytes(out, 1, value.as_bytes()));
                });
            }
        });
        message(&mut envelope.scope, 1, |out| {
            text(out, 1, "hopspan");
            text(out, 2, env!("CARGO_PKG_VERSION"));
        });
        text(&mut envelope.schema, 3, semconv::SCHEMA_URL);
        envelope
    }

    /// The request of `spans`, which [`span`] wrote: one or several to a piece.
    pub(super) fn request(&self, spans: &[impl AsRef<[u8]>]) -> Bytes {
        let length: usize = spans.iter().map(|span| span.as_ref().len()).sum();
        let inner = self.scope.len() + length + self.schema.len();
        let outer = self.resource.len() + 1 + varint_len(inner as u64) + inner;
        let mut out = Vec::with_capacity(1 + varint_len(outer as u64) + outer);
        // resource_spans
        tag(&mut out, 1, LENGTH);
        varint(&mut out, outer as u64);
        out.extend_from_slice(&self.resource);
        // scope_spans
        tag(&mut out, 2, LENGTH);
        varint(&mut out, inner as u64);
        out.extend_from_slice(&self.scope);
        for span in spans {
            out.extend_from_slice(span.as_ref());
        }
        out.extend_from_slice(&self.schema);
        Bytes::from(out)
    }
}

/// Appends one `ScopeSpans.spans`.
pub(super) fn span(out: &mut Vec<u8>, record: &Record) {
    message(out, 2, |out| {
        ids(out, &record.context);
        let parent = record.parent_span_id.filter(|id| *id != SpanId::INVALID);
        if let Some(parent) = parent {
            bytes(out, 4, &parent.to_bytes());
        }
        name(out, record);
        let kind = match record.kind {
            Kind::Server => 2,
            Kind::Client => 3,
        };
        number(out, 6, kind);
        fixed64(out, 7, record.start_unix_nanos);
        fixed64(out, 8, record.end_unix_nanos);
        attributes(out, 9, &record.attributes);
        number(out, 10, u64::from(record.dropped_attributes));
        for link in &record.links {
            message(out, 13, |out| {
                ids(out, link);
                // Links are made from headers: their contexts came over the network.
                flags(out, 6, link, true);
            });
        }
        if let Some(description) = &record.error {
            message(out, 15, |out| {
                text(out, 2, description);
                number(out, 3, 2);
            });
        }
        flags(out, 16, &record.context, record.parent_is_remote);
    });
}

/// `trace_id`, `span_id` and `trace_state`, alike in spans and links.
fn ids(out: &mut Vec<u8>, context: &Context) {
    bytes(out, 1, &context.trace_id.to_bytes());
    bytes(out, 2, &context.span_id.to_bytes());
    // A tracestate is ASCII once it was parsed; whatever is not cannot be a protobuf string.
    if let Some(state) = context
        .tracestate
        .as_ref()
        .and_then(|s: &HeaderValue| s.to_str().ok())
    {
        text(out, 3, state);
    }
}

fn flags(out: &mut Vec<u8>, field: u32, context: &Context, remote: bool) {
    let remote = if remote { IS_REMOTE } else { 0 };
    let flags = u32::from(context.flags.bits()) | HAS_IS_REMOTE | remote;
    tag(out, field, FIXED32);
    out.extend_from_slice(&flags.to_le_bytes());
}

fn name(out: &mut Vec<u8>, record: &Record) {
    message(out, 5, |out| {
        out.extend_from_slice(record.name.method.as_bytes());
        if let Some(target) = &record.name.target {
            out.push(b' ');
            out.extend_from_slice(target.as_bytes());
        }
    });
}

fn attributes(out: &mut Vec<u8>, field: u32, list: &[(Key, Value)]) {
    for (key, value) in list {
        let short = match value {
            Value::Static(text) => short_text(out, field, key.as_str(), text),
            Value::Shared(text) => short_text(out, field, key.as_str(), text),
            Value::Text(text) => short_text(out, field, key.as_str(), text),
            _ => false,
        };
        if !short {
            message(out, field, |out| {
                text(out, 1, key.as_str());
                message(out, 2, |out| any_value(out, value));
            });
        }
    }
}

/// Most attributes are short texts: every length then takes one byte and is known before it is written. Gives whether
/// this was one; if not, nothing is written.
fn short_text(out: &mut Vec<u8>, field: u32, key: &str, value: &str) -> bool {
    let whole = 2 + key.len() + 4 + value.len();
    if whole > 0x7f || key.is_empty() {
        return false;
    }
    let tag = |field: u32| (field << 3 | LENGTH) as u8;
    // `whole` bounds each of them.
    let [whole, key_len, any_len, value_len] =
        [whole, key.len(), 2 + value.len(), value.len()].map(|length| length as u8);
    out.extend_from_slice(&[tag(field), whole, tag(1), key_len]);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&[tag(2), any_len, tag(1), value_len]);
    out.extend_from_slice(value.as_bytes());
    true
}

/// An `AnyValue`: one of its fields is always written, defaults too, since which one it is says the type.
fn any_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Static(text) => bytes(out, 1, text.as_bytes()),
        Value::Shared(text) => bytes(out, 1, text.as_bytes()),
        Value::Text(text) => bytes(out, 1, text.as_bytes()),
        Value::Bool(truth) => {
            tag(out, 2, VARINT);
            out.push(u8::from(*truth));
        }
        Value::Int(number) => {
            tag(out, 3, VARINT);
            varint(out, number.cast_unsigned());
        }
        Value::Float(number) => {
            tag(out, 4, FIXED64);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::List(texts) => message(out, 5, |out| {
            for text in texts {
                message(out, 1, |out| bytes(out, 1, text.as_bytes()));
            }
        }),
    }
}

/// A nested message. Its length is known when it is written: one byte is kept free for it, which is enough for most
/// attributes; a longer message is moved up by the bytes that its length takes.
fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, LENGTH);
    let at = out.len();
    out.push(0);
    write(out);
    let length = out.len() - at - 1;
    let more = varint_len(length as u64) - 1;
    if more > 0 {
        let end = out.len();
        out.resize(end + more, 0);
        out.copy_within(at + 1..end, at + 1 + more);
    }
    let mut rest = length;
    for place in out.iter_mut().skip(at).take(more + 1) {
        *place = (rest & 0x7f) as u8 | 0x80;
        rest >>= 7;
    }
    if let Some(last) = out.get_mut(at + more) {
        *last &= 0x7f;
    }
}

/// A string field; empty ones are left out, as proto3 does.
fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        bytes(out, field, text.as_bytes());
    }
}

fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    tag(out, field, LENGTH);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A varint field; zero is left out, as proto3 does.
fn number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        tag(out, field, VARINT);
        varint(out, number);
    }
}

fn fixed64(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        tag(out, field, FIXED64);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Bytes that [`varint`] writes.
fn varint_len(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests;
