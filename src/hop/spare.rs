//! A request to send again, where sending twice has no effect twice: its head, packed, since nearly every request has one
//! made and hardly any needs it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::proxy::body::RequestBody;

/// A head, without its body, and without the extensions: all they hold is the case of names.
pub(super) struct Spare {
    method: Method,
    uri: Uri,
    version: Version,
    fields: Fields,
}

enum Fields {
    /// Lines of name, colon and value: no name has a colon, and no value a line end.
    Packed(Vec<u8>),
    /// Values shared with the request: a copy of large ones would double what a client makes us hold.
    Shared(HeaderMap),
}

/// A head of more bytes is not copied.
const PACKED: usize = 1024;

impl Spare {
    /// Of a request without a body that may be sent twice (RFC 9110 9.2.2), or of `any`, where the upstream can say that it
    /// has not processed it.
    pub(super) fn of(request: &Request<RequestBody>, any: bool) -> Option<Spare> {
        let repeats = any || request.method().is_idempotent();
        if !repeats || !http_body::Body::is_end_stream(request.body()) {
            return None;
        }
        Some(Spare {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            fields: Fields::of(request.headers()),
        })
    }

    /// The request.
    pub(super) fn request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.fields.headers();
        request
    }
}

impl Fields {
    fn of(headers: &HeaderMap) -> Fields {
        let lines = headers.iter();
        let lines = lines.map(|(name, value)| name.as_str().len() + value.len() + 2);
        let size = lines.sum();
        if size > PACKED {
            return Fields::Shared(headers.clone());
        }
        let mut packed = Vec::with_capacity(size);
        for (name, value) in headers {
            packed.extend_from_slice(name.as_str().as_bytes());
            packed.push(b':');
            packed.extend_from_slice(value.as_bytes());
            packed.push(b'\n');
        }
        Fields::Packed(packed)
    }

    fn headers(self) -> HeaderMap {
        let packed = match self {
            Fields::Packed(packed) => packed,
            Fields::Shared(headers) => return headers,
        };
        let mut headers = HeaderMap::new();
        for line in packed.split(|byte| *byte == b'\n') {
            let colon = line.iter().position(|byte| *byte == b':');
            let parts = colon.and_then(|colon| line.split_at_checked(colon));
            let Some((name, [_, value @ ..])) = parts else {
                continue;
            };
            // They were a name and a value a moment ago.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                headers.append(name, value);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn request(method: Method, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_static("/a?b=c:d");
        for (name, value) in [
            ("host", "shop:8080"),
            ("cookie", "a=1; b=2"),
            ("x-several", "one"),
            ("x-empty", ""),
            ("x-several", "two: \t3"),
        ] {
            request
                .headers_mut()
                .append(name, HeaderValue::from_static(value));
        }
        let latin = HeaderValue::from_bytes(b"caf\xe9 ").unwrap();
        request.headers_mut().append("x-latin", latin);
        request
    }

    #[test]
    fn what_is_sent_again_is_the_same_request() {
        let first = request(Method::GET, RequestBody::Empty);
        same(&first);
        let mut large = request(Method::GET, RequestBody::Empty);
        let value = HeaderValue::try_from("v".repeat(PACKED)).unwrap();
        large.headers_mut().append("x-large", value);
        same(&large);
        let copy = Spare::of(&large, false).unwrap().request();
        let at = |request: &Request<RequestBody>| request.headers()["x-large"].as_bytes().as_ptr();
        assert_eq!(at(&copy), at(&large), "large values are shared");
    }

    fn same(first: &Request<RequestBody>) {
        let again = Spare::of(first, false).unwrap().request();
        assert_eq!(again.method(), first.method());
        assert_eq!(again.uri(), first.uri());
        assert_eq!(again.version(), first.version());
        assert_eq!(again.headers(), first.headers());
        let lines = |request: &Request<RequestBody>| -> Vec<(HeaderName, HeaderValue)> {
            let lines = request.headers().iter();
            lines
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        assert_eq!(lines(&again), lines(first), "in this order");
    }

    #[test]
    fn only_what_may_be_sent_twice() {
        let body = || RequestBody::from(Bytes::from_static(b"x"));
        let of = |method, body, any| Spare::of(&request(method, body), any).is_some();
        assert!(of(Method::PUT, RequestBody::Empty, false));
        assert!(!of(Method::PUT, body(), false));
        assert!(!of(Method::POST, RequestBody::Empty, false));
        assert!(of(Method::POST, RequestBody::Empty, true));
        assert!(!of(Method::POST, body(), true));
    }
}
