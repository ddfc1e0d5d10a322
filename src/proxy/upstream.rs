//! Where to connect and what to speak there: what connections are pooled by.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::config::Address;
use crate::tls::{Offer, Peer};

/// An upstream as it is connected to. A clone is a few counts.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where to connect.
    pub address: Address,
    /// TLS with it.
    pub tls: Option<Arc<Peer>>,
    /// Which HTTP. [`Offer::Either`] is for TLS, which agrees on one; without it that is HTTP/1.1.
    pub offer: Offer,
}

impl From<Address> for Upstream {
    fn from(address: Address) -> Upstream {
        Upstream {
            address,
            tls: None,
            offer: Offer::Http1,
        }
    }
}

impl Upstream {
    /// Whether connections to it may be ones that exchanges share.
    pub(super) fn may_be_shared(&self) -> bool {
        match self.offer {
            Offer::Http1 => false,
            Offer::Http2 => true,
            Offer::Either => self.tls.is_some(),
        }
    }

    /// The same one, by HTTP/1.1.
    pub(crate) fn by_http1(&self) -> Upstream {
        let offer = Offer::Http1;
        Upstream {
            offer,
            ..self.clone()
        }
    }

    fn peer(&self) -> Option<*const Peer> {
        self.tls.as_ref().map(Arc::as_ptr)
    }
}

/// The certificates are the same where they were read at once: connections made with others are not for it.
impl PartialEq for Upstream {
    fn eq(&self, other: &Upstream) -> bool {
        self.offer == other.offer && self.peer() == other.peer() && self.address == other.address
    }
}

impl Eq for Upstream {}

impl Hash for Upstream {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The rest seldom differs where this does not. Twice for each exchange: as little as tells them apart.
        match &self.address {
            Address::Tcp { host, port } => {
                state.write(host.as_bytes());
                state.write_u16(*port);
            }
            Address::Unix(path) => path.hash(state),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.address, f)
    }
}
