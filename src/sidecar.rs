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
use crate::config::{Address, Config, ConfigErrors};
use crate::correlation::{self, Correlator, Loader};
use crate::export;
use crate::hop::startup::Startup;
use crate::hop::{Direction, Hop, Side};
use crate::proxy::listener::{self, BindError, Listener};
use crate::proxy::original_dst::Redirected;
use crate::proxy::server::{HeadBudget, ServeOptions};
use crate::routing::reload::Reloader;
use crate::telemetry::Metrics;
use crate::trace::sampling::RateLimiter;

/// How long a start waits for the kernel to take the thread rung's programs; usually a tenth of a second.
const SETTLE: Duration = Duration::from_secs(2);

mod activation;
mod memory;
mod parts;
mod running;
mod state;
#[cfg(test)]
mod toothless;

pub use activation::{Activated, VARIABLES as ACTIVATION};
use memory::Memory;
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
    /// Sockets that listen already.
    pub activated: Activated,
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
    /// A socket that was passed on cannot be listened on.
    #[error("the socket that was passed for {0}: {1}")]
    Activated(&'static str, #[source] std::io::Error),
    /// The exporter's settings cannot work.
    #[error("export: {0}")]
    Export(#[from] export::ExportError),
}

/// Where it listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Clients.
    pub inbound: Address,
    /// The app's own calls.
    pub outbound: SocketAddr,
    /// The app's own calls that are redirected.
    pub transparent: Vec<SocketAddr>,
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
    transparent: Vec<Listener>,
    redirected: Option<Arc<Redirected>>,
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

        let mut activated = options.activated;
        let inbound = match passed(&mut activated, "inbound")? {
            Some(listener) => listener,
            None => {
                let mode = config.inbound.socket_mode.bits();
                listener::bind(&config.inbound.listen, mode).await?
            }
        };
        let outbound = tcp(&mut activated, "outbound", &config.outbound.listen).await?;
        let status = tcp(&mut activated, "status", &config.status.listen).await?;
        let admin = tcp(&mut activated, "admin", &config.admin.listen).await?;
        let mut transparent = Vec::new();
        for address in &config.outbound.transparent {
            transparent.push(listener::bind_tcp(address).await?);
        }
        let addresses = Addresses {
            inbound: inbound.address(),
            outbound: outbound.tcp_address()?,
            transparent: transparent
                .iter()
                .map(Listener::tcp_address)
                .collect::<Result<_, _>>()?,
            status: status.tcp_address()?,
            admin: admin.tcp_address()?,
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
        let mut outbound_loop = vec![addresses.outbound];
        outbound_loop.extend(&addresses.transparent);
        let redirected = (!transparent.is_empty()).then(|| Redirected {
            own: Arc::default(),
            listeners: outbound_loop.clone(),
        });
        let redirected = redirected.map(Arc::new);
        let own = |listeners| parts::Own {
            listeners,
            admin: Some(addresses.admin),
            dialled: redirected.as_ref().map(|redirected| redirected.own.clone()),
        };
        let mut inbound_loop = outbound_loop.clone();
        inbound_loop.extend(inbound.tcp_address().ok());
        let (to_app, to_services) = (own(inbound_loop), own(outbound_loop));
        let hop = Arc::new(Hop {
            app_pool: parts::app_pool(&limits.app, &metrics, &correlator, to_app),
            service_pool: parts::service_pool(&limits.services, &metrics, to_services, &table),
            table,
            correlator: correlator.clone(),
            sink: queue.clone(),
            metrics: metrics.clone(),
            pressure: Arc::default(),
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
            transparent,
            redirected,
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

/// The listener that was passed for a door.
fn passed(activated: &mut Activated, door: &'static str) -> Result<Option<Listener>, StartError> {
    let listener = activated.listener(door).transpose();
    listener.map_err(|error| StartError::Activated(door, error))
}

/// The listener that was passed for a door, or one of our own.
async fn tcp(
    activated: &mut Activated,
    door: &'static str,
    address: &Address,
) -> Result<Listener, StartError> {
    match passed(activated, door)? {
        Some(listener) => Ok(listener),
        None => Ok(listener::bind_tcp(address).await?),
    }
}

impl Sidecar {
    /// Where it will serve.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Serves, and watches the config file.
    pub fn start(self) -> Running {
        let Sidecar {
            hop,
            inbound,
            outbound,
            transparent,
            redirected,
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
        let memory = Memory {
            pressure: hop.pressure.clone(),
            pools: [hop.app_pool.clone(), hop.service_pool.clone()],
            queue: queue.clone(),
            table: hop.table.clone(),
            metrics: hop.metrics.clone(),
        };
        tokio::spawn(memory.watch(background.clone()));
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
            redirected: redirected.clone().filter(|_| direction == "transparent"),
            websocket: direction == "inbound",
            http2: matches!(direction, "inbound" | "outbound" | "transparent"),
            heads: heads.clone(),
            // Probes and metrics are answered whatever happens.
            pressure: match direction {
                "status" | "admin" => Arc::default(),
                _ => hop.pressure.clone(),
            },
            ..ServeOptions::new(direction, hop.metrics.clone())
        };
        let side = |direction| Side::new(hop.clone(), direction);
        let desk = |door| Desk::new(door, state.clone(), hop.metrics.clone());
        let inbound = Serving::start(inbound, options("inbound"), side(Direction::Inbound));
        let outbound = Serving::start(outbound, options("outbound"), side(Direction::Outbound));
        let transparent = transparent.into_iter().map(|listener| {
            let side = side(Direction::Outbound);
            Serving::start(listener, options("transparent"), side)
        });
        let transparent = transparent.collect();
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
            transparent,
            desks,
            background,
        }
    }
}
