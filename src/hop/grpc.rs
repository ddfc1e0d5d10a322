//! gRPC as far as a proxy must know it: over HTTP/2 only, streams that may be silent, a status in the trailers.
//!
//! Which statuses fail a span is said by OTel's conventions for gRPC: any but OK that of a client; that of a server only
//! those for which the server is to blame.

use http::{HeaderMap, Request, StatusCode, Version, header};
use hyper::body::Incoming;

use crate::config::HttpProtocol;
use crate::proxy::forwarding;
use crate::tls::Offer;

/// Whether a message is of gRPC proper; gRPC-Web is made for HTTP/1.1.
pub(super) fn is(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let rest = kind.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// gRPC's status codes by their number (grpc.io, doc/statuscodes.md).
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const UNKNOWN: &str = "UNKNOWN";

/// The status of a call, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) &'static str);

impl Status {
    /// Of the trailers of a response; or of its head, where that is all of it. One that is not known counts as UNKNOWN, as
    /// it does for clients.
    pub(super) fn read(fields: &HeaderMap) -> Option<Status> {
        let text = fields.get("grpc-status")?.to_str().unwrap_or_default();
        let number = text.parse().ok();
        let name = number.and_then(|number: usize| NAMES.get(number));
        Some(Status(name.copied().unwrap_or(UNKNOWN)))
    }

    /// Of an answer of hopspan's own.
    pub(super) fn of(status: StatusCode) -> Status {
        let name = NAMES.get(usize::from(number_of(status)));
        Status(name.copied().unwrap_or(UNKNOWN))
    }

    /// Whether it fails the span of who called.
    pub(super) fn fails_client(self) -> bool {
        self.0 != "OK"
    }

    /// Whether it fails the span of who was called.
    pub(super) fn fails_server(self) -> bool {
        matches!(
            self.0,
            UNKNOWN
                | "DEADLINE_EXCEEDED"
                | "UNIMPLEMENTED"
                | "INTERNAL"
                | "UNAVAILABLE"
                | "DATA_LOSS"
        )
    }
}

/// A status of hopspan's own as the number that says the same: as clients take it that get none (grpc.io,
/// doc/http-grpc-status-mapping.md), but for what is too large, and what took too long.
pub(super) fn number_of(status: StatusCode) -> u16 {
    match status {
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => 12,
        StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::URI_TOO_LONG
        | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => 8,
        StatusCode::GATEWAY_TIMEOUT => 4,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14,
        status if status.is_client_error() => 13,
        _ => 2,
    }
}

/// `grpc-message`: percent-encoded where it is not printable ASCII (doc/PROTOCOL-HTTP2.md).
pub(super) fn message(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// Which HTTP a request goes by. `tls`: whether TLS may agree on it.
pub(super) fn offer(protocol: HttpProtocol, tls: bool, request: &Request<Incoming>) -> Offer {
    let switches = request.version() <= Version::HTTP_11
        && forwarding::upgrade_of(request.headers()).is_some();
    match protocol {
        HttpProtocol::Http2 => Offer::Http2,
        // An upgrade is HTTP/1.1's own.
        _ if switches => Offer::Http1,
        HttpProtocol::Http1 => Offer::Http1,
        HttpProtocol::Auto if is(request.headers()) => Offer::Http2,
        HttpProtocol::Auto if tls => Offer::Either,
        HttpProtocol::Auto => Offer::Http1,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (kind, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(is(&headers), grpc, "{kind}");
        }
        assert!(!is(&HeaderMap::new()));
    }

    #[test]
    fn an_answer_of_our_own_has_a_status_and_a_message() {
        for (status, number) in [
            (400, 13),
            (403, 7),
            (405, 12),
            (408, 13),
            (431, 8),
            (500, 2),
            (502, 14),
            (503, 14),
            (504, 4),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(number_of(status), number, "{status}");
        }
        assert_eq!(message("no 100 % of \u{e9}\n"), "no 100 %25 of %C3%A9%0A");
    }

    #[test]
    fn a_status_is_named_and_blames_who_is_to_blame() {
        let read = |text: &'static str| {
            let mut fields = HeaderMap::new();
            fields.insert("grpc-status", HeaderValue::from_static(text));
            Status::read(&fields)
        };
        for (text, name, server, client) in [
            ("0", "OK", false, false),
            ("1", "CANCELLED", false, true),
            ("2", "UNKNOWN", true, true),
            ("4", "DEADLINE_EXCEEDED", true, true),
            ("5", "NOT_FOUND", false, true),
            ("12", "UNIMPLEMENTED", true, true),
            ("13", "INTERNAL", true, true),
            ("14", "UNAVAILABLE", true, true),
            ("15", "DATA_LOSS", true, true),
            ("16", "UNAUTHENTICATED", false, true),
            ("17", "UNKNOWN", true, true),
            ("x", "UNKNOWN", true, true),
        ] {
            let status = read(text).unwrap();
            assert_eq!(status, Status(name), "{text}");
            let fails = (status.fails_server(), status.fails_client());
            assert_eq!(fails, (server, client), "{text}");
        }
        assert_eq!(Status::read(&HeaderMap::new()), None);
    }
}
