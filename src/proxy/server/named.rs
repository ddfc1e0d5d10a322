//! A client's connection in words: its addresses as fields and spans have them, written once and not for each request.

use std::sync::{Arc, OnceLock};

use super::Connection;
use crate::proxy::forwarding::forwarded::Caller;

/// What was asked for so far.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Named {
    peer: OnceLock<Arc<str>>,
    caller: OnceLock<Caller>,
}

impl Connection {
    /// The address of who connected: the load balancer's, where there is one.
    pub fn peer_text(&self) -> &Arc<str> {
        let peer = self.balancer.unwrap_or(self.peer).ip();
        let write = || Arc::from(peer.to_string());
        self.named.peer.get_or_init(write)
    }

    /// The client, for the fields that tell the app who called.
    pub fn caller(&self) -> &Caller {
        let write = || Caller::from(self.peer.ip());
        self.named.caller.get_or_init(write)
    }
}
