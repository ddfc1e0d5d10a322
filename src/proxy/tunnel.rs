//! Bytes both ways after a switch of protocols (101, CONNECT): what either side means by them is not looked at.
//!
//! A side that ends its half is passed on as such, and the other half goes on. WebSockets may be silent for long: the idle
//! limit is a setting of its own. A stop ends the tunnel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep_until};
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
    /// Why it broke; `None` where both sides ended, the stop came, or it was idle.
    pub error: Option<io::Error>,
    /// Whether it broke at the client's side.
    pub by_client: bool,
    /// Whether the stop ended it.
    pub stopped: bool,
    /// Where it was ended since no byte came either way: for how long.
    pub idle: Option<Duration>,
}

impl TunnelEnd {
    /// Before a byte could pass.
    pub fn broken(error: hyper::Error) -> TunnelEnd {
        TunnelEnd {
            error: Some(io::Error::other(error)),
            ..TunnelEnd::default()
        }
    }

    fn stopped() -> TunnelEnd {
        TunnelEnd {
            stopped: true,
            ..TunnelEnd::default()
        }
    }

    /// Whether a side that is told of a plain end would take what it has for all there is. TLS that is closed without a
    /// word is no such end: many clients do.
    pub fn is_cut(&self) -> bool {
        let error = self.error.as_ref();
        self.idle.is_some()
            || self.stopped
            || error.is_some_and(|it| it.kind() != io::ErrorKind::UnexpectedEof)
    }

    /// Whether the client went away as it is free to: closing a socket with bytes unread resets the connection, and those
    /// who speak TLS through a tunnel do so all the time.
    pub fn client_left(&self) -> bool {
        let error = self.error.as_ref().filter(|_| self.by_client);
        error.is_some_and(|it| it.kind() != io::ErrorKind::TimedOut)
    }
}

/// Copies between `client` and `upstream` until both have ended, one has failed, no byte came either way for `idle`, or
/// `stop`.
pub async fn run<A, B>(
    client: A,
    upstream: B,
    idle: Option<Duration>,
    stop: &CancellationToken,
) -> TunnelEnd
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let last = Last::now();
    let (mut client, mut upstream) = (Counted::new(client, &last), Counted::new(upstream, &last));
    let mut end = TunnelEnd::default();
    tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => {
            end.error = copied.err();
        }
        () = last.is_ago(idle) => end.idle = idle,
        () = stop.cancelled() => end.stopped = true,
    }
    (end.sent, end.received) = (upstream.taken, client.taken);
    end.by_client = client.broke;
    end
}

/// Waits until both connections have switched, then [`run`]s. To be spawned once the answer (101, or 2xx to CONNECT)
/// is on its way, since the client's side switches when that has been written.
/// Gives both back, to be closed as the end asks for.
pub async fn upgraded(
    client: OnUpgrade,
    upstream: OnUpgrade,
    idle: Option<Duration>,
    stop: &CancellationToken,
) -> (TunnelEnd, Option<(Upgraded, Upgraded)>) {
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
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            let end = run(&mut client, &mut upstream, idle, stop).await;
            (end, Some((client.into_inner(), upstream.into_inner())))
        }
        Some(Err(error)) => (TunnelEnd::broken(error), None),
        None => (TunnelEnd::stopped(), None),
    }
}

/// When the last byte came, or was taken.
struct Last {
    begun: Instant,
    /// Nanoseconds since then.
    after: AtomicU64,
}

impl Last {
    fn now() -> Last {
        Last {
            begun: Instant::now(),
            after: AtomicU64::new(0),
        }
    }

    fn is_now(&self) {
        let after = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.after.store(after, Ordering::Relaxed);
    }

    /// Ready when it is so long ago.
    async fn is_ago(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let last = Duration::from_nanos(self.after.load(Ordering::Relaxed));
            let until = self.begun + last + limit;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// Counts what it takes, so that the count is known however the copy ends, and notes whether it is what broke.
struct Counted<'a, S> {
    inner: S,
    taken: u64,
    broke: bool,
    last: &'a Last,
}

impl<'a, S> Counted<'a, S> {
    fn new(inner: S, last: &'a Last) -> Counted<'a, S> {
        Counted {
            inner,
            taken: 0,
            broke: false,
            last,
        }
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.taken += *bytes as u64;
            self.last.is_now();
        }
        self.noted(written)
    }

    fn noted<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.broke |= matches!(polled, Poll::Ready(Err(_)));
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.last.is_now();
        }
        self.noted(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
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
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.noted(shut)
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
        let tunnel =
            tokio::spawn(async move { run(near, far, None, &CancellationToken::new()).await });
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
        let tunnel = tokio::spawn(async move { run(near, far, None, &stopped).await });
        client.write_all(b"hi").await.unwrap();
        upstream.read_exact(&mut [0; 2]).await.unwrap();
        stop.cancel();
        let end = tunnel.await.unwrap();
        assert!(end.stopped);
        assert_eq!((end.sent, end.received), (2, 0));
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_a_byte_either_way_is_none() {
        let limit = Duration::from_secs(3600);
        let (mut client, near) = duplex(64);
        let (far, mut upstream) = duplex(64);
        let begun = Instant::now();
        let tunnel =
            tokio::spawn(
                async move { run(near, far, Some(limit), &CancellationToken::new()).await },
            );
        let almost = limit - Duration::from_secs(1);
        tokio::time::sleep(almost).await;
        client.write_all(b"a").await.unwrap();
        tokio::time::sleep(almost).await;
        upstream.write_all(b"bc").await.unwrap();
        let end = tunnel.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), (almost * 2 + limit).as_secs());
        assert_eq!((end.sent, end.received), (1, 2));
        assert_eq!((end.idle, end.stopped), (Some(limit), false));
        assert!(end.error.is_none());
    }
}
