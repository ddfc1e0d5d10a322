//! What the two transports have in common: the attempt, and how it may fail.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::ExportError;
use super::dial::Dialer;
use super::endpoint::Endpoint;
use super::grpc::Grpc;
use super::http::Http;
use crate::config::{Export, Protocol};
use crate::telemetry::Code;

/// Bytes of a response that are read; the rest is left and the connection closed. A collector is not trusted with more.
pub(super) const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// A connection older than this is replaced: a name may mean other addresses by now.
pub(super) const MAX_CONNECTION_AGE: Duration = Duration::from_secs(600);

/// The `user-agent` of exports.
pub(super) const USER_AGENT: &str = concat!("hopspan/", env!("CARGO_PKG_VERSION"));

/// What a collector that took the request says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Spans it refused nevertheless (partial success).
    pub(super) rejected: u64,
    /// Why, or a warning where none was refused.
    pub(super) message: String,
}

impl Accepted {
    /// From OTLP's answer.
    pub(super) fn from_response(
        response: opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse,
    ) -> Accepted {
        let partial = response.partial_success.unwrap_or_default();
        Accepted {
            rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
            message: short(&partial.error_message),
        }
    }
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Of a closed set, fit for a label.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) detail: String,
    /// Whether the same batch may be sent again, and how long the server asks to wait.
    pub(super) again: Again,
}

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Never: the batch is lost.
    No,
    /// Later; not before so long, if the server asked.
    Later(Option<Duration>),
}

impl Failure {
    /// The page of what went wrong.
    pub(super) fn code(&self) -> Code {
        match self.reason {
            "connect" => Code::CollectorUnreachable,
            "timeout" => Code::CollectorTimeout,
            _ => Code::CollectorRejects,
        }
    }

    /// The collector was not reached or did not answer: try again.
    pub(super) fn transport(reason: &'static str, error: &dyn std::error::Error) -> Failure {
        let mut detail = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !detail.contains(&cause_text) {
                detail = format!("{detail}: {cause_text}");
            }
            source = cause.source();
        }
        Failure {
            reason,
            detail: short(&detail),
            again: Again::Later(None),
        }
    }
}

/// Text from outside, fit for a log line: its first 300 characters, without control characters.
pub(super) fn short(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(300).collect::<String>().trim().to_owned()
}

/// OTLP over HTTP or gRPC.
pub(super) enum Transport {
    /// HTTP/protobuf.
    Http(Box<Http>),
    /// gRPC.
    Grpc(Box<Grpc>),
}

impl Transport {
    /// Ready to connect; does not connect yet.
    pub(super) fn new(settings: &Export, endpoint: Endpoint) -> Result<Transport, ExportError> {
        let headers = headers(settings)?;
        let dialer = Dialer::new(settings, &endpoint)?;
        Ok(match endpoint.protocol {
            Protocol::HttpProtobuf => {
                let http = Http::new(dialer, &endpoint, headers, settings.compression)?;
                Transport::Http(Box::new(http))
            }
            Protocol::Grpc => {
                let grpc = Grpc::new(dialer, &endpoint, headers, settings)?;
                Transport::Grpc(Box::new(grpc))
            }
        })
    }

    /// One attempt, `timeout` at most.
    pub(super) async fn send(
        &mut self,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Accepted, Failure> {
        let attempt = async {
            match self {
                Transport::Http(http) => http.send(request).await,
                Transport::Grpc(grpc) => grpc.send(request).await,
            }
        };
        if let Ok(result) = tokio::time::timeout(timeout, attempt).await {
            return result;
        }
        if let Transport::Grpc(grpc) = self {
            grpc.reconnect();
        }
        Err(Failure {
            reason: "timeout",
            detail: format!("no answer within {timeout:?}"),
            again: Again::Later(None),
        })
    }
}

fn headers(settings: &Export) -> Result<HeaderMap, ExportError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let wrong = || ExportError::Header(name.clone());
        let key = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}
