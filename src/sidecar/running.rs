//! A sidecar that serves, and how it stops: in order, in one place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::state::State;
use super::{Addresses, parts};
use crate::config::Address;
use crate::correlation::survey::Survey;
use crate::export;
use crate::hop::Hop;
use crate::proxy::listener::{self, Listener};
use crate::proxy::server::{Handler, ServeOptions};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Direction;

/// A serving sidecar.
pub struct Running {
    pub(super) hop: Arc<Hop>,
    pub(super) addresses: Addresses,
    pub(super) state: Arc<State>,
    pub(super) worker: export::Worker,
    pub(super) inbound: Serving,
    pub(super) outbound: Serving,
    pub(super) transparent: Vec<Serving>,
    pub(super) queue: Arc<export::Queue>,
    pub(super) desks: [Serving; 2],
    pub(super) background: CancellationToken,
}

/// One listener's connections.
pub(super) struct Serving {
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Serving {
    pub(super) fn start<H: Handler>(
        listener: Listener,
        options: ServeOptions,
        handler: H,
    ) -> Serving {
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        // Tracked as its connections are: what it still takes from the queue as it stops is waited for.
        connections.spawn(listener::serve(
            listener,
            options,
            handler,
            stop.clone(),
            connections.clone(),
        ));
        Serving { stop, connections }
    }

    /// Accepts no more, and waits for what is in flight until `deadline`. True if all of it ended.
    async fn drain(&self, deadline: Instant) -> bool {
        self.stop.cancel();
        self.connections.close();
        tokio::time::timeout_at(deadline, self.connections.wait())
            .await
            .is_ok()
    }
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Every exchange and tunnel ended by itself.
    pub drained: bool,
    /// Every span was handed to the collector.
    pub flushed: bool,
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// hopspan's counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.hop.metrics
    }

    /// The number of the config in use.
    pub fn generation(&self) -> u64 {
        self.hop.table.load().generation
    }

    /// How long exchanges may take to end at a stop.
    pub fn drain_patience(&self) -> Duration {
        self.hop.table.load().timeouts.drain
    }

    /// Where the app is.
    pub fn apps(&self) -> Vec<Address> {
        let table = self.hop.table.load();
        let apps = table.inbound.route("/").app.iter();
        apps.map(|app| app.address.clone()).collect()
    }

    /// Which joins can be proven here, why others cannot, and what the app's server is.
    pub async fn survey(&self) -> Survey {
        let (correlator, apps) = (self.hop.correlator.clone(), self.apps());
        // Looks at /proc.
        let asked = move || correlator.survey(&parts::app_places(&apps));
        tokio::task::spawn_blocking(asked).await.unwrap_or_default()
    }

    /// Whether the collector can be connected to, within `patience`.
    pub async fn collector(&self, patience: Duration) -> export::Reach {
        export::reach(&self.state.reloader.config_in_use().export, patience).await
    }

    /// Where spans go, and what became of them so far.
    pub fn export(&self) -> &export::Queue {
        &self.queue
    }

    /// Reloads the config file now (SIGHUP).
    pub async fn reload(&self) {
        let state = self.state.clone();
        // Outcome and errors are logged and kept for `/config` by the reloader.
        let _ = tokio::task::spawn_blocking(move || state.reloader.reload()).await;
    }

    /// First half of a stop: not ready, inbound accepts no more and drains. Outbound still serves the app.
    pub async fn drain_inbound(&self, deadline: Instant) -> bool {
        self.state.draining.store(true, Ordering::Release);
        self.hop.startup.end();
        let drained = self.inbound.drain(deadline).await;
        self.hop.tunnels.close();
        let tunnels = tokio::time::timeout_at(deadline, self.hop.tunnels.wait())
            .await
            .is_ok();
        drained && tunnels
    }

    /// Between the halves, beside an app that stops, too: outbound serves it until its sockets are gone, or `deadline`.
    /// Returns at once where the app is to go on without hopspan.
    pub async fn outlast_app(&self, deadline: Instant) {
        let wanted = self.state.reloader.config_in_use().outbound.outlast_app;
        // Set in every pod: there, whoever stops hopspan stops the app.
        let in_pod = || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        if !wanted.unwrap_or_else(in_pod) {
            return;
        }
        let apps = self.apps();
        let gone = async {
            while self.calls() > 0 || any_listens(&apps).await {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout_at(deadline, gone).await.is_err() {
            tracing::warn!("the app was still there at the end of timeouts.drain");
        }
    }

    /// Connections of the app to outbound.
    fn calls(&self) -> i64 {
        let open = |direction| {
            let connections = &self.hop.metrics.connections;
            connections.get_or_create(&Direction { direction }).get()
        };
        open("outbound") + open("transparent")
    }

    /// Second half: outbound ends, what is left is cut, spans are flushed.
    pub async fn finish(self, drained: bool, deadline: Instant) -> Stopped {
        let mut outbound = self.outbound.drain(deadline).await;
        for redirected in &self.transparent {
            outbound &= redirected.drain(deadline).await;
        }
        self.hop.cut.cancel();
        // What was cut ends its spans on the way out; it needs the time to do so, not more.
        let cut = Instant::now() + CUT;
        self.inbound.drain(cut).await;
        self.outbound.drain(cut).await;
        for redirected in &self.transparent {
            redirected.drain(cut).await;
        }
        let _ = tokio::time::timeout_at(cut, self.hop.tunnels.wait()).await;
        let flush = self.hop.table.load().timeouts.flush;
        let flushed = self.worker.shutdown(flush).await.complete;
        self.background.cancel();
        for desk in &self.desks {
            desk.stop.cancel();
        }
        Stopped {
            drained: drained && outbound,
            flushed,
        }
    }

    /// A whole stop within `patience`.
    pub async fn stop(self, patience: Duration) -> Stopped {
        let deadline = Instant::now() + patience;
        let drained = self.drain_inbound(deadline).await;
        self.outlast_app(deadline).await;
        self.finish(drained, deadline).await
    }
}

/// Whether the app can be connected to at one of its addresses. The connection is closed at once: a server that stops takes
/// no notice of it.
async fn any_listens(apps: &[Address]) -> bool {
    for app in apps {
        let connected = async {
            match app {
                Address::Tcp { host, port } => {
                    let connecting = TcpStream::connect((&**host, *port));
                    connecting.await.map(drop)
                }
                Address::Unix(path) => UnixStream::connect(path).await.map(drop),
            }
        };
        // Silence is no refusal: a server may be busy.
        if !matches!(tokio::time::timeout(LOOK, connected).await, Ok(Err(_))) {
            return true;
        }
    }
    false
}

/// Between two looks at whether the app is still there.
const LOOK: Duration = Duration::from_millis(200);

/// How long cut connections get to end their spans.
const CUT: Duration = Duration::from_millis(500);
