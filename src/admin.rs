//! The two small servers beside the data path: *status* (probes and Prometheus metrics, for the cluster) and *admin*
//! (config in use, joins, reload, drain, for the operator on this host).
//!
//! GET never changes state. Both are handed what they show by [`crate::sidecar`]; they know nothing of hops.

pub mod client;

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::proxy::body::ResponseBody;
use crate::proxy::server::{Connection, Handler};
use crate::telemetry::Metrics;

/// What the servers ask of the sidecar. Answers must not block, but for those that say so: they are asked on a thread that
/// may.
pub trait Subject: Send + Sync + 'static {
    /// Whether new requests should be sent here; the reason if not.
    fn ready(&self) -> Result<(), String>;
    /// The config in use as JSON, secrets masked.
    fn config(&self) -> String;
    /// The state of joining as JSON. Reads `/proc`, so it blocks.
    fn correlation(&self) -> String;
    /// Where spans go and what became of them, as JSON.
    fn export(&self) -> String;
    /// Reloads the config file: JSON on success, the errors as text otherwise. Blocks for the reading and compiling.
    fn reload(&self) -> Result<String, String>;
    /// Stops being ready; requests are still served.
    fn drain(&self);
}

/// Which of the two servers answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Probes and metrics.
    Status,
    /// Everything, for loopback.
    Admin,
}

/// The handler of one of the two servers.
#[derive(Clone)]
pub struct Desk {
    door: Door,
    subject: Arc<dyn Subject>,
    metrics: Arc<Metrics>,
}

impl Desk {
    /// Answers at `door`.
    pub fn new(door: Door, subject: Arc<dyn Subject>, metrics: Arc<Metrics>) -> Desk {
        Desk {
            door,
            subject,
            metrics,
        }
    }

    async fn correlation(&self) -> String {
        let subject = self.subject.clone();
        let asked = tokio::task::spawn_blocking(move || subject.correlation()).await;
        asked.unwrap_or_default()
    }

    async fn reload(&self) -> Result<String, String> {
        let subject = self.subject.clone();
        let reloaded = tokio::task::spawn_blocking(move || subject.reload()).await;
        reloaded.unwrap_or_else(|_| Err("the reload failed; this is a bug in hopspan\n".to_owned()))
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let from_a_page = request.headers().contains_key(header::ORIGIN);
        if self.door == Door::Admin && (from_a_page || !host_is_local(request)) {
            // A page in a browser, or a name that resolves to loopback, must not reach the admin door.
            return text(
                StatusCode::FORBIDDEN,
                "admin answers to programs on localhost only\n",
            );
        }
        let path = request.uri().path();
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match (path, read) {
            ("/livez" | "/readyz" | "/metrics", false) => allow("GET"),
            ("/livez", _) => text(StatusCode::OK, "ok\n"),
            ("/readyz", _) => match self.subject.ready() {
                Ok(()) => text(StatusCode::OK, "ok\n"),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
            },
            ("/metrics", _) => typed(StatusCode::OK, OPENMETRICS, self.metrics.encode()),
            _ if self.door == Door::Status => text(StatusCode::NOT_FOUND, STATUS_PAGES),
            ("/config" | "/correlation" | "/export", false) => allow("GET"),
            ("/config", _) => typed(StatusCode::OK, JSON, self.subject.config()),
            ("/correlation", _) => typed(StatusCode::OK, JSON, self.correlation().await),
            ("/export", _) => typed(StatusCode::OK, JSON, self.subject.export()),
            ("/reload" | "/drain", true) => allow("POST"),
            ("/reload", _) if request.method() == Method::POST => match self.reload().await {
                Ok(report) => typed(StatusCode::OK, JSON, report),
                Err(errors) => text(StatusCode::UNPROCESSABLE_ENTITY, &errors),
            },
            ("/drain", _) if request.method() == Method::POST => {
                tracing::info!("drain asked for: no longer ready");
                self.subject.drain();
                text(StatusCode::OK, "draining\n")
            }
            _ => text(StatusCode::NOT_FOUND, ADMIN_PAGES),
        }
    }
}

impl Handler for Desk {
    fn handle(
        &self,
        request: Request<Incoming>,
        _connection: Arc<Connection>,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let desk = self.clone();
        async move { desk.answer(&request).await }
    }
}

type Answer = Response<ResponseBody>;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";
const STATUS_PAGES: &str = "no such page: try /livez /readyz /metrics\n";
const ADMIN_PAGES: &str = "no such page: try /config /correlation /export /livez /readyz /metrics, or POST /reload /drain\n";

fn host_is_local(request: &Request<Incoming>) -> bool {
    let Some(host) = request
        .headers()
        .get(header::HOST)
        .and_then(|h| h.to_str().ok())
    else {
        return true;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(ResponseBody::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(status: StatusCode, body: &str) -> Answer {
    typed(status, "text/plain; charset=utf-8", body.to_owned())
}

fn allow(method: &'static str) -> Answer {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &format!("use {method}\n"));
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(method));
    response
}
