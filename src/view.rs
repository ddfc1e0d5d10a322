//! `hopspan view`: an OTLP receiver with the traces in memory, and `hopspan trace`, which draws them in a terminal.
//!
//! Three doors, all plain HTTP: OTLP/gRPC ([`ViewOptions::grpc`]), OTLP/HTTP ([`ViewOptions::http`]), and the API
//! ([`ViewOptions::page`], `api`). [`store`] keeps spans, [`waterfall`] turns those of one trace into rows, [`verdict`]
//! says in a sentence where it broke, [`terminal`] draws rows, [`client`] is what asks a running viewer.
//! Logs and metrics are not received, nothing is written to disk, and there is no login: the API binds loopback only.

mod api;
pub mod client;
mod decode;
mod document;
mod doors;
mod fault;
#[cfg(test)]
mod fixture;
mod listen;
mod receiver;
pub mod span;
pub mod store;
pub mod summary;
pub mod terminal;
pub mod tree;
pub mod units;
pub mod verdict;
pub mod waterfall;
mod weight;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Address;
use doors::Doors;
pub use listen::{BindError, Door};
use store::{Limits, Store};

/// How long open requests may finish after the stop.
const DRAIN: Duration = Duration::from_secs(2);

/// Where a viewer listens and how much it keeps.
#[derive(Clone, Debug)]
pub struct ViewOptions {
    /// OTLP over gRPC. TCP only; port 0 takes a free one.
    pub grpc: Address,
    /// OTLP over HTTP: `POST /v1/traces`, protobuf or JSON.
    pub http: Address,
    /// The API (and later the page). Loopback only: it has no login.
    pub page: Address,
    /// Memory for spans, in bytes, about.
    pub max_bytes: usize,
    /// Traces kept.
    pub max_traces: usize,
    /// Bytes of one export request, compressed or not.
    pub max_message_bytes: usize,
}

impl Default for ViewOptions {
    fn default() -> ViewOptions {
        ViewOptions {
            grpc: Address::tcp("127.0.0.1", 4317),
            http: Address::tcp("127.0.0.1", 4318),
            page: Address::tcp("127.0.0.1", 4319),
            max_bytes: 64 << 20,
            max_traces: 20_000,
            max_message_bytes: 16 << 20,
        }
    }
}

impl ViewOptions {
    /// The defaults on free ports of 127.0.0.1 (tests).
    pub fn on_free_ports() -> ViewOptions {
        let any = Address::tcp("127.0.0.1", 0);
        ViewOptions {
            grpc: any.clone(),
            http: any.clone(),
            page: any,
            ..ViewOptions::default()
        }
    }
}

/// Where a viewer listens.
#[derive(Clone, Copy, Debug)]
pub struct ViewAddresses {
    /// OTLP over gRPC.
    pub grpc: SocketAddr,
    /// OTLP over HTTP.
    pub http: SocketAddr,
    /// The API.
    pub page: SocketAddr,
}

/// A viewer that is bound and does not serve yet.
pub struct Viewer {
    listeners: [(Door, TcpListener); 3],
    addresses: ViewAddresses,
    doors: Arc<Doors>,
}

impl Viewer {
    /// Binds the three listeners.
    ///
    /// # Errors
    /// A port is taken or not allowed, an address is a unix socket, or the page is not on loopback. The message says
    /// which and what to do.
    pub async fn bind(options: ViewOptions) -> Result<Viewer, BindError> {
        listen::loopback_only(&options.page)?;
        let (grpc_listener, grpc) = listen::bind(Door::Grpc, &options.grpc).await?;
        let (http_listener, http) = listen::bind(Door::Http, &options.http).await?;
        let (page_listener, page) = listen::bind(Door::Page, &options.page).await?;
        let addresses = ViewAddresses { grpc, http, page };
        let store = Store::new(Limits {
            bytes: options.max_bytes,
            traces: options.max_traces,
        });
        Ok(Viewer {
            listeners: [
                (Door::Grpc, grpc_listener),
                (Door::Http, http_listener),
                (Door::Page, page_listener),
            ],
            addresses,
            doors: Arc::new(Doors::new(store, addresses, options.max_message_bytes)),
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> ViewAddresses {
        self.addresses
    }

    /// The traces, for a reader in the same process.
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(self.doors.store())
    }

    /// Serves until `stop`, then lets open requests finish for up to two seconds.
    pub async fn run(self, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        for (door, listener) in self.listeners {
            let doors = Arc::clone(&self.doors);
            tracker.spawn(doors::serve(
                door,
                listener,
                doors,
                stop.clone(),
                tracker.clone(),
            ));
        }
        tracker.close();
        stop.cancelled().await;
        // Whoever is still connected then is cut off: nothing is lost that was acknowledged.
        let _ = tokio::time::timeout(DRAIN, tracker.wait()).await;
    }
}
