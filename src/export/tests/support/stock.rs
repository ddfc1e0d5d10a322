//! The stock exporter, as a reference: records through the SDK's types and opentelemetry-otlp.

use super::*;
use crate::trace::span::Value;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use std::time::{SystemTime, UNIX_EPOCH};

/// What opentelemetry-otlp posts for these records.
pub(crate) fn export(records: &[Box<Record>], resource: &[(String, String)]) -> Bytes {
    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Bytes>>);
    #[async_trait::async_trait]
    impl opentelemetry_http::HttpClient for Kept {
        async fn send_bytes(
            &self,
            request: Request<Bytes>,
        ) -> Result<Response<Bytes>, opentelemetry_http::HttpError> {
            *self.0.lock().unwrap() = request.into_body();
            Ok(Response::new(Bytes::new()))
        }
    }
    let kept = Kept::default();
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(kept.clone())
        .with_endpoint("http://localhost:1/v1/traces")
        .build()
        .unwrap();
    exporter.set_resource(&sdk_resource(resource));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let batch = records.iter().map(|record| span_data(record)).collect();
    runtime.block_on(exporter.export(batch)).unwrap();
    std::mem::take(&mut *kept.0.lock().unwrap())
}

/// The same work without the exporter around it, for measuring.
pub(crate) fn encode(records: &[Box<Record>], resource: &[(String, String)]) -> Vec<u8> {
    let resource = (&sdk_resource(resource)).into();
    let batch = records.iter().map(|record| span_data(record)).collect();
    let group = opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
    ExportTraceServiceRequest {
        resource_spans: group(batch, &resource),
    }
    .encode_to_vec()
}

fn sdk_resource(resource: &[(String, String)]) -> Resource {
    let attributes = resource
        .iter()
        .map(|(k, v)| KeyValue::new(k.clone(), v.clone()));
    Resource::builder_empty()
        .with_attributes(attributes)
        .build()
}

fn at(unix_nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}

fn span_context(context: &Context, remote: bool) -> SpanContext {
    let state = context.tracestate.as_ref().and_then(|s| s.to_str().ok());
    let state: TraceState = state.unwrap_or_default().parse().unwrap_or_default();
    let flags = TraceFlags::new(context.flags.bits());
    SpanContext::new(context.trace_id, context.span_id, flags, remote, state)
}

fn key_values(list: &[(crate::trace::span::Key, Value)]) -> Vec<KeyValue> {
    let value = |value: &Value| match value {
        Value::Static(text) => opentelemetry::Value::from(*text),
        Value::Shared(text) => opentelemetry::Value::from(text.to_string()),
        Value::Text(text) => opentelemetry::Value::from(text.clone()),
        Value::Int(number) => opentelemetry::Value::from(*number),
        Value::Float(number) => opentelemetry::Value::from(*number),
        Value::Bool(truth) => opentelemetry::Value::from(*truth),
        Value::List(texts) => {
            let texts = texts.iter().map(|text| text.clone().into()).collect();
            opentelemetry::Value::Array(Array::String(texts))
        }
    };
    let pairs = list.iter();
    pairs
        .map(|(k, v)| KeyValue::new(k.as_str().to_owned(), value(v)))
        .collect()
}

/// A record as the SDK would have it.
pub(crate) fn span_data(record: &Record) -> SpanData {
    let mut links = SpanLinks::default();
    let link = |context| Link::new(span_context(context, true), Vec::new(), 0);
    links.links.extend(record.links.iter().map(link));
    let schema = crate::trace::semconv::SCHEMA_URL;
    SpanData {
        span_context: span_context(&record.context, false),
        parent_span_id: record.parent_span_id.unwrap_or(SpanId::INVALID),
        parent_span_is_remote: record.parent_is_remote,
        span_kind: match record.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
        },
        name: record.name.text(),
        start_time: at(record.start_unix_nanos),
        end_time: at(record.end_unix_nanos),
        attributes: key_values(&record.attributes),
        dropped_attributes_count: record.dropped_attributes,
        events: SpanEvents::default(),
        links,
        status: match &record.error {
            Some(text) => Status::error(text.to_string()),
            None => Status::Unset,
        },
        instrumentation_scope: InstrumentationScope::builder("hopspan")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(schema)
            .build(),
    }
}
