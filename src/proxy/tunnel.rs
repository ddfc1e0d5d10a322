//! Bytes both ways after a switch of protocols (101, CONNECT): what either side means by them is not looked at.
//!
//! A side that ends its half is passed on as such, and the other half goes on. There is no idle limit: WebSockets may
//! be silent for hours. A stop ends the tunnel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio_util::sync::CancellationToken;

/// Held twice per tunnel for as long as it lasts, so not generous: most messages are small.
const BUFFER: usize = 8 * 1024;

/// How a tunnel ended.
#[derive(Debug, Default)]
pub struct TunnelEnd {
    /// Bytes from the client that the upstream has taken.
    pub sent: u64,
    /// Bytes from the upstream that the client has taken.
    pub received: u64,
    /// Why it broke; `None` where both sides ended, or the stop came.
    pub error: Option<io::Error>,
    /// Whether the stop ended it.
    pub stopped: bool,
}

/// Copies between `client` and `upstream` until both have ended, one has failed, or `stop`.
pub async fn run<A, B>(client: A, upstream: B, stop: &CancellationToken) -> TunnelEnd
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client, mut upstream) = (Counted::new(client), Counted::new(upstream));
    let copied = tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => Some(copied),
        () = stop.cancelled() => None,
    };
    TunnelEnd {
        sent: upstream.taken,
        received: client.taken,
        stopped: copied.is_none(),
        error: copied.and_then(Result::err),
    }
}

/// Waits until both connections have switched, then [`run`]s. To be spawned once the answer (101, or 2xx to CONNECT)
/// is on its way, since the client's side switches when that has been written.
pub async fn upgraded(
    client: OnUpgrade,
    upstream: OnUpgrade,
    stop: &CancellationToken,
) -> TunnelEnd {
    let both = async {
        let upstream = upstream.await?;
        Ok::<_, hyper::Error>((client.await?, upstream))
    };
    let switched: Option<Result<(Upgraded, Upgraded), hyper::Error>> = tokio::select! {
        switched = both => Some(switched),
        () = stop.cancelled() => None,
    };
    match switched {
        Some(Ok((client, upstream))) => {
            run(TokioIo::new(client), TokioIo::new(upstream), stop).await
        }
        Some(Err(error)) => TunnelEnd {
            error: Some(io::Error::other(error)),
            ..TunnelEnd::default()
        },
        None => TunnelEnd {
            stopped: true,
            ..TunnelEnd::default()
        },
    }
}

/// Counts what it takes, so that the count is known however the copy ends.
struct Counted<S> {
    inner: S,
    taken: u64,
}

impl<S> Counted<S> {
    fn new(inner: S) -> Counted<S> {
        Counted { inner, taken: 0 }
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.taken += *bytes as u64;
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_half_that_ends_leaves_the_other_going() {
        let (mut client, near) = duplex(64);
        let (far, mut upstream) = duplex(64);
        let tunnel = tokio::spawn(async move { run(near, far, &CancellationToken::new()).await });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        upstream.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"question", "and its end came through");
        upstream.write_all(b"the answer").await.unwrap();
        upstream.shutdown().await.unwrap();
        let mut answered = Vec::new();
        client.read_to_end(&mut answered).await.unwrap();
        assert_eq!(answered, b"the answer");
        let end = tunnel.await.unwrap();
        assert_eq!((end.sent, end.received), (8, 10));
        assert!(end.error.is_none() && !end.stopped);
    }

    #[tokio::test]
    async fn a_stop_ends_it_and_the_counts_are_kept() {
        let (mut client, near) = duplex(64);
        let (far, mut upstream) = duplex(64);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let tunnel = tokio::spawn(async move { run(near, far, &stopped).await });
        client.write_all(b"hi").await.unwrap();
        upstream.read_exact(&mut [0; 2]).await.unwrap();
        stop.cancel();
        let end = tunnel.await.unwrap();
        assert!(end.stopped);
        assert_eq!((end.sent, end.received), (2, 0));
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
