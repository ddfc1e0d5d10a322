//! Connections to the collector: TCP to each address of a name in turn, then TLS where the endpoint asks for it.
//!
//! Roots are the given certificate file, else the system's, else webpki-roots (images without a CA bundle). The server's
//! name is always checked. No proxy variable is read.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ExportError;
use super::endpoint::Endpoint;
use crate::config::{Export, Protocol};

/// How long one address of several may take: the first may be one that swallows packets.
const PER_ADDRESS: Duration = Duration::from_secs(3);

/// A byte stream, plain or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to one endpoint.
#[derive(Clone)]
pub(super) struct Dialer {
    host: Arc<str>,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialer {
    /// Reads certificates now, so that a wrong file is an error at the start.
    pub(super) fn new(settings: &Export, endpoint: &Endpoint) -> Result<Dialer, ExportError> {
        let tls = if endpoint.tls {
            let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| {
                ExportError::Endpoint {
                    given: endpoint.shown(),
                    why: error.to_string(),
                }
            })?;
            Some((TlsConnector::from(Arc::new(client_config(settings)?)), name))
        } else {
            None
        };
        Ok(Dialer {
            host: Arc::from(&*endpoint.host),
            port: endpoint.port,
            tls,
        })
    }

    /// A new connection.
    pub(super) async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = self.tcp().await?;
        // A request is written at once; waiting for more only delays its end.
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), tcp).await?;
                Ok(Box::new(stream))
            }
        }
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let mut last = None;
        for address in tokio::net::lookup_host((&*self.host, self.port)).await? {
            match tokio::time::timeout(PER_ADDRESS, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
    }
}

fn client_config(settings: &Export) -> Result<ClientConfig, ExportError> {
    let setup = |error: rustls::Error| ExportError::Tls {
        path: "TLS".to_owned(),
        why: error.to_string(),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(roots(settings.certificate.as_deref())?);
    let mut config = match (&settings.client_certificate, &settings.client_key) {
        (Some(chain), Some(key)) => builder
            .with_client_auth_cert(certificates(chain)?, private_key(key)?)
            .map_err(setup)?,
        (None, None) => builder.with_no_client_auth(),
        (Some(path), None) | (None, Some(path)) => {
            return Err(ExportError::Tls {
                path: path.display().to_string(),
                why: "a client certificate needs its key, and a key its certificate".to_owned(),
            });
        }
    };
    config.alpn_protocols = vec![match settings.protocol {
        Protocol::HttpProtobuf => b"http/1.1".to_vec(),
        Protocol::Grpc => b"h2".to_vec(),
    }];
    Ok(config)
}

/// The process's provider, or the one hopspan was built with: `ClientConfig::builder()` panics where there are two.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    if let Some(installed) = rustls::crypto::CryptoProvider::get_default() {
        return installed.clone();
    }
    #[cfg(feature = "tls-ring")]
    return Arc::new(rustls::crypto::ring::default_provider());
    #[cfg(all(feature = "tls-aws-lc", not(feature = "tls-ring")))]
    return Arc::new(rustls::crypto::aws_lc_rs::default_provider());
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, ExportError> {
    let mut store = RootCertStore::empty();
    if let Some(path) = file {
        let (added, _) = store.add_parsable_certificates(certificates(path)?);
        if added == 0 {
            return Err(ExportError::Tls {
                path: path.display().to_string(),
                why: "no certificate in it can be a root".to_owned(),
            });
        }
        return Ok(store);
    }
    // Single certificates that cannot be read are the system's business; none at all is ours.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ExportError> {
    let wrong = |why: String| ExportError::Tls {
        path: path.display().to_string(),
        why,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong(error.to_string()))?
        .collect();
    match found {
        Ok(list) if list.is_empty() => Err(wrong("there is no PEM certificate in it".to_owned())),
        Ok(list) => Ok(list),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ExportError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| ExportError::Tls {
        path: path.display().to_string(),
        why: error.to_string(),
    })
}
