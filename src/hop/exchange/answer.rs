//! hopspan's own answers: what a client is told where no upstream answered.

use std::borrow::Cow;

use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{CLOSE, Exchange};
use crate::hop::Direction;
use crate::hop::error::{ExchangeError, Fault};
use crate::hop::grpc;
use crate::proxy::body::ResponseBody;
use crate::proxy::server::Glitch;
use crate::telemetry::metrics::Reason;
use crate::trace::span::End;

/// Of who is asked to come back: a place may be free in a second.
const SOON: HeaderValue = HeaderValue::from_static("1");

impl Exchange {
    /// hopspan's own answer to `error`: RFC 9209's Proxy-Status, and the trace ID so that it can be looked up.
    pub fn answer(mut self: Box<Self>, error: &ExchangeError) -> Response<ResponseBody> {
        let told = error.told();
        // Whatever state it is in, it serves nobody else.
        self.pooled = None;
        self.hop
            .metrics
            .proxy_errors
            .get_or_create(&Reason { reason: told.name })
            .inc();
        let trace_id = self.span.as_ref().map(|span| span.context().trace_id);
        // Without a message a gRPC client has but the status of HTTP to tell of.
        let status = match self.answers_grpc {
            true => StatusCode::OK,
            false => told.status,
        };
        self.set_own_status(status);
        if self.answers_grpc {
            self.set_grpc(grpc::Status::of(told.status));
        }
        self.labels.error_type = told.name;
        // A client's mistake does not fail the server's span (5xx rule of the conventions).
        let excused = self.direction == Direction::Inbound
            && told.fault == Fault::Client
            && !told.status.is_server_error();
        let outer = self.span.as_mut().filter(|_| !excused);
        for span in [self.app_span.as_mut(), outer].into_iter().flatten() {
            span.fail(told.name, Some(Cow::Owned(error.to_string())));
        }
        let text = match trace_id {
            Some(trace_id) => format!("hopspan: {error}\ntrace {trace_id}\n"),
            None => format!("hopspan: {error}\n"),
        };
        let mut response = match self.answers_grpc {
            true => trailers_only(told.status, text.trim_end()),
            false => plain(told.status, text, self.method == Method::HEAD),
        };
        let headers = response.headers_mut();
        // What a client sent after CONNECT was meant for a tunnel: as requests it could be anybody's.
        let tunnel = self.method == Method::CONNECT;
        let malformed = matches!(
            error,
            ExchangeError::BadRequest { .. }
                | ExchangeError::RequestIncomplete
                | ExchangeError::RequestMalformed
                | ExchangeError::RequestStalled
        );
        let short = matches!(error, ExchangeError::OutOfMemory);
        // The rest of it is not read, so nothing that follows is.
        let upload = self.upload.as_ref();
        let late = matches!(error, ExchangeError::HttpResponseTimeout(_));
        let cut = late && upload.is_some_and(|upload| !upload.is_whole());
        if tunnel || malformed || short || cut || self.had_trailers() {
            // Who sends one malformed message may mean another by the bytes that follow it.
            headers.insert(header::CONNECTION, CLOSE);
        }
        if malformed {
            response.extensions_mut().insert(Glitch);
        }
        let headers = response.headers_mut();
        if short || matches!(error, ExchangeError::ConnectionLimitReached(_)) {
            headers.insert(header::RETRY_AFTER, SOON);
        }
        if let Ok(value) = HeaderValue::try_from(format!("hopspan; error={}", told.name)) {
            headers.insert("proxy-status", value);
        }
        self.finish(End::Complete);
        response
    }
}

fn plain(status: StatusCode, text: String, head: bool) -> Response<ResponseBody> {
    let mut response = Response::new(match head {
        true => ResponseBody::Empty,
        false => ResponseBody::from(text),
    });
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// "Trailers-Only" of gRPC (doc/PROTOCOL-HTTP2.md): a head that is the end, and says how it went.
fn trailers_only(status: StatusCode, text: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert("grpc-status", HeaderValue::from(grpc::number_of(status)));
    if let Ok(message) = HeaderValue::try_from(grpc::message(text)) {
        headers.insert("grpc-message", message);
    }
    response
}
