//! A socket with something to drop once it is closed. With an upgrade the socket outlives the task that drove HTTP on
//! it, so this hangs on the socket and not on the task.
//!
//! It also keeps a write that the upstream refuses from hiding the upstream's answer: a server that answers before it
//! has read the request (413, 401) closes with bytes unread, the next write fails, and hyper would give up with the
//! answer still waiting to be read. Here such a write seems to succeed, reading goes on, and the failure is told when
//! there is nothing more to read. And it reads no more at once than what is held of all responses leaves room for.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Opened;
use super::fault::alert_of;
use crate::proxy::held::{Flow, Held};
use crate::telemetry::metrics::Metrics;

/// `S`, then `G`: dropped in this order.
pub(crate) struct Guarded<S, G> {
    socket: S,
    /// How a write failed that seemed to succeed.
    refused: Option<io::ErrorKind>,
    /// What is held of responses; and of the one that comes here.
    held: Held,
    flow: Arc<Flow>,
    /// Of TLS: who is told of the alert that ends it.
    tls: Option<Arc<Opened>>,
    _guard: G,
}

impl<S, G> Guarded<S, G> {
    pub(crate) fn new(
        socket: S,
        held: Held,
        flow: Arc<Flow>,
        tls: Option<Arc<Opened>>,
        guard: G,
    ) -> Guarded<S, G> {
        Guarded {
            socket,
            refused: None,
            held,
            flow,
            tls,
            _guard: guard,
        }
    }

    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    /// What a write of `len` bytes that came to `polled` is to look like.
    fn written(&mut self, len: usize, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error)) if peer_left(error.kind()) => {
                self.refused = Some(error.kind());
                Poll::Ready(Ok(len))
            }
            Poll::Pending => {
                self.flow.gate.flush_first();
                Poll::Pending
            }
            polled => polled,
        }
    }
}

/// Whether an error of a write says that the peer reads no more, and nothing of what it may have written.
fn peer_left(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
    )
}

impl<S: AsyncRead + Unpin, G: Unpin> AsyncRead for Guarded<S, G> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.held.is_scarce_for(&this.flow) {
            ready!(this.flow.poll_taken(cx));
        }
        let most = this.held.at_once(&this.flow);
        let read = ready!(this.held.poll_read(&mut this.socket, most, cx, buf));
        if let (Some(tls), Err(error)) = (&this.tls, &read)
            && let Some(alert) = alert_of(error)
        {
            let _ = tls.alert.set(alert);
        }
        read?;
        match this.refused {
            Some(kind) if buf.filled().len() == before => Poll::Ready(Err(kind.into())),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Unpin, G: Unpin> AsyncWrite for Guarded<S, G> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.refused.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.written(buf.len(), polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let len = bufs.iter().map(|buf| buf.len()).sum();
        if this.refused.is_some() {
            return Poll::Ready(Ok(len));
        }
        let polled = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.written(len, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        this.flow.gate.flushed(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// Counts an open upstream connection.
pub(crate) struct OpenGauge(Arc<Metrics>);

impl OpenGauge {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> OpenGauge {
        metrics.upstream_connections_opened.inc();
        metrics.upstream_connections_open.inc();
        OpenGauge(metrics.clone())
    }
}

impl Drop for OpenGauge {
    fn drop(&mut self) {
        self.0.upstream_connections_open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// A peer that sends `answer` and closes with bytes unread, so that its kernel sends RST.
    async fn refusing(answer: &'static str) -> Guarded<TcpStream, ()> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap());
        let (socket, accepted) = tokio::join!(socket, listener.accept());
        let (mut peer, _) = accepted.unwrap();
        let mut socket = Guarded::new(socket.unwrap(), Held::default(), Arc::default(), None, ());
        socket.write_all(&[b'x'; 1000]).await.unwrap();
        peer.readable().await.unwrap();
        peer.write_all(answer.as_bytes()).await.unwrap();
        drop(peer);
        // Written until the RST has come: each of these seems to succeed.
        while socket.refused.is_none() {
            socket.write_all(b"more").await.unwrap();
            tokio::task::yield_now().await;
        }
        socket
    }

    #[tokio::test]
    async fn an_answer_is_read_although_the_request_is_refused() {
        let mut socket = refusing("HTTP/1.1 413 Too Large\r\n").await;
        let mut answer = [0; 24];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413 Too Large\r\n");
        socket.write_all(b"still more").await.unwrap();
        assert!(peer_left(
            socket.read(&mut answer).await.unwrap_err().kind()
        ));
    }

    #[tokio::test]
    async fn without_an_answer_the_refusal_is_told() {
        let mut socket = refusing("").await;
        assert!(peer_left(
            socket.read(&mut [0; 8]).await.unwrap_err().kind()
        ));
    }
}
