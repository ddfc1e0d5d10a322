//! Closing a connection whose request was answered before it was read.
//!
//! Closing a socket that holds unread bytes makes the kernel send RST, and that can take the answer from a client that
//! has not read it yet (RFC 9112 section 9.6). So the write side is closed first, and what the client still sends is
//! read and thrown away, until it has seen the end or a limit is over. A connection whose last request had no body is
//! closed at once; and short of memory, one whose client has sent what it was about to.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a client may go on sending after the answer.
const LIMIT: Duration = Duration::from_secs(5);
/// How long it may be silent meanwhile; and short of memory.
const SILENCE: Duration = Duration::from_secs(1);
const BRIEF: Duration = Duration::from_millis(1);

/// The state of a close.
#[derive(Default)]
pub(crate) struct Linger {
    shut: bool,
    /// When to stop at the latest, and when to if nothing comes.
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Linger {
    /// Closes the write side of `socket`, then reads what is left, as the module says. `more`: the last request had a
    /// body. `short`: of memory.
    pub(crate) fn poll_shutdown<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        more: bool,
        short: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut *socket).poll_shutdown(cx))?;
            self.shut = true;
        }
        if !more {
            return Poll::Ready(Ok(()));
        }
        let longest = if short { BRIEF } else { SILENCE };
        let (last, silence) = self.wait.get_or_insert_with(|| {
            let now = Instant::now();
            (now + LIMIT, Box::pin(tokio::time::sleep(longest)))
        });
        let mut scratch = [0; 8192];
        loop {
            let mut left = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *socket).poll_read(cx, &mut left) {
                Poll::Ready(Ok(())) if !left.filled().is_empty() && Instant::now() < *last => {
                    silence
                        .as_mut()
                        .reset((Instant::now() + longest).min(*last));
                }
                // Nothing more can come, or it has gone on for too long.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return silence.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn close(socket: &mut (impl AsyncRead + AsyncWrite + Unpin), more: bool) {
        let mut linger = Linger::default();
        std::future::poll_fn(|cx| linger.poll_shutdown(socket, more, false, cx))
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_body_it_is_closed_at_once() {
        let (mut server, _client) = tokio::io::duplex(64);
        let started = Instant::now();
        close(&mut server, false).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_waited_for_a_second() {
        let (mut server, _client) = tokio::io::duplex(64);
        let started = Instant::now();
        close(&mut server, true).await;
        assert_eq!(started.elapsed().as_secs(), SILENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_client_still_sends_is_read_until_it_is_done() {
        let (mut server, mut client) = tokio::io::duplex(64);
        client.write_all(b"begin").await.unwrap();
        let sending = tokio::spawn(async move {
            client.write_all(&[b'x'; 100_000]).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        });
        server.write_all(b"413").await.unwrap();
        close(&mut server, true).await;
        drop(server);
        assert_eq!(sending.await.unwrap(), "413");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_stops_is_left_at_the_limit() {
        let (mut server, mut client) = tokio::io::duplex(64);
        client.write_all(b"begin").await.unwrap();
        let sending = tokio::spawn(async move {
            while client.write_all(b"more").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let started = Instant::now();
        close(&mut server, true).await;
        drop(server);
        assert_eq!(started.elapsed().as_secs(), LIMIT.as_secs());
        sending.await.unwrap();
    }
}
