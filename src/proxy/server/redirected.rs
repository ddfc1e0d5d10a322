//! A connection that iptables or nftables redirected here: HTTP is served as any other, all else is handed over as bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Connection, Handler, ServeOptions, speak};
use crate::proxy::detect::{Detected, detect};
use crate::proxy::original_dst::Redirected;
use crate::proxy::sniff::{Rewound, Spoken};
use crate::proxy::socket::Socket;
use crate::proxy::timed::Clock;
use crate::telemetry::metrics::{ProtocolLabel, Reason};

/// A connection whose bytes are nobody's business here.
pub struct Opaque {
    socket: Rewound<Socket>,
    /// `tls`, or `tcp`.
    pub protocol: &'static str,
    /// Whom a TLS client means to reach (RFC 6066 section 3), where its first bytes say so.
    pub server_name: Option<String>,
}

impl Opaque {
    /// Its bytes, from the first one that the client said.
    pub(crate) fn stream(&mut self) -> &mut Rewound<Socket> {
        &mut self.socket
    }

    /// Closes with RST: what was under way is not whole.
    pub fn reset(self) {
        self.socket.get_ref().reset();
    }
}

/// Serves it until it closes. `guard` is dropped when the socket is closed.
#[allow(clippy::too_many_arguments)] // those of `serve_connection`, whose other half this is
pub(super) async fn serve<G, H>(
    mut socket: Socket,
    guard: G,
    clock: Arc<Clock>,
    mut connection: Box<Connection>,
    options: &ServeOptions,
    redirected: &Redirected,
    handler: H,
    stop: CancellationToken,
) where
    G: Send + Unpin + 'static,
    H: Handler,
{
    let (peer, local) = (connection.peer, connection.local);
    let original = match redirected.destination(&socket, peer, local) {
        Ok(original) => original,
        Err(reason) => return refuse(&socket, peer, reason, options),
    };
    connection.original = Some(original);
    let limits = options.limits.load_full();
    let (detected, ahead) = tokio::select! {
        heard = detect(&mut socket, limits.detect_timeout) => heard,
        () = options.cut.cancelled() => return,
    };
    let protocol = detected.as_str();
    let label = ProtocolLabel { protocol };
    options.metrics.redirected.get_or_create(&label).inc();
    let spoken = match detected {
        Detected::Http1 => Spoken::Http1,
        Detected::Http2 => Spoken::Http2,
        Detected::Tls | Detected::Other => {
            // In use from now on: nobody makes room by closing it.
            clock.request_begins(false);
            let opaque = Opaque {
                server_name: server_name(&ahead),
                socket: Rewound::new(ahead, socket),
                protocol,
            };
            handler.relay(opaque, Arc::from(connection)).await;
            return drop(guard);
        }
    };
    let rewound = Rewound::new(ahead, socket).counting(&clock);
    speak(
        spoken, rewound, guard, clock, connection, options, handler, stop,
    )
    .await;
}

/// A loop is a mistake in the rules that costs all calls: said aloud, but not once for each.
fn refuse(socket: &Socket, peer: SocketAddr, reason: &'static str, options: &ServeOptions) {
    let refused = &options.metrics.connections_refused;
    let count = refused.get_or_create(&Reason { reason }).inc();
    if count.is_multiple_of(1000) {
        tracing::warn!(
            %peer,
            reason,
            "refused a connection on outbound.transparent: connections come here by a redirect only, and the rules must \
             leave out hopspan's own (deploy/transparent)"
        );
    }
    socket.reset();
}

/// By the first bytes of a TLS client.
fn server_name(ahead: &[u8]) -> Option<String> {
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut &*ahead).ok()?;
    let accepted = acceptor.accept().ok()??;
    accepted.client_hello().server_name().map(str::to_owned)
}
