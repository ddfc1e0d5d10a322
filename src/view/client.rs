//! What `hopspan trace` does: asks a running viewer over HTTP and prints the answer, drawn or as JSON.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::ViewAddresses;
use super::summary::Summary;
use super::terminal::{self, ColorWhen, Style, paint};
use super::waterfall::Waterfall;
use crate::config::Address;

/// To connect; the viewer is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For an answer, beyond what was asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// Of an answer, in bytes: a trace is at most a part of the viewer's memory.
const MAX_ANSWER: usize = 512 << 20;

/// Which trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Last,
    /// The newest that failed.
    Errors,
    /// By ID, or a prefix of it that only one trace has.
    Id(String),
}

/// What to print and how.
#[derive(Clone, Debug)]
pub struct TraceArgs {
    /// The trace.
    pub which: Which,
    /// Where the viewer's page is.
    pub viewer: Address,
    /// The API's JSON instead of a drawing.
    pub json: bool,
    /// Without Unicode.
    pub ascii: bool,
    /// When to use colour.
    pub color: ColorWhen,
}

/// Why nothing could be printed, in words for the user.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Nobody listens there.
    #[error("no viewer at {0}: start one with `hopspan view`")]
    NoViewer(Address),
    /// The address cannot be used.
    #[error("{0}: the viewer listens on TCP only, as in 127.0.0.1:4319")]
    NotTcp(Address),
    /// Someone listens there who is not a viewer.
    #[error("what listens at {address} does not answer as a hopspan viewer ({why})")]
    NotAViewer {
        /// Where.
        address: Address,
        /// What was wrong.
        why: String,
    },
    /// The viewer said no; its sentence.
    #[error("{0}")]
    Refused(String),
    /// No trace came yet.
    #[error("the viewer at {0} has no traces yet: send a request through hopspan")]
    Empty(Address),
    /// There is no error in any.
    #[error("none of the traces in the viewer at {0} has an error")]
    NoErrors(Address),
    /// Output failed.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

/// Prints a trace of a running viewer to `out`. A reader that went away (`| head`) is a success.
///
/// # Errors
/// No viewer, no such trace, or output that fails; the message says what to do.
pub async fn run_trace(args: TraceArgs, out: &mut impl Write) -> Result<(), TraceError> {
    // What `out` is cannot be seen from here; it is standard output, or a test's buffer.
    let columns = if std::io::stdout().is_terminal() {
        terminal_size::terminal_size().map(|(columns, _)| usize::from(columns.0))
    } else {
        None
    };
    let style = Style::detect(args.color, args.ascii, columns, |name| {
        std::env::var(name).ok()
    });
    print_trace(&args, &style, out).await
}

/// [`run_trace`] in a given style.
///
/// # Errors
/// As [`run_trace`].
pub async fn print_trace(
    args: &TraceArgs,
    style: &Style,
    out: &mut impl Write,
) -> Result<(), TraceError> {
    let json = fetch(args).await?;
    let text = if args.json {
        format!("{}\n", paint::clean_json(&json))
    } else {
        terminal::draw(&parse::<Waterfall>(&args.viewer, &json)?, style)
    };
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(TraceError::Output),
    }
}

/// The JSON of the trace asked for.
async fn fetch(args: &TraceArgs) -> Result<String, TraceError> {
    let id = match &args.which {
        Which::Id(id) => {
            percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        }
        Which::Last => newest(&args.viewer, "").await?,
        Which::Errors => newest(&args.viewer, "&errors=1").await?,
    };
    get(&args.viewer, &format!("/api/traces/{id}?whole=1&wait=5s")).await
}

#[derive(Deserialize)]
struct List {
    traces: Vec<Summary>,
}

async fn newest(viewer: &Address, filter: &str) -> Result<String, TraceError> {
    let text = get(viewer, &format!("/api/traces?limit=1{filter}")).await?;
    let list: List = parse(viewer, &text)?;
    match list.traces.into_iter().next() {
        Some(summary) => Ok(summary.trace_id),
        None if filter.is_empty() => Err(TraceError::Empty(viewer.clone())),
        None => Err(TraceError::NoErrors(viewer.clone())),
    }
}

fn parse<'a, T: Deserialize<'a>>(viewer: &Address, text: &'a str) -> Result<T, TraceError> {
    serde_json::from_str(text).map_err(|error| not_a_viewer(viewer, error))
}

fn not_a_viewer(viewer: &Address, why: impl ToString) -> TraceError {
    TraceError::NotAViewer {
        address: viewer.clone(),
        why: why.to_string(),
    }
}

#[derive(Deserialize)]
struct Status {
    otlp_grpc: SocketAddr,
    otlp_http: SocketAddr,
}

/// Where the viewer whose page is at `viewer` takes spans.
///
/// # Errors
/// [`TraceError`]: no viewer there, or something else.
pub async fn addresses(viewer: &Address) -> Result<ViewAddresses, TraceError> {
    let stream = connect(viewer).await?;
    let page = stream
        .peer_addr()
        .map_err(|error| not_a_viewer(viewer, error))?;
    let status: Status = parse(viewer, &get_on(viewer, stream, "/api/status").await?)?;
    Ok(ViewAddresses {
        grpc: status.otlp_grpc,
        http: status.otlp_http,
        page,
    })
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// GETs `target` from a viewer's API and returns the JSON text.
///
/// # Errors
/// [`TraceError`]: no viewer there, something else there, or the viewer's own refusal.
pub async fn get(viewer: &Address, target: &str) -> Result<String, TraceError> {
    let stream = connect(viewer).await?;
    get_on(viewer, stream, target).await
}

async fn get_on(viewer: &Address, stream: TcpStream, target: &str) -> Result<String, TraceError> {
    let exchange = tokio::time::timeout(ANSWER_TIMEOUT, exchange(viewer, stream, target)).await;
    let (status, text) =
        exchange.unwrap_or_else(|_| Err(not_a_viewer(viewer, "no answer in time")))?;
    if status == StatusCode::OK {
        return Ok(text);
    }
    match serde_json::from_str::<Refusal>(&text) {
        Ok(refusal) => Err(TraceError::Refused(refusal.error)),
        Err(_) => Err(not_a_viewer(viewer, format!("status {status}"))),
    }
}

async fn connect(viewer: &Address) -> Result<TcpStream, TraceError> {
    let Address::Tcp { host, port } = viewer else {
        return Err(TraceError::NotTcp(viewer.clone()));
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((&**host, *port))).await {
        Ok(Ok(stream)) => Ok(stream),
        _ => Err(TraceError::NoViewer(viewer.clone())),
    }
}

async fn exchange(
    viewer: &Address,
    stream: TcpStream,
    target: &str,
) -> Result<(StatusCode, String), TraceError> {
    let failed = |error: hyper::Error| not_a_viewer(viewer, error);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Ends by itself when the sender is dropped.
    tokio::spawn(connection);
    let request = Request::get(target)
        .header(header::HOST, viewer.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| not_a_viewer(viewer, error))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| not_a_viewer(viewer, error))?;
    let text =
        String::from_utf8(body.to_bytes().into()).map_err(|_| not_a_viewer(viewer, "not UTF-8"))?;
    Ok((status, text))
}
