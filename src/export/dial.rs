//! Connections to the collector: TCP to each address of a name in turn, then TLS where the endpoint asks for it.
//!
//! Roots are the given certificate file, else the system's, else webpki-roots (images without a CA bundle). The server's
//! name is always checked. No proxy variable is read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ExportError;
use super::endpoint::Endpoint;
use crate::config::{Export, Protocol};
use crate::tls;

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
    let identity = match (&settings.client_certificate, &settings.client_key) {
        (Some(chain), Some(key)) => Some((&**chain, &**key)),
        (None, None) => None,
        (Some(path), None) | (None, Some(path)) => {
            return Err(ExportError::Tls(format!(
                "{}: a client certificate needs its key, and a key its certificate",
                path.display()
            )));
        }
    };
    let mut config = tls::client::config(settings.certificate.as_deref(), identity)
        .map_err(|unusable| ExportError::Tls(unusable.to_string()))?;
    config.alpn_protocols = vec![match settings.protocol {
        Protocol::HttpProtobuf => b"http/1.1".to_vec(),
        Protocol::Grpc => b"h2".to_vec(),
    }];
    Ok(config)
}
