//! A span's own data as JSON: what the API shows beside the row that the span got.

use std::collections::BTreeMap;

use opentelemetry::{SpanId, TraceId};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::Value;

use super::span::{Attributes, Event, Span};

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let events: Vec<EventDocument<'_>> = self.events.iter().map(EventDocument::of).collect();
        let links: Vec<LinkDocument> = self.links.iter().map(LinkDocument::of).collect();
        let mut document = serializer.serialize_struct("Span", 5)?;
        document.serialize_field("scope", &self.source.scope)?;
        document.serialize_field("attributes", &map(&self.attributes))?;
        document.serialize_field("resource", &map(&self.source.resource))?;
        document.serialize_field("events", &events)?;
        document.serialize_field("links", &links)?;
        document.end()
    }
}

#[derive(serde::Serialize)]
struct EventDocument<'a> {
    name: &'a str,
    unix_nano: String,
    attributes: BTreeMap<&'a str, &'a Value>,
}

impl EventDocument<'_> {
    fn of(event: &Event) -> EventDocument<'_> {
        EventDocument {
            name: &event.name,
            unix_nano: event.unix_nanos.to_string(),
            attributes: map(&event.attributes),
        }
    }
}

#[derive(serde::Serialize)]
struct LinkDocument {
    trace_id: String,
    span_id: String,
}

impl LinkDocument {
    fn of((trace_id, span_id): &(TraceId, SpanId)) -> LinkDocument {
        LinkDocument {
            trace_id: trace_id.to_string(),
            span_id: span_id.to_string(),
        }
    }
}

/// Of a name that occurs twice the later value is shown, as collectors do.
fn map(attributes: &Attributes) -> BTreeMap<&str, &Value> {
    attributes
        .iter()
        .map(|(name, value)| (&**name, value))
        .collect()
}
