//! What an `error.type` says about where a call failed.
//!
//! Known are hopspan's own names (RFC 9209), errno names, and exception names that instrumentations write. What is
//! unknown is no evidence for anything.

use super::span::{ERROR_TYPE, HOPSPAN, Span, Status};

/// How a span failed, as far as its `error.type` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection was made: the peer never saw the call.
    NoConnection(&'static str),
    /// Whoever waited stopped waiting.
    GaveUp,
    /// The peer closed or broke the connection.
    Closed,
    /// The peer is there, and went no further in the midst of its answer.
    Stalled,
    /// Whoever asked is there, and takes no more of the answer.
    Untaken,
    /// The peer answered with this.
    Garbled(&'static str),
    /// Whoever asked did not send the whole of its request.
    Unsent,
    /// hopspan itself did not send it on.
    NotPassed,
    /// It was answered (the type is a status), or nothing is known.
    Other,
}

/// How `span` failed.
pub(super) fn of(span: &Span) -> Fault {
    match span.text(ERROR_TYPE).unwrap_or("") {
        "connection_refused" | "ECONNREFUSED" | "ConnectionRefusedError" => {
            Fault::NoConnection("refused")
        }
        "connection_timeout" | "ConnectTimeout" | "ETIMEDOUT" => Fault::NoConnection("timed out"),
        "dns_error" | "ENOTFOUND" | "EAI_AGAIN" | "gaierror" => {
            Fault::NoConnection("name not found")
        }
        "dns_timeout" => Fault::NoConnection("name not resolved in time"),
        "connection_limit_reached" => Fault::NoConnection("all its connections are in use"),
        "destination_unavailable"
        | "destination_ip_unroutable"
        | "EHOSTUNREACH"
        | "ENETUNREACH" => Fault::NoConnection("unreachable"),
        "destination_not_found" => Fault::NoConnection("no such destination"),
        "proxy_loop_detected" => Fault::NoConnection("it would loop"),
        "tls_protocol_error" => Fault::NoConnection("TLS failed"),
        "tls_certificate_error" => Fault::NoConnection("its certificate is not accepted"),
        "tls_alert_received" => Fault::NoConnection("it refused TLS"),
        "cancelled" | "http_response_timeout" | "timeout" | "ReadTimeout" | "TimeoutError" => {
            Fault::GaveUp
        }
        "connection_read_timeout" => Fault::Stalled,
        "connection_write_timeout" => Fault::Untaken,
        "connection_terminated"
        | "http_response_incomplete"
        | "ECONNRESET"
        | "ConnectionResetError"
        | "EPIPE" => Fault::Closed,
        "http_protocol_error" | "http_response_transfer_coding" => {
            Fault::Garbled("what is not valid HTTP")
        }
        "http_response_header_section_size" => Fault::Garbled("a head that is too large"),
        "http_request_error" if is_refusal(span) => Fault::NotPassed,
        "http_request_error" => Fault::Unsent,
        "destination_ip_prohibited" | "http_request_denied" | "proxy_internal_error"
            if is_hopspan_s(span) =>
        {
            Fault::NotPassed
        }
        _ => Fault::Other,
    }
}

fn is_hopspan_s(span: &Span) -> bool {
    &*span.source.scope == HOPSPAN
}

/// Whether hopspan refused the request for its head: then it is not one that ended early.
fn is_refusal(span: &Span) -> bool {
    let of_body = |told: &str| told.starts_with("the request body");
    is_hopspan_s(span) && message(span).is_some_and(|told| !of_body(told))
}

/// What is said of the failure, where somebody did.
pub(super) fn message(span: &Span) -> Option<&str> {
    match &span.status {
        Status::Error(message) if !message.is_empty() => Some(message),
        _ => None,
    }
}

/// Why there is no connection, where hopspan knows more than its kind: what follows the subject of its message.
pub(super) fn detail(span: &Span) -> Option<String> {
    let kind = span.text(ERROR_TYPE).filter(|_| is_hopspan_s(span))?;
    let told = kind.starts_with("tls_") || kind == "destination_unavailable";
    let (_, detail) = message(span).filter(|_| told)?.split_once(": ")?;
    Some(shortened(detail, 120))
}

/// Whether the caller left, which is a consequence for all that happens below.
pub(super) fn cancelled(span: &Span) -> bool {
    span.text(ERROR_TYPE) == Some("cancelled")
}

/// What `span` says of its failure, behind a colon.
pub(super) fn told(span: &Span) -> String {
    let told = message(span).map(|message| format!(": {}", shortened(message, 80)));
    told.unwrap_or_default()
}

/// What is known of why `span` failed, in a few words.
pub(super) fn why(span: &Span) -> Option<String> {
    let why = span.text(ERROR_TYPE).or_else(|| message(span))?;
    Some(shortened(why, 60))
}

/// At most `limit` characters, with an ellipsis where it was longer.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
    }
}
