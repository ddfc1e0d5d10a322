use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

use super::*;
use crate::view::span::*;

fn any(value: any_value::Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: any(value),
        ..KeyValue::default()
    }
}

fn otlp(trace: &[u8], id: &[u8], parent: &[u8]) -> otlp::Span {
    otlp::Span {
        trace_id: trace.to_vec(),
        span_id: id.to_vec(),
        parent_span_id: parent.to_vec(),
        ..otlp::Span::default()
    }
}

fn converted(resource: Option<Resource>, spans: Vec<otlp::Span>) -> (Vec<Span>, usize) {
    from_otlp(ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource,
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    })
}

fn one(change: impl FnOnce(&mut otlp::Span)) -> Span {
    let mut span = otlp(&[1; 16], &[1; 8], &[]);
    change(&mut span);
    let (mut spans, rejected) = converted(None, vec![span]);
    assert_eq!(rejected, 0);
    spans.remove(0)
}

#[test]
fn spans_without_valid_ids_are_rejected_and_counted() {
    let (spans, rejected) = converted(
        None,
        vec![
            otlp(&[1; 16], &[1; 8], &[2; 8]),
            otlp(&[0; 16], &[1; 8], &[]),
            otlp(&[1; 15], &[1; 8], &[]),
            otlp(&[1; 16], &[0; 8], &[]),
            otlp(&[1; 16], &[1; 9], &[]),
            otlp(&[], &[], &[]),
        ],
    );
    assert_eq!((spans.len(), rejected), (1, 5));
    assert_eq!(spans[0].parent_id, Some(SpanId::from_bytes([2; 8])));
    // A parent ID that is none makes a root, as in OTel.
    for parent in [&[0; 8][..], &[1; 7], &[]] {
        let span = one(|span| span.parent_span_id = parent.to_vec());
        assert_eq!(span.parent_id, None);
    }
}

#[test]
fn a_service_without_a_name_is_unknown() {
    assert_eq!(one(|_| {}).service(), "unknown_service");
    for (value, expected) in [
        (
            any_value::Value::StringValue(String::new()),
            "unknown_service",
        ),
        (any_value::Value::IntValue(3), "unknown_service"),
        (any_value::Value::StringValue("order".to_owned()), "order"),
    ] {
        let resource = Resource {
            attributes: vec![pair(SERVICE_NAME, value)],
            ..Resource::default()
        };
        let (spans, _) = converted(Some(resource), vec![otlp(&[1; 16], &[1; 8], &[])]);
        assert_eq!(spans[0].service(), expected);
    }
}

#[test]
fn times_that_make_no_sense_do_not_stretch_the_trace() {
    for (start, end, expected) in [
        (5, 9, (5, 9)),
        (0, 9, (9, 9)),
        (9, 5, (9, 9)),
        (0, 0, (0, 0)),
        (9, 0, (9, 9)),
    ] {
        let span = one(|span| {
            span.start_time_unix_nano = start;
            span.end_time_unix_nano = end;
        });
        assert_eq!((span.start_unix_nanos, span.end_unix_nanos), expected);
    }
}

#[test]
fn values_of_every_kind_are_kept() {
    let list = ArrayValue {
        values: any(any_value::Value::IntValue(-1)).into_iter().collect(),
    };
    let map = KeyValueList {
        values: vec![pair("k", any_value::Value::BoolValue(true))],
    };
    let span = one(|span| {
        span.attributes = vec![
            pair("text", any_value::Value::StringValue("é".to_owned())),
            pair("double", any_value::Value::DoubleValue(0.5)),
            pair("nan", any_value::Value::DoubleValue(f64::NAN)),
            pair("list", any_value::Value::ArrayValue(list)),
            pair("map", any_value::Value::KvlistValue(map)),
            pair("bytes", any_value::Value::BytesValue(vec![0, 255])),
            KeyValue {
                key: "none".to_owned(),
                ..KeyValue::default()
            },
        ];
    });
    let json = serde_json::to_value(&span).unwrap();
    assert_eq!(
        json["attributes"],
        serde_json::json!({
            "text": "é", "double": 0.5, "nan": null, "list": [-1], "map": { "k": true }, "bytes": "00ff", "none": null,
        })
    );
}

#[test]
fn failure_is_what_the_status_says_else_a_5xx() {
    use otlp::status::StatusCode::{Error, Ok, Unset};
    for (status, code, failed) in [
        (Unset, 200, false),
        (Unset, 404, false),
        (Unset, 500, true),
        (Ok, 500, false),
        (Error, 200, true),
        (Unset, 99_999, false),
        (Unset, -500, false),
    ] {
        let span = one(|span| {
            span.status = Some(otlp::Status {
                code: status as i32,
                message: String::new(),
            });
            span.attributes = vec![pair(STATUS_CODE, any_value::Value::IntValue(code))];
        });
        assert_eq!(span.failed(), failed, "{status:?} {code}");
    }
}

/// Attribute names are written by `trace`, which this floor does not import: they must not drift apart.
#[test]
fn reads_the_names_that_hopspan_writes() {
    use crate::trace::semconv;
    for (read, written) in [
        (METHOD, semconv::HTTP_REQUEST_METHOD),
        (STATUS_CODE, semconv::HTTP_RESPONSE_STATUS_CODE),
        (ROUTE, semconv::HTTP_ROUTE),
        (PATH, semconv::URL_PATH),
        (URL, semconv::URL_FULL),
        (SERVER_ADDRESS, semconv::SERVER_ADDRESS),
        (SERVER_PORT, semconv::SERVER_PORT),
        (ROUTE_TO, semconv::ROUTE_TO),
        (ERROR_TYPE, semconv::ERROR_TYPE),
        (EVIDENCE, semconv::PARENT_EVIDENCE),
        (UNLINKED, semconv::UNLINKED_REASON),
    ] {
        assert_eq!(read, written);
    }
}

/// Scopes are cheap to send: they must not multiply the resource they share.
#[test]
fn scopes_share_their_resource() {
    let resource = Resource {
        attributes: vec![pair("k", any_value::Value::StringValue("x".repeat(1000)))],
        ..Resource::default()
    };
    let scope = ScopeSpans {
        spans: vec![otlp(&[1; 16], &[1; 8], &[])],
        ..ScopeSpans::default()
    };
    let (spans, _) = from_otlp(ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![scope; 10],
            ..ResourceSpans::default()
        }],
    });
    let first = &spans[0].source.resource;
    assert!(
        spans
            .iter()
            .all(|span| Arc::ptr_eq(&span.source.resource, first))
    );
    let charged: usize = spans.iter().map(|span| span.source.share).sum();
    assert!((1000..1300).contains(&charged), "{charged}");
}
