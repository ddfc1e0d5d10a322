//! Traces for tests, written as trees: one line per span, indentation is parenthood, times are milliseconds.
//!
//! ```text
//! order server POST /orders/ 500 0..57
//!   order app 500 1..56
//!     order client POST http://payment/pay/ 500 type=… 5..50
//! ?     payment server POST /pay/ 500 6..49            a leading `?`: this span is not sent
//! ```
//!
//! `app` is hopspan's CLIENT span to the app. Failure follows the HTTP conventions: 5xx on servers, 4xx and 5xx on
//! clients, `type=` (error.type) on any, with `why=` for its message (`_` is a space). They pass through OTLP like any other span.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Otlp, Status};

use super::decode::from_otlp;
use super::span::{self, Span};

/// When fixture traces start: 2025-09-22T08:47:03.123Z.
pub(super) const START: u64 = 1_758_530_823_123_000_000;

/// The spans of a tree.
pub(super) fn spans(tree: &str) -> Vec<Arc<Span>> {
    let (spans, rejected) = from_otlp(request(tree));
    assert_eq!(rejected, 0);
    assert!(!spans.is_empty(), "the fixture has no spans");
    spans.into_iter().map(Arc::new).collect()
}

/// A tree as one export request.
pub(super) fn request(tree: &str) -> ExportTraceServiceRequest {
    let mut above: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut groups = Vec::new();
    for (number, line) in tree
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
    {
        let sent = !line.starts_with('?');
        let line = line.replacen('?', " ", 1);
        let indent = line.len() - line.trim_start().len();
        above.retain(|(depth, _)| *depth < indent);
        let id = (number as u64 + 1).to_be_bytes().to_vec();
        let parent = above.last().map(|(_, id)| id.clone()).unwrap_or_default();
        above.push((indent, id.clone()));
        if sent {
            let mut words = line.split_whitespace();
            let service = words.next().unwrap();
            let span = parse(&words.collect::<Vec<_>>(), id, parent);
            groups.push(group(service, span));
        }
    }
    ExportTraceServiceRequest {
        resource_spans: groups,
    }
}

fn parse(words: &[&str], id: Vec<u8>, parent: Vec<u8>) -> Otlp {
    let [kind, rest @ ..] = words else {
        panic!("no kind in {words:?}");
    };
    let mut span = Otlp {
        trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128
            .to_be_bytes()
            .to_vec(),
        span_id: id,
        parent_span_id: parent,
        kind: match *kind {
            "server" => 2,
            "client" | "app" => 3,
            "producer" => 4,
            "consumer" => 5,
            _ => 1,
        },
        ..Otlp::default()
    };
    let (mut failed, mut message) = (None, String::new());
    for word in rest {
        if let Some((from, to)) = word.split_once("..") {
            let at = |text: &str| START + (text.parse::<f64>().unwrap() * 1e6) as u64;
            (span.start_time_unix_nano, span.end_time_unix_nano) = (at(from), at(to));
        } else if let Ok(code) = word.parse::<i64>() {
            attribute(&mut span, span::STATUS_CODE, Value::IntValue(code));
            let limit = if *kind == "server" { 500 } else { 400 };
            if code >= limit {
                failed.get_or_insert(code.to_string());
            }
        } else if let Some((name, value)) = word.split_once('=') {
            match name {
                "type" => failed = Some(value.to_owned()),
                "why" => message = value.replace('_', " "),
                "evidence" => attribute(&mut span, span::EVIDENCE, text(value)),
                "unlinked" => attribute(&mut span, span::UNLINKED, text(value)),
                _ => attribute(&mut span, name, text(value)),
            }
        } else if let Some(target) = word.strip_prefix("http://") {
            attribute(&mut span, span::URL, text(word));
            // What the outbound hop writes on every joined call.
            let told = |word: &&str| word.starts_with("evidence=") || word.starts_with("unlinked=");
            if !rest.iter().any(told) {
                attribute(&mut span, span::EVIDENCE, text("serial"));
            }
            let authority = target.split('/').next().unwrap();
            let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
            attribute(&mut span, span::SERVER_ADDRESS, text(host));
            attribute(
                &mut span,
                span::SERVER_PORT,
                Value::IntValue(port.parse().unwrap()),
            );
        } else if word.starts_with('/') {
            attribute(&mut span, span::PATH, text(word));
            span.name = format!("{} {word}", span.name);
        } else if word.chars().all(char::is_uppercase) {
            attribute(&mut span, span::METHOD, text(word));
            span.name = (*word).to_owned();
        } else {
            span.name = (*word).to_owned();
        }
    }
    if let Some(kind) = failed {
        attribute(&mut span, span::ERROR_TYPE, text(&kind));
        span.status = Some(Status { code: 2, message });
    }
    span
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn attribute(span: &mut Otlp, key: &str, value: Value) {
    span.attributes.push(pair(key, value));
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn group(service: &str, span: Otlp) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource {
            attributes: vec![pair(span::SERVICE_NAME, text(service))],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "hopspan".to_owned(),
                ..InstrumentationScope::default()
            }),
            spans: vec![span],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}
