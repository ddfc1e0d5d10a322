//! The side that connects: whom to believe, and who we are.
//!
//! Roots are those of the given file, else the system's, else those of webpki-roots (images without a CA bundle). The
//! server's name is always checked; there is no way to switch that off.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::{Unusable, pem, provider};

/// The roots of this machine. Read once: a hundred and more certificates.
static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut store = RootCertStore::empty();
    // Single certificates that cannot be read are the system's business; none at all is ours.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(store)
});

/// A client's side, without protocols. `ca`: roots instead of the system's. `identity`: certificate and key to show.
///
/// # Errors
/// A file cannot be read, or is not what it should be.
pub fn config(
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<ClientConfig, Unusable> {
    let roots = match ca {
        Some(path) => Arc::new(pem::roots(path, "ca")?),
        None => SYSTEM.clone(),
    };
    let wrong = |error: rustls::Error| Unusable {
        setting: "key",
        why: format!("certificate and key cannot be used: {error}"),
        help: "write a certificate and the private key that it was made for".to_owned(),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_root_certificates(roots);
    match identity {
        Some((cert, key)) => builder
            .with_client_auth_cert(
                pem::certificates(cert, "cert")?,
                pem::private_key(key, "key")?,
            )
            .map_err(wrong),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Which protocols are offered (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
    /// Both; the server chooses.
    Either,
}

/// A client's side, for each offer.
#[derive(Clone, Debug)]
pub struct Client {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
}

impl Client {
    /// As [`config`].
    ///
    /// # Errors
    /// As [`config`].
    pub fn load(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<Client, Unusable> {
        let base = config(ca, identity)?;
        let offering = |protocols: &[&[u8]]| {
            let mut config = base.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Client {
            http1: offering(&[b"http/1.1"]),
            http2: offering(&[b"h2"]),
            either: offering(&[b"h2", b"http/1.1"]),
        })
    }

    /// For rustls.
    pub fn config(&self, offer: Offer) -> &Arc<ClientConfig> {
        match offer {
            Offer::Http1 => &self.http1,
            Offer::Http2 => &self.http2,
            Offer::Either => &self.either,
        }
    }
}

/// A server that TLS is spoken with.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Our side.
    pub client: Client,
    /// The name that its certificate must have.
    pub name: ServerName<'static>,
}

impl Peer {
    /// `None` where the name is none.
    pub fn new(client: Client, name: &str) -> Option<Peer> {
        let name = ServerName::try_from(name.to_owned()).ok()?;
        Some(Peer { client, name })
    }
}
