//! The composition root: configuration in, a serving sidecar out.
//!
//! [`Sidecar::bind`] opens every listener and gives their addresses; [`Sidecar::start`] serves. Stopping is in order and in
//! one place ([`Running::stop`]): not ready -> stop accepting -> drain exchanges and tunnels to a deadline -> flush spans.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Desk, Door, Subject};
use crate::config::{Address, Config, ConfigErrors};
use crate::correlation::{self, Correlator};
use crate::export;
use crate::hop::startup::Startup;
use crate::hop::{Direction, Hop, Side};
use crate::proxy::listener::{self, BindError, Listener};
use crate::proxy::server::{Handler, ServeOptions};
use crate::routing::reload::Reloader;
use crate::telemetry::Metrics;
use crate::trace::sampling::RateLimiter;

mod parts;

/// Lays flags and environment over what a file says.
pub type Overlay = Arc<dyn Fn(&mut Config) + Send + Sync>;

/// The process ID of the wrapped command, once it runs.
pub type ChildId = Arc<dyn Fn() -> Option<u32> + Send + Sync>;

/// What a sidecar is made from.
pub struct Options {
    /// The config file, if there is one; it is watched.
    pub path: Option<PathBuf>,
    /// Applied at start and at every reload.
    pub overlay: Overlay,
    /// The process ID of the app where hopspan started it (wrap mode), once it runs.
    pub child: Option<ChildId>,
}

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// A listener could not be opened.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// The exporter's settings cannot work.
    #[error("export: {0}")]
    Export(#[from] export::ExportError),
}

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Clients.
    pub inbound: SocketAddr,
    /// The app's own calls.
    pub outbound: SocketAddr,
    /// Probes and metrics.
    pub status: SocketAddr,
    /// Config, joins, reload.
    pub admin: SocketAddr,
}

/// A sidecar whose listeners are open and which serves nothing yet.
pub struct Sidecar {
    hop: Arc<Hop>,
    inbound: Listener,
    outbound: Listener,
    status: Listener,
    admin: Listener,
    addresses: Addresses,
    state: Arc<State>,
    worker: export::Worker,
    queue: Arc<export::Queue>,
    limits: parts::Limits,
}

/// What admin and status show and change.
struct State {
    ready: AtomicBool,
    draining: AtomicBool,
    reloader: Arc<Reloader>,
    correlator: Arc<Correlator>,
}

impl Sidecar {
    /// Compiles the configuration, opens the listeners and starts the exporter. Nothing is served until [`Sidecar::start`].
    pub async fn bind(options: Options) -> Result<Sidecar, StartError> {
        let metrics = Metrics::new();
        let overlay = options.overlay;
        let reloader =
            Reloader::start(options.path, metrics.clone(), move |config| overlay(config))?;
        let (config, table) = (reloader.config_in_use(), reloader.table());
        let (queue, worker) = export::start(
            config.export.clone(),
            parts::resource(&config),
            metrics.clone(),
        )?;

        let inbound = listener::bind(&config.inbound.listen).await?;
        let outbound = listener::bind(&config.outbound.listen).await?;
        let status = listener::bind(&config.status.listen).await?;
        let admin = listener::bind(&config.admin.listen).await?;
        let addresses = Addresses {
            inbound: inbound.local_addr(),
            outbound: outbound.local_addr(),
            status: status.local_addr(),
            admin: admin.local_addr(),
        };

        let limits = parts::Limits::of(&table.load());
        let startup = Startup::new(options.child.is_some());
        let correlator = Correlator::new(
            metrics.clone(),
            correlation::Options {
                child: options.child,
                tokens: config.correlation.token.unwrap_or(false),
            },
        );
        // An app may call its own service: only what comes back to the same listener is a loop.
        let (inbound_loop, outbound_loop) = (
            [addresses.inbound, addresses.outbound],
            [addresses.outbound],
        );
        let hop = Arc::new(Hop {
            app_pool: parts::app_pool(&limits.app, &metrics, &correlator, &inbound_loop),
            service_pool: parts::service_pool(&limits.services, &metrics, &outbound_loop),
            table,
            correlator: correlator.clone(),
            sink: queue.clone(),
            metrics: metrics.clone(),
            startup,
            limiter: RateLimiter::new(),
            cut: CancellationToken::new(),
            tunnels: TaskTracker::new(),
        });
        let state = Arc::new(State {
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            reloader: Arc::new(reloader),
            correlator,
        });
        Ok(Sidecar {
            hop,
            inbound,
            outbound,
            status,
            admin,
            addresses,
            state,
            worker,
            queue,
            limits,
        })
    }
}

/// A serving sidecar.
pub struct Running {
    hop: Arc<Hop>,
    addresses: Addresses,
    state: Arc<State>,
    worker: export::Worker,
    inbound: Serving,
    outbound: Serving,
    queue: Arc<export::Queue>,
    desks: [Serving; 2],
    background: CancellationToken,
}

/// One listener's connections.
struct Serving {
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Serving {
    fn start<H: Handler>(listener: Listener, options: ServeOptions, handler: H) -> Serving {
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        tokio::spawn(listener::serve(
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
    pub fn addresses(&self) -> Addresses {
        self.addresses
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
        self.hop.table.load().inbound.route("/").app.clone()
    }

    /// Which joins can be proven here, in words.
    pub async fn joins(&self) -> String {
        let (correlator, apps) = (
            self.hop.correlator.clone(),
            parts::app_addresses(&self.apps()),
        );
        // Looks at /proc.
        let tokens = if correlator.has_tokens() {
            "token, "
        } else {
            ""
        };
        let rung = tokio::task::spawn_blocking(move || correlator.describe(&apps).to_string())
            .await
            .unwrap_or_default();
        format!("{tokens}{rung}")
    }

    /// Where spans go, and what became of them so far.
    pub fn export(&self) -> &export::Queue {
        &self.queue
    }

    /// Reloads the config file now (SIGHUP).
    pub fn reload(&self) {
        // Outcome and errors are logged and kept for `/config` by the reloader.
        let _ = self.state.reloader.reload();
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

    /// Second half: outbound ends, what is left is cut, spans are flushed.
    pub async fn finish(self, drained: bool, deadline: Instant) -> Stopped {
        let outbound = self.outbound.drain(deadline).await;
        self.hop.cut.cancel();
        // What was cut ends its spans on the way out; it needs the time to do so, not more.
        let cut = Instant::now() + CUT;
        self.inbound.drain(cut).await;
        self.outbound.drain(cut).await;
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
        self.finish(drained, deadline).await
    }
}

/// How long cut connections get to end their spans.
const CUT: Duration = Duration::from_millis(500);

impl Sidecar {
    /// Where it will serve.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves, and watches the config file.
    pub fn start(self) -> Running {
        let Sidecar {
            hop,
            inbound,
            outbound,
            status,
            admin,
            addresses,
            state,
            worker,
            queue,
            limits,
        } = self;
        let background = CancellationToken::new();
        tokio::spawn(limits.clone().follow(hop.table.clone(), background.clone()));
        tokio::spawn(state.reloader.clone().watch(background.clone()));
        let options = |direction| ServeOptions {
            limits: limits.serve.clone(),
            cut: hop.cut.clone(),
            // Receive times are a part of the proof of a join.
            stamp: direction == "outbound",
            ..ServeOptions::new(direction, hop.metrics.clone())
        };
        let side = |direction| Side::new(hop.clone(), direction);
        let desk = |door| Desk::new(door, state.clone(), hop.metrics.clone());
        let inbound = Serving::start(inbound, options("inbound"), side(Direction::Inbound));
        let outbound = Serving::start(outbound, options("outbound"), side(Direction::Outbound));
        let desks = [
            Serving::start(status, options("status"), desk(Door::Status)),
            Serving::start(admin, options("admin"), desk(Door::Admin)),
        ];
        state.ready.store(true, Ordering::Release);
        Running {
            hop,
            addresses,
            state,
            worker,
            queue,
            inbound,
            outbound,
            desks,
            background,
        }
    }
}

impl Subject for State {
    fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Acquire) {
            return Err("draining".to_owned());
        }
        if !self.ready.load(Ordering::Acquire) {
            return Err("starting".to_owned());
        }
        Ok(())
    }

    fn config(&self) -> String {
        let status = self.reloader.status();
        serde_json::json!({
            "generation": status.generation,
            "last_error": status.last_error,
            "needs_restart": status.needs_restart,
            "config": self.reloader.config_in_use(),
        })
        .to_string()
    }

    fn correlation(&self) -> String {
        let apps = parts::app_addresses(&self.reloader.config_in_use().inbound.app);
        let rung = self.correlator.describe(&apps).to_string();
        let (connections, requests) = self.correlator.remembered();
        serde_json::json!({ "rung": rung, "app_connections": connections, "requests": requests })
            .to_string()
    }

    fn reload(&self) -> Result<String, String> {
        match self.reloader.reload() {
            Ok(reloaded) => Ok(serde_json::json!({
                "from": reloaded.from, "to": reloaded.to, "needs_restart": reloaded.needs_restart,
            })
            .to_string()),
            Err(errors) => Err(errors.to_string()),
        }
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}
