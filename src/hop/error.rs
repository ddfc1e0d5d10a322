//! What can go wrong in an exchange, and the one `match` that says what client, span and metrics see.
//!
//! Names and statuses: RFC 9209 (Proxy-Status) section 2.3. Bodies are short plain text with the trace ID.

use http::StatusCode;

/// Why hopspan answers itself instead of passing an upstream's answer on.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The request is not one unambiguous HTTP request.
    #[error("{why}")]
    BadRequest {
        /// 4xx status.
        status: StatusCode,
        /// One sentence.
        why: String,
    },
    /// No upstream is named, or one that hopspan does not proxy to.
    #[error("{0}")]
    DestinationNotFound(String),
    /// The name could not be resolved.
    #[error("could not resolve {0}")]
    DnsError(String),
    /// Resolving took too long.
    #[error("resolving {0} timed out")]
    DnsTimeout(String),
    /// The upstream refused the connection.
    #[error("{0} refused the connection")]
    ConnectionRefused(String),
    /// There is no such unix socket.
    #[error("could not connect to {0}: the socket does not exist")]
    SocketMissing(String),
    /// Connecting took too long.
    #[error("connecting to {0} timed out")]
    ConnectionTimeout(String),
    /// No network route.
    #[error("there is no network route to {0}")]
    DestinationUnroutable(String),
    /// Policy forbids the address that the destination was resolved to.
    #[error("{0} is not allowed as a destination: {1}")]
    DestinationProhibited(String, &'static str),
    /// Policy forbids the destination by its name.
    #[error("{0} is not allowed as a destination: {1}")]
    DestinationDenied(String, &'static str),
    /// The caller is not one that hopspan calls out for.
    #[error(
        "{0} may not call through hopspan: only this host, and the networks in outbound.clients"
    )]
    ClientDenied(std::net::IpAddr),
    /// All connections that the upstream may have stayed in use.
    #[error("all connections to {0} are in use")]
    ConnectionLimitReached(String),
    /// Another connect failure, on this host.
    #[error("could not connect to {0}: {1}")]
    DestinationUnavailable(String, String),
    /// The upstream's certificate is not to be believed.
    #[error("the certificate of {0} is not accepted: {1}")]
    TlsCertificateError(String, String),
    /// The upstream ended the TLS handshake.
    #[error("{0} refused TLS: {1}")]
    TlsAlertReceived(String, String),
    /// The upstream does not speak TLS, or not as we do.
    #[error("no TLS with {0}: {1}")]
    TlsProtocolError(String, String),
    /// The upstream closed or reset the connection before an answer.
    #[error("{0} closed the connection before answering")]
    ConnectionTerminated(String),
    /// The connection ended before the head of the answer did.
    #[error("{0} closed the connection before its answer was complete")]
    HttpResponseIncomplete(String),
    /// No answer within the route's timeout.
    #[error("{0} did not answer in time")]
    HttpResponseTimeout(String),
    /// The head of the answer is larger than `limits.head_bytes`, or has more fields than `limits.headers`.
    #[error("the head of the answer of {0} is too large")]
    HttpResponseHeaderSectionSize(String),
    /// The answer is not HTTP.
    #[error("{0} did not answer with valid HTTP")]
    HttpProtocolError(String),
    /// The client's own body broke off while it was sent on.
    #[error("the request body ended early")]
    RequestIncomplete,
    /// The chunks of the client's own body are none (RFC 9112 section 7.1).
    #[error("the request body is not valid chunks")]
    RequestMalformed,
    /// The client sent nothing more of its body for too long.
    #[error("the request body did not arrive in time")]
    RequestStalled,
    /// hopspan is near the memory it may have.
    #[error("hopspan is short of memory")]
    OutOfMemory,
    /// The upstream would be hopspan itself.
    #[error("{0} is hopspan itself: this request would loop")]
    ProxyLoopDetected(String),
}

/// Whose fault an error is; decides nothing but the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client that sent the request.
    Client,
    /// The next server.
    Upstream,
    /// hopspan, or how it is configured.
    Proxy,
}

/// How an error is told: one row per [`ExchangeError`].
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Status of the response.
    pub status: StatusCode,
    /// RFC 9209 error name; also `error.type` and the metric's reason.
    pub name: &'static str,
    /// Whose fault.
    pub fault: Fault,
}

impl ExchangeError {
    /// The row of this error.
    pub fn told(&self) -> Told {
        use Fault::{Client, Proxy, Upstream};
        let (status, name, fault) = match self {
            Self::BadRequest { status, .. } => (*status, "http_request_error", Client),
            Self::RequestIncomplete | Self::RequestMalformed => {
                (StatusCode::BAD_REQUEST, "http_request_error", Client)
            }
            Self::RequestStalled => (StatusCode::REQUEST_TIMEOUT, "http_request_error", Client),
            Self::DestinationNotFound(_) => {
                (StatusCode::BAD_GATEWAY, "destination_not_found", Client)
            }
            Self::DnsError(_) => (StatusCode::BAD_GATEWAY, "dns_error", Upstream),
            Self::DnsTimeout(_) => (StatusCode::GATEWAY_TIMEOUT, "dns_timeout", Upstream),
            Self::ConnectionRefused(_) => (StatusCode::BAD_GATEWAY, "connection_refused", Upstream),
            Self::ConnectionTimeout(_) => {
                (StatusCode::GATEWAY_TIMEOUT, "connection_timeout", Upstream)
            }
            Self::DestinationUnavailable(..) | Self::SocketMissing(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "destination_unavailable",
                Upstream,
            ),
            Self::DestinationUnroutable(_) => (
                StatusCode::BAD_GATEWAY,
                "destination_ip_unroutable",
                Upstream,
            ),
            Self::DestinationProhibited(..) => {
                (StatusCode::FORBIDDEN, "destination_ip_prohibited", Proxy)
            }
            Self::DestinationDenied(..) | Self::ClientDenied(_) => {
                (StatusCode::FORBIDDEN, "http_request_denied", Proxy)
            }
            Self::ConnectionLimitReached(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "connection_limit_reached",
                Proxy,
            ),
            Self::OutOfMemory => (
                StatusCode::SERVICE_UNAVAILABLE,
                "proxy_internal_error",
                Proxy,
            ),
            Self::TlsCertificateError(..) => {
                (StatusCode::BAD_GATEWAY, "tls_certificate_error", Upstream)
            }
            Self::TlsAlertReceived(..) => (StatusCode::BAD_GATEWAY, "tls_alert_received", Upstream),
            Self::TlsProtocolError(..) => (StatusCode::BAD_GATEWAY, "tls_protocol_error", Upstream),
            Self::HttpResponseIncomplete(_) => (
                StatusCode::BAD_GATEWAY,
                "http_response_incomplete",
                Upstream,
            ),
            Self::ConnectionTerminated(_) => {
                (StatusCode::BAD_GATEWAY, "connection_terminated", Upstream)
            }
            Self::HttpResponseTimeout(_) => (
                StatusCode::GATEWAY_TIMEOUT,
                "http_response_timeout",
                Upstream,
            ),
            Self::HttpResponseHeaderSectionSize(_) => (
                StatusCode::BAD_GATEWAY,
                "http_response_header_section_size",
                Upstream,
            ),
            Self::HttpProtocolError(_) => {
                (StatusCode::BAD_GATEWAY, "http_protocol_error", Upstream)
            }
            Self::ProxyLoopDetected(_) => (StatusCode::BAD_GATEWAY, "proxy_loop_detected", Proxy),
        };
        Told {
            status,
            name,
            fault,
        }
    }
}
