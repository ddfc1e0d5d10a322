//! The viewer's three ports, and errors to act on when one cannot be had.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;

use crate::config::Address;
use crate::proxy::listener;

/// One of the viewer's three ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP.
    Http,
    /// API and page.
    Page,
}

impl Door {
    /// What is offered there.
    pub fn what(self) -> &'static str {
        match self {
            Door::Grpc => "OTLP/gRPC",
            Door::Http => "OTLP/HTTP",
            Door::Page => "the viewer's page",
        }
    }

    /// The flag of `hopspan view` that moves it.
    pub fn flag(self) -> &'static str {
        match self {
            Door::Grpc => "--grpc",
            Door::Http => "--http",
            Door::Page => "--page",
        }
    }
}

/// Why a viewer could not start, in words to act on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused: most often someone else listens there.
    #[error("{source}; {}another address for {} is chosen with {} HOST:PORT",
        if source.is_in_use() { "stop that process, or leave it: " } else { "" }, door.what(), door.flag())]
    Listen {
        /// Which port.
        door: Door,
        /// The address and what is wrong with it; names who holds it.
        source: listener::BindError,
    },
    /// The page has no login, so it stays on this machine.
    #[error(
        "{address} can be reached from other machines, and the viewer has no login: use --page 127.0.0.1:{port}, and from afar `ssh -L {port}:127.0.0.1:{port} HOST` or `kubectl port-forward`"
    )]
    NotLoopback {
        /// The address asked for.
        address: Address,
        /// Its port.
        port: u16,
    },
}

/// Checks that the page stays on this machine.
pub(super) fn loopback_only(page: &Address) -> Result<(), BindError> {
    let Address::Tcp { host, port } = page else {
        return Ok(());
    };
    let loopback = &**host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if loopback {
        return Ok(());
    }
    Err(BindError::NotLoopback {
        address: page.clone(),
        port: *port,
    })
}

/// Binds one port.
pub(super) async fn bind(
    door: Door,
    address: &Address,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let bound = listener::bind_tcp(address).await;
    bound
        .and_then(listener::Listener::into_tcp)
        .map_err(|source| BindError::Listen { door, source })
}
