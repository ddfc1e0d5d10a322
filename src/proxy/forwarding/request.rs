//! Which requests are refused before anything else looks at them, and where one wants to go.
//!
//! hyper has already refused what is not HTTP, differing `Content-Length`s, and a `Transfer-Encoding` that does not end
//! in `chunked` or comes with HTTP/1.0. It takes `Transfer-Encoding` with `Content-Length`, drops the latter before
//! anybody sees it, and closes the connection afterwards: RFC 9112 section 6.1 allows that. Of HTTP/2 requests h2 has
//! refused fields of a connection, upper case, and a length that is not the body's.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};

use super::upgrade_of;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BadRequest {
    /// What to answer.
    pub status: StatusCode,
    /// One clause, for the response and the log.
    pub why: &'static str,
}

const fn bad(why: &'static str) -> BadRequest {
    BadRequest {
        status: StatusCode::BAD_REQUEST,
        why,
    }
}

/// Where a request wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Whether the target's scheme is `https` (absolute-form only).
    pub https: bool,
    /// Name or IP literal, without brackets.
    pub host: &'a str,
    /// The port given, else the scheme's.
    pub port: u16,
    /// As in the request; `/` where there is none; empty with CONNECT.
    pub path_and_query: &'a str,
}

/// Refuses what two servers could read in two ways.
///
/// # Errors
/// Says what to answer; whoever answers should close the connection, since the framing may be in doubt.
pub fn validate<B>(request: &Request<B>) -> Result<(), BadRequest> {
    let headers = request.headers();
    let authority = request.uri().authority().map(|host| host.as_str());
    let host = only_host(headers)?;
    match (host, request.version()) {
        (None, Version::HTTP_11) => return Err(bad("there is no Host")),
        (None, Version::HTTP_2) if authority.is_none() => {
            return Err(bad("there is no :authority and no Host"));
        }
        (Some(host), Version::HTTP_2)
            if authority.is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(host.as_bytes())) =>
        {
            // RFC 9113 section 8.3.1. In HTTP/1.1 the target simply wins.
            return Err(bad("Host is not :authority"));
        }
        _ => {}
    }
    if let Some(host) = host {
        check_authority(host.as_bytes(), true)?;
    }
    if let Some(authority) = authority {
        check_authority(authority.as_bytes(), false)?;
    }
    check_form(request)?;
    if request.version() == Version::HTTP_2 && !super::are_trimmed(headers) {
        return Err(bad("a field value begins or ends with whitespace"));
    }
    let transfer_encoding = headers.contains_key(header::TRANSFER_ENCODING);
    if transfer_encoding {
        if request.version() < Version::HTTP_11 {
            return Err(bad("HTTP/1.0 has no transfer-encoding"));
        }
        if !super::is_just_chunked(headers) {
            return Err(bad("the transfer-encoding is not just chunked"));
        }
    }
    let length = content_length(headers, transfer_encoding)?;
    expectation(headers)?;
    let body = transfer_encoding || length > 0;
    if body && (request.method() == Method::CONNECT || upgrade_of(headers).is_some()) {
        return Err(bad("a request to switch protocols has no body"));
    }
    Ok(())
}

/// Fields that have bounds of their own: what is beyond them is left out, and the request goes on. W3C Baggage (3.3.2) has
/// 8,192 bytes carried, which with its name are more than [`within`] lets pass by default.
const TRACE_CONTEXT: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// Refuses a target of more than `target` bytes, and a field of more than `field` bytes, name and value.
///
/// # Errors
/// 414 (RFC 9110 section 15.5.15), 431 (RFC 6585 section 5).
pub fn within<B>(request: &Request<B>, target: usize, field: usize) -> Result<(), BadRequest> {
    let path = request.uri().path_and_query();
    if path.is_some_and(|path| path.as_str().len() > target) {
        return Err(BadRequest {
            status: StatusCode::URI_TOO_LONG,
            why: "the target is longer than limits.target_bytes",
        });
    }
    let large = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() > field && !TRACE_CONTEXT.contains(&name.as_str())
    };
    if request.headers().iter().any(large) {
        return Err(BadRequest {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            why: "a header field is larger than limits.field_bytes",
        });
    }
    Ok(())
}

/// Which of the four forms of a target go with a method (RFC 9112 section 3.2).
fn check_form<B>(request: &Request<B>) -> Result<(), BadRequest> {
    let (uri, connect) = (request.uri(), request.method() == Method::CONNECT);
    match uri.scheme_str() {
        // Nothing would be left of it in origin-form.
        None if uri.authority().is_some() && !connect => {
            Err(bad("only CONNECT has a host for a target"))
        }
        None if uri.path() == "*" && request.method() != Method::OPTIONS => {
            Err(bad("only OPTIONS has the target *"))
        }
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(bad("the target's scheme is neither http nor https")),
    }
}

fn only_host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, BadRequest> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    match hosts.next() {
        Some(_) => Err(bad("there is more than one Host")),
        None => Ok(host),
    }
}

/// Host and port as RFC 3986 section 3.2 spells them; an empty `Host` is allowed (RFC 9110 section 7.2), user
/// information is not (section 4.2.4).
fn check_authority(authority: &[u8], may_be_empty: bool) -> Result<(), BadRequest> {
    match is_plain_authority(authority) {
        true => Ok(()),
        false => check_any_authority(authority, may_be_empty),
    }
}

fn check_any_authority(authority: &[u8], may_be_empty: bool) -> Result<(), BadRequest> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    if !authority.iter().all(allowed) {
        return Err(bad("the host has characters that no host has"));
    }
    let Ok(authority) = std::str::from_utf8(authority) else {
        return Err(bad("the host has characters that no host has"));
    };
    if authority.is_empty() && may_be_empty {
        return Ok(());
    }
    let (host, port) = split_authority(authority).ok_or(bad("the host is not one"))?;
    if host.is_empty() {
        return Err(bad("the host is empty"));
    }
    if port.is_some_and(|port| !port.is_empty() && port_of(port).is_none()) {
        return Err(bad("the port is not one"));
    }
    Ok(())
}

/// Whether it is what nearly every `Host` is: a name or an IPv4 address, and at most a port.
fn is_plain_authority(authority: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let end = authority.iter().position(|byte| !plain(byte));
    match end.and_then(|end| authority.split_at_checked(end)) {
        None => !authority.is_empty(),
        Some((host, [b':', port @ ..])) => {
            let digits = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
            let add = |number, digit: &u8| number * 10 + u32::from(digit - b'0');
            !host.is_empty() && digits && port.iter().fold(0, add) <= u32::from(u16::MAX)
        }
        Some(_) => false,
    }
}

/// Digits and nothing else (RFC 3986 section 3.2.3): Rust's numbers may have a sign.
fn port_of(digits: &str) -> Option<u16> {
    let digits = Some(digits).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Host without brackets, and what follows its colon.
fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (literal, port) = rest.split_once(']')?;
        literal.parse::<std::net::Ipv6Addr>().ok()?;
        return match port {
            "" => Some((literal, None)),
            _ => Some((literal, Some(port.strip_prefix(':')?))),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let plain = !host.contains(['[', ']']) && !port.is_some_and(|port| port.contains(':'));
    plain.then_some((host, port))
}

fn content_length(headers: &HeaderMap, transfer_encoding: bool) -> Result<u64, BadRequest> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(0);
    };
    if transfer_encoding {
        return Err(bad("there are both transfer-encoding and content-length"));
    }
    if lengths.next().is_some() {
        return Err(bad("there is more than one content-length"));
    }
    let digits = length.as_bytes();
    let text = std::str::from_utf8(digits).unwrap_or("");
    if digits.iter().all(u8::is_ascii_digit)
        && let Ok(length) = text.parse()
    {
        return Ok(length);
    }
    Err(bad("the content-length is not a number"))
}

fn expectation(headers: &HeaderMap) -> Result<(), BadRequest> {
    let mut expected = headers.get_all(header::EXPECT).iter();
    let known = expected.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if known {
        return Ok(());
    }
    Err(BadRequest {
        status: StatusCode::EXPECTATION_FAILED,
        why: "only 100-continue can be expected",
    })
}

/// Where a validated request wants to go: the authority of its target where it has one, else `Host`. `tls`: it came by
/// TLS, which is what a target without a scheme means then.
///
/// # Errors
/// There is neither, or CONNECT without a port.
pub fn target<B>(request: &Request<B>, tls: bool) -> Result<Target<'_>, BadRequest> {
    let uri = request.uri();
    let connect = request.method() == Method::CONNECT;
    let https = uri.scheme_str().map_or(tls, |scheme| scheme == "https");
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .filter(|host| !host.is_empty())
            .ok_or(bad("there is no host to go to"))?,
    };
    let (host, port) = split_authority(authority).ok_or(bad("the host is not one"))?;
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port_of(port).ok_or(bad("the port is not one"))?,
        None if connect => return Err(bad("CONNECT needs a port")),
        None if https => 443,
        None => 80,
    };
    Ok(Target {
        https,
        host,
        port,
        path_and_query: match uri.path_and_query() {
            Some(path) => path.as_str(),
            None if connect => "",
            None => "/",
        },
    })
}

#[cfg(test)]
mod tests;
