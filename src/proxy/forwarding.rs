//! What a proxy must do to the head of a message: RFC 9110 section 7.6, RFC 9112 and RFC 9113, as pure functions.
//!
//! [`request::validate`] refuses what could be read in two ways; [`clean_request`] and [`clean_response`] make of a
//! head what the other side should see; [`forwarded::add`] tells the app who called. Bodies, and fields with a meaning
//! to tracing, are not touched.
//!
//! Framing is always written anew by hyper and never copied, which ends most smuggling: `Transfer-Encoding` goes away
//! here, and hyper adds its own.

use http::header::{self, Entry};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};

pub mod forwarded;
mod http2;
pub mod request;
pub mod websocket;

use http2::join_cookies;
pub(crate) use http2::{in_chunks, to_http1, to_http2};

/// Fields that never pass, besides those that `Connection` names. In the order of [`hop_by_hop`].
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // For us, not for the next server; forwarding it would give it credentials that are not its own.
    header::PROXY_AUTHORIZATION,
    // Belongs to `Upgrade: h2c`, which ends here.
    HeaderName::from_static("http2-settings"),
    // Answered here: hyper sends the 100 when the body is first read, and the upstream gets the body at once.
    header::EXPECT,
];

/// The place of a field in [`HOP_BY_HOP`]. Runs for every field of every message: a match on text is decided by its
/// length nearly always.
fn hop_by_hop(name: &HeaderName) -> Option<usize> {
    Some(match name.as_str() {
        "connection" => 0,
        "keep-alive" => 1,
        "proxy-connection" => 2,
        "te" => 3,
        "transfer-encoding" => 4,
        "upgrade" => 5,
        "proxy-authorization" => 6,
        "http2-settings" => 7,
        "expect" => 8,
        _ => return None,
    })
}

/// A protocol that may be switched to. `h2c` is not among them: its tunnel would hide requests from everything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// RFC 6455.
    WebSocket,
}

/// Makes of a request what the upstream should see: origin-form, `Host` from the authority, own version, no hop-by-hop
/// fields, no trailers (an h1 app reads their names as fields that a trusted proxy has checked). Says which upgrade the
/// client asks for; the fields for it are kept.
///
/// `protect`: more fields that a client's `Connection` cannot remove.
pub fn clean_request<B>(request: &mut Request<B>, protect: &[HeaderName]) -> Option<Upgrade> {
    if request.method() != Method::CONNECT {
        to_origin_form(request);
    }
    let upgrade = match (request.method(), request.version()) {
        (&Method::GET, Version::HTTP_11) => upgrade_of(request.headers()),
        _ => None,
    };
    // Without Host it cannot be an HTTP/1.1 request: load balancers check health like this.
    let crumbs = request.version() == Version::HTTP_2;
    if request.headers().contains_key(header::HOST) {
        *request.version_mut() = Version::HTTP_11;
    }
    strip_hop_by_hop(request.headers_mut(), protect);
    request.headers_mut().remove(header::TRAILER);
    if crumbs {
        join_cookies(request.headers_mut());
    }
    canonical_length(request.headers_mut());
    if let Some(upgrade) = upgrade {
        set_upgrade(request.headers_mut(), upgrade);
    }
    upgrade
}

/// What is wrong with a response: an upstream's fault, to be answered 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadResponse(pub &'static str);

/// Makes of a response what the client should see. `asked`: the upgrade that the request asked for.
///
/// # Errors
/// A switch of protocols that nobody asked for, or framing that could be read in two ways (RFC 9112 section 6.3).
pub fn clean_response<B>(
    response: &mut Response<B>,
    asked: Option<Upgrade>,
) -> Result<(), BadResponse> {
    let status = response.status();
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    if switches && (asked.is_none() || upgrade_of(response.headers()) != asked) {
        return Err(BadResponse("it switches protocols unasked"));
    }
    let http2 = response.version() == Version::HTTP_2;
    let headers = response.headers_mut();
    if http2 && !are_trimmed(headers) {
        return Err(BadResponse("a field value begins or ends with whitespace"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        if !is_just_chunked(headers) {
            return Err(BadResponse("its transfer-encoding is not just chunked"));
        }
        if headers.contains_key(header::CONTENT_LENGTH) {
            return Err(BadResponse(
                "it has both transfer-encoding and content-length",
            ));
        }
    }
    if status == StatusCode::NO_CONTENT || switches {
        // RFC 9110 section 8.6: must not be sent with these.
        headers.remove(header::CONTENT_LENGTH);
    } else if let Entry::Occupied(mut lengths) = headers.entry(header::CONTENT_LENGTH) {
        // hyper has looked at them only where they say how much comes: not with HEAD and 304.
        if one_number(lengths.iter()).is_none() {
            return Err(BadResponse("its content-length is not one number"));
        }
        if lengths.iter().count() > 1 {
            let one = lengths.get().clone();
            lengths.insert(one);
        }
    }
    canonical_length(headers);
    strip_hop_by_hop(headers, &[]);
    if let (true, Some(upgrade)) = (switches, asked) {
        set_upgrade(headers, upgrade);
    }
    *response.version_mut() = Version::HTTP_11;
    Ok(())
}

/// Removes the fields that are for one connection only (RFC 9110 section 7.6.1): those known, and those that
/// `Connection` names, except what must not be removable by a client: see [`is_protected`]. `TE: trailers` stays.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, protect: &[HeaderName]) {
    let mut found: u16 = 0;
    for name in headers.keys() {
        if let Some(at) = hop_by_hop(name) {
            found |= 1 << at;
        }
    }
    if found == 0 {
        return;
    }
    let trailers = has_token(headers, &header::TE, "trailers");
    let mut nominated = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        nominated.extend(tokens(value).filter_map(|token| nominated_field(token, protect)));
    }
    for (at, name) in HOP_BY_HOP.iter().enumerate() {
        if found & (1 << at) != 0 {
            headers.remove(name);
        }
    }
    for name in nominated {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        // RFC 9110 section 10.1.4: whoever sends TE must name it.
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}

fn nominated_field(token: &str, protect: &[HeaderName]) -> Option<HeaderName> {
    // What nearly every `Connection` says, without parsing a name.
    if ["keep-alive", "close", "upgrade", "te"]
        .iter()
        .any(|known| token.eq_ignore_ascii_case(known))
    {
        return None;
    }
    let name = HeaderName::from_bytes(token.as_bytes()).ok()?;
    (!is_protected(&name) && !protect.contains(&name)).then_some(name)
}

/// Fields that `Connection` cannot remove: those that route, frame, or tell the app who called, and trace context. A
/// client could otherwise undo what proxies before have set (Traefik CVE-2024-45410).
pub fn is_protected(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.starts_with("x-forwarded-")
        || text.starts_with("x-b3-")
        || matches!(
            text,
            "host"
                | "content-length"
                | "content-type"
                | "content-encoding"
                | "forwarded"
                | "via"
                | "x-real-ip"
                | "x-request-id"
                | "traceparent"
                | "tracestate"
                | "baggage"
                | "b3"
                | "uber-trace-id"
        )
}

/// The upgrade these fields ask for or grant, if it is one that may pass.
pub fn upgrade_of(headers: &HeaderMap) -> Option<Upgrade> {
    if !headers.contains_key(header::UPGRADE) {
        return None;
    }
    let asked = has_token(headers, &header::UPGRADE, "websocket")
        && has_token(headers, &header::CONNECTION, "upgrade");
    asked.then_some(Upgrade::WebSocket)
}

/// Writes the fields of an upgrade again after [`strip_hop_by_hop`].
pub fn set_upgrade(headers: &mut HeaderMap, upgrade: Upgrade) {
    let Upgrade::WebSocket = upgrade;
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    // Named by a `Connection` that now says otherwise.
    headers.remove(header::TE);
}

/// Absolute-form to origin-form (RFC 9112 section 3.2): the authority replaces whatever `Host` said.
pub fn to_origin_form<B>(request: &mut Request<B>) {
    if request.uri().authority().is_none() {
        return;
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let host = parts
        .authority
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    (parts.scheme, parts.authority) = (None, None);
    // A path alone is always a URI.
    *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
}

/// Whether no value begins or ends with whitespace. In HTTP/1 it does not count; in HTTP/2 such a message is malformed
/// (RFC 9113 section 8.2.1).
pub(super) fn are_trimmed(headers: &HeaderMap) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    headers
        .values()
        .map(HeaderValue::as_bytes)
        .all(|value| !space(value.first()) && !space(value.last()))
}

/// The number that all of these are, lists of them among them.
fn one_number<'a>(lengths: impl Iterator<Item = &'a HeaderValue>) -> Option<u64> {
    let mut numbers = lengths.flat_map(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').map(|one| {
            let one = one.trim();
            let digits = one.bytes().all(|byte| byte.is_ascii_digit());
            one.parse::<u64>().ok().filter(|_| digits)
        })
    });
    let first = numbers.next()?;
    first.filter(|_| numbers.all(|other| other == first))
}

/// A length as one number without leading zeros, which some take for octal; an upstream's list of equal ones is one
/// (RFC 9110 section 8.6). The framing that hyper writes anew is this field.
fn canonical_length(headers: &mut HeaderMap) {
    let Some(length) = headers.get_mut(header::CONTENT_LENGTH) else {
        return;
    };
    let bytes = length.as_bytes();
    if !(matches!(bytes, [b'0', _, ..]) || bytes.contains(&b',')) {
        return;
    }
    if let Some(number) = one_number(std::iter::once(&*length)) {
        *length = HeaderValue::from(number);
    }
}

fn is_just_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next();
    first.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(tokens)
        .any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The members of a list of tokens (RFC 9110 section 5.6.1).
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value
        .to_str()
        .unwrap_or("")
        .split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests;
