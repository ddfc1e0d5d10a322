//! A trace as rows: the layout that terminal and page share. Pure: spans in, rows out, the same for any order of arrival.
//!
//! Nothing is left out: there is one row for every span. What is odd (a parent that is not here, a circle of parents) is
//! drawn and said. Times are drawn as they came: clocks that differ show as they are.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::span::{self, Kind, Span, Status};
use super::tree::{Top, Tree};
use super::verdict::{self, Verdict};

/// A laid out trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waterfall {
    /// 32 hex digits.
    pub trace_id: String,
    /// Start of the earliest span, nanoseconds since the Unix epoch. Decimal text in JSON, as in OTLP.
    #[serde(with = "decimal")]
    pub start_unix_nano: u64,
    /// From the earliest start to the latest end, in nanoseconds.
    pub duration_ns: u64,
    /// Services in the order they appear.
    pub services: Vec<String>,
    /// Spans that failed.
    pub error_spans: usize,
    /// Failures by origin, recovered ones included.
    pub failures: usize,
    /// Whether the trace as a whole failed.
    pub failed: bool,
    /// What is said of it.
    pub verdict: Option<Verdict>,
    /// Parents that spans name and that are not here (yet).
    pub missing: usize,
    /// Spans that were received and not kept, since the trace was too large.
    pub not_kept: u64,
    /// One row for every span, parents before children, siblings by start.
    pub rows: Vec<Row>,
}

/// One span, drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// 16 hex digits.
    pub span_id: String,
    /// 16 hex digits, if the span names a parent.
    pub parent_id: Option<String>,
    /// 0 at the top.
    pub depth: usize,
    /// Who made the span.
    pub service: String,
    /// Its kind.
    pub kind: Kind,
    /// It is hopspan's call to the app behind it, a part of the service's own time.
    pub to_app: bool,
    /// Its name.
    pub name: String,
    /// Start, nanoseconds after the start of the trace.
    pub start_ns: u64,
    /// Nanoseconds it took.
    pub duration_ns: u64,
    /// Whether it failed.
    pub error: bool,
    /// Whether the trace broke here.
    pub origin: bool,
    /// HTTP status.
    pub status_code: Option<u16>,
    /// `error.type`.
    pub error_type: Option<String>,
    /// The description of a failed status, unless it is empty.
    pub error_message: Option<String>,
    /// How hopspan knows the parent (`hopspan.parent.evidence`).
    pub evidence: Option<String>,
    /// Why an outbound call has no parent (`hopspan.unlinked.reason`).
    pub unlinked: Option<String>,
    /// It names a parent that is not here (yet).
    pub orphan: bool,
    /// Its parents form a circle that was cut here.
    pub cycle: bool,
    /// The span itself; in JSON its attributes, resource, scope, events and links. Not read back.
    #[serde(flatten, skip_deserializing)]
    pub span: Option<Arc<Span>>,
}

/// Lays out the spans of one trace. `None` without spans.
pub fn lay_out(spans: &[Arc<Span>], not_kept: u64) -> Option<Waterfall> {
    let tree = Tree::grow(spans);
    let first = &tree.nodes.first()?.span;
    let start = first.start_unix_nanos;
    let end = spans.iter().map(|span| span.end_unix_nanos).max()?;
    let judgement = verdict::judge(&tree);
    let rows: Vec<Row> = tree
        .walk()
        .into_iter()
        .filter_map(|(place, depth)| {
            let node = tree.node(place)?;
            let mut row = row(&node.span, depth, node.top, start);
            row.to_app = verdict::is_to_app(&tree, place);
            row.origin = judgement.origin == Some(place);
            Some(row)
        })
        .collect();
    let mut seen = HashSet::new();
    let services = rows
        .iter()
        .filter(|row| seen.insert(row.service.as_str()))
        .map(|row| row.service.clone())
        .collect();
    Some(Waterfall {
        trace_id: first.trace_id.to_string(),
        start_unix_nano: start,
        duration_ns: end.saturating_sub(start),
        services,
        error_spans: rows.iter().filter(|row| row.error).count(),
        failures: judgement.failures,
        failed: judgement.failed,
        verdict: judgement.verdict,
        missing: tree.missing(),
        not_kept,
        rows,
    })
}

fn row(span: &Arc<Span>, depth: usize, top: Option<Top>, start: u64) -> Row {
    let text = |name| span.text(name).map(str::to_owned);
    Row {
        span_id: span.span_id.to_string(),
        parent_id: span.parent_id.map(|id| id.to_string()),
        depth,
        service: span.service().to_owned(),
        kind: span.kind,
        to_app: false,
        name: span.name.to_string(),
        start_ns: span.start_unix_nanos.saturating_sub(start),
        duration_ns: span.duration(),
        error: span.failed(),
        origin: false,
        status_code: span.status_code(),
        error_type: text(span::ERROR_TYPE),
        error_message: match &span.status {
            Status::Error(message) if !message.is_empty() => Some(message.to_string()),
            _ => None,
        },
        evidence: text(span::EVIDENCE),
        unlinked: text(span::UNLINKED),
        orphan: top == Some(Top::Orphan),
        cycle: top == Some(Top::Cycle),
        span: Some(Arc::clone(span)),
    }
}

/// 64-bit numbers as decimal text: JavaScript's numbers would round them.
pub(super) mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::view) fn serialize<S: Serializer>(
        number: &u64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(in crate::view) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u64, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
