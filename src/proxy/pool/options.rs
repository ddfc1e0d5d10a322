//! How a pool behaves, and what it tells of the connections it opens.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls::AlertDescription;

use super::PoolLimits;
use crate::proxy::connect::Check;
use crate::proxy::dialled::Dialled;
use crate::proxy::stamped::Received;
use crate::proxy::upstream::Upstream;
use crate::telemetry::metrics::Metrics;

/// A connection that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Unique among the upstream connections of this process.
    pub id: u64,
    /// Our end; `None` for unix sockets.
    pub local: Option<SocketAddr>,
    /// The upstream's end; `None` for unix sockets.
    pub peer: Option<SocketAddr>,
    /// The upstream's address, for spans.
    pub peer_text: Option<Arc<str>>,
    /// What was asked for.
    pub upstream: Upstream,
    /// Whether exchanges share it (HTTP/2).
    pub multiplexed: bool,
    /// Before connecting to it began.
    pub began: std::time::Instant,
    /// The number of our end's unix socket, which no other ever has; `None` for TCP.
    pub unix_cookie: Option<u64>,
    /// The number of that socket's inode, where [`PoolOptions::stamp`] asks for it.
    pub unix_inode: Option<u64>,
    /// What was read and written, where [`PoolOptions::stamp`] asks for it: with receive times where the kernel gives them.
    pub received: Option<Arc<Received>>,
    /// The TLS alert that ended it. hyper, which is told after this is set, may say no more than that it is closed.
    pub(super) alert: OnceLock<AlertDescription>,
}

/// Told about each connection when it opens; what it returns is dropped when that socket is closed.
pub type OnOpen = Arc<dyn Fn(&Opened) -> Box<dyn Send> + Send + Sync>;

/// How a pool behaves. What may change while it runs is in `limits`.
pub struct PoolOptions {
    /// Read at each use.
    pub limits: Arc<ArcSwap<PoolLimits>>,
    /// Told about each connection.
    pub on_open: Option<OnOpen>,
    /// Judges each resolved address.
    pub check: Option<Check>,
    /// Is told of each connection as it is begun.
    pub dialled: Option<Arc<Dialled>>,
    /// Whether the names of a response's fields go on in the case they came in; see
    /// [`ServeOptions::preserve_case`](crate::proxy::server::ServeOptions::preserve_case) for requests.
    pub preserve_case: bool,
    /// Whether reads carry the kernel's receive times (TCP only).
    pub stamp: bool,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
}

impl PoolOptions {
    /// With these limits and nothing else.
    pub fn new(limits: PoolLimits, metrics: Arc<Metrics>) -> PoolOptions {
        PoolOptions {
            limits: Arc::new(ArcSwap::from_pointee(limits)),
            on_open: None,
            check: None,
            dialled: None,
            preserve_case: true,
            stamp: false,
            metrics,
        }
    }
}
