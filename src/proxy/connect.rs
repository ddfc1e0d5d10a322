//! Connecting to an upstream: resolve, refuse what must not be reached, try each address, say what went wrong in the
//! words of RFC 9209 section 2.3.
//!
//! The check of an address comes after resolution and before a byte is sent, on the very address connected to, so a
//! name that changes between check and connect gains nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::dialled::Dialled;
use super::resolve::{ResolveError, ResolveLimits, Resolver};
use super::socket::{Socket, keep_alive};
use crate::config::Address;

mod tls;

pub use tls::TlsFault;
pub(crate) use tls::secure;

/// How long an address has before the next one is tried beside it (RFC 8305 section 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// What may be done with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Connect.
    Allow,
    /// It is one of our own listeners.
    Loop,
    /// Policy forbids it, for this reason.
    Prohibited(&'static str),
}

/// Judges each address that an upstream was resolved to, before it is connected to and before a connection is reused.
pub type Check = Arc<dyn Fn(&Address, SocketAddr) -> Verdict + Send + Sync>;

/// Why there is no connection. No byte of a request has been sent in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// There is no such unix socket.
    #[error("the socket does not exist")]
    NoSocket,
    /// It did not answer in time.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The resolver did not answer in time.
    #[error("the resolver does not answer")]
    DnsTimeout,
    /// The name has no address, or the resolver failed.
    #[error("cannot resolve the name: {0}")]
    Dns(Arc<str>),
    /// No route to it.
    #[error("no route to the address")]
    Unreachable,
    /// The address is our own listener.
    #[error("the address is hopspan's own listener")]
    Loop,
    /// Policy forbids the address.
    #[error("the address is not allowed: {0}")]
    Prohibited(&'static str),
    /// All connections allowed to this upstream are in use, and there was no turn for this one.
    #[error("all connections that it may have are in use")]
    Busy,
    /// There was a connection, and no agreement on TLS: what, and in rustls' words.
    #[error("no TLS: {1}")]
    Tls(TlsFault, String),
    /// Something local: no descriptors, no ports, permissions.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl ConnectError {
    /// The error's name in a `Proxy-Status` field (RFC 9209 section 2.3).
    pub fn proxy_status(&self) -> &'static str {
        match self {
            ConnectError::Refused => "connection_refused",
            ConnectError::NoSocket => "destination_unavailable",
            ConnectError::Timeout(_) => "connection_timeout",
            ConnectError::DnsTimeout => "dns_timeout",
            ConnectError::Dns(_) => "dns_error",
            ConnectError::Unreachable => "destination_ip_unroutable",
            ConnectError::Loop => "proxy_loop_detected",
            ConnectError::Prohibited(_) => "destination_ip_prohibited",
            ConnectError::Busy => "connection_limit_reached",
            ConnectError::Tls(TlsFault::Certificate, _) => "tls_certificate_error",
            ConnectError::Tls(TlsFault::Alert, _) => "tls_alert_received",
            ConnectError::Tls(TlsFault::Protocol, _) => "tls_protocol_error",
            ConnectError::Io(_) => "proxy_internal_error",
        }
    }

    fn from_io(error: io::Error, limit: Duration) -> ConnectError {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused,
            // The app has not created it (yet).
            io::ErrorKind::NotFound => ConnectError::NoSocket,
            // Reset while it was being set up: a listener that went away.
            io::ErrorKind::ConnectionReset => ConnectError::Refused,
            io::ErrorKind::TimedOut => ConnectError::Timeout(limit),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ConnectError::Unreachable
            }
            _ => ConnectError::Io(error),
        }
    }
}

impl From<ResolveError> for ConnectError {
    fn from(error: ResolveError) -> ConnectError {
        match error {
            ResolveError::Timeout => ConnectError::DnsTimeout,
            ResolveError::Failed(why) => ConnectError::Dns(why),
        }
    }
}

/// A connection just made, and how long that took.
pub(crate) struct Connected {
    pub(crate) socket: Socket,
    /// Both absent for unix sockets.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    /// Zero where there was nothing to resolve.
    pub(crate) dns: Duration,
    pub(crate) connect: Duration,
}

/// Makes connections.
pub(crate) struct Connector {
    resolver: Arc<Resolver>,
    check: Option<Check>,
    dialled: Option<Arc<Dialled>>,
}

impl Connector {
    /// `dialled`: is told of each TCP connection, before anybody can accept it.
    pub(crate) fn new(check: Option<Check>, dialled: Option<Arc<Dialled>>) -> Connector {
        Connector {
            resolver: Resolver::system(),
            check,
            dialled,
        }
    }

    /// Connects within `limit`, which resolution does not count against: that has its own.
    pub(crate) async fn connect(
        &self,
        address: &Address,
        resolve: &ResolveLimits,
        limit: Duration,
    ) -> Result<Connected, ConnectError> {
        let started = Instant::now();
        let (host, port) = match address {
            Address::Tcp { host, port } => (host, *port),
            Address::Unix(path) => {
                let stream = within(limit, UnixStream::connect(&**path)).await?;
                return Ok(Connected {
                    socket: Socket::Unix(stream),
                    local: None,
                    peer: None,
                    dns: Duration::ZERO,
                    connect: started.elapsed(),
                });
            }
        };
        if let Ok(literal) = host.parse::<IpAddr>() {
            return self
                .try_each(address, &[literal], port, Duration::ZERO, limit)
                .await;
        }
        let found = self.resolver.resolve(host, resolve).await?;
        self.try_each(address, &found, port, started.elapsed(), limit)
            .await
    }

    /// What may be done with an address that `called` was resolved to.
    pub(crate) fn judge(&self, called: &Address, resolved: SocketAddr) -> Verdict {
        self.check
            .as_ref()
            .map_or(Verdict::Allow, |check| check(called, resolved))
    }

    /// Whichever address takes the connection first.
    async fn try_each(
        &self,
        called: &Address,
        addresses: &[IpAddr],
        port: u16,
        dns: Duration,
        limit: Duration,
    ) -> Result<Connected, ConnectError> {
        let started = Instant::now();
        let (stream, address) = match *addresses {
            [only] => {
                let address = self.allowed(called, only, port)?;
                let dialling = dial(self.dialled.clone(), address);
                (within(limit, dialling).await?, address)
            }
            _ => {
                let racing = self.race(called, addresses, port, limit);
                let raced = tokio::time::timeout(limit, Box::pin(racing)).await;
                raced.unwrap_or(Err(ConnectError::Timeout(limit)))?
            }
        };
        // Not being able to set it costs latency only.
        let _ = stream.set_nodelay(true);
        // On this host nobody goes without a word.
        if !address.ip().is_loopback() {
            let _ = keep_alive(&SockRef::from(&stream));
        }
        Ok(Connected {
            local: stream.local_addr().ok(),
            peer: Some(address),
            socket: Socket::Tcp(stream),
            dns,
            connect: started.elapsed(),
        })
    }

    /// The address to connect to, unless it is one that must not be.
    fn allowed(
        &self,
        called: &Address,
        address: IpAddr,
        port: u16,
    ) -> Result<SocketAddr, ConnectError> {
        let address = SocketAddr::new(plain(address), port);
        match self.judge(called, address) {
            Verdict::Allow => Ok(address),
            Verdict::Loop => Err(ConnectError::Loop),
            Verdict::Prohibited(why) => Err(ConnectError::Prohibited(why)),
        }
    }

    /// Each address in turn (RFC 8305 section 5): the next one where one has failed, or not answered for a while, so that a
    /// black hole among them costs no more than that. Behind one that must not be called none is tried.
    async fn race(
        &self,
        called: &Address,
        addresses: &[IpAddr],
        port: u16,
        limit: Duration,
    ) -> Result<(TcpStream, SocketAddr), ConnectError> {
        let mut last = ConnectError::Dns(Arc::from("the name has no address"));
        let mut left = addresses.iter();
        // Dropped: those that are still at it are given up.
        let mut trying = JoinSet::new();
        loop {
            match left.next().map(|next| self.allowed(called, *next, port)) {
                Some(Ok(address)) => {
                    let dialling = dial(self.dialled.clone(), address);
                    trying.spawn(async move { (dialling.await, address) });
                }
                Some(Err(refused)) => (last, left) = (refused, [].iter()),
                None => {}
            }
            let more = left.len() > 0;
            tokio::select! {
                biased;
                Some(tried) = trying.join_next() => match tried {
                    Ok((Ok(stream), address)) => return Ok((stream, address)),
                    Ok((Err(error), _)) if !is_policy(&last) => {
                        last = ConnectError::from_io(error, limit);
                    }
                    _ => {}
                },
                () = tokio::time::sleep(HEAD_START), if more && !trying.is_empty() => {}
                else => if !more { return Err(last) },
            }
        }
    }
}

/// Connects; `dialled` is told before anybody can accept it.
async fn dial(dialled: Option<Arc<Dialled>>, address: SocketAddr) -> io::Result<TcpStream> {
    match dialled {
        Some(dialled) => dialled.connect(address).await,
        None => TcpStream::connect(address).await,
    }
}

/// Whether an error says more than that nobody answers: that no address was tried behind it.
fn is_policy(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Loop | ConnectError::Prohibited(_))
}

/// One spelling per destination, so that a check cannot be passed by: `::ffff:127.0.0.1` and `0.0.0.0` are 127.0.0.1.
fn plain(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

async fn within<T>(
    limit: Duration,
    connecting: impl Future<Output = io::Result<T>>,
) -> Result<T, ConnectError> {
    match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(|error| ConnectError::from_io(error, limit)),
        Err(_) => Err(ConnectError::Timeout(limit)),
    }
}

#[cfg(test)]
mod tests;
