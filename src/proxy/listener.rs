//! Accepting connections: bind with an error that names who holds the port, an accept loop that no error ends, a cap
//! on connections, and a stop that loses none already in the kernel's queue.
//!
//! Unix-domain listeners are not here yet.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::crowd::{Crowd, Place};
pub use super::holder::Holder;
use super::server::{Connection, Handler, ServeOptions, serve_connection};
use super::socket::Socket;
use super::stamped::{self, Stamped};
use super::timed::Clock;
use crate::config::Address;
use crate::telemetry::Code;
use crate::telemetry::metrics::{Direction, Reason};

/// Connections the kernel keeps for us until they are accepted (capped by `net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// First wait after an error that will not go away at once; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Descriptors that are no connection: listeners, files, what the thread rung has in the kernel.
const OWN: usize = 40;
/// Idle connections that are closed when the process has no descriptor left.
const EVICT: usize = 16;

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    address: Address,
    source: io::Error,
    holder: Option<Holder>,
}

impl BindError {
    /// The process that holds the port, where it could be found.
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    /// Whether the address is taken.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match (&self.holder, self.is_in_use()) {
            (Some(holder), _) => write!(f, "the port is taken by {holder}"),
            (None, true) => write!(f, "the port is taken by a process that is not visible here"),
            (None, false) => write!(f, "{}", self.source),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A bound TCP listener.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    local: SocketAddr,
}

impl Listener {
    /// Where it listens: the port is the real one where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The socket, for servers with an accept loop of their own (the viewer).
    pub fn into_inner(self) -> TcpListener {
        self.inner
    }
}

/// Binds a TCP address. Names are resolved; the first address that can be bound is taken.
///
/// # Errors
/// The name does not resolve, the port is taken (then the holder is looked up), or it is not permitted. Unix sockets
/// are refused as unsupported.
pub async fn bind(address: &Address) -> Result<Listener, BindError> {
    let failed = |source: io::Error| BindError {
        address: address.clone(),
        source,
        holder: None,
    };
    let Address::Tcp { host, port } = address else {
        return Err(failed(io::Error::new(
            io::ErrorKind::Unsupported,
            "listening on a unix socket is not supported",
        )));
    };
    let candidates = tokio::net::lookup_host((&**host, *port))
        .await
        .map_err(failed)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in candidates {
        match listen(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    let mut error = failed(last);
    if error.is_in_use() {
        let port = *port;
        // Reads many files of /proc: not on a worker of the runtime.
        error.holder = tokio::task::spawn_blocking(move || super::holder::of_port(port))
            .await
            .unwrap_or(None);
    }
    Err(error)
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restart must not wait for the TIME_WAITs of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let inner = socket.listen(BACKLOG)?;
    let local = inner.local_addr()?;
    Ok(Listener { inner, local })
}

/// How many client connections fit the descriptor limit: 80 % of what hopspan does not need itself (a connection to the
/// app is needed for each in flight, so this is generous to keep-alive clients), at most `wanted`. Reads `/proc`.
pub fn connections_that_fit(wanted: usize) -> usize {
    let limit = std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| {
            let line = limits.lines().find(|l| l.starts_with("Max open files"))?;
            line.split_ascii_whitespace().nth(3)?.parse::<usize>().ok()
        });
    limit.map_or(wanted, |limit| {
        wanted.min((limit.saturating_sub(OWN) * 4 / 5).max(1))
    })
}

/// Accepts and serves connections until `stop`; then takes what the kernel has queued, lets each connection finish
/// its exchange, and returns while `tracker` still has those.
pub async fn serve<H: Handler>(
    listener: Listener,
    options: ServeOptions,
    handler: H,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let open = options.metrics.connections.get_or_create_owned(&Direction {
        direction: options.direction,
    });
    let stamp = options.stamp
        && stamped::enable(&listener.inner)
            .inspect_err(|error| tracing::warn!(code = %Code::NoTimestamp, error = %error, "no kernel receive times"))
            .is_ok();
    let server = Server {
        stamp,
        local: listener.local,
        open,
        crowd: Arc::default(),
        options,
        handler,
        stop,
        tracker,
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.inner.accept() => accepted,
            () = server.stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                server.admit(stream, peer);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                server.refused("accept_error");
                // Descriptors, most likely: those of idle connections are the ones that can be had.
                server.evicted(server.crowd.make_room(EVICT, Instant::now()));
                tracing::warn!(error = %error, listener = %server.local, "cannot accept connections");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = server.stop.cancelled() => break,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        if server.stop.is_cancelled() {
            break;
        }
    }
    // Closing a listener resets what it has queued: those clients were promised a connection.
    while let Some(Ok((stream, peer))) = accept_now(&listener.inner).await {
        server.admit(stream, peer);
    }
}

/// The connection was gone before it was accepted: no reason to pause.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn accept_now(listener: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    tokio::select! {
        biased;
        accepted = listener.accept() => Some(accepted),
        () = std::future::ready(()) => None,
    }
}

struct Server<H> {
    stamp: bool,
    local: SocketAddr,
    open: Gauge<i64, AtomicI64>,
    crowd: Arc<Crowd>,
    options: ServeOptions,
    handler: H,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl<H: Handler> Server<H> {
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let limits = self.options.limits.load();
        let (admitted, evicted) = self.crowd.admits(limits.max_connections, Instant::now());
        self.evicted(evicted);
        if !admitted {
            self.refused("limit");
            return;
        }
        let id = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let (clock, stop) = (Clock::new(limits.idle_timeout), self.stop.child_token());
        let guard = Open::new(&self.open, self.crowd.enter(id, &clock, &stop));
        // Not being able to set it costs latency only.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            id,
            peer,
            balancer: None,
            // The listener's own address may be a wildcard; this is the one the client knows.
            local: stream.local_addr().unwrap_or(self.local),
            accepted: Instant::now(),
            received: Arc::default(),
            from_here: std::sync::OnceLock::new(),
            tls: None,
        };
        let (options, handler) = (self.options.clone(), self.handler.clone());
        let stamp = self.stamp;
        self.tracker.spawn(async move {
            let mut panics = CountPanic(Some(&options));
            let socket = match stamp {
                true => {
                    Socket::Stamped(Stamped::new(stream, connection.received.clone()).answering())
                }
                false => Socket::Tcp(stream),
            };
            serve_connection(socket, guard, clock, connection, &options, handler, stop).await;
            panics.0 = None;
        });
    }

    fn refused(&self, reason: &'static str) {
        self.options
            .metrics
            .connections_refused
            .get_or_create(&Reason { reason })
            .inc();
    }

    fn evicted(&self, count: usize) {
        let evicted = &self.options.metrics.connections_evicted;
        evicted.inc_by(u64::try_from(count).unwrap_or(0));
    }
}

/// Counts one open connection for as long as its socket lives.
struct Open {
    open: Gauge<i64, AtomicI64>,
    _place: Place,
}

impl Open {
    fn new(open: &Gauge<i64, AtomicI64>, place: Place) -> Open {
        open.inc();
        Open {
            open: open.clone(),
            _place: place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Counts a panic outside the handler (in a body's watch): the connection is lost then, the process is not.
struct CountPanic<'a>(Option<&'a ServeOptions>);

impl Drop for CountPanic<'_> {
    fn drop(&mut self) {
        if let (Some(options), true) = (self.0, std::thread::panicking()) {
            options.metrics.panics.inc();
        }
    }
}
