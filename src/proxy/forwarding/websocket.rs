//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT as the HTTP/1.1 upgrade (RFC 6455 section 4) that hopspan works
//! with, and its answer back, from clients; the other way round to an upstream that speaks HTTP/2 and takes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::ext::Protocol;
use sha1::{Digest, Sha1};

use super::http2::{join_cookies, to_http1};
use super::{BadResponse, Upgrade, set_upgrade, upgrade_of};

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the app must answer: its `Sec-WebSocket-Accept`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked(String);

/// Makes of an extended CONNECT for `websocket` the upgrade that asks for the same; leaves all else as it is.
pub fn ask<B>(request: &mut Request<B>) -> Option<Asked> {
    let protocol = request.extensions().get::<Protocol>()?;
    if request.method() != Method::CONNECT || protocol.as_str() != "websocket" {
        return None;
    }
    to_http1(request);
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    join_cookies(headers);
    set_upgrade(headers, Upgrade::WebSocket);
    let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    headers.insert(KEY, HeaderValue::try_from(&key).ok()?);
    Some(Asked(accept(key.as_bytes())))
}

/// Makes of the app's answer the one that HTTP/2 has.
///
/// # Errors
/// It switched without having understood, or means by success something else.
pub fn answer<B>(response: &mut Response<B>, asked: &Asked) -> Result<(), BadResponse> {
    let status = response.status();
    if status.is_success() {
        return Err(BadResponse("it does not switch to WebSocket"));
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let headers = response.headers_mut();
    let told = headers.remove(ACCEPT);
    if told.is_none_or(|told| told.as_bytes() != asked.0.as_bytes()) {
        return Err(BadResponse(
            "its Sec-WebSocket-Accept is not that of the key",
        ));
    }
    headers.remove(header::UPGRADE);
    headers.remove(header::CONNECTION);
    *response.status_mut() = StatusCode::OK;
    Ok(())
}

/// Makes of an upgrade the extended CONNECT that asks for the same; leaves all else as it is. The key stays here: HTTP/2
/// has none (section 5).
pub(crate) fn extend<B>(request: &mut Request<B>) -> Option<Asked> {
    upgrade_of(request.headers())?;
    let headers = request.headers_mut();
    let key = headers.remove(KEY)?;
    headers.remove(header::UPGRADE);
    headers.remove(header::CONNECTION);
    headers.remove(header::CONTENT_LENGTH);
    *request.method_mut() = Method::CONNECT;
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    Some(Asked(accept(key.as_bytes())))
}

/// Makes of the answer to that the one that HTTP/1.1 has.
pub(crate) fn switch<B>(response: &mut Response<B>, asked: Asked) {
    // hyper makes a tunnel of no other.
    if response.status() != StatusCode::OK {
        return;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    set_upgrade(headers, Upgrade::WebSocket);
    // Letters, digits, + / and =.
    if let Ok(accept) = HeaderValue::try_from(asked.0) {
        headers.insert(ACCEPT, accept);
    }
}

fn accept(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_is_that_of_the_key() {
        // RFC 6455 section 1.3.
        let told = accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(told, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_upgrade_goes_by_http_2_and_its_answer_back() {
        let upgrade = || {
            Request::get("/chat?room=1")
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-protocol", "chat")
        };
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let mut request = upgrade().header(KEY, key).body(()).unwrap();
        let asked = extend(&mut request).unwrap();
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.uri(), "/chat?room=1");
        let protocol = request.extensions().get::<Protocol>().unwrap();
        assert_eq!(protocol.as_str(), "websocket");
        let left: Vec<_> = request.headers().keys().collect();
        assert_eq!(left, ["sec-websocket-protocol"]);

        for (status, switched) in [(200, 101), (204, 204), (403, 403)] {
            let mut response = Response::builder().status(status).body(()).unwrap();
            switch(&mut response, asked.clone());
            assert_eq!(response.status(), switched);
            let headers = response.headers();
            let asked = upgrade_of(headers).map(|_| headers[ACCEPT].as_bytes());
            let accept = &b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..];
            assert_eq!(asked, (switched == 101).then_some(accept));
        }

        // Whoever sends no key means no WebSocket; and what asks for nothing is asked for nothing.
        let plain = Request::get("/").header(KEY, key);
        for request in [upgrade(), plain] {
            let mut request = request.body(()).unwrap();
            let fields = request.headers().clone();
            assert_eq!(extend(&mut request), None);
            assert_eq!(
                (request.method(), request.headers()),
                (&Method::GET, &fields)
            );
        }
    }
}
