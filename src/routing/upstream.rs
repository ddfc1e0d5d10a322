//! Where requests go and what is spoken there, with the certificates read.

use std::fmt;
use std::sync::Arc;

use crate::config::{Address, App, ClientTls, Config, Fault, HttpProtocol};
use crate::tls::{Client, Peer};

/// One upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where to connect.
    pub address: Address,
    /// TLS with it.
    pub tls: Option<Arc<Peer>>,
    /// Which HTTP is spoken.
    pub protocol: HttpProtocol,
    /// What a URL there begins with: scheme and authority. `localhost` is that of a unix socket.
    pub origin: Arc<str>,
}

impl Upstream {
    /// Without TLS.
    pub fn plain(address: Address, protocol: HttpProtocol) -> Upstream {
        Upstream {
            origin: origin("http", &address),
            address,
            tls: None,
            protocol,
        }
    }

    /// With TLS.
    fn secure(mut self, peer: Peer) -> Upstream {
        self.origin = origin("https", &self.address);
        self.tls = Some(Arc::new(peer));
        self
    }
}

fn origin(scheme: &str, address: &Address) -> Arc<str> {
    Arc::from(match address {
        Address::Tcp { .. } => format!("{scheme}://{address}"),
        Address::Unix(_) => "http://localhost".to_owned(),
    })
}

/// The same certificates are the same only where they were read once.
impl PartialEq for Upstream {
    fn eq(&self, other: &Upstream) -> bool {
        let tls = match (&self.tls, &other.tls) {
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            (None, None) => true,
            _ => false,
        };
        tls && self.address == other.address && self.protocol == other.protocol
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https://" } else { "" };
        write!(f, "{scheme}{}", self.address)
    }
}

/// The apps of a route. `at`: the key they are written at.
pub(super) fn apps(
    config: &Config,
    at: &str,
    written: &[App],
    protocol: HttpProtocol,
    tls: Option<&Client>,
    faults: &mut Vec<Fault>,
) -> Vec<Upstream> {
    let mut upstreams = Vec::with_capacity(written.len());
    for app in written {
        let mut upstream = Upstream::plain(app.address.clone(), protocol);
        if let (true, Some(client)) = (app.tls, tls) {
            let settings = &config.inbound.app_tls;
            let named = peer(
                config,
                client,
                settings,
                &app.address,
                "inbound.app_tls",
                at,
            );
            match named {
                Ok(peer) => upstream = upstream.secure(peer),
                Err(fault) => faults.push(fault),
            }
        }
        upstreams.push(upstream);
    }
    upstreams
}

/// Our side of TLS by these settings. `at`: the key of the settings.
pub(super) fn client(config: &Config, settings: &ClientTls, at: &str) -> Result<Client, Fault> {
    let identity = settings.cert.as_deref().zip(settings.key.as_deref());
    Client::load(settings.ca.as_deref(), identity).map_err(|unusable| {
        let at = format!("{at}.{}", unusable.setting);
        config.fault(&at, unusable.why, unusable.help)
    })
}

/// A server by its name in the settings (written at `tls_at`), else by its host (written at `at`).
pub(super) fn peer(
    config: &Config,
    client: &Client,
    settings: &ClientTls,
    address: &Address,
    tls_at: &str,
    at: &str,
) -> Result<Peer, Fault> {
    let (name, at) = match &settings.server_name {
        Some(name) => (name.as_str(), format!("{tls_at}.server_name")),
        None => (address.host().unwrap_or_default(), at.to_owned()),
    };
    Peer::new(client.clone(), name).ok_or_else(|| {
        config.fault(
            &at,
            format!("`{name}` is no name that a certificate has"),
            "write a DNS name or an IP address",
        )
    })
}
