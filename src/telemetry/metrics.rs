//! Every metric hopspan exposes, registered once per sidecar.
//!
//! Names: OTel's HTTP metrics in their Prometheus form, and `hopspan_*`. Label values are closed sets (reasons, routes
//! as configured, known methods), so the number of series is bounded whatever clients send.

mod labels;
mod names;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use labels::{
    Direction, DurationFamily, Durations, EvidenceLabel, Exemplar, HexId, Outcome, ProtocolLabel,
    Reason, RequestLabels,
};

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
    /// `hopspan_connections_resting`: of HTTP/1, between requests, without buffers
    pub connections_resting: Gauge,
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
    /// `hopspan_request_bytes_held`: read from clients and not yet taken by upstreams
    pub request_bytes_held: Gauge,
    /// `hopspan_content_read_bytes`: of one message at once, as `limits.memory` leaves room; 0: no limit
    pub content_read_bytes: Gauge,
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
            connections_resting: Gauge::default(),
            connections_refused: Family::default(),
            connections_evicted: Counter::default(),
            protocol_errors: Family::default(),
            client_glitches: Family::default(),
            tls_certificate_expiry: Gauge::default(),
            http2_head_bytes: Gauge::default(),
            http2_streams: Gauge::default(),
            response_bytes_held: Gauge::default(),
            request_bytes_held: Gauge::default(),
            content_read_bytes: Gauge::default(),
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

    #[test]
    fn durations_are_told_apart_and_name_a_trace() {
        let metrics = Metrics::new();
        let labels = |method, route: &str, error| RequestLabels {
            http_request_method: method,
            http_response_status_code: 200,
            http_route: Arc::from(route),
            error_type: error,
        };
        let mut trace_id = HexId([0xab; 16]);
        trace_id.0[0] = 0x01;
        for labels in [
            labels("GET", "a/", ""),
            labels("GET", "b/", ""),
            // As long as another.
            labels("PUT", "a/", ""),
            labels("GET", "a/", "500"),
        ] {
            let family = &metrics.server_duration;
            let exemplar = Exemplar { trace_id };
            let duration = family.get_or_create(&labels);
            duration.observe(0.003, Some(exemplar), None);
        }
        let text = metrics.encode();
        let counts = text.lines().filter(|line| line.contains("_count{"));
        assert_eq!(counts.count(), 4, "{text}");
        let exemplar = format!("# {{trace_id=\"01{}\"}} 0.003", "ab".repeat(15));
        assert_eq!(text.matches(&exemplar).count(), 4, "{text}");
    }
}
