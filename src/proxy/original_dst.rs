//! Where a redirected connection was to go before iptables or nftables turned it to us (REDIRECT): `SO_ORIGINAL_DST` and
//! `IP6T_SO_ORIGINAL_DST`, which ask the kernel's connection tracking.

use std::net::SocketAddr;
use std::sync::Arc;

use socket2::SockRef;

use super::dialled::{Dialled, canonical};
use super::socket::Socket;

/// What a listener for redirected connections must know, so as not to serve itself.
#[derive(Debug, Default)]
pub struct Redirected {
    /// The connections that hopspan makes.
    pub own: Arc<Dialled>,
    /// Where hopspan takes calls.
    pub listeners: Vec<SocketAddr>,
}

impl Redirected {
    /// Where the connection from `peer` to our end `local` was to go.
    ///
    /// # Errors
    /// `not_redirected`: somebody came here by the address of the listener. `loop`: the connection is hopspan's own, or was
    /// to go to hopspan.
    pub(super) fn destination(
        &self,
        socket: &Socket,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<SocketAddr, &'static str> {
        let destination = ask(socket, local).ok_or("not_redirected")?;
        if destination == canonical(local) {
            return Err("not_redirected");
        }
        let is_ours = |listener: &SocketAddr| {
            let any = listener.ip().is_unspecified() && destination.ip().is_loopback();
            listener.port() == destination.port()
                && (any || listener.ip().to_canonical() == destination.ip())
        };
        if self.listeners.iter().any(is_ours) || self.own.made(peer, destination) {
            return Err("loop");
        }
        Ok(destination)
    }
}

/// `None` where the kernel does not track the connection, or does not have netfilter.
fn ask(socket: &Socket, local: SocketAddr) -> Option<SocketAddr> {
    let Socket::Tcp(stream) = socket else {
        return None;
    };
    let socket = SockRef::from(stream);
    let told = match local.ip().to_canonical().is_ipv4() {
        true => socket.original_dst_v4(),
        false => socket.original_dst_v6(),
    };
    told.ok()?.as_socket().map(canonical)
}
