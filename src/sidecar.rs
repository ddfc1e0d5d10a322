//! The composition root: configuration in, a serving sidecar out.
//!
//! [`Sidecar::bind`] opens every listener and gives their addresses; [`Sidecar::start`] serves. Stopping is in order and in
//! one place ([`Running::stop`]): not ready -> stop accepting -> drain exchanges and tunnels to a deadline -> flush spans.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Desk, Door};
use crate::config::{Config, ConfigErrors};
use crate::correlation::{self, Correlator, Loader};
use crate::export;
use crate::hop::startup::Startup;
use crate::hop::{Direction, Hop, Side};
use crate::proxy::listener::{self, BindError, Listener};
use crate::proxy::server::{HeadBudget, ServeOptions};
use crate::routing::reload::Reloader;
use crate::telemetry::Metrics;
use crate::trace::sampling::RateLimiter;

/// How long a start waits for the kernel to take the thread rung's programs; usually a tenth of a second.
const SETTLE: Duration = Duration::from_secs(2);

mod parts;
mod running;
mod state;
#[cfg(test)]
mod toothless;

use running::Serving;
pub use running::{Running, Stopped};
use state::State;

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
    /// The thread that kept the capabilities for the thread rung, where there is one.
    pub loader: Option<Loader>,
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

        let limits = parts::Limits::of(&table.load(), &metrics);
        let startup = Startup::new(options.child.is_some());
        let correlator = Correlator::new(
            metrics.clone(),
            correlation::Options {
                child: options.child,
                tokens: config.correlation.token.unwrap_or(false),
                thread: config.correlation.thread,
                serial: config.correlation.serial,
                outbound: Some(addresses.outbound),
                loader: options.loader,
            },
        );
        // Connections that were made before it watches would not be joined.
        let _ = tokio::time::timeout(SETTLE, correlator.settled()).await;
        // An app may call its own service: only what comes back to the same listener is a loop.
        let (inbound_loop, outbound_loop) = (
            [addresses.inbound, addresses.outbound],
            [addresses.outbound],
        );
        let hop = Arc::new(Hop {
            app_pool: parts::app_pool(&limits.app, &metrics, &correlator, &inbound_loop),
            service_pool: parts::service_pool(&limits.services, &metrics, &outbound_loop, &table),
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
            queue: queue.clone(),
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
        tokio::spawn(limits.clone().follow(
            hop.table.clone(),
            hop.metrics.clone(),
            background.clone(),
        ));
        tokio::spawn(state.reloader.clone().watch(background.clone()));
        let heads = Arc::new(HeadBudget::new(&hop.metrics));
        let options = |direction| ServeOptions {
            limits: limits.serve.clone(),
            cut: hop.cut.clone(),
            // Receive times are a part of the proof of a join.
            stamp: direction == "outbound",
            tls: match direction {
                "inbound" => limits.tls.clone(),
                _ => Arc::default(),
            },
            balancers: match direction {
                "inbound" => limits.balancers.clone(),
                _ => Arc::default(),
            },
            http2: matches!(direction, "inbound" | "outbound"),
            heads: heads.clone(),
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
