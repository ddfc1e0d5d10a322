//! Spans as a collector got them, and traces as trees to assert on.
//!
//! ```ignore
//! trace.assert_tree("
//!     order-service SERVER GET orders/<int:pk>/
//!       order-service CLIENT GET orders/<int:pk>/
//!         order-service CLIENT GET
//! ");
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as proto;

/// A span; IDs in lower-case hex, values as text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// `service.name` of its resource.
    pub(crate) service: String,
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) scope: String,
    /// `SERVER`, `CLIENT`, ...
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    /// Empty for a root.
    pub(crate) parent: String,
    pub(crate) trace_state: String,
    /// W3C flags and OTLP's "is remote" bits.
    pub(crate) flags: u32,
    /// Nanoseconds since the epoch.
    pub(crate) start: u64,
    /// Nanoseconds since the epoch.
    pub(crate) end: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Attributes that it had no room for.
    pub(crate) left_out: u32,
    /// `Unset`, `Ok` or `Error`.
    pub(crate) status: &'static str,
    pub(crate) message: String,
    pub(crate) events: Vec<String>,
    /// Span IDs of linked spans.
    pub(crate) links: Vec<String>,
}

impl Span {
    /// An attribute's value; empty if it is not there.
    pub(crate) fn attr(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Whether its status is Error.
    pub(crate) fn failed(&self) -> bool {
        self.status == "Error"
    }

    /// The `traceparent` that names this span as the parent.
    pub(crate) fn is_named_by(&self, traceparent: &str) -> bool {
        let parts: Vec<&str> = traceparent.split('-').collect();
        parts.get(1) == Some(&self.trace_id.as_str())
            && parts.get(2) == Some(&self.span_id.as_str())
    }

    fn title(&self) -> String {
        let failed = if self.failed() { " !" } else { "" };
        format!("{} {} {}{failed}", self.service, self.kind, self.name)
    }
}

/// The spans of one export.
pub(crate) fn decode(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        let resource = attributes(&resource.attributes);
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.unwrap_or_default().name;
            for span in of_scope.spans {
                spans.push(decode_span(span, &resource, &scope));
            }
        }
    }
    spans
}

fn decode_span(span: proto::Span, resource: &BTreeMap<String, String>, scope: &str) -> Span {
    let kind = match span.kind() {
        proto::span::SpanKind::Server => "SERVER",
        proto::span::SpanKind::Client => "CLIENT",
        proto::span::SpanKind::Internal => "INTERNAL",
        proto::span::SpanKind::Producer => "PRODUCER",
        proto::span::SpanKind::Consumer => "CONSUMER",
        proto::span::SpanKind::Unspecified => "UNSPECIFIED",
    };
    let status = span.status.clone().unwrap_or_default();
    Span {
        service: resource.get("service.name").cloned().unwrap_or_default(),
        resource: resource.clone(),
        scope: scope.to_owned(),
        kind,
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        trace_state: span.trace_state,
        flags: span.flags,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        left_out: span.dropped_attributes_count,
        status: match status.code() {
            proto::status::StatusCode::Unset => "Unset",
            proto::status::StatusCode::Ok => "Ok",
            proto::status::StatusCode::Error => "Error",
        },
        message: status.message,
        events: span.events.into_iter().map(|event| event.name).collect(),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        name: span.name,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for pair in pairs {
        let value = pair.value.as_ref().map(text).unwrap_or_default();
        let before = map.insert(pair.key.clone(), value);
        assert_eq!(before, None, "attribute {} occurs twice", pair.key);
    }
    map
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(any_value::Value::ArrayValue(list)) => {
            let values: Vec<String> = list.values.iter().map(text).collect();
            format!("[{}]", values.join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// All spans of one trace ID.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) id: String,
    pub(crate) spans: Vec<Span>,
}

impl Trace {
    /// Those of `spans` that belong to it.
    pub(crate) fn of(trace_id: &str, spans: &[Span]) -> Trace {
        let spans = spans.iter().filter(|span| span.trace_id == trace_id);
        Trace {
            id: trace_id.to_owned(),
            spans: spans.cloned().collect(),
        }
    }

    /// Groups spans by trace ID.
    pub(crate) fn all(spans: &[Span]) -> Vec<Trace> {
        let ids: std::collections::BTreeSet<&str> =
            spans.iter().map(|span| span.trace_id.as_str()).collect();
        ids.into_iter().map(|id| Trace::of(id, spans)).collect()
    }

    /// The spans whose parent is not here.
    pub(crate) fn roots(&self) -> Vec<&Span> {
        let known = |id: &str| self.spans.iter().any(|span| span.span_id == id);
        let roots = self.spans.iter().filter(|span| !known(&span.parent));
        roots.collect()
    }

    /// The children of a span, by start.
    pub(crate) fn children(&self, span: &Span) -> Vec<&Span> {
        let mut children: Vec<&Span> = self
            .spans
            .iter()
            .filter(|child| child.parent == span.span_id)
            .collect();
        children.sort_by_key(|child| child.start);
        children
    }

    /// The only span of this kind and service.
    pub(crate) fn the(&self, service: &str, kind: &str) -> &Span {
        let mut found = self
            .spans
            .iter()
            .filter(|span| span.service == service && span.kind == kind);
        match (found.next(), found.next()) {
            (Some(span), None) => span,
            _ => panic!("not exactly one {kind} of {service} in\n{}", self.tree()),
        }
    }

    /// The tree: a line per span, `service KIND name`, a `!` where it failed, children indented by two.
    pub(crate) fn tree(&self) -> String {
        let mut out = String::new();
        let mut roots = self.roots();
        roots.sort_by_key(|root| root.start);
        for root in roots {
            self.draw(root, 0, &mut out);
        }
        out
    }

    fn draw(&self, span: &Span, depth: usize, out: &mut String) {
        assert!(depth < 64, "a cycle of parents");
        writeln!(out, "{:indent$}{}", "", span.title(), indent = depth * 2).unwrap();
        for child in self.children(span) {
            self.draw(child, depth + 1, out);
        }
    }

    /// Asserts the whole tree (see [`Trace::tree`]), and that children lie within their parents.
    pub(crate) fn assert_tree(&self, expected: &str) {
        let lines: Vec<&str> = expected.lines().filter(|l| !l.trim().is_empty()).collect();
        let indent = |line: &str| line.len() - line.trim_start().len();
        let least = lines.iter().map(|line| indent(line)).min().unwrap_or(0);
        let expected: String = lines
            .iter()
            .map(|line| format!("{}\n", line[least..].trim_end()))
            .collect();
        assert_eq!(self.tree(), expected, "\nthe tree is\n{}", self.tree());
        for span in &self.spans {
            assert!(
                span.start <= span.end,
                "{} ends before it starts",
                span.title()
            );
        }
    }
}
