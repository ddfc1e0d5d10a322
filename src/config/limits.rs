//! Waits, sizes and counts: `timeouts:` and `limits:`, each with its default.
//!
//! Field names are the keys of the file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::advice::Advice;
use super::memory::MemoryLimit;
use super::{count, duration, size};

/// `timeouts:`: how long hopspan waits for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From the first byte of a request to the end of its head.
    #[serde(with = "duration")]
    pub header: Duration,
    /// From the first byte of a client's TLS handshake to its end.
    #[serde(with = "duration")]
    pub handshake: Duration,
    /// For a redirected connection to show that it speaks HTTP.
    #[serde(with = "duration")]
    pub detect: Duration,
    /// A client's connection without a request.
    #[serde(with = "duration")]
    pub idle: Duration,
    /// A body that makes no progress, either way.
    #[serde(with = "duration")]
    pub body_idle: Duration,
    /// Resolving the name of an upstream.
    #[serde(with = "duration")]
    pub resolve: Duration,
    /// How long the addresses of a name are used before it is looked up again.
    #[serde(with = "duration")]
    pub resolve_keep: Duration,
    /// How long they are used where that look-up fails or hangs.
    #[serde(with = "duration")]
    pub resolve_stale: Duration,
    /// Connecting to the app.
    #[serde(with = "duration")]
    pub connect_app: Duration,
    /// Connecting to a service, all of its addresses together.
    #[serde(with = "duration")]
    pub connect: Duration,
    /// For one of the connections that an upstream may have, where `limits.connections_per_upstream` says how many.
    #[serde(with = "duration")]
    pub upstream_queue: Duration,
    /// A tunnel (WebSocket, CONNECT, redirected and not HTTP) in which no byte comes either way.
    #[serde(with = "duration::optional")]
    pub tunnel_idle: Option<Duration>,
    /// From the request sent whole to the head of the response; none by default, since slow views are the app's business.
    #[serde(with = "duration::optional")]
    pub response: Option<Duration>,
    /// An unused connection to the app (gunicorn closes after 2 s, so earlier).
    #[serde(with = "duration")]
    pub upstream_idle_app: Duration,
    /// An unused connection to a service.
    #[serde(with = "duration")]
    pub upstream_idle: Duration,
    /// Requests in flight at shutdown.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// Sending the last spans at shutdown.
    #[serde(with = "duration")]
    pub flush: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            header: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            detect: Duration::from_millis(200),
            idle: Duration::from_secs(75),
            body_idle: Duration::from_secs(60),
            resolve: Duration::from_secs(2),
            resolve_keep: Duration::from_secs(5),
            resolve_stale: Duration::from_secs(60),
            connect_app: Duration::from_secs(1),
            connect: Duration::from_secs(5),
            upstream_queue: Duration::from_secs(5),
            tunnel_idle: Some(Duration::from_secs(3600)),
            response: None,
            upstream_idle_app: Duration::from_millis(1500),
            upstream_idle: Duration::from_secs(30),
            drain: Duration::from_secs(25),
            flush: Duration::from_secs(3),
        }
    }
}

/// `limits:`: sizes and counts that bound what one peer can cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request or response head.
    #[serde(with = "size")]
    pub head_bytes: usize,
    /// Bytes of a client's target: path and query.
    #[serde(with = "size")]
    pub target_bytes: usize,
    /// Bytes of one header field of a client's request, name and value.
    #[serde(with = "size")]
    pub field_bytes: usize,
    /// Header fields of a head.
    #[serde(with = "count")]
    pub headers: usize,
    /// Bytes of a body that are read before what was read has been taken, a connection and direction.
    #[serde(with = "size")]
    pub body_buffer: usize,
    /// Client connections to one listener.
    #[serde(with = "count")]
    pub connections: usize,
    /// Requests at once on one HTTP/2 connection of a client.
    #[serde(with = "count")]
    pub http2_streams: usize,
    /// Bytes of an HTTP/2 head, 32 for each field besides its name and value (RFC 9113 section 6.5.2).
    #[serde(with = "size")]
    pub http2_head_bytes: usize,
    /// Bytes of the heads of all HTTP/2 requests that were not sent on yet.
    #[serde(with = "size")]
    pub http2_heads: usize,
    /// HTTP/2 requests at once, over all connections of clients.
    #[serde(with = "count")]
    pub http2_requests: usize,
    /// Bytes that a client may send ahead on one HTTP/2 stream (RFC 9113 section 5.2).
    #[serde(with = "size")]
    pub http2_stream_window: usize,
    /// Bytes that it may send ahead on all streams of a connection.
    #[serde(with = "size")]
    pub http2_window: usize,
    /// Streams of a connection that the client reset before anybody looked at them (CVE-2023-44487).
    #[serde(with = "count")]
    pub http2_resets: usize,
    /// Streams of a connection that hopspan reset for the client's mistakes (CVE-2025-8671).
    #[serde(with = "count")]
    pub http2_local_resets: usize,
    /// Requests of a connection that hopspan refused for what they are, or that the client reset before they were answered.
    #[serde(with = "count::optional")]
    pub http2_glitches: Option<usize>,
    /// Requests at once of a connection whose client has opened no window for their answers (RFC 9113 section 6.9).
    #[serde(with = "count::optional")]
    pub http2_unopened: Option<usize>,
    /// Connections in use at once to one upstream, streams of HTTP/2 counted as such; none by default.
    #[serde(with = "count::optional")]
    pub connections_per_upstream: Option<usize>,
    /// Requests that wait for one of these.
    #[serde(with = "count")]
    pub queue_per_upstream: usize,
    /// Unused connections kept to one upstream.
    #[serde(with = "count")]
    pub idle_per_upstream: usize,
    /// Names of upstreams remembered, those that are being looked up among them.
    #[serde(with = "count")]
    pub resolve_names: usize,
    /// Memory of hopspan itself.
    pub memory: MemoryLimit,
    /// Attributes of a span (`OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`).
    #[serde(with = "count")]
    pub attributes: usize,
    /// Bytes of an attribute's value (`OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`).
    #[serde(with = "size")]
    pub attribute_bytes: usize,
    /// Bytes of text in all attributes of a span.
    #[serde(with = "size")]
    pub span_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes: 32 * 1024,
            target_bytes: 8190,
            field_bytes: 8 * 1024,
            headers: 100,
            body_buffer: 64 * 1024,
            connections: 10_000,
            http2_streams: 100,
            http2_head_bytes: 16 * 1024,
            http2_heads: 16 * 1024 * 1024,
            http2_requests: 10_000,
            http2_stream_window: 64 * 1024,
            http2_window: 1024 * 1024,
            http2_resets: 20,
            http2_local_resets: 200,
            http2_glitches: Some(100),
            http2_unopened: Some(4),
            connections_per_upstream: None,
            queue_per_upstream: 1024,
            idle_per_upstream: 256,
            resolve_names: 256,
            memory: MemoryLimit::Auto,
            attributes: 128,
            attribute_bytes: 4096,
            span_bytes: 64 * 1024,
        }
    }
}

/// The shortest wait in which anything can happen.
const SHORTEST: Duration = Duration::from_millis(1);

impl Timeouts {
    /// Waits that are over before they began, so that nobody would be served: the key, and what is wrong with its value.
    /// The others mean something at 0: nothing is kept, or nothing is waited for.
    pub(super) fn impossible(&self) -> impl Iterator<Item = (&'static str, Advice)> {
        let waits = [
            ("timeouts.header", self.header, "10s"),
            ("timeouts.handshake", self.handshake, "10s"),
            ("timeouts.detect", self.detect, "200ms"),
            ("timeouts.idle", self.idle, "75s"),
            ("timeouts.body_idle", self.body_idle, "60s"),
            ("timeouts.resolve", self.resolve, "2s"),
            ("timeouts.connect_app", self.connect_app, "1s"),
            ("timeouts.connect", self.connect, "5s"),
        ];
        let none = waits.into_iter().filter(|(_, wait, _)| *wait < SHORTEST);
        none.map(|(key, wait, usual)| {
            let help = format!("write how long, as in {usual}; 1d for very long");
            (key, duration::no_wait(&duration::show(wait), help))
        })
    }
}

/// Below these no request at all would be served.
const LEAST_HEAD: usize = 512;
const LEAST_FIELD: usize = 64;
const LEAST_TARGET: usize = 16;
const LEAST_FIELDS: usize = 8;
const LEAST_MEMORY: usize = 1024 * 1024;

/// What RFC 9113 section 6.9 can name: 2^31 - 1.
const MAX_WINDOW: usize = 0x7fff_ffff;
/// What each connection begins with (section 6.9.2), and no setting can take back.
const FIRST_WINDOW: usize = 65_535;
/// What hyper's buffers begin with.
const FIRST_BUFFER: usize = 8 * 1024;

impl Limits {
    /// Limits below which nobody would be served, buffers that hyper and windows that HTTP/2 does not have: the key, and
    /// what is wrong with its value.
    pub(super) fn impossible(&self) -> impl Iterator<Item = (&'static str, Advice)> {
        let buffer = (self.body_buffer < FIRST_BUFFER).then(|| {
            let wrong = format!("a buffer of {} is too small", size::show(self.body_buffer));
            let help = format!("write {} or more", size::show(FIRST_BUFFER));
            ("limits.body_buffer", Advice::new(wrong, help))
        });
        let windows = [
            ("limits.http2_stream_window", self.http2_stream_window, 1),
            ("limits.http2_window", self.http2_window, FIRST_WINDOW),
        ];
        let wrong = windows
            .into_iter()
            .filter(|(_, window, least)| !(*least..=MAX_WINDOW).contains(window));
        let windows = wrong.map(|(key, window, least)| {
            let (window, least) = (size::show(window), size::show(least));
            let wrong = format!("HTTP/2 has no window of {window} here");
            let help = format!("write a size from {least} to {MAX_WINDOW}B");
            (key, Advice::new(wrong, help))
        });
        self.too_small().chain(buffer).chain(windows)
    }

    fn too_small(&self) -> impl Iterator<Item = (&'static str, Advice)> {
        let sizes = [
            ("limits.head_bytes", self.head_bytes, LEAST_HEAD, "32KiB"),
            (
                "limits.target_bytes",
                self.target_bytes,
                LEAST_TARGET,
                "8190",
            ),
            ("limits.field_bytes", self.field_bytes, LEAST_FIELD, "8KiB"),
            (
                "limits.http2_head_bytes",
                self.http2_head_bytes,
                LEAST_HEAD,
                "16KiB",
            ),
            ("limits.http2_heads", self.http2_heads, LEAST_HEAD, "16MiB"),
        ];
        let sizes = sizes.into_iter().filter(|(_, size, least, _)| size < least);
        let sizes = sizes.map(|(key, bytes, least, usual)| {
            let wrong = format!("with {} no request would be served", size::show(bytes));
            let help = format!("write {} or more, as in {usual}", size::show(least));
            (key, Advice::new(wrong, help))
        });
        let fields = (self.headers < LEAST_FIELDS).then(|| {
            let wrong = format!("with {} hardly a request would be served", self.headers);
            let help = format!("write {LEAST_FIELDS} or more, as in 100");
            ("limits.headers", Advice::new(wrong, help))
        });
        let memory = match self.memory {
            MemoryLimit::Bytes(bytes) if bytes < LEAST_MEMORY => {
                let wrong = format!("hopspan itself takes more than {}", size::show(bytes));
                let help =
                    "write a size, as in 64MiB; `auto` for the control group's limit, or `off`";
                Some(("limits.memory", Advice::new(wrong, help)))
            }
            _ => None,
        };
        sizes.chain(fields).chain(memory)
    }
}
