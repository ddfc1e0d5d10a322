//! What sentences are put together from: names, places, and how far somebody came, by what one span says.

use super::super::super::fault::{self, shortened};
use super::super::super::span::{
    METHOD, PATH, PEER_ADDRESS, PEER_PORT, ROUTE, RPC_STATUS, SERVER_ADDRESS, SERVER_PORT, Span,
};

/// Longest name or path in a sentence, in characters.
pub(super) const LONGEST: usize = 80;

/// How far a connection was that the other side closed.
pub(super) fn how_far(span: &Span) -> &'static str {
    match span.status_code() {
        Some(200..=399) => "in the midst of its answer to",
        _ => "before it had answered",
    }
}

/// Whose request broke off on its way through.
pub(super) fn unsent(span: &Span) -> String {
    format!(
        "the caller of {} did not send the whole of its request{}",
        service(span),
        fault::told(span)
    )
}

/// What somebody did whose answer is not one.
pub(super) fn garbled(span: &Span) -> &'static str {
    match span.status_code() {
        Some(200..=399) => "broke its answer off with",
        _ => "answered with",
    }
}

pub(super) fn service(span: &Span) -> String {
    shortened(span.service(), LONGEST)
}

/// Method and path, else route, else the span's name.
pub(super) fn asked(span: &Span) -> String {
    match (
        span.text(METHOD),
        span.text(PATH).or_else(|| span.text(ROUTE)),
    ) {
        (Some(method), Some(path)) => shortened(&format!("{method} {path}"), LONGEST),
        _ => shortened(&span.name, LONGEST),
    }
}

pub(super) fn because(span: &Span) -> String {
    fault::why(span)
        .map(|why| format!(" ({why})"))
        .unwrap_or_default()
}

pub(super) fn host(span: &Span) -> Option<String> {
    span.text(SERVER_ADDRESS)
        .map(|host| shortened(host, LONGEST))
}

/// Host and port, as the caller knew them.
pub(super) fn peer(span: &Span) -> Option<String> {
    place(host(span)?, span, SERVER_PORT)
}

/// Host and port that it was connected to, or should have been.
pub(super) fn redirected(span: &Span) -> Option<String> {
    place(
        shortened(span.text(PEER_ADDRESS)?, LONGEST),
        span,
        PEER_PORT,
    )
}

fn place(host: String, span: &Span, port: &str) -> Option<String> {
    let port = span.attribute(port).and_then(serde_json::Value::as_i64);
    Some(match port {
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

/// The status of an answer: that of gRPC where HTTP's says nothing.
pub(super) fn answered(span: &Span) -> Option<String> {
    let code = span.status_code()?;
    let rpc = span.text(RPC_STATUS).filter(|_| code < 400);
    Some(rpc.map_or_else(|| code.to_string(), |status| shortened(status, LONGEST)))
}

pub(super) fn detailed(span: &Span, why: &str) -> String {
    match fault::detail(span) {
        Some(detail) => format!("{why}: {detail}"),
        None => why.to_owned(),
    }
}
