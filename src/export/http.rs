//! OTLP over HTTP/protobuf: one HTTP/1.1 connection, kept alive, over hyper.
//!
//! By the OTLP specification 429, 502, 503 and 504 are tried again (`Retry-After` honoured) and any other failure is
//! final. Redirects are not followed: a sidecar sends its headers, which hold keys, only where it was told to.

use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tokio::task::JoinHandle;

use super::ExportError;
use super::dial::Dialer;
use super::endpoint::Endpoint;
use super::transport::{
    Accepted, Again, Failure, MAX_CONNECTION_AGE, MAX_RESPONSE_BYTES, USER_AGENT, short,
};

/// The HTTP transport.
pub(super) struct Http {
    dialer: Dialer,
    path: Uri,
    headers: HeaderMap,
    gzip: bool,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    opened: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Http {
    /// Does not connect yet.
    pub(super) fn new(
        dialer: Dialer,
        endpoint: &Endpoint,
        mut headers: HeaderMap,
        gzip: bool,
    ) -> Result<Http, ExportError> {
        let wrong = |why: String| ExportError::Endpoint {
            given: endpoint.shown(),
            why,
        };
        let path = endpoint
            .path
            .parse::<Uri>()
            .map_err(|e| wrong(e.to_string()))?;
        let host = HeaderValue::from_str(&endpoint.authority).map_err(|e| wrong(e.to_string()))?;
        headers
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static(USER_AGENT));
        headers.insert(header::HOST, host);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        if gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Http {
            dialer,
            path,
            headers,
            gzip,
            connection: None,
        })
    }

    /// One attempt. A connection that the collector closed while it was idle is replaced once, at no cost to the batch.
    pub(super) async fn send(&mut self, request: Bytes) -> Result<Accepted, Failure> {
        let body = if self.gzip {
            compressed(request).await?
        } else {
            request
        };
        let kept = self
            .connection
            .take()
            .filter(|c| c.opened.elapsed() < MAX_CONNECTION_AGE);
        if let Some(mut connection) = kept
            && connection.sender.ready().await.is_ok()
            && let Ok(response) = connection.sender.send_request(self.request(&body)).await
        {
            return self.answer(connection, response).await;
        }
        let mut connection = self.connect().await?;
        let sent = connection.sender.send_request(self.request(&body)).await;
        let response = sent.map_err(|error| Failure::transport("transport", &error))?;
        self.answer(connection, response).await
    }

    fn request(&self, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let stream = self.dialer.dial().await;
        let stream = stream.map_err(|error| Failure::transport("connect", &error))?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_RESPONSE_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::transport("connect", &error))?;
        // An error of the connection reaches the request that was waiting for it.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Connection {
            sender,
            driver,
            opened: Instant::now(),
        })
    }

    async fn answer(
        &mut self,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Result<Accepted, Failure> {
        let (head, body) = response.into_parts();
        let read = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
        let body = match read {
            Ok(collected) => {
                self.connection = Some(connection);
                collected.to_bytes()
            }
            // Too long, or cut off: the status has been said, the connection is of no more use.
            Err(_) => Bytes::new(),
        };
        if head.status.is_success() {
            let response = ExportTraceServiceResponse::decode(body).unwrap_or_default();
            return Ok(Accepted::from_response(response));
        }
        Err(refusal(head.status, &head.headers, &body))
    }
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let said = std::str::from_utf8(body).map(short).unwrap_or_default();
    let detail = if said.is_empty() {
        status.to_string()
    } else {
        format!("{status}: {said}")
    };
    match status.as_u16() {
        429 | 502 | 503 | 504 => Failure {
            reason: "unavailable",
            detail,
            again: Again::Later(retry_after(headers)),
        },
        _ => Failure {
            reason: "rejected",
            detail,
            again: Again::No,
        },
    }
}

/// `Retry-After` (RFC 9110 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Off the async threads: a full batch takes milliseconds.
async fn compressed(request: Bytes) -> Result<Bytes, Failure> {
    let compress = move || {
        let out = Vec::with_capacity(request.len() / 4);
        let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
        encoder.write_all(&request)?;
        encoder.finish()
    };
    match tokio::task::spawn_blocking(compress).await {
        Ok(Ok(bytes)) => Ok(Bytes::from(bytes)),
        Ok(Err(error)) => Err(Failure::transport("compress", &error)),
        Err(error) => Err(Failure::transport("compress", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_by_the_specification() {
        let mut ran = 0;
        for status in (400..600).filter_map(|n| StatusCode::from_u16(n).ok()) {
            let failure = refusal(status, &HeaderMap::new(), b"why\nnot");
            let again = [429, 502, 503, 504].contains(&status.as_u16());
            assert_eq!(failure.again == Again::Later(None), again, "{status}");
            assert!(failure.detail.ends_with("why not"));
            ran += 1;
        }
        assert_eq!(ran, 200);
    }

    #[test]
    fn retry_after_in_both_forms() {
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        let rows = [
            ("7", Some(7)),
            ("0", Some(0)),
            (&soon, Some(90)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999", None),
        ];
        for (text, want) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            let have = retry_after(&headers).map(|wait| wait.as_secs());
            // A date has whole seconds.
            let near = |a: u64, b: u64| a.abs_diff(b) <= 1;
            assert!(
                have == want || have.zip(want).is_some_and(|(a, b)| near(a, b)),
                "{text}: {have:?}"
            );
        }
    }
}
