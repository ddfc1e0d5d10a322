//! Upstream connections, kept and reused: one pool per direction.
//!
//! Built on hyper's connection API rather than its client, since a trace needs to know what a connection cost and
//! whether it was reused, and a proxy must own connections to end them. What must hold:
//!
//! - A connection comes back only when hyper is ready for the next request. An upstream that answers before it has read
//!   the upload would hold its connection for ever (hyper #4176): after a second it is aborted.
//! - Last in, first out, so that surplus connections age and expire.
//! - Idle connections expire before the upstream's own limit, are dropped at EOF or at any byte nobody asked for.
//! - No connection is opened before it is needed: an idle one blocks a synchronous worker.
//!
//! Only HTTP/1.1, only plain text for now.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::body::RequestBody;
use super::connect::{Check, ConnectError, Connected, Connector, Verdict};
use super::stamped::Received;
use crate::config::Address;
use crate::telemetry::metrics::Metrics;

mod guarded;
mod idle;
mod pooled;

use guarded::{Guarded, OpenGauge};
use idle::Idle;
use pooled::{AbortOnDrop, Line};
pub use pooled::{Pooled, SendError, SendFault};

/// hyper's buffer each way, and its largest read.
const BUFFER: usize = 64 * 1024;

static NEXT_OPENED: AtomicU64 = AtomicU64::new(1);

/// A connection that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Unique among the upstream connections of this process.
    pub id: u64,
    /// Our end; `None` for unix sockets.
    pub local: Option<SocketAddr>,
    /// The upstream's end; `None` for unix sockets.
    pub peer: Option<SocketAddr>,
    /// What was asked for.
    pub address: Address,
    /// Before connecting to it began.
    pub began: std::time::Instant,
    /// The number of our end's unix socket, which no other ever has; `None` for TCP.
    pub unix_cookie: Option<u64>,
    /// What was read, where [`PoolOptions::stamp`] asks for it: with receive times where the kernel gives them.
    pub received: Option<Arc<Received>>,
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
    /// Whether the names of a response's fields go on in the case they came in; see
    /// [`ServeOptions::preserve_case`](super::server::ServeOptions::preserve_case) for requests.
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
            preserve_case: true,
            stamp: false,
            metrics,
        }
    }
}

/// Limits of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// How long a connection may wait for its next request. Below the upstream's own limit, or requests race its
    /// close: gunicorn's is 2 s.
    pub idle: Duration,
    /// How long connecting may take, resolution apart.
    pub connect_timeout: Duration,
    /// Idle connections kept per upstream; the oldest go first.
    pub max_idle: usize,
    /// Connections in use at once per upstream; `None`: any number. A change applies to upstreams not seen yet.
    pub max_in_use: Option<usize>,
    /// How long a request waits for one of these.
    pub max_wait: Duration,
}

impl PoolLimits {
    /// Defaults towards the app: next door, and not to be kept waiting.
    pub fn app() -> PoolLimits {
        PoolLimits {
            idle: Duration::from_millis(1500),
            connect_timeout: Duration::from_secs(1),
            max_idle: 256,
            max_in_use: None,
            max_wait: Duration::from_secs(5),
        }
    }

    /// Defaults towards other services.
    pub fn outbound() -> PoolLimits {
        PoolLimits {
            idle: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            ..PoolLimits::app()
        }
    }
}

/// The connections of one direction.
pub struct Pool {
    options: PoolOptions,
    connector: Connector,
    http: http1::Builder,
    idle: Mutex<Idle<Line>>,
    in_use: Mutex<HashMap<Address, Arc<Semaphore>>>,
}

impl Pool {
    /// An empty pool. Opens nothing until asked.
    pub fn new(options: PoolOptions) -> Arc<Pool> {
        let mut http = http1::Builder::new();
        http.preserve_header_case(options.preserve_case)
            .max_buf_size(BUFFER)
            // RFC 9112 sections 5.1 and 5.2 let a proxy mend these, and apps do produce them.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            // Nginx drops such lines, too: the response is worth more than a line nobody can read.
            .ignore_invalid_headers_in_responses(true);
        Arc::new(Pool {
            connector: Connector::new(options.check.clone()),
            options,
            http,
            idle: Mutex::default(),
            in_use: Mutex::default(),
        })
    }

    /// A connection to `address`: the one used last of those idle, else a new one.
    ///
    /// # Errors
    /// It cannot be connected to, or the cap on connections holds. Nothing has been sent.
    pub async fn checkout(self: &Arc<Pool>, address: &Address) -> Result<Pooled, ConnectError> {
        let permit = self.permit(address).await?;
        match self.take_idle(address) {
            Some(line) => Ok(Pooled::reused(line, self, permit)),
            None => self.open(address, permit).await,
        }
    }

    /// A connection to `address` that nobody has used: for the second try of a request that a reused one failed, since
    /// the other idle ones are likely dead as well.
    ///
    /// # Errors
    /// As [`Pool::checkout`].
    pub async fn checkout_new(self: &Arc<Pool>, address: &Address) -> Result<Pooled, ConnectError> {
        let permit = self.permit(address).await?;
        self.open(address, permit).await
    }

    /// A connection of its own, never pooled: for tunnels.
    ///
    /// # Errors
    /// As [`Pool::checkout`].
    pub(crate) async fn dial(&self, address: &Address) -> Result<Connected, ConnectError> {
        let limit = self.options.limits.load().connect_timeout;
        self.connector.connect(address, limit).await
    }

    /// How many connections wait for a request.
    pub fn idle_count(&self) -> usize {
        self.idle().count()
    }

    async fn open(
        self: &Arc<Pool>,
        address: &Address,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Pooled, ConnectError> {
        let limit = self.options.limits.load().connect_timeout;
        let began = std::time::Instant::now();
        let Connected {
            socket,
            local,
            peer,
            dns,
            connect,
        } = self.connector.connect(address, limit).await?;
        let (socket, received) = match self.options.stamp {
            true => socket.stamped(),
            false => (socket, None),
        };
        let opened = Arc::new(Opened {
            id: NEXT_OPENED.fetch_add(1, Ordering::Relaxed),
            local,
            peer,
            address: address.clone(),
            began,
            unix_cookie: socket.unix_cookie(),
            received,
        });
        let told = self.options.on_open.as_ref().map(|tell| tell(&opened));
        let guard = (told, OpenGauge::new(&self.options.metrics));
        let io = TokioIo::new(Guarded::new(socket, guard));
        let (sender, connection) = self
            .http
            .handshake::<_, RequestBody>(io)
            .await
            .map_err(|error| ConnectError::Io(std::io::Error::other(error)))?;
        let id = opened.id;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(connection = id, error = %error, "upstream connection ended");
            }
        });
        let line = Line {
            sender,
            opened,
            task: AbortOnDrop::new(driver.abort_handle()),
        };
        Ok(Pooled::opened(line, self, permit, dns, connect))
    }

    async fn permit(
        &self,
        address: &Address,
    ) -> Result<Option<OwnedSemaphorePermit>, ConnectError> {
        let limits = self.options.limits.load();
        let Some(cap) = limits.max_in_use else {
            return Ok(None);
        };
        let wait = limits.max_wait;
        drop(limits);
        let permits = {
            let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
            // Upstreams come and go: forget those that nobody uses or waits for.
            in_use.retain(|known, permits| known == address || Arc::strong_count(permits) > 1);
            in_use
                .entry(address.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(cap)))
                .clone()
        };
        match tokio::time::timeout(wait, permits.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            // Never closed, so the first error is the second.
            Ok(Err(_)) | Err(_) => Err(ConnectError::Busy(wait)),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self, address: &Address) -> Option<Line> {
        let since = Instant::now().checked_sub(self.options.limits.load().idle);
        loop {
            // Unlocked before a dead line is dropped.
            let line = self.idle().take(address, since)?;
            // What may be reached can have changed since it was opened.
            let allowed = line
                .opened
                .peer
                .is_none_or(|peer| matches!(self.connector.judge(address, peer), Verdict::Allow));
            if line.sender.is_ready() && allowed {
                return Some(line);
            }
        }
    }

    /// Takes a connection back that is ready for the next request.
    fn put(self: &Arc<Pool>, line: Line) {
        let limits = self.options.limits.load();
        if limits.idle.is_zero() || limits.max_idle == 0 || line.sender.is_closed() {
            return;
        }
        let address = line.opened.address.clone();
        let mut idle = self.idle();
        let surplus = idle.put(address, line, Instant::now(), limits.max_idle);
        let sweep = idle.start_sweeping();
        drop(idle);
        drop(surplus);
        if sweep {
            tokio::spawn(Pool::sweep(Arc::downgrade(self)));
        }
    }

    /// Closes connections as they expire; ends when none is idle.
    async fn sweep(pool: Weak<Pool>) {
        loop {
            let Some(next) = pool.upgrade().and_then(|pool| pool.close_expired()) else {
                return;
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// When to look again; `None` when nothing is idle.
    fn close_expired(&self) -> Option<Instant> {
        let keep = self.options.limits.load().idle;
        let now = Instant::now();
        let mut idle = self.idle();
        let expired = idle.expire(now.checked_sub(keep), |line| line.sender.is_closed());
        let oldest = idle.oldest();
        if oldest.is_none() {
            idle.stop_sweeping();
        }
        drop(idle);
        drop(expired);
        // Not more often than this, whatever the limit.
        oldest.map(|since| (since + keep).max(now + Duration::from_millis(50)))
    }
}
