//! A connected socket, whatever it is: TCP, TCP with receive times, unix, TLS. One type, so that what is built on sockets is
//! compiled once.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::ahead::Ahead;
use super::reset;
use super::sniff::Rewound;
use super::stamped::{self, Received, Stamped};

/// Has the kernel find out a peer that is gone without a word, two minutes after it was last heard of. A listening socket
/// passes it on to those that it accepts.
pub(super) fn keep_alive(socket: &SockRef<'_>) -> io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    socket.set_tcp_keepalive(&probes)
}

/// A connected socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    /// A client's.
    Client(Ahead),
    Stamped(Stamped),
    Unix(UnixStream),
    /// A unix socket of which what is read and written is counted.
    Counted(UnixStream, Arc<Received>),
    /// TLS over one of the others, from either side.
    Tls(Box<TlsStream<Rewound<Socket>>>),
}

impl Socket {
    /// The number of a unix socket, which no other ever has: SO_COOKIE of socket(7).
    pub(crate) fn unix_cookie(&self) -> Option<u64> {
        match self {
            Socket::Unix(stream) | Socket::Counted(stream, _) => {
                SockRef::from(stream).cookie().ok()
            }
            _ => None,
        }
    }

    /// The number of a unix socket's inode, by which the kernel tells of it.
    pub(crate) fn unix_inode(&self) -> Option<u64> {
        match self {
            Socket::Unix(stream) | Socket::Counted(stream, _) => {
                let socket = stream.as_fd().try_clone_to_owned().ok()?;
                Some(File::from(socket).metadata().ok()?.ino())
            }
            _ => None,
        }
    }

    /// With counts of what is read and written, and receive times where the kernel gives them.
    pub(crate) fn stamped(self) -> (Socket, Option<Arc<Received>>) {
        match self {
            Socket::Tcp(stream) if stamped::enable(&stream).is_ok() => {
                let received = Arc::new(Received::default());
                let stream = Stamped::new(stream, received.clone());
                (Socket::Stamped(stream), Some(received))
            }
            Socket::Unix(stream) => {
                let received = Arc::new(Received::default());
                (Socket::Counted(stream, received.clone()), Some(received))
            }
            other => (other, None),
        }
    }
}

impl Socket {
    /// Makes the close that follows a RST: what was sent is not all there is. A unix socket has none. See [`reset`].
    pub(crate) fn reset(&self) {
        let stream = match self {
            Socket::Tcp(stream) => stream,
            Socket::Client(stream) => stream.stream(),
            Socket::Stamped(stream) => stream.stream(),
            Socket::Tls(stream) => return stream.get_ref().0.get_ref().reset(),
            Socket::Unix(_) | Socket::Counted(..) => return,
        };
        reset::reset(stream);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Client(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Stamped(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Counted(stream, received) => {
                let before = buf.filled().len();
                let read = Pin::new(stream).poll_read(cx, buf);
                received.count(buf.filled().len().saturating_sub(before));
                read
            }
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Client(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Stamped(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Counted(stream, received) => {
                received.sent(Pin::new(stream).poll_write(cx, buf))
            }
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Client(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Stamped(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Counted(stream, received) => {
                received.sent(Pin::new(stream).poll_write_vectored(cx, bufs))
            }
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            Socket::Client(stream) => stream.is_write_vectored(),
            Socket::Stamped(stream) => stream.is_write_vectored(),
            Socket::Unix(stream) | Socket::Counted(stream, _) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Client(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Stamped(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) | Socket::Counted(stream, _) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Client(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Stamped(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) | Socket::Counted(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
