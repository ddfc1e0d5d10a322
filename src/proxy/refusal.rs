//! What a client is told of a request that is none: hyper answers those itself, before any handler, with a bare status.
//!
//! [`Timed`](super::timed::Timed) sends this in its place, so that a 4xx of hopspan's own always says so (RFC 9209) and
//! why. The statuses stay hyper's: 400, 414, 431; 408 and 503 are ours.

use std::time::SystemTime;

/// Whose fault it is (RFC 9209).
const THEIRS: &str = "proxy-status: hopspan; error=http_request_error";
const OURS: &str = "proxy-status: hopspan; error=proxy_internal_error\r\nretry-after: 1";

/// The answer with this status, whole: the connection ends after it.
pub(crate) fn answer(status: u16) -> Vec<u8> {
    let (reason, why, more) = match status {
        408 => (
            "Request Timeout",
            "the request did not arrive in time",
            THEIRS,
        ),
        414 => ("URI Too Long", "the target is too long", THEIRS),
        431 => (
            "Request Header Fields Too Large",
            "the head is too large, has too many fields or names too great a length",
            THEIRS,
        ),
        503 => ("Service Unavailable", "short of memory", OURS),
        _ => ("Bad Request", "the request is not valid HTTP", THEIRS),
    };
    let status = match status {
        408 | 414 | 431 | 503 => status,
        _ => 400,
    };
    let body = format!("hopspan: {why}\n");
    format!(
        "HTTP/1.1 {status} {reason}\r\n\
         connection: close\r\n\
         content-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\n\
         {more}\r\n\
         date: {}\r\n\
         \r\n{body}",
        body.len(),
        httpdate::fmt_http_date(SystemTime::now()),
    )
    .into_bytes()
}

/// The status of an answer that begins with `head`.
pub(crate) fn status_of(head: &[u8]) -> u16 {
    let digits = head.get(9..12).unwrap_or_default();
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_who_and_why() {
        for (status, line) in [
            (400, "400 Bad Request"),
            (408, "408 Request Timeout"),
            (414, "414 URI Too Long"),
            (431, "431 Request Header Fields Too Large"),
            (503, "503 Service Unavailable"),
            (599, "400 Bad Request"),
        ] {
            let text = String::from_utf8(answer(status)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{head}");
            let error = if status == 503 { OURS } else { THEIRS };
            assert!(head.contains(&format!("\r\n{error}\r\n")));
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())));
            assert!(body.starts_with("hopspan: "));
        }
        assert_eq!(status_of(b"HTTP/1.1 431 Request"), 431);
        assert_eq!(status_of(b""), 400);
    }
}
