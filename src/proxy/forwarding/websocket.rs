//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT as the HTTP/1.1 upgrade (RFC 6455 section 4) that an app knows, and
//! its answer back. Only from clients: towards an app WebSockets go by HTTP/1.1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::ext::Protocol;
use sha1::{Digest, Sha1};

use super::http2::{join_cookies, to_http1};
use super::{BadResponse, Upgrade, set_upgrade};

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
    Some(Asked(accept(&key)))
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

fn accept(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_is_that_of_the_key() {
        // RFC 6455 section 1.3.
        let told = accept("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(told, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
