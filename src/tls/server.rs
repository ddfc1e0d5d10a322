//! The side that clients connect to: certificate, key, and whose certificates are asked for.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::{Unusable, identity, pem, provider};

/// What a server is made from.
#[derive(Clone, Copy, Debug)]
pub struct ServerFiles<'a> {
    /// The certificate, and those between it and its root.
    pub cert: &'a Path,
    /// Its private key.
    pub key: &'a Path,
    /// Roots of clients' certificates, and whether a client must have one.
    pub clients: Option<(&'a Path, bool)>,
}

/// A certificate in use. A clone shares it.
#[derive(Clone, Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    expires: i64,
}

impl Server {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, is not what it should be, or key and certificate do not belong together.
    pub fn load(files: ServerFiles<'_>) -> Result<Server, Unusable> {
        let chain = pem::certificates(files.cert, "cert")?;
        let key = pem::private_key(files.key, "key")?;
        let expires = chain.first().and_then(|leaf| identity::expiry(leaf));
        let wrong = |setting, error: rustls::Error| Unusable {
            setting,
            why: format!("{} cannot be used: {error}", files.cert.display()),
            help: "write a certificate and the private key that it was made for".to_owned(),
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("cert", error))?;
        let builder = match files.clients {
            Some((roots, required)) => {
                builder.with_client_cert_verifier(verifier(roots, required)?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| wrong("key", error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Server {
            config: Arc::new(config),
            expires: expires.unwrap_or_default(),
        })
    }

    /// For rustls.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// When the certificate expires, Unix time in seconds.
    pub fn expires(&self) -> i64 {
        self.expires
    }
}

fn verifier(roots: &Path, required: bool) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let store = Arc::new(pem::roots(roots, "client_ca")?);
    let builder = WebPkiClientVerifier::builder_with_provider(store, provider());
    let builder = match required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| Unusable {
        setting: "client_ca",
        why: format!("{} cannot be used: {error}", roots.display()),
        help: "write a PEM file with certificates of authorities in it".to_owned(),
    })
}
