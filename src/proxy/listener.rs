//! Accepting connections: bind with an error that names who holds the port, an accept loop that no error ends, a cap
//! on connections, and a stop that loses none already in the kernel's queue.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use bound::{Accepted, BACKLOG};
pub use bound::{BindError, Holder, Listener, bind, bind_tcp};

use super::ahead::Ahead;
use super::crowd::{Crowd, Place};
use super::pressure::{Connected, FEW};
use super::server::{Connection, Handler, Named, ServeOptions, serve_connection};
use super::socket::Socket;
use super::stamped::Stamped;
use super::timed::Clock;
use crate::config::Address;
use crate::telemetry::Code;
use crate::telemetry::metrics::{Direction, Reason};

mod bound;
mod unix;

/// First wait after an error that will not go away at once; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a handshake that a stop comes into has to end: a round trip.
const HANDSHAKE: Duration = Duration::from_millis(50);
/// Descriptors that are no connection: listeners, files, what the thread rung has in the kernel.
const OWN: usize = 40;
/// Idle connections that are closed when the process has no descriptor left.
const EVICT: usize = 16;
/// And at each look that finds no memory left.
const EVICT_WITHOUT_MEMORY: usize = 64;

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// How many client connections fit the descriptor limit: 80 % of what hopspan does not need itself (a connection to the
/// app is needed for each in flight, so this is generous to keep-alive clients), at most `wanted`. Reads `/proc`.
pub fn connections_that_fit(wanted: usize) -> usize {
    descriptor_limit().map_or(wanted, |limit| {
        wanted.min((limit.saturating_sub(OWN) * 4 / 5).max(1))
    })
}

/// How many descriptors this process may have (RLIMIT_NOFILE); `None` where there is no limit, or none is told. Reads
/// `/proc`.
pub(crate) fn descriptor_limit() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|l| l.starts_with("Max open files"))?;
    line.split_ascii_whitespace().nth(3)?.parse().ok()
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
        && listener.stamp()
            .inspect_err(|error| tracing::warn!(code = %Code::NoTimestamp, error = %error, "no kernel receive times"))
            .is_ok();
    // The app is no stranger; and redirected connections are asked where they were to go.
    let strangers = !options.stamp && options.redirected.is_none();
    let ahead = strangers
        && listener.limit_ahead()
            .inspect_err(|error| tracing::debug!(error = %error, "the kernel's buffers have no limit of their own"))
            .is_ok();
    let server = Server {
        stamp,
        ahead,
        local: listener.address(),
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
            accepted = listener.accept() => accepted,
            () = server.options.pressure.is_out() => {
                server.evicted(server.crowd.make_room(EVICT_WITHOUT_MEMORY, Instant::now()));
                continue;
            }
            () = server.stop.cancelled() => break,
        };
        match accepted {
            Ok(accepted) => {
                pause = FIRST_PAUSE;
                server.admit(accepted);
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
    server.close(listener).await;
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

struct Server<H> {
    stamp: bool,
    ahead: bool,
    local: Address,
    open: Gauge<i64, AtomicI64>,
    crowd: Arc<Crowd>,
    options: ServeOptions,
    handler: H,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl<H: Handler> Server<H> {
    /// Closing a listener resets what it has queued, and what is about to be: those clients were promised a connection.
    async fn close(&self, mut listener: Listener) {
        if listener.hide() {
            let ended = tokio::time::sleep(HANDSHAKE);
            tokio::pin!(ended);
            loop {
                tokio::select! {
                    biased;
                    Ok(accepted) = listener.accept() => self.admit(accepted),
                    () = &mut ended => break,
                }
            }
        }
        while let Some(Ok(accepted)) = listener.accept_queued() {
            self.admit(accepted);
        }
        listener.close();
    }

    fn admit(&self, accepted: Accepted) {
        let limits = self.options.limits.load();
        // Without memory no more than there are: for a new one, an idle one goes.
        let (cap, reason) = match self.options.pressure.refuses() {
            true => (self.crowd.open().max(FEW), "memory"),
            false => (usize::MAX, "limit"),
        };
        let cap = cap.min(limits.max_connections);
        let (admitted, evicted) = self.crowd.admits(cap, Instant::now());
        self.evicted(evicted);
        if !admitted {
            self.refused(reason);
            return;
        }
        let id = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let pressure = &self.options.pressure;
        let clock = Clock::new(limits.idle_timeout, pressure);
        let (counted, stop) = (pressure.connected(), self.stop.child_token());
        let guard = Open::new(&self.open, counted, self.crowd.enter(id, &clock, &stop));
        // Boxed: it is handed on three times, and each has the room of it for as long as the connection lives.
        let connection = Box::new(Connection {
            id,
            peer: accepted.peer,
            balancer: None,
            local: accepted.local,
            unix: accepted.unix,
            original: None,
            accepted: Instant::now(),
            received: Arc::default(),
            from_here: std::sync::OnceLock::new(),
            named: Named::default(),
            tls: None,
            breaks: None,
        });
        let (options, handler) = (self.options.clone(), self.handler.clone());
        let (stamp, ahead) = (self.stamp, self.ahead);
        self.tracker.spawn(async move {
            let mut panics = CountPanic(Some(&options));
            let socket = match accepted.socket {
                Socket::Tcp(stream) if stamp => {
                    Socket::Stamped(Stamped::new(stream, connection.received.clone()).answering())
                }
                Socket::Tcp(stream) if ahead => Socket::Client(Ahead::new(stream)),
                socket => socket,
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
    _counted: Connected,
    _place: Place,
}

impl Open {
    fn new(open: &Gauge<i64, AtomicI64>, counted: Connected, place: Place) -> Open {
        open.inc();
        Open {
            open: open.clone(),
            _counted: counted,
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
