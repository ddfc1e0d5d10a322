//! The sidecar's parts from its configuration: pools, resource, limits.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use crate::config::{Address, Config};
use crate::correlation::server::Place;
use crate::correlation::{AppEnd, Correlator};
use crate::proxy::connect::{Check, Verdict};
use crate::proxy::dialled::Dialled;
use crate::proxy::listener::connections_that_fit;
use crate::proxy::local::is_ours;
use crate::proxy::pool::{Opened, Pool, PoolLimits, PoolOptions};
use crate::proxy::server::{ServeLimits, ServeTls};
use crate::routing::{Snapshot, Table};
use crate::telemetry::Metrics;

/// What a pool must not call, and by what it is known when it does.
pub(super) struct Own {
    pub(super) listeners: Vec<SocketAddr>,
    /// Where hopspan takes commands: whoever may call out through it may not give it any.
    pub(super) admin: Option<SocketAddr>,
    /// Where connections are redirected to hopspan.
    pub(super) dialled: Option<Arc<Dialled>>,
}

const ADMIN: &str = "it is hopspan's own admin listener, which is not called through hopspan";

/// Whether who connects to `address` gets to the listener at `listens`, which may be on every address of this host.
fn is_at(address: SocketAddr, listens: SocketAddr) -> bool {
    let (ip, listener) = (address.ip().to_canonical(), listens.ip().to_canonical());
    address.port() == listens.port()
        && (ip == listener || (listener.is_unspecified() && is_ours(address)))
}

/// Connections to the app: short idle time, and each is told to the correlator.
pub(super) fn app_pool(
    limits: &Arc<ArcSwap<PoolLimits>>,
    metrics: &Arc<Metrics>,
    correlator: &Arc<Correlator>,
    own: Own,
) -> Arc<Pool> {
    let correlator = correlator.clone();
    let on_open = move |opened: &Opened| -> Box<dyn Send> {
        let end = match (opened.local, opened.peer, &opened.upstream.address) {
            (Some(local), Some(app), _) => AppEnd::Tcp { local, app },
            (_, _, Address::Unix(path)) => match (opened.unix_cookie, opened.unix_inode) {
                (Some(cookie), Some(inode)) => AppEnd::Unix {
                    path: path.to_path_buf(),
                    cookie,
                    inode,
                },
                _ => return Box::new(()),
            },
            _ => return Box::new(()),
        };
        let received = opened.received.as_ref();
        let written = received.map(|received| received.written().clone());
        let connection = correlator.app_connection(opened.id, end, opened.began, written);
        if opened.multiplexed {
            correlator.multiplexed(opened.id);
        }
        Box::new(connection)
    };
    Pool::new(PoolOptions {
        on_open: Some(Arc::new(on_open)),
        check: Some(loop_check(own.listeners)),
        dialled: own.dialled,
        stamp: true,
        ..options(limits, metrics)
    })
}

/// Connections to services: only to where calls may go by the config in use.
pub(super) fn service_pool(
    limits: &Arc<ArcSwap<PoolLimits>>,
    metrics: &Arc<Metrics>,
    own: Own,
    table: &Arc<Table>,
) -> Arc<Pool> {
    let (table, is_loop) = (table.clone(), loop_check(own.listeners));
    let admin = own.admin;
    let check: Check = Arc::new(move |called: &Address, resolved: SocketAddr| {
        match is_loop(called, resolved) {
            Verdict::Allow => {}
            other => return other,
        }
        if admin.is_some_and(|admin| is_at(resolved, admin)) {
            return Verdict::Prohibited(ADMIN);
        }
        let snapshot = table.load();
        match snapshot.outbound.destinations.by_address(called, resolved) {
            Some(denial) => Verdict::Prohibited(denial.why()),
            None => Verdict::Allow,
        }
    });
    Pool::new(PoolOptions {
        check: Some(check),
        dialled: own.dialled,
        ..options(limits, metrics)
    })
}

fn options(limits: &Arc<ArcSwap<PoolLimits>>, metrics: &Arc<Metrics>) -> PoolOptions {
    PoolOptions {
        limits: limits.clone(),
        ..PoolOptions::new(PoolLimits::app(), metrics.clone())
    }
}

/// Everything that listeners and pools take from a snapshot, kept current by [`Limits::follow`].
#[derive(Clone)]
pub(super) struct Limits {
    pub(super) serve: Arc<ArcSwap<ServeLimits>>,
    pub(super) tls: Arc<ArcSwapOption<ServeTls>>,
    pub(super) balancers: Arc<ArcSwap<Vec<IpNet>>>,
    pub(super) app: Arc<ArcSwap<PoolLimits>>,
    pub(super) services: Arc<ArcSwap<PoolLimits>>,
}

impl Limits {
    pub(super) fn of(snapshot: &Snapshot, metrics: &Metrics) -> Limits {
        Limits {
            serve: Arc::new(ArcSwap::from_pointee(serve_limits(snapshot))),
            tls: Arc::new(ArcSwapOption::from(serve_tls(snapshot, metrics))),
            balancers: Arc::new(ArcSwap::from_pointee(
                snapshot.inbound.proxy_protocol.clone(),
            )),
            app: Arc::new(ArcSwap::from_pointee(app_limits(snapshot))),
            services: Arc::new(ArcSwap::from_pointee(service_limits(snapshot))),
        }
    }

    /// Takes each new snapshot's limits, until `stop`.
    pub(super) async fn follow(
        self,
        table: Arc<Table>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let mut generations = table.generations();
        loop {
            tokio::select! {
                changed = generations.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
            let snapshot = table.load();
            self.serve.store(Arc::new(serve_limits(&snapshot)));
            self.tls.store(serve_tls(&snapshot, &metrics));
            self.balancers
                .store(Arc::new(snapshot.inbound.proxy_protocol.clone()));
            self.app.store(Arc::new(app_limits(&snapshot)));
            self.services.store(Arc::new(service_limits(&snapshot)));
        }
    }
}

fn app_limits(snapshot: &Snapshot) -> PoolLimits {
    PoolLimits::of_app(&snapshot.timeouts, &snapshot.limits)
}

fn service_limits(snapshot: &Snapshot) -> PoolLimits {
    PoolLimits::of_services(&snapshot.timeouts, &snapshot.limits)
}

/// A request must not be sent to hopspan's own listeners. An unspecified listener is every local address on its port;
/// loopback stands for them here, others cannot be told apart from a second host without asking the kernel.
fn loop_check(own: Vec<SocketAddr>) -> Check {
    Arc::new(move |_: &Address, address: SocketAddr| {
        let is_own = own.iter().any(|listener| {
            let any = listener.ip().is_unspecified() && address.ip().to_canonical().is_loopback();
            listener.port() == address.port()
                && (any || listener.ip() == address.ip().to_canonical())
        });
        if is_own {
            Verdict::Loop
        } else {
            Verdict::Allow
        }
    })
}

/// Where the app listens, as the kernel would say it. Names are resolved, so it may block.
pub(super) fn app_places(apps: &[Address]) -> Vec<Place> {
    let mut places = Vec::new();
    for app in apps {
        match app {
            Address::Tcp { host, port } => {
                let found = (&**host, *port).to_socket_addrs();
                places.extend(found.into_iter().flatten().map(Place::Tcp));
            }
            Address::Unix(path) => places.push(Place::Unix(path.to_path_buf())),
        }
    }
    places
}

/// Resource attributes: the app's, since hopspan speaks for it.
pub(super) fn resource(config: &Config) -> Vec<(String, String)> {
    let service = config
        .service
        .clone()
        .unwrap_or_else(|| "unknown_service".to_owned());
    let mut resource = vec![("service.name".to_owned(), service)];
    resource.extend(
        config
            .resource
            .iter()
            .filter(|(name, _)| *name != "service.name")
            .map(|(n, v)| (n.clone(), v.clone())),
    );
    resource
}

/// TLS for clients under a snapshot.
fn serve_tls(snapshot: &Snapshot, metrics: &Metrics) -> Option<Arc<ServeTls>> {
    let tls = snapshot.inbound.tls.as_ref();
    let expires = tls.map_or(0, |tls| tls.server.expires());
    metrics.tls_certificate_expiry.set(expires);
    tls.map(|tls| {
        Arc::new(ServeTls {
            server: tls.server.clone(),
            plaintext: tls.plaintext,
        })
    })
}

/// The limits of client connections under a snapshot.
fn serve_limits(snapshot: &Snapshot) -> ServeLimits {
    ServeLimits {
        max_connections: connections(snapshot.limits.connections),
        ..ServeLimits::of(&snapshot.timeouts, &snapshot.limits)
    }
}

/// As many connections as are wanted, or as the descriptor limit allows.
fn connections(wanted: usize) -> usize {
    let fit = connections_that_fit(wanted);
    if fit < wanted {
        tracing::info!(
            wanted,
            connections = fit,
            "limits.connections is more than the descriptor limit allows (ulimit -n)"
        );
    }
    fit
}

#[cfg(test)]
mod tests;
