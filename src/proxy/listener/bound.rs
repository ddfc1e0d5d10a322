//! Listening sockets: TCP, unix, or one that was inherited; and why there is none, with who holds the port.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, SockRef, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::super::ahead;
pub use super::super::holder::Holder;
use super::super::socket::{Socket, keep_alive};
use super::super::stamped;
use super::unix::{self, SocketFile};
use crate::config::Address;

/// Connections the kernel keeps for us until they are accepted (capped by `net.core.somaxconn`).
pub(super) const BACKLOG: u32 = 4096;

/// The index of an interface that there is not: the kernel numbers them from 1.
const NO_INTERFACE: Option<NonZeroU32> = NonZeroU32::new(i32::MAX.cast_unsigned());

/// What a client on a unix socket counts as: a program on this host.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    address: Address,
    source: io::Error,
    holder: Option<Holder>,
}

impl BindError {
    fn new(address: &Address, source: io::Error) -> BindError {
        BindError {
            address: address.clone(),
            source,
            holder: None,
        }
    }

    /// The process that holds the port, where it could be found.
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    /// Whether the address is taken.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        let unix = matches!(self.address, Address::Unix(_));
        match (&self.holder, self.is_in_use()) {
            (Some(holder), _) => write!(f, "the port is taken by {holder}"),
            (None, true) if unix => write!(f, "another process listens there"),
            (None, true) => write!(f, "the port is taken by a process that is not visible here"),
            (None, false) => write!(f, "{}", self.source),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    /// Of a unix socket that we bound ourselves.
    file: Option<SocketFile>,
    /// Whether it is another process's as well.
    inherited: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, Arc<Path>),
}

/// A client's connection, just accepted.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// The socket's path, where it is a unix socket.
    pub(super) unix: Option<Arc<Path>>,
}

impl Listener {
    /// Where it listens: the port is the real one where 0 was asked for.
    pub fn address(&self) -> Address {
        match &self.kind {
            Kind::Tcp(_, local) => (*local).into(),
            Kind::Unix(_, path) => Address::Unix(path.clone()),
        }
    }

    /// Where it listens, by TCP.
    ///
    /// # Errors
    /// It is a unix socket.
    pub fn tcp_address(&self) -> Result<SocketAddr, BindError> {
        match &self.kind {
            Kind::Tcp(_, local) => Ok(*local),
            Kind::Unix(..) => Err(unsupported(&self.address())),
        }
    }

    /// The socket, for servers with an accept loop of their own (the viewer).
    ///
    /// # Errors
    /// It is a unix socket.
    pub fn into_tcp(self) -> Result<(TcpListener, SocketAddr), BindError> {
        match self.kind {
            Kind::Tcp(listener, local) => Ok((listener, local)),
            Kind::Unix(_, path) => Err(unsupported(&Address::Unix(path))),
        }
    }

    /// A listening stream socket that another process made: systemd, say. Its file, if it has one, is not ours.
    ///
    /// # Errors
    /// It is no such socket.
    pub fn inherited(socket: OwnedFd) -> io::Result<Listener> {
        let known = SockRef::from(&socket);
        if known.r#type()? != Type::STREAM || !known.is_listener()? {
            return Err(io::Error::other("it is no listening stream socket"));
        }
        known.set_nonblocking(true)?;
        known.set_cloexec(true)?;
        let (domain, local) = (known.domain()?, known.local_addr()?);
        if domain != Domain::UNIX {
            // Not being able to set it costs patience only.
            let _ = keep_alive(&known);
        }
        let kind = match (domain, local.as_socket(), local.as_pathname()) {
            (Domain::UNIX, _, Some(path)) => {
                let path = Arc::from(path);
                Kind::Unix(UnixListener::from_std(socket.into())?, path)
            }
            (_, Some(local), _) => Kind::Tcp(TcpListener::from_std(socket.into())?, local),
            _ => return Err(io::Error::other("its address family is not known here")),
        };
        Ok(Listener {
            kind,
            file: None,
            inherited: true,
        })
    }

    /// Asks for receive times; whether they are there now.
    pub(super) fn stamp(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(listener, _) => stamped::enable(listener),
            Kind::Unix(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Bounds what the kernel takes ahead of clients: see [`ahead`].
    pub(super) fn limit_ahead(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(listener, _) => ahead::limit(&SockRef::from(listener), ahead::FIRST),
            // Its buffer does not grow.
            Kind::Unix(..) => Ok(()),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.kind {
            Kind::Tcp(listener, listens) => {
                let (stream, peer) = listener.accept().await?;
                Ok(by_tcp(stream, peer, *listens))
            }
            Kind::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                Ok(by_unix(stream, path))
            }
        }
    }

    /// Who is in the kernel's queue; `None` where nobody is. [`Listener::accept`] may not have heard of them yet.
    pub(super) fn accept_queued(&self) -> Option<io::Result<Accepted>> {
        let accepted = match &self.kind {
            Kind::Tcp(listener, _) => SockRef::from(listener).accept(),
            Kind::Unix(listener, _) => SockRef::from(listener).accept(),
        };
        let (socket, peer) = match accepted {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => return Some(Err(error)),
            Ok(accepted) => accepted,
        };
        let taken = socket
            .set_nonblocking(true)
            .and_then(|()| match &self.kind {
                Kind::Tcp(_, listens) => {
                    let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
                    Ok(by_tcp(TcpStream::from_std(socket.into())?, peer, *listens))
                }
                Kind::Unix(_, path) => Ok(by_unix(UnixStream::from_std(socket.into())?, path)),
            });
        Some(taken)
    }

    /// From now on nobody finds it: new connections are refused, while those that the kernel has taken, or whose handshake
    /// it has begun, can still be accepted. Closing would reset them, and no call refuses the others only. But a TCP
    /// socket that is bound to an interface is found by what comes over that one only (socket(7)), so it is bound to one
    /// that there is not. Whether nobody finds it now: not where another process listens on the same socket, nor where
    /// the kernel does not permit that (unprivileged since Linux 5.7).
    pub(super) fn hide(&mut self) -> bool {
        match &self.kind {
            _ if self.inherited => false,
            Kind::Unix(..) => self.file.take().is_some(),
            // The option is the same for IPv6.
            Kind::Tcp(listener, _) => SockRef::from(listener)
                .bind_device_by_index_v4(NO_INTERFACE)
                .is_ok(),
        }
    }

    /// Nobody is accepted any more, at once, though a process that was forked a moment ago may still hold a copy: what the
    /// kernel accepted for that one, nobody would serve. A socket that was passed on stays as it is.
    pub(super) fn close(self) {
        if !self.inherited {
            // It fails only where it listens no more.
            let _ = match &self.kind {
                Kind::Tcp(listener, _) => SockRef::from(listener).shutdown(Shutdown::Both),
                Kind::Unix(listener, _) => SockRef::from(listener).shutdown(Shutdown::Both),
            };
        }
    }
}

fn by_tcp(stream: TcpStream, peer: SocketAddr, listens: SocketAddr) -> Accepted {
    // Not being able to set it costs latency only.
    let _ = stream.set_nodelay(true);
    Accepted {
        peer,
        // The listener's own address may be a wildcard; this is the one the client knows.
        local: stream.local_addr().unwrap_or(listens),
        unix: None,
        socket: Socket::Tcp(stream),
    }
}

fn by_unix(stream: UnixStream, path: &Arc<Path>) -> Accepted {
    Accepted {
        peer: HERE,
        local: HERE,
        unix: Some(path.clone()),
        socket: Socket::Unix(stream),
    }
}

fn unsupported(address: &Address) -> BindError {
    let why = "only clients may come by a unix socket, not here";
    BindError::new(address, io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Listens at an address. Names are resolved; the first address that can be bound is taken. `mode`: of the file of a unix
/// socket.
///
/// # Errors
/// The name does not resolve, the port is taken (then the holder is looked up), or it is not permitted.
pub async fn bind(address: &Address, mode: u32) -> Result<Listener, BindError> {
    let failed = |source: io::Error| BindError::new(address, source);
    let (host, port) = match address {
        Address::Tcp { host, port } => (host, *port),
        Address::Unix(path) => {
            let (listener, file) = unix::listen(path, mode).await.map_err(failed)?;
            return Ok(Listener {
                kind: Kind::Unix(listener, path.clone()),
                file: Some(file),
                inherited: false,
            });
        }
    };
    let candidates = tokio::net::lookup_host((&**host, port))
        .await
        .map_err(failed)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in candidates {
        match listen(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    let mut error = failed(last);
    if error.is_in_use() {
        // Reads many files of /proc: not on a worker of the runtime.
        error.holder = tokio::task::spawn_blocking(move || super::super::holder::of_port(port))
            .await
            .unwrap_or(None);
    }
    Err(error)
}

/// [`bind`]s a TCP address.
///
/// # Errors
/// As [`bind`]'s, and for a unix socket.
pub async fn bind_tcp(address: &Address) -> Result<Listener, BindError> {
    match address {
        Address::Tcp { .. } => bind(address, 0).await,
        Address::Unix(_) => Err(unsupported(address)),
    }
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restart must not wait for the TIME_WAITs of the one before.
    socket.set_reuseaddr(true)?;
    // Before it listens: who is accepted has it from here. Not being able to set it costs patience only.
    let _ = keep_alive(&SockRef::from(&socket));
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let local = listener.local_addr()?;
    Ok(Listener {
        kind: Kind::Tcp(listener, local),
        file: None,
        inherited: false,
    })
}

#[cfg(test)]
mod tests;
