//! Why there is no response, and whether the request may be sent once more.

use std::fmt;
use std::io;

use http::Request;
use rustls::AlertDescription;

use crate::proxy::body::{BodyError, BodyFault, RequestBody, body_error, io_kind};

/// Why there is no response.
#[derive(Debug)]
pub struct SendError {
    /// What happened.
    pub fault: SendFault,
    /// Whether the connection had served an earlier exchange.
    pub reused: bool,
    /// The request, where not one byte of it was written.
    pub request: Option<Box<Request<RequestBody>>>,
    source: hyper::Error,
}

/// What kind of [`SendError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// The connection was closed before anything was written; the request comes back and may always be sent again.
    Closed,
    /// The connection was reset while the request was sent or the response awaited.
    Reset,
    /// The upstream said that it has not processed the request: a stream refused, or above the last that counts (HTTP/2).
    Unprocessed,
    /// The upstream gave up this exchange and nothing else (HTTP/2).
    StreamReset,
    /// The connection ended before the head of the response did.
    Incomplete,
    /// The head of the response is larger than it may be.
    TooLarge,
    /// What came is not an HTTP response.
    Malformed,
    /// It ended TLS with an alert: it has none of what it asked for (a certificate, in TLS 1.3 after the handshake).
    TlsAlert(AlertDescription),
    /// The request's own body failed: the client's fault, not the upstream's.
    RequestBody,
    /// The request's own body is not framed as it should be.
    RequestMalformed,
    /// The client sent nothing more of the request's body for too long.
    RequestStalled,
    /// Anything else.
    Other,
}

impl SendError {
    pub(super) fn new(
        request: Option<Box<Request<RequestBody>>>,
        source: hyper::Error,
        reused: bool,
        alert: Option<AlertDescription>,
    ) -> SendError {
        let of_http = || SendFault::of(&source, request.is_some());
        SendError {
            fault: alert.map_or_else(of_http, SendFault::TlsAlert),
            reused,
            request,
            source,
        }
    }

    /// Whether the upstream has said that it did nothing for the request: then any request may be sent again (RFC 9113
    /// sections 6.8 and 8.7).
    pub fn is_unprocessed(&self) -> bool {
        matches!(self.fault, SendFault::Closed | SendFault::Unprocessed)
    }

    /// Whether the upstream may have closed an idle connection just as it was used again, having seen nothing of the
    /// request. A proxy may then repeat the request if its method is idempotent (RFC 9110 section 9.2.2) and it had no
    /// body, on a new connection.
    pub fn may_be_idle_close(&self) -> bool {
        self.reused && matches!(self.fault, SendFault::Reset | SendFault::Incomplete)
    }

    /// The error's name in a `Proxy-Status` field (RFC 9209 section 2.3).
    pub fn proxy_status(&self) -> &'static str {
        match self.fault {
            SendFault::Closed | SendFault::Reset | SendFault::Unprocessed => {
                "connection_terminated"
            }
            SendFault::StreamReset => "http_response_incomplete",
            SendFault::Incomplete => "http_response_incomplete",
            SendFault::TooLarge => "http_response_header_section_size",
            SendFault::Malformed => "http_protocol_error",
            SendFault::TlsAlert(_) => "tls_alert_received",
            SendFault::RequestBody | SendFault::RequestMalformed | SendFault::RequestStalled => {
                "http_request_error"
            }
            SendFault::Other => "proxy_internal_error",
        }
    }
}

impl SendFault {
    fn of(error: &hyper::Error, given_back: bool) -> SendFault {
        if given_back {
            SendFault::Closed
        } else if let Some(fault) = of_http2(error) {
            fault
        } else if error.is_incomplete_message() {
            SendFault::Incomplete
        } else if error.is_parse_too_large() {
            SendFault::TooLarge
        } else if error.is_parse() {
            SendFault::Malformed
        } else if error.is_user() {
            match body_error(error).map(BodyError::fault) {
                Some(BodyFault::Idle) => SendFault::RequestStalled,
                Some(BodyFault::Malformed) => SendFault::RequestMalformed,
                _ => SendFault::RequestBody,
            }
        } else {
            match io_kind(error) {
                Some(
                    io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::NotConnected,
                ) => SendFault::Reset,
                Some(io::ErrorKind::UnexpectedEof) => SendFault::Incomplete,
                _ => SendFault::Other,
            }
        }
    }
}

/// The TLS alert that a socket was ended by. In TLS 1.3 a client may have sent its request before it learns that its
/// certificate, or that it has none, is not accepted (RFC 8446 section 4.4.2.4).
pub(super) fn alert_of(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// What an error of HTTP/2 means; `None` for others, and for sockets that failed under it.
fn of_http2(error: &hyper::Error) -> Option<SendFault> {
    let cause = std::error::Error::source(error)?;
    let error = cause.downcast_ref::<h2::Error>()?;
    if error.is_io() {
        return None;
    }
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    Some(match error.is_remote() {
        true if refused || error.is_go_away() => SendFault::Unprocessed,
        true => SendFault::StreamReset,
        // We reset it, since its body failed or what came was no HTTP/2.
        false => SendFault::Malformed,
    })
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            SendFault::Closed => "the connection closed before the request was sent",
            SendFault::Unprocessed => "the upstream refused the request unseen",
            SendFault::StreamReset => "the upstream gave the exchange up",
            SendFault::Reset => "the connection was reset",
            SendFault::Incomplete => "the connection closed before the response was complete",
            SendFault::TooLarge => "the response's head is too large",
            SendFault::Malformed => "the response is not HTTP",
            SendFault::TlsAlert(_) => "the upstream ended TLS",
            SendFault::RequestBody => "the request's body failed",
            SendFault::RequestMalformed => "the request's body is malformed",
            SendFault::RequestStalled => "the request's body stalled",
            SendFault::Other => "the exchange failed",
        };
        write!(f, "{what}: {}", self.source)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
