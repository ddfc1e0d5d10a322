//! About how much memory a span takes: what the store's bound is held against.
//!
//! An estimate, on the high side: sizes as the types have them, and each text or list as a chunk of the allocator's.

use opentelemetry::{SpanId, TraceId};
use serde_json::Value;

use super::span::{Attributes, Event, Span};

/// A span's place in its trace: pointer, reference counts and an entry of the index, which may be half empty.
const PLACE: usize = 96;

/// Bytes of a span, with its share of what it shares with its batch.
pub(super) fn span(span: &Span) -> usize {
    let events: usize = span.events.iter().map(event).sum();
    PLACE
        + size_of::<Span>()
        + chunk(span.name.len())
        + attributes(&span.attributes)
        + list::<Event>(span.events.len())
        + events
        + list::<(TraceId, SpanId)>(span.links.len())
        + span.source.share
}

/// Bytes of attributes.
pub(super) fn attributes(attributes: &Attributes) -> usize {
    let each = |(name, inner): &(Box<str>, Value)| chunk(name.len()) + value(inner);
    list::<(Box<str>, Value)>(attributes.len()) + attributes.iter().map(each).sum::<usize>()
}

fn event(event: &Event) -> usize {
    chunk(event.name.len()) + attributes(&event.attributes)
}

fn value(inner: &Value) -> usize {
    match inner {
        Value::String(text) => chunk(text.len()),
        Value::Array(items) => list::<Value>(items.len()) + items.iter().map(value).sum::<usize>(),
        Value::Object(map) => map
            .iter()
            .map(|(name, inner)| {
                2 * size_of::<(String, Value)>() + chunk(name.len()) + value(inner)
            })
            .sum(),
        _ => 0,
    }
}

fn list<T>(length: usize) -> usize {
    chunk(length * size_of::<T>())
}

/// What an allocator takes for so many bytes: its header, rounded up, 32 at least.
pub(super) fn chunk(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => (bytes + 8).next_multiple_of(16).max(32),
    }
}
