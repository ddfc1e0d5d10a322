//! Every OpenTelemetry semantic-convention name that hopspan writes, in one place (HTTP conventions, stable, 1.37).
//!
//! hopspan's own names start with `hopspan.`.

/// Schema of the names below.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// `http.request.method`
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// `http.request.method_original`: set where the method is not a known one.
pub const HTTP_REQUEST_METHOD_ORIGINAL: &str = "http.request.method_original";
/// `http.response.status_code`
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// `http.route`
pub const HTTP_ROUTE: &str = "http.route";
/// `http.request.body.size`
pub const HTTP_REQUEST_BODY_SIZE: &str = "http.request.body.size";
/// `http.response.body.size`
pub const HTTP_RESPONSE_BODY_SIZE: &str = "http.response.body.size";
/// `http.request.resend_count`
pub const HTTP_REQUEST_RESEND_COUNT: &str = "http.request.resend_count";
/// `url.scheme`
pub const URL_SCHEME: &str = "url.scheme";
/// `url.path`
pub const URL_PATH: &str = "url.path";
/// `url.query`, redacted
pub const URL_QUERY: &str = "url.query";
/// `url.full`, redacted
pub const URL_FULL: &str = "url.full";
/// `server.address`
pub const SERVER_ADDRESS: &str = "server.address";
/// `server.port`
pub const SERVER_PORT: &str = "server.port";
/// `client.address`
pub const CLIENT_ADDRESS: &str = "client.address";
/// `network.peer.address`
pub const NETWORK_PEER_ADDRESS: &str = "network.peer.address";
/// `network.peer.port`
pub const NETWORK_PEER_PORT: &str = "network.peer.port";
/// `network.protocol.version`
pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
/// `network.transport`: set only where it is not TCP.
pub const NETWORK_TRANSPORT: &str = "network.transport";
/// `tls.protocol.version`: `1.2`, `1.3`
pub const TLS_PROTOCOL_VERSION: &str = "tls.protocol.version";
/// `tls.client.subject`: the distinguished name in the client's certificate
pub const TLS_CLIENT_SUBJECT: &str = "tls.client.subject";
/// `user_agent.original`
pub const USER_AGENT_ORIGINAL: &str = "user_agent.original";
/// `rpc.response.status_code`: gRPC's status by its name; of the conventions for RPC, which are newer than the schema
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
/// `error.type`
pub const ERROR_TYPE: &str = "error.type";

/// `service.name` (resource)
pub const SERVICE_NAME: &str = "service.name";
/// `service.version` (resource)
pub const SERVICE_VERSION: &str = "service.version";
/// `telemetry.distro.name` (resource): shows hopspan, since `service.name` is the app's.
pub const TELEMETRY_DISTRO_NAME: &str = "telemetry.distro.name";
/// `telemetry.distro.version` (resource)
pub const TELEMETRY_DISTRO_VERSION: &str = "telemetry.distro.version";

/// How the parent is known: `header`, `token`, `thread`, `serial`.
pub const PARENT_EVIDENCE: &str = "hopspan.parent.evidence";
/// Why an outbound call has no parent.
pub const UNLINKED_REASON: &str = "hopspan.unlinked.reason";
/// The code of that reason, for `hopspan explain`.
pub const UNLINKED_CODE: &str = "hopspan.unlinked.code";
/// The snapshot's generation that served the exchange.
pub const GENERATION: &str = "hopspan.config.generation";
/// Whether the upstream connection had served before.
pub const CONNECTION_REUSED: &str = "hopspan.connection.reused";
/// Nanoseconds spent resolving the upstream's name.
pub const DNS_NANOS: &str = "hopspan.connection.dns_ns";
/// Nanoseconds spent connecting.
pub const CONNECT_NANOS: &str = "hopspan.connection.connect_ns";
/// Alternative names in the client's certificate; the conventions have no name for them.
pub const TLS_CLIENT_SAN: &str = "hopspan.tls.client.san";
/// Nanoseconds spent on the TLS handshake with the upstream.
pub const TLS_NANOS: &str = "hopspan.connection.tls_ns";
/// Where the route's `to:` sends a call; `server.*` and `url.full` say what the app called.
pub const ROUTE_TO: &str = "hopspan.route.to";
/// What a redirected connection speaks: `tls`, or `tcp` for all else.
pub const TUNNEL_PROTOCOL: &str = "hopspan.tunnel.protocol";
/// Bytes from the client in a tunnel.
pub const TUNNEL_SENT: &str = "hopspan.tunnel.sent_bytes";
/// Bytes to the client in a tunnel.
pub const TUNNEL_RECEIVED: &str = "hopspan.tunnel.received_bytes";

/// Values of `error.type` that hopspan writes itself. A failed status writes its number.
pub mod error_type {
    /// The other side left before the end.
    pub const CANCELLED: &str = "cancelled";
    /// Any other.
    pub const OTHER: &str = "_OTHER";
}

/// A known method by its constant, or `None` (then `_OTHER` is written and the span is named `HTTP`).
///
/// Known are RFC 9110's methods, PATCH (RFC 5789) and QUERY (httpbis), as the conventions list them.
pub fn known_method(method: &http::Method) -> Option<&'static str> {
    const KNOWN: [&str; 10] = [
        "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY",
    ];
    KNOWN.into_iter().find(|known| *known == method.as_str())
}
