//! gRPC as far as a proxy must know it: over HTTP/2 only, streams that may be silent, a status in the trailers.

use http::{HeaderMap, Request, Version, header};
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

/// Which HTTP a request goes by. `tls`: whether TLS may agree on it.
pub(super) fn offer(protocol: HttpProtocol, tls: bool, request: &Request<Incoming>) -> Offer {
    let switches = request.version() <= Version::HTTP_11
        && forwarding::upgrade_of(request.headers()).is_some();
    match protocol {
        // An upgrade is HTTP/1.1's own.
        _ if switches => Offer::Http1,
        HttpProtocol::Http1 => Offer::Http1,
        HttpProtocol::Http2 => Offer::Http2,
        HttpProtocol::Auto if is(request.headers()) => Offer::Http2,
        HttpProtocol::Auto if tls => Offer::Either,
        HttpProtocol::Auto => Offer::Http1,
    }
}

#[cfg(test)]
mod tests {
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
}
