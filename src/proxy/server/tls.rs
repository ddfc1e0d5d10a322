//! TLS with a client (RFC 8446, RFC 5246): the handshake and its deadline, what was agreed on, who the client is.
//!
//! What a client without ALPN (RFC 7301) speaks is HTTP/1.1. No early data, no server push, one certificate whatever
//! name was asked for.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio_rustls::{TlsAcceptor, TlsStream};

use super::last_word::last_word;
use super::{Connection, ServeLimits, ServeOptions};
use crate::proxy::sniff::{Rewound, Spoken};
use crate::proxy::socket::Socket;
use crate::tls::{Identity, Server};

/// TLS for the clients of a listener.
#[derive(Debug)]
pub struct ServeTls {
    /// Certificate, key, and whose certificates are asked for.
    pub server: Server,
    /// Whether clients may also come without.
    pub plaintext: bool,
}

/// What TLS knows of a client's connection.
#[derive(Clone, Debug)]
pub struct Session {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// Who the client is, where it showed a certificate that was found good.
    pub client: Option<Identity>,
}

impl Connection {
    /// `https` where the client came by TLS, else `http`.
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// Who the client is by its certificate.
    pub fn identity(&self) -> Option<&Identity> {
        self.tls.as_ref()?.client.as_ref()
    }
}

/// What a client that came without TLS is told.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    proxy-status: hopspan; error=http_request_error\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 36\r\n\r\n\
    hopspan: this port speaks TLS only.\n";

/// The handshake. Gives what is spoken now, and the socket to speak it on; `None` where there was no agreement, which
/// is counted.
pub(super) async fn accept(
    socket: Rewound<Socket>,
    tls: &ServeTls,
    limits: &ServeLimits,
    options: &ServeOptions,
) -> Option<(Spoken, Rewound<Socket>, Session)> {
    let accepting = TlsAcceptor::from(Arc::clone(tls.server.config())).accept(socket);
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(limits.handshake_timeout, accepting) => accepted,
        () = options.cut.cancelled() => return None,
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(error = %error, "no TLS with a client");
            options.count(match error.kind() {
                ErrorKind::OutOfMemory => "memory",
                _ => "tls_handshake",
            });
            return None;
        }
        Err(_) => {
            options.count("slow_handshake");
            return None;
        }
    };
    let (_, agreed) = stream.get_ref();
    let spoken = match agreed.alpn_protocol() {
        Some(b"h2") => Spoken::Http2,
        _ => Spoken::Http1,
    };
    let session = Session {
        version: match agreed.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        },
        client: agreed
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(Identity::of),
    };
    let socket = Socket::Tls(Box::new(TlsStream::Server(stream)));
    Some((spoken, Rewound::new(Vec::new(), socket), session))
}

/// Tells a client that came without TLS.
pub(super) async fn refuse(mut socket: Rewound<Socket>) {
    last_word(&mut socket, SPEAK_TLS).await;
}
