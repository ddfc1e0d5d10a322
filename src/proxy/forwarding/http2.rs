//! Between HTTP/1.1 and HTTP/2 (RFC 9113 section 8): what a head says in the one as the other says it.
//!
//! hyper drops the fields of a connection from what it sends by HTTP/2, and h2 refuses them in what comes.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};
use http_body::Body;

use super::to_origin_form;
use crate::proxy::upstream::Upstream;

/// A request as HTTP/1.1 has it: origin-form and `Host`.
pub(crate) fn to_http1<B>(request: &mut Request<B>) {
    if request.version() == Version::HTTP_2 {
        to_origin_form(request);
        *request.version_mut() = Version::HTTP_11;
    }
}

/// Content of a GET or a HEAD whose length is not known is told to go in chunks: hyper would take it for none at all, which it
/// does with no other method. Any method may have content (RFC 9110 section 9.3.1).
pub(crate) fn in_chunks<B: Body>(request: &mut Request<B>) {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return;
    }
    let unknown = request.body().size_hint().exact().is_none() && !request.body().is_end_stream();
    let headers = request.headers_mut();
    let told =
        headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::UPGRADE);
    if unknown && !told {
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
}

/// A request in origin-form as HTTP/2 has it: `:scheme`, and `Host` as `:authority`.
pub(crate) fn to_http2<B>(request: &mut Request<B>, upstream: &Upstream) {
    if request.version() == Version::HTTP_2 {
        return;
    }
    let host = request.headers_mut().remove(header::HOST);
    // hyper would take away what it names, `TE: trailers` among them.
    request.headers_mut().remove(header::CONNECTION);
    let authority = host
        .and_then(|host| Authority::try_from(host.as_bytes()).ok())
        // Without Host (HTTP/1.0) it is whoever is connected to.
        .or_else(|| Authority::try_from(upstream.address.to_string()).ok())
        .unwrap_or(Authority::from_static("localhost"));
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(match upstream.tls {
        Some(_) => Scheme::HTTPS,
        None => Scheme::HTTP,
    });
    parts.authority = Some(authority);
    parts
        .path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
}

/// HTTP/2 clients may send a cookie in crumbs, a field each; elsewhere it is one field (section 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs = headers.get_all(header::COOKIE).iter();
    let crumbs: Vec<&[u8]> = crumbs.map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;

    #[test]
    fn a_head_goes_there_and_back() {
        let upstream = Upstream::from(Address::tcp("10.0.0.1", 8000));
        for (target, host, uri) in [
            ("/a?b", Some("shop:8080"), "http://shop:8080/a?b"),
            ("/", Some("[::1]"), "http://[::1]/"),
            ("/", None, "http://10.0.0.1:8000/"),
        ] {
            let mut request = Request::get(target).body(()).unwrap();
            if let Some(host) = host {
                let host = HeaderValue::from_static(host);
                request.headers_mut().insert(header::HOST, host);
            }
            for _ in 0..2 {
                to_http2(&mut request, &upstream);
                assert_eq!(request.uri(), uri);
                assert_eq!(request.version(), Version::HTTP_2);
                assert!(!request.headers().contains_key(header::HOST));
            }
            for _ in 0..2 {
                to_http1(&mut request);
                assert_eq!(request.uri(), target);
                assert_eq!(request.version(), Version::HTTP_11);
                let back = request.headers()[header::HOST].to_str().unwrap();
                assert_eq!(back, host.unwrap_or("10.0.0.1:8000"));
            }
        }
    }

    #[test]
    fn crumbs_become_a_cookie() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2; c=3"] {
            headers.append(header::COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        let cookies: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }
}
