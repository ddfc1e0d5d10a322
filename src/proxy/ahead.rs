//! A client's TCP connection, for which the kernel takes no more ahead than the client has shown that it reads
//! (TCP_NOTSENT_LOWAT, tcp(7)).
//!
//! Without this, 4 MB are read from the app and copied for each client that asks for much and reads nothing: milliseconds
//! for a few bytes. What is on its way to the client does not count, so a long way slows nothing down; and who reads has
//! soon all of the kernel's buffer, which bridges the time that a busy machine takes to fill it again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that the kernel takes at first beyond those that it may send: one piece of a body.
pub(crate) const FIRST: u32 = 32 * 1024;
/// As much as Linux's buffers are by default.
const MOST: u32 = 4 * 1024 * 1024;
/// After so many times the limit was written, the limit is so many times higher.
const STEP: u32 = 8;
/// Who has taken so many bytes has read some: the usual buffer of a client takes half of it.
pub(crate) const READS: u32 = FIRST * STEP;

/// The connection.
pub(crate) struct Ahead {
    stream: TcpStream,
    limit: u32,
    written: u32,
}

impl Ahead {
    /// Of a listener that [`limit`]s: `stream` has inherited it.
    pub(crate) fn new(stream: TcpStream) -> Ahead {
        Ahead {
            stream,
            limit: FIRST,
            written: 0,
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn wrote(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(bytes)), true) = (&outcome, self.limit < MOST) {
            let bytes = u32::try_from(*bytes).unwrap_or(u32::MAX);
            self.written = self.written.saturating_add(bytes);
            if self.written / STEP >= self.limit {
                self.limit = (self.limit * STEP).min(MOST);
                // It stays as it was, which delays nobody but by a switch of tasks.
                let _ = limit(&SockRef::from(&self.stream), self.limit);
            }
        }
        outcome
    }
}

/// Limits what the kernel takes ahead. Connections inherit it from their listener.
pub(crate) fn limit(socket: &SockRef<'_>, bytes: u32) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(bytes)
}

impl AsyncRead for Ahead {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn who_reads_has_more_taken_ahead() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        limit(&SockRef::from(&listener), FIRST).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (mut client, mut ahead) = (client.unwrap(), Ahead::new(accepted.unwrap().0));
        let limited = |ahead: &Ahead| SockRef::from(&ahead.stream).tcp_notsent_lowat().unwrap();
        let piece = vec![b'x'; 1 << 16];
        for (pieces, expected) in [
            (0, FIRST),
            (3, FIRST),
            (1, READS),
            (27, READS),
            (1, READS * STEP),
            (223, READS * STEP),
            (1, MOST),
            (700, MOST),
        ] {
            for _ in 0..pieces {
                let mut read = vec![0; piece.len()];
                let (wrote, got) =
                    tokio::join!(ahead.write_all(&piece), client.read_exact(&mut read));
                wrote.unwrap();
                got.unwrap();
            }
            assert_eq!(limited(&ahead), expected);
        }
    }

    #[tokio::test]
    async fn who_reads_nothing_has_little_taken_ahead() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        limit(&SockRef::from(&listener), FIRST).unwrap();
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(1 << 16).unwrap();
        let client = client.connect(listener.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(client, listener.accept());
        let mut ahead = Ahead::new(accepted.unwrap().0);
        let piece = vec![b'x'; 1 << 16];
        let mut taken = 0;
        // Until nothing is taken, for as long as it takes to fill the client's buffer.
        let soon = Duration::from_millis(200);
        while let Ok(written) = tokio::time::timeout(soon, ahead.write(&piece)).await {
            taken += written.unwrap();
        }
        assert!((FIRST as usize..1 << 20).contains(&taken), "{taken}");
    }
}
