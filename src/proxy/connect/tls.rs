//! TLS with an upstream: the handshake within a limit, what was agreed on, and what went wrong in the words of RFC 9209.

use std::io;
use std::time::Duration;

use tokio_rustls::{TlsConnector, TlsStream};

use super::ConnectError;
use crate::proxy::sniff::Rewound;
use crate::proxy::socket::Socket;
use crate::tls::{Offer, Peer};

/// What went wrong in a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// Its certificate is not to be believed: an unknown root, another name, expired.
    Certificate,
    /// It said that it does not like ours, or what we offered.
    Alert,
    /// It does not speak TLS, or not as we do.
    Protocol,
}

/// Speaks TLS on a socket. Gives the stream, and whether HTTP/2 was agreed on.
pub(crate) async fn secure(
    socket: Socket,
    peer: &Peer,
    offer: Offer,
    limit: Duration,
) -> Result<(Socket, bool), ConnectError> {
    let connector = TlsConnector::from(peer.client.config(offer).clone());
    let plain = Rewound::new(Vec::new(), socket);
    let agreeing = connector.connect(peer.name.clone(), plain);
    let stream = match tokio::time::timeout(limit, agreeing).await {
        Ok(agreed) => agreed.map_err(|error| failed(&error))?,
        Err(_) => return Err(ConnectError::Timeout(limit)),
    };
    let agreed = stream.get_ref().1.alpn_protocol();
    // Without ALPN, or with one that ignores it, what was asked for alone is spoken.
    let http2 = match offer {
        Offer::Http1 => false,
        Offer::Http2 => true,
        Offer::Either => agreed == Some(b"h2"),
    };
    Ok((Socket::Tls(Box::new(TlsStream::Client(stream))), http2))
}

fn failed(error: &io::Error) -> ConnectError {
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let fault = match cause {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            TlsFault::Certificate
        }
        Some(rustls::Error::AlertReceived(_)) => TlsFault::Alert,
        _ => TlsFault::Protocol,
    };
    ConnectError::Tls(fault, error.to_string())
}
