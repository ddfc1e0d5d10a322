//! Asking the status and admin listeners of a running sidecar: one small HTTP request each.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;

use crate::config::Address;

/// Largest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nobody listens there, or what answers is no sidecar.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("timed out after {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// One request: the status and the text of the answer, within `patience`.
///
/// # Errors
/// See [`Unanswered`]; a status of failure is no error.
pub async fn ask(
    method: Method,
    address: &Address,
    path: &str,
    patience: Duration,
) -> Result<(StatusCode, String), Unanswered> {
    match tokio::time::timeout(patience, exchange(method, address, path)).await {
        Ok(answer) => answer.map_err(Unanswered::Failed),
        Err(_) => Err(Unanswered::TimedOut(patience)),
    }
}

async fn exchange(
    method: Method,
    address: &Address,
    path: &str,
) -> Result<(StatusCode, String), String> {
    let name = address.to_string();
    let stream = tokio::net::TcpStream::connect(&name).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let opened = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, name)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
    let body = body.await.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok((status, text))
}
