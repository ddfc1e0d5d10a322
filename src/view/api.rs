//! The viewer's API: JSON, GET only, for `hopspan trace`, scripts and (later) the page.
//!
//! ```text
//! GET /api/status                                        what came, what is held, what left
//! GET /api/traces?errors=1&service=S&limit=N             newest first: one summary each; with errors=1 those
//!                                                        that failed, or where somebody swallowed a failure
//! GET /api/traces/{id}?min_spans=N&whole=1&wait=5s       one trace, laid out, with attributes; id or a unique prefix
//! ```
//!
//! `wait` (at most 30 s) waits until the trace is there and has `min_spans` spans, and with `whole=1` until nothing
//! seems to be missing; when it is over, what is there is answered. Errors are `{"error": sentence}`.
//! The Host header must name this machine, against DNS rebinding; there is no CORS.

mod query;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use query::Query;

use super::ViewAddresses;
use super::doors::{plain, respond};
use super::store::{Found, Snapshot, Store};
use super::summary::Summary;
use super::waterfall::lay_out;

/// Traces listed unless `limit` says otherwise, and at most.
const LIMIT: (usize, usize) = (50, 10_000);
/// A trace without gaps is whole once nothing came for this long: exporters batch for a second.
const SETTLED: Duration = Duration::from_secs(1);
/// A trace with gaps is as whole as it gets once nothing came for this long.
const GIVEN_UP: Duration = Duration::from_millis(2500);

const INDEX: &str = "hopspan view\n\n\
    hopspan trace --last      the newest trace, drawn in the terminal\n\
    hopspan trace --errors    the newest one with an error\n\
    /api/traces               the list, as JSON\n\
    /api/traces/{id}          one trace\n\
    /api/status               what came and what is held\n";

/// Answers a request to the page's port.
pub(super) async fn answer(
    store: &Arc<Store>,
    addresses: &ViewAddresses,
    request: Request<Incoming>,
    stop: &CancellationToken,
) -> Response<Body> {
    match route(store, addresses, &request, stop).await {
        Ok(response) => response,
        Err(Refusal(status, sentence)) => {
            let body = serde_json::json!({ "error": sentence }).to_string();
            let mut response = respond(status, "application/json", body);
            if status == StatusCode::METHOD_NOT_ALLOWED {
                response
                    .headers_mut()
                    .insert(header::ALLOW, header::HeaderValue::from_static("GET"));
            }
            response
        }
    }
}

/// Status and sentence.
struct Refusal(StatusCode, String);

fn bad(sentence: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, sentence.into())
}

async fn route(
    store: &Arc<Store>,
    addresses: &ViewAddresses,
    request: &Request<Incoming>,
    stop: &CancellationToken,
) -> Result<Response<Body>, Refusal> {
    if !host_is_local(request) {
        return Err(Refusal(
            StatusCode::FORBIDDEN,
            "the viewer answers only as localhost, 127.0.0.1 or [::1]".to_owned(),
        ));
    }
    if request.method() != Method::GET {
        return Err(Refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "the API is read with GET only".to_owned(),
        ));
    }
    let query = Query::parse(request.uri().query().unwrap_or(""))?;
    let path = request.uri().path();
    match path.strip_prefix("/api/traces/") {
        Some(id) => one(store, id, &query, stop).await,
        None if path == "/api/traces" => list(store, &query),
        None if path == "/api/status" => {
            query.only(&[])?;
            Ok(json(&Status {
                version: env!("CARGO_PKG_VERSION"),
                counts: store.counts(),
                otlp_grpc: addresses.grpc,
                otlp_http: addresses.http,
            }))
        }
        None if path == "/" => Ok(plain(StatusCode::OK, INDEX)),
        None => Err(Refusal(
            StatusCode::NOT_FOUND,
            "nothing is here: see /api/traces, /api/traces/{id} and /api/status".to_owned(),
        )),
    }
}

/// Whether the authority asked for names this machine. Any port: forwarding changes it.
fn host_is_local(request: &Request<Incoming>) -> bool {
    let mut lines = request.headers().get_all(header::HOST).iter();
    let line = lines.next().and_then(|line| line.to_str().ok());
    if lines.next().is_some() {
        return false;
    }
    let Some(authority) = request.uri().authority().map(|a| a.as_str()).or(line) else {
        return false;
    };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|local| host.eq_ignore_ascii_case(local))
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    #[serde(flatten)]
    counts: super::store::Counts,
    /// Where spans go: for who found the page and wants to export here.
    otlp_grpc: SocketAddr,
    otlp_http: SocketAddr,
}

#[derive(Serialize)]
struct List {
    traces: Vec<Summary>,
}

fn list(store: &Arc<Store>, query: &Query) -> Result<Response<Body>, Refusal> {
    query.only(&["errors", "service", "limit"])?;
    let errors_only = query.flag("errors")?;
    let limit = query.number("limit")?.unwrap_or(LIMIT.0).min(LIMIT.1);
    let service = query.text("service");
    let traces = store
        .newest(errors_only)
        .into_iter()
        .filter_map(|id| store.get(id))
        .filter(|trace| {
            service.is_none_or(|name| trace.spans.iter().any(|span| span.service() == name))
        })
        .filter_map(|trace| lay_out(&trace.spans, trace.not_kept))
        .map(|waterfall| Summary::of(&waterfall))
        .filter(|summary| summary.has_error() || !errors_only)
        .take(limit)
        .collect();
    Ok(json(&List { traces }))
}

async fn one(
    store: &Arc<Store>,
    id: &str,
    query: &Query,
    stop: &CancellationToken,
) -> Result<Response<Body>, Refusal> {
    query.only(&["min_spans", "whole", "wait"])?;
    let id = id.to_ascii_lowercase();
    if id.is_empty() || id.len() > 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad(
            "a trace ID has 32 hex digits; the first few are enough if only one trace has them",
        ));
    }
    let wanted = Wanted {
        min_spans: query.number("min_spans")?.unwrap_or(1),
        whole: query.flag("whole")?,
    };
    let wait = query.wait()?;
    let trace = match wanted.find(store, &id, wait, stop).await {
        Found::One(trace) => trace,
        Found::None => {
            return Err(Refusal(
                StatusCode::NOT_FOUND,
                format!("no trace {id} is here: it did not come (yet), or it was evicted"),
            ));
        }
        Found::Several(number, some) => {
            let some: Vec<String> = some.iter().map(ToString::to_string).collect();
            return Err(Refusal(
                StatusCode::CONFLICT,
                format!("{number} traces start with {id}: {}", some.join(", ")),
            ));
        }
    };
    let Some(waterfall) = lay_out(&trace.spans, trace.not_kept) else {
        return Err(Refusal(
            StatusCode::NOT_FOUND,
            format!(
                "no span of trace {id} could be kept: they are larger than the viewer's memory allows"
            ),
        ));
    };
    Ok(json(&waterfall))
}

/// What a waiting client waits for.
struct Wanted {
    min_spans: usize,
    whole: bool,
}

impl Wanted {
    async fn find(
        &self,
        store: &Arc<Store>,
        id: &str,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Found {
        let deadline = Instant::now() + wait;
        let mut changes = store.changes();
        loop {
            let found = store.find(id);
            // Time alone can make a trace whole, so look again when it might.
            let look_again = match &found {
                Found::One(trace) if trace.spans.len() < self.min_spans => deadline,
                Found::One(trace) if self.whole => match settles(trace) {
                    Some(at) => at.min(deadline),
                    None => return found,
                },
                Found::One(_) | Found::Several(..) => return found,
                Found::None => deadline,
            };
            if Instant::now() >= deadline {
                return found;
            }
            tokio::select! {
                () = stop.cancelled() => return found,
                changed = changes.changed() => if changed.is_err() {
                    return found;
                },
                () = tokio::time::sleep_until(look_again) => {}
            }
        }
    }
}

/// When the trace will count as whole if nothing more comes, or `None` if it does now.
fn settles(trace: &Snapshot) -> Option<Instant> {
    let whole = lay_out(&trace.spans, 0).is_some_and(|waterfall| waterfall.missing == 0);
    let at = trace.last_arrival + if whole { SETTLED } else { GIVEN_UP };
    (at > std::time::Instant::now()).then(|| at.into())
}

fn json(document: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(document) {
        Ok(body) => respond(StatusCode::OK, "application/json", body),
        // No map here has keys that are not text, so this does not happen.
        Err(error) => respond(
            StatusCode::INTERNAL_SERVER_ERROR,
            "application/json",
            serde_json::json!({ "error": error.to_string() }).to_string(),
        ),
    }
}
