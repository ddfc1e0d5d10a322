//! What is written here is what opentelemetry-otlp's exporter sends for the same spans.

use super::*;
use crate::export::tests::support::{record, stock};
use crate::trace::{Flags, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Status;
use proptest::prelude::*;
use prost::Message as _;
use std::borrow::Cow;

fn each(records: &[Box<Record>]) -> Vec<Vec<u8>> {
    let encode = |record: &Record| {
        let mut out = Vec::new();
        span(&mut out, record);
        out
    };
    records.iter().map(|record| encode(record)).collect()
}

fn hand(resource: &[(String, String)], records: &[Box<Record>]) -> Bytes {
    Envelope::new(resource).request(&each(records))
}

fn resource() -> Vec<(String, String)> {
    [
        ("service.name", "order"),
        ("service.version", "1.2"),
        ("telemetry.distro.name", "hopspan"),
        ("telemetry.distro.version", env!("CARGO_PKG_VERSION")),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Spans with everything a span can have, and with nothing.
#[expect(clippy::vec_box, reason = "as the queue hands them over")]
fn records() -> Vec<Box<Record>> {
    let linked = |state: Option<&'static str>| Context {
        tracestate: state.map(HeaderValue::from_static),
        baggage: Some(HeaderValue::from_static("secret=1")),
        ..Context::new_root()
    };
    let mut full = record(1_700_000_000_000_000_001);
    full.context.tracestate = Some(HeaderValue::from_static("a=1,b=2"));
    full.context.flags = Flags::SAMPLED | Flags::RANDOM;
    full.parent_span_id = Some(SpanId::from(7));
    full.parent_is_remote = true;
    full.name.target = Some("orders/<int:pk>/".into());
    full.error = Some(Cow::Borrowed("it broke: äöü"));
    full.attributes.extend([
        ("empty".into(), Value::Static("")),
        ("shared".into(), Value::Shared("s".into())),
        ("long".into(), Value::Text("x".repeat(20_000))),
        ("text 127".into(), Value::Text("y".repeat(127))),
        ("text 128".into(), Value::Text("y".repeat(128))),
        ("zero".into(), Value::Int(0)),
        ("negative".into(), Value::Int(-1)),
        ("large".into(), Value::Int(i64::MAX)),
        ("half".into(), Value::Float(0.5)),
        ("no".into(), Value::Bool(false)),
        ("yes".into(), Value::Bool(true)),
        ("list".into(), Value::List(vec!["a".into(), String::new()])),
        ("empty list".into(), Value::List(Vec::new())),
        (
            Key::Shared("http.request.header.x".into()),
            Value::Static("v"),
        ),
    ]);
    full.dropped_attributes = 300;
    full.links = vec![linked(None), linked(Some("c=3"))];
    let mut server = record(5);
    server.kind = Kind::Server;
    server.error = Some(Cow::Borrowed(""));
    vec![full, server, record(9)]
}

#[test]
fn equals_the_stock_exporter_field_by_field() {
    let records = records();
    let theirs = stock::export(&records, &resource());
    let ours = hand(&resource(), &records);
    let mut theirs = ExportTraceServiceRequest::decode(theirs).unwrap();
    let mut ours = ExportTraceServiceRequest::decode(ours).unwrap();
    let mut compared = 0;
    for request in [&mut theirs, &mut ours] {
        for resource in &mut request.resource_spans {
            // The SDK's resource is a hash map.
            let attributes = &mut resource.resource.as_mut().unwrap().attributes;
            attributes.sort_by(|a, b| a.key.cmp(&b.key));
            for span in resource
                .scope_spans
                .iter_mut()
                .flat_map(|scope| &mut scope.spans)
            {
                // Unset with no description may be left out, and is here.
                span.status.get_or_insert_with(Status::default);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 6);
    assert_eq!(ours, theirs);
}

#[test]
fn is_canonical() {
    let bytes = hand(&resource(), &records());
    let decoded = ExportTraceServiceRequest::decode(bytes.clone()).unwrap();
    assert!(decoded.encode_to_vec() == bytes, "not what prost writes");
}

proptest! {
    #[test]
    fn is_canonical_at_every_length(key in "[a-z]{0,140}", value in "[a-zé]{0,160}", number in any::<i64>()) {
        let mut record = record(1);
        record.attributes = vec![
            (Key::Shared(key.clone().into()), Value::Text(value.clone())),
            (Key::Shared(key.clone().into()), Value::Int(number)),
        ];
        let bytes = hand(&[], &[record]);
        let decoded = ExportTraceServiceRequest::decode(bytes.clone()).unwrap();
        let attribute = &decoded.resource_spans[0].scope_spans[0].spans[0].attributes[0];
        prop_assert_eq!(&attribute.key, &key);
        let want = any_value::Value::StringValue(value);
        prop_assert_eq!(attribute.value.as_ref().unwrap().value.as_ref(), Some(&want));
        prop_assert!(decoded.encode_to_vec() == bytes, "not what prost writes");
    }
}

#[test]
fn fields_are_where_backends_look_for_them() {
    let records = records();
    let request = ExportTraceServiceRequest::decode(hand(&[], &records)).unwrap();
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    let names: Vec<&str> = resource.attributes.iter().map(|a| a.key.as_str()).collect();
    assert_eq!(
        names,
        [
            "service.name",
            "telemetry.distro.name",
            "telemetry.distro.version"
        ]
    );
    let scope = &request.resource_spans[0].scope_spans[0];
    assert_eq!(scope.schema_url, semconv::SCHEMA_URL);
    assert_eq!(scope.scope.as_ref().unwrap().name, "hopspan");
    let [full, server, plain] = &scope.spans[..] else {
        panic!()
    };
    assert_eq!(full.trace_id, records[0].context.trace_id.to_bytes());
    assert_eq!(full.trace_state, "a=1,b=2");
    assert_eq!(full.flags, 0x303);
    assert_eq!(full.name, "GET orders/<int:pk>/");
    assert_eq!(full.parent_span_id, [0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!((full.kind, server.kind), (3, 2));
    assert_eq!(full.dropped_attributes_count, 300);
    assert_eq!(full.links[1].trace_state, "c=3");
    assert_eq!(full.links[0].flags, 0x302, "a link's context is remote");
    let status = full.status.as_ref().unwrap();
    assert_eq!((status.code, &*status.message), (2, "it broke: äöü"));
    assert_eq!(server.status.as_ref().unwrap().code, 2);
    assert_eq!(plain.status, None);
    assert_eq!((plain.flags, plain.parent_span_id.len()), (0x101, 0));
    assert!(plain.end_time_unix_nano > plain.start_time_unix_nano);
}

#[test]
fn a_tracestate_that_is_not_text_does_not_spoil_the_batch() {
    let mut record = record(1);
    record.context.trace_id = TraceId::from(1);
    record.context.tracestate = HeaderValue::from_bytes(b"a=\xff").ok();
    let request = ExportTraceServiceRequest::decode(hand(&[], &[record])).unwrap();
    assert_eq!(
        request.resource_spans[0].scope_spans[0].spans[0].trace_state,
        ""
    );
}

#[test]
fn lengths_of_varints() {
    for bit in 0..64 {
        for number in [1_u64 << bit, (1 << bit) - 1, u64::MAX >> bit] {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(out.len(), varint_len(number), "{number}");
        }
    }
}

/// Prints nanoseconds per span here and through the SDK: `cargo test --release --lib export::encode::tests::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a check: needs a release build and a quiet machine"]
fn cost() {
    let records: Vec<Box<Record>> = (1..=512)
        .map(crate::export::tests::support::typical)
        .collect();
    let envelope = Envelope::new(&resource());
    let mut best = [f64::MAX; 2];
    let mut length = 0;
    for _ in 0..200 {
        let began = std::time::Instant::now();
        length = std::hint::black_box(envelope.request(&each(&records))).len();
        best[0] = best[0].min(began.elapsed().as_nanos() as f64 / 512.0);
        let began = std::time::Instant::now();
        std::hint::black_box(stock::encode(&records, &resource()));
        best[1] = best[1].min(began.elapsed().as_nanos() as f64 / 512.0);
    }
    println!(
        "ns/span: here {:.0}, SDK and prost {:.0}; {} bytes/span",
        best[0],
        best[1],
        length / 512
    );
}
