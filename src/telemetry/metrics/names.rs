//! The name of each metric, and what `/metrics` says of it.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::Metrics;

impl Metrics {
    /// With all of them in its registry, under their names and with what they say.
    pub(super) fn registered(mut self) -> Metrics {
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
            "hopspan_connections_resting",
            "Client connections of HTTP/1 that wait for a request and hold no buffers",
            self.connections_resting.clone(),
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
            "hopspan_request_bytes_held",
            "Bytes of requests that were read and that upstreams have not taken",
            self.request_bytes_held.clone(),
        );
        registry.register(
            "hopspan_content_read_bytes",
            "Most bytes of one message that are read at once, as limits.memory leaves room; 0: no limit",
            self.content_read_bytes.clone(),
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
}
