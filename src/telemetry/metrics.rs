//! Every metric hopspan exposes, registered once per sidecar.
//!
//! Names: OTel's HTTP metrics in their Prometheus form, and `hopspan_*`. Label values are closed sets (reasons, routes
//! as configured, known methods), so the number of series is bounded whatever clients send.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Seconds, as the HTTP conventions advise for request durations.
const DURATION_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Labels of a request duration.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// A known method, or `_OTHER`.
    pub http_request_method: &'static str,
    /// Status sent or received; 0 where there was none.
    pub http_response_status_code: u16,
    /// The route as configured, empty where none matched.
    pub http_route: Arc<str>,
    /// `error.type`, empty where none.
    pub error_type: &'static str,
}

/// One label: why.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Reason {
    /// A code from a closed set.
    pub reason: &'static str,
}

/// One label: by what evidence.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct EvidenceLabel {
    /// `header`, `token`, `thread`, `serial`.
    pub evidence: &'static str,
}

/// One label: what a connection speaks.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ProtocolLabel {
    /// `http1`, `http2`, `tls`, `tcp`.
    pub protocol: &'static str,
}

/// One label: what became of spans.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Outcome {
    /// `exported`, or a drop reason (`queue_full`, `rejected`, `failed`, `shutdown`, `disabled`).
    pub outcome: &'static str,
}

/// One label: on which side.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Direction {
    /// `inbound`, `outbound`, `status`, `admin`.
    pub direction: &'static str,
}

/// The exemplar of a duration: the trace it belongs to.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Exemplar {
    /// 32 hex digits.
    pub trace_id: String,
}

/// Makes duration histograms (a named type since closures have none).
#[derive(Clone)]
pub struct Durations;

impl MetricConstructor<HistogramWithExemplars<Exemplar>> for Durations {
    fn new_metric(&self) -> HistogramWithExemplars<Exemplar> {
        HistogramWithExemplars::new(DURATION_BUCKETS.into_iter())
    }
}

/// Request durations by label set.
pub type DurationFamily = Family<RequestLabels, HistogramWithExemplars<Exemplar>, Durations>;

/// The sidecar's metrics. Fields are handles: cloning one is cheap and counts into the same series.
pub struct Metrics {
    registry: Registry,
    /// `http_server_request_duration_seconds`
    pub server_duration: DurationFamily,
    /// `http_client_request_duration_seconds` (outbound calls)
    pub client_duration: DurationFamily,
    /// `hopspan_joins_total{evidence}`
    pub joins: Family<EvidenceLabel, Counter>,
    /// `hopspan_joins_abstained_total{reason}`
    pub joins_abstained: Family<Reason, Counter>,
    /// `hopspan_correlation_disagreements_total{evidence}`: the weaker rung's, which is off from then on
    pub disagreements: Family<EvidenceLabel, Counter>,
    /// `hopspan_join_duration_seconds_sum` of time spent looking, in nanoseconds
    pub join_nanos: Counter,
    /// `hopspan_tokens_unknown_total`: calls with a token that names no request
    pub tokens_unknown: Counter,
    /// `hopspan_tokens_refused_total`: inbound requests that brought a token, which was taken off
    pub tokens_refused: Counter,
    /// `hopspan_spans_total`: spans finished
    pub spans: Counter,
    /// `hopspan_export_spans_total{outcome}`
    pub export_spans: Family<Outcome, Counter>,
    /// `hopspan_export_batches_failed_total{reason}`
    pub export_failures: Family<Reason, Counter>,
    /// `hopspan_export_queue_spans`
    pub export_queue_spans: Gauge,
    /// `hopspan_export_queue_bytes`
    pub export_queue_bytes: Gauge,
    /// `hopspan_export_in_flight_spans`: taken from the queue, not yet accepted or given up
    pub export_in_flight_spans: Gauge,
    /// `hopspan_config_generation`
    pub config_generation: Gauge,
    /// `hopspan_config_last_reload_successful`
    pub config_last_reload_successful: Gauge,
    /// `hopspan_config_last_reload_success_timestamp_seconds`
    pub config_last_reload_success_timestamp: Gauge<f64, AtomicU64>,
    /// `hopspan_config_needs_restart`: settings that differ from what runs
    pub config_needs_restart: Gauge,
    /// `hopspan_connections{direction}` open now
    pub connections: Family<Direction, Gauge<i64, AtomicI64>>,
    /// `hopspan_connections_refused_total{reason}`
    pub connections_refused: Family<Reason, Counter>,
    /// `hopspan_connections_evicted_total`: idle ones closed to make room for new ones
    pub connections_evicted: Counter,
    /// `hopspan_client_protocol_errors_total{reason}`: answered by the HTTP layer before a request existed
    pub protocol_errors: Family<Reason, Counter>,
    /// `hopspan_client_glitches_total{reason}`: of HTTP/2; `refused` for what they are, `abandoned` before they were answered
    pub client_glitches: Family<Reason, Counter>,
    /// `hopspan_tls_certificate_expiry_timestamp_seconds` of the certificate in use; 0 without
    pub tls_certificate_expiry: Gauge,
    /// `hopspan_http2_head_bytes`: heads of HTTP/2 requests in hand
    pub http2_head_bytes: Gauge,
    /// `hopspan_http2_streams`: HTTP/2 requests at once
    pub http2_streams: Gauge,
    /// `hopspan_response_bytes_held`: read from upstreams and not yet taken by clients
    pub response_bytes_held: Gauge,
    /// `hopspan_redirected_connections_total{protocol}`: `http1`, `http2`, `tls`, `tcp`
    pub redirected: Family<ProtocolLabel, Counter>,
    /// `hopspan_upstream_connections_opened_total`
    pub upstream_connections_opened: Counter,
    /// `hopspan_upstream_connections_open`
    pub upstream_connections_open: Gauge,
    /// `hopspan_upstream_queue`: requests that wait for a connection that their upstream may have
    pub upstream_queue: Gauge,
    /// `hopspan_upstream_retries_total{reason}`
    pub upstream_retries: Family<Reason, Counter>,
    /// `hopspan_proxy_errors_total{reason}`: responses hopspan made itself, by RFC 9209 error
    pub proxy_errors: Family<Reason, Counter>,
    /// `hopspan_context_malformed_total{reason}`: trace headers that were not valid
    pub context_malformed: Family<Reason, Counter>,
    /// `hopspan_tunnels`: upgraded and CONNECT tunnels open
    pub tunnels: Gauge,
    /// `hopspan_memory_bytes`: of hopspan itself, resident
    pub memory_bytes: Gauge,
    /// `hopspan_memory_limit_bytes`; 0 where there is none
    pub memory_limit_bytes: Gauge,
    /// `hopspan_memory_pressure`: 0; 1 where memory is given back; 2 where nothing new is taken
    pub memory_pressure: Gauge,
    /// `hopspan_panics_total`: requests whose handler panicked
    pub panics: Counter,
}

impl Metrics {
    /// Registers all metrics in a registry of their own.
    pub fn new() -> Arc<Metrics> {
        let metrics = Metrics {
            registry: Registry::default(),
            server_duration: Family::new_with_constructor(Durations),
            client_duration: Family::new_with_constructor(Durations),
            joins: Family::default(),
            joins_abstained: Family::default(),
            disagreements: Family::default(),
            join_nanos: Counter::default(),
            tokens_unknown: Counter::default(),
            tokens_refused: Counter::default(),
            spans: Counter::default(),
            export_spans: Family::default(),
            export_failures: Family::default(),
            export_queue_spans: Gauge::default(),
            export_queue_bytes: Gauge::default(),
            export_in_flight_spans: Gauge::default(),
            config_generation: Gauge::default(),
            config_last_reload_successful: Gauge::default(),
            config_last_reload_success_timestamp: Gauge::default(),
            config_needs_restart: Gauge::default(),
            connections: Family::default(),
            connections_refused: Family::default(),
            connections_evicted: Counter::default(),
            protocol_errors: Family::default(),
            client_glitches: Family::default(),
            tls_certificate_expiry: Gauge::default(),
            http2_head_bytes: Gauge::default(),
            http2_streams: Gauge::default(),
            response_bytes_held: Gauge::default(),
            redirected: Family::default(),
            upstream_connections_opened: Counter::default(),
            upstream_connections_open: Gauge::default(),
            upstream_queue: Gauge::default(),
            upstream_retries: Family::default(),
            proxy_errors: Family::default(),
            context_malformed: Family::default(),
            tunnels: Gauge::default(),
            memory_bytes: Gauge::default(),
            memory_limit_bytes: Gauge::default(),
            memory_pressure: Gauge::default(),
            panics: Counter::default(),
        };
        Arc::new(metrics.registered())
    }

    fn registered(mut self) -> Metrics {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("hopspan_build", "Version of this hopspan", build);
        registry.register_with_unit(
            "http_server_request_duration",
            "Duration of inbound requests, to the end of the response body",
            Unit::Seconds,
            self.server_duration.clone(),
        );
        registry.register_with_unit(
            "http_client_request_duration",
            "Duration of outbound calls, to the end of the response body",
            Unit::Seconds,
            self.client_duration.clone(),
        );
        registry.register(
            "hopspan_joins",
            "Outbound calls joined to their cause",
            self.joins.clone(),
        );
        registry.register(
            "hopspan_joins_abstained",
            "Outbound calls left without a parent",
            self.joins_abstained.clone(),
        );
        registry.register(
            "hopspan_correlation_disagreements",
            "Checked joins where a weaker rung gave another parent: it is off from then on",
            self.disagreements.clone(),
        );
        registry.register(
            "hopspan_join_nanoseconds",
            "Time spent looking for parents",
            self.join_nanos.clone(),
        );
        registry.register(
            "hopspan_tokens_unknown",
            "Calls with a token that names no request",
            self.tokens_unknown.clone(),
        );
        registry.register(
            "hopspan_tokens_refused",
            "Requests from clients that brought a token, which was taken off",
            self.tokens_refused.clone(),
        );
        registry.register("hopspan_spans", "Spans finished", self.spans.clone());
        registry.register(
            "hopspan_export_spans",
            "Spans by what became of them",
            self.export_spans.clone(),
        );
        registry.register(
            "hopspan_export_batches_failed",
            "Export attempts that failed",
            self.export_failures.clone(),
        );
        registry.register(
            "hopspan_export_queue_spans",
            "Spans waiting for export",
            self.export_queue_spans.clone(),
        );
        registry.register(
            "hopspan_export_queue_bytes",
            "Bytes waiting for export",
            self.export_queue_bytes.clone(),
        );
        registry.register(
            "hopspan_export_in_flight_spans",
            "Spans being sent",
            self.export_in_flight_spans.clone(),
        );
        registry.register(
            "hopspan_config_generation",
            "Generation of the config in use",
            self.config_generation.clone(),
        );
        registry.register(
            "hopspan_config_last_reload_successful",
            "1 if the last reload was taken",
            self.config_last_reload_successful.clone(),
        );
        registry.register(
            "hopspan_config_last_reload_success_timestamp_seconds",
            "When a config was last taken, Unix time",
            self.config_last_reload_success_timestamp.clone(),
        );
        registry.register(
            "hopspan_config_needs_restart",
            "Settings in the file that differ from what runs and need a restart",
            self.config_needs_restart.clone(),
        );
        registry.register(
            "hopspan_connections",
            "Client connections open",
            self.connections.clone(),
        );
        registry.register(
            "hopspan_connections_refused",
            "Client connections refused",
            self.connections_refused.clone(),
        );
        registry.register(
            "hopspan_connections_evicted",
            "Idle client connections closed to make room for new ones",
            self.connections_evicted.clone(),
        );
        registry.register(
            "hopspan_client_protocol_errors",
            "Requests that were not HTTP",
            self.protocol_errors.clone(),
        );
        registry.register(
            "hopspan_client_glitches",
            "HTTP/2 requests refused for what they are, or abandoned before they were answered",
            self.client_glitches.clone(),
        );
        registry.register(
            "hopspan_tls_certificate_expiry_timestamp_seconds",
            "When the certificate for clients expires, Unix time",
            self.tls_certificate_expiry.clone(),
        );
        registry.register(
            "hopspan_http2_head_bytes",
            "Heads of HTTP/2 requests that are in hand",
            self.http2_head_bytes.clone(),
        );
        registry.register(
            "hopspan_http2_streams",
            "HTTP/2 requests in hand",
            self.http2_streams.clone(),
        );
        registry.register(
            "hopspan_response_bytes_held",
            "Bytes of responses that were read and that clients have not taken",
            self.response_bytes_held.clone(),
        );
        registry.register(
            "hopspan_redirected_connections",
            "Connections of the app that were redirected here, by what they speak",
            self.redirected.clone(),
        );
        registry.register(
            "hopspan_upstream_connections_opened",
            "Connections opened to the app and to services",
            self.upstream_connections_opened.clone(),
        );
        registry.register(
            "hopspan_upstream_connections_open",
            "Upstream connections open",
            self.upstream_connections_open.clone(),
        );
        registry.register(
            "hopspan_upstream_queue",
            "Requests that wait for their turn at an upstream",
            self.upstream_queue.clone(),
        );
        registry.register(
            "hopspan_upstream_retries",
            "Requests sent again on a new connection",
            self.upstream_retries.clone(),
        );
        registry.register(
            "hopspan_proxy_errors",
            "Responses made by hopspan itself, by RFC 9209 error",
            self.proxy_errors.clone(),
        );
        registry.register(
            "hopspan_context_malformed",
            "Trace headers that were not valid",
            self.context_malformed.clone(),
        );
        registry.register("hopspan_tunnels", "Tunnels open", self.tunnels.clone());
        registry.register(
            "hopspan_memory_bytes",
            "Memory of hopspan itself",
            self.memory_bytes.clone(),
        );
        registry.register(
            "hopspan_memory_limit_bytes",
            "Memory that it may have; 0 where there is no limit",
            self.memory_limit_bytes.clone(),
        );
        registry.register(
            "hopspan_memory_pressure",
            "1 where memory is given back, 2 where nothing new is taken",
            self.memory_pressure.clone(),
        );
        registry.register(
            "hopspan_panics",
            "Requests whose handler panicked",
            self.panics.clone(),
        );
        self
    }

    /// The exposition in OpenMetrics text 1.0.0.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(8192);
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_the_promised_names() {
        let metrics = Metrics::new();
        metrics
            .joins
            .get_or_create(&EvidenceLabel { evidence: "serial" })
            .inc();
        let text = metrics.encode();
        for name in [
            "hopspan_build_info",
            "hopspan_joins_total{evidence=\"serial\"} 1",
            "hopspan_config_generation",
            "# EOF",
        ] {
            assert!(text.contains(name), "{name} missing in\n{text}");
        }
    }
}
