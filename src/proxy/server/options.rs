//! How connections are served: what a listener is given for good, and its limits, which a reload may change.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use super::{HeadBudget, ServeTls};
use crate::config::{Limits, Timeouts};
use crate::proxy::original_dst::Redirected;
use crate::proxy::pressure::Pressure;
use crate::telemetry::metrics::{Metrics, Reason};

/// How connections are served. What may change while serving is in `limits`.
#[derive(Clone)]
pub struct ServeOptions {
    /// `inbound`, `outbound`, `status` or `admin`: the label of metrics.
    pub direction: &'static str,
    /// Whether to ask the kernel for receive times.
    pub stamp: bool,
    /// Whether the names of a request's fields go on in the case they came in. Costs about 400 instructions a field
    /// (hyper keeps a second map), a tenth of an exchange; without it they are in lower case, as HTTP/2's always are.
    pub preserve_case: bool,
    /// TLS, where it is spoken; read once per new connection.
    pub tls: Arc<ArcSwapOption<ServeTls>>,
    /// Peers that begin with a PROXY header; read once per new connection.
    pub balancers: Arc<ArcSwap<Vec<IpNet>>>,
    /// Only redirected connections are taken; and what must not be, lest hopspan serves itself.
    pub redirected: Option<Arc<Redirected>>,
    /// Whether HTTP/2 is spoken, too.
    pub http2: bool,
    /// Whether WebSockets may come by HTTP/2 (RFC 8441).
    pub websocket: bool,
    /// What the heads of HTTP/2 requests may take in all, over every listener that shares it.
    pub heads: Arc<HeadBudget>,
    /// Whether there is memory for new connections.
    pub pressure: Arc<Pressure>,
    /// Read once per new connection.
    pub limits: Arc<ArcSwap<ServeLimits>>,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the drain deadline has passed: connections still open are dropped, whatever they do.
    pub cut: CancellationToken,
}

impl ServeOptions {
    /// Default limits, HTTP/1.x only, never cut.
    pub fn new(direction: &'static str, metrics: Arc<Metrics>) -> ServeOptions {
        ServeOptions {
            direction,
            stamp: false,
            preserve_case: true,
            tls: Arc::default(),
            balancers: Arc::default(),
            redirected: None,
            http2: false,
            websocket: false,
            heads: Arc::new(HeadBudget::new(&metrics)),
            pressure: Arc::default(),
            limits: Arc::new(ArcSwap::from_pointee(ServeLimits::default())),
            metrics,
            cut: CancellationToken::new(),
        }
    }

    /// Counts what came to no request, or was no HTTP.
    pub(super) fn count(&self, reason: &'static str) {
        self.metrics
            .protocol_errors
            .get_or_create(&Reason { reason })
            .inc();
    }
}

/// Limits of one listener; a change applies to new connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeLimits {
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// From the first byte of a TLS handshake to its end.
    pub handshake_timeout: Duration,
    /// For a redirected connection to show that it speaks HTTP.
    pub detect_timeout: Duration,
    /// Without a byte between requests. Above the idle limit of whatever is in front, so that it closes first.
    pub idle_timeout: Duration,
    /// A client that takes no byte of a response for so long is cut off; `None`: never. Tunnels are exempt.
    pub write_timeout: Option<Duration>,
    /// Request line and fields together; above: 431.
    pub max_head_bytes: usize,
    /// Fields of a head; above: 431.
    pub max_headers: usize,
    /// Bytes of a body read ahead, each way; 8 KiB or more.
    pub body_buffer: usize,
    /// Open client connections; above: refused.
    pub max_connections: usize,
    /// Requests at once on an HTTP/2 connection; above: the client waits.
    pub http2_streams: u32,
    /// Fields of an HTTP/2 head, as RFC 9113 section 6.5.2 counts them; above: 431.
    pub http2_head_bytes: usize,
    /// Heads of HTTP/2 requests in hand at once, over all connections; above: 503.
    pub http2_heads: usize,
    /// HTTP/2 requests at once, over all connections; above: 503.
    pub http2_requests: usize,
    /// Bytes a client may send ahead on an HTTP/2 stream; 2^31 - 1 at most.
    pub http2_stream_window: u32,
    /// Bytes it may send ahead on all streams of a connection; 2^31 - 1 at most.
    pub http2_window: u32,
    /// Streams that a client may have reset before anybody looked at them; above: the connection is closed.
    pub http2_resets: usize,
    /// Streams of a connection that a client's mistakes may make hopspan reset; above: the connection is closed.
    pub http2_local_resets: usize,
    /// Requests of a connection that were refused for what they are, or reset before they were answered; then the client is
    /// told to go.
    pub http2_glitches: Option<usize>,
    /// Requests at once of a client that has opened no window for their answers; above: refused.
    pub http2_unopened: Option<usize>,
}

impl ServeLimits {
    /// What the config says.
    pub fn of(timeouts: &Timeouts, limits: &Limits) -> ServeLimits {
        ServeLimits {
            header_timeout: timeouts.header,
            handshake_timeout: timeouts.handshake,
            detect_timeout: timeouts.detect,
            idle_timeout: timeouts.idle,
            write_timeout: Some(timeouts.body_idle),
            max_head_bytes: limits.head_bytes,
            max_headers: limits.headers,
            body_buffer: limits.body_buffer,
            max_connections: limits.connections,
            http2_streams: u32::try_from(limits.http2_streams).unwrap_or(u32::MAX),
            http2_head_bytes: limits.http2_head_bytes,
            http2_heads: limits.http2_heads,
            http2_requests: limits.http2_requests,
            http2_stream_window: window(limits.http2_stream_window),
            http2_window: window(limits.http2_window),
            http2_resets: limits.http2_resets,
            http2_local_resets: limits.http2_local_resets,
            http2_glitches: limits.http2_glitches,
            http2_unopened: limits.http2_unopened,
        }
    }
}

impl Default for ServeLimits {
    fn default() -> ServeLimits {
        ServeLimits::of(&Timeouts::default(), &Limits::default())
    }
}

/// A window of HTTP/2, which the config has checked.
fn window(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX >> 1)
}
