//! Which protocol a client speaks, by its first bytes: HTTP/1.x, HTTP/2 by its preface (RFC 9113 section 3.4), TLS.
//!
//! Every wait has a deadline, which hyper's own detection has not. What was read is given back by [`Rewound`], so that
//! the first request costs no further read. Nothing is held for a connection that is silent.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::timed::Clock;

/// What the client side of an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The content type of a TLS handshake record (RFC 8446 section 5.1): no HTTP method begins with it.
const HANDSHAKE: u8 = 0x16;
/// Read at once: most heads fit.
const READ: usize = 4096;

/// What a client's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.x, or what hyper will refuse as such.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS handshake.
    Tls,
}

impl Spoken {
    /// Bytes that a connection takes more, once that is known: buffers, and a head as most are.
    pub(crate) fn takes(self) -> usize {
        match self {
            Spoken::Http1 => 16 * 1024,
            Spoken::Http2 => 24 * 1024,
            Spoken::Tls => 48 * 1024,
        }
    }
}

/// Why it is not known what a client speaks.
#[derive(Debug)]
pub(crate) enum Unheard {
    /// It left, or said nothing for as long as a connection may be idle.
    Silent,
    /// It began and did not go on in time.
    Slow,
}

/// What `bytes` begin; `None` where more are needed.
fn judge(bytes: &[u8]) -> Option<Spoken> {
    if *bytes.first()? == HANDSHAKE {
        return Some(Spoken::Tls);
    }
    let mut wanted = PREFACE.iter();
    match bytes.iter().zip(wanted.by_ref()).all(|(a, b)| a == b) {
        false => Some(Spoken::Http1),
        true if bytes.len() >= PREFACE.len() => Some(Spoken::Http2),
        true => None,
    }
}

/// Reads until it is known what the client speaks: `idle` for the first byte, then `head` for the rest. `ahead` was read
/// already. Gives what was read.
pub(crate) async fn sniff<S: AsyncRead + Unpin>(
    socket: &mut S,
    mut ahead: Vec<u8>,
    clock: &Clock,
    idle: Duration,
    head: Duration,
) -> Result<(Spoken, Vec<u8>), Unheard> {
    let first = if ahead.is_empty() { idle } else { head };
    let mut deadline = Instant::now() + first;
    loop {
        let began = !ahead.is_empty();
        if let Some(spoken) = judge(&ahead) {
            return Ok((spoken, ahead));
        }
        let read = std::future::poll_fn(|cx| {
            if let Poll::Ready(read) = poll_some(socket, &mut ahead, cx) {
                return Poll::Ready(Some(read));
            }
            ready!(clock.poll_until(deadline.into_std(), cx));
            Poll::Ready(None)
        });
        match read.await {
            Some(Ok(0)) if began => return Ok((Spoken::Http1, ahead)),
            Some(Ok(0) | Err(_)) => return Err(Unheard::Silent),
            None if began => return Err(Unheard::Slow),
            None => return Err(Unheard::Silent),
            Some(Ok(_)) => {}
        }
        if !began {
            clock.head_begins();
            deadline = Instant::now() + head;
        }
    }
}

/// One read to the end of `ahead`, which takes no room before bytes have come.
fn poll_some<S: AsyncRead + Unpin>(
    socket: &mut S,
    ahead: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut room = [MaybeUninit::uninit(); READ];
    let mut buf = ReadBuf::uninit(&mut room);
    ready!(Pin::new(socket).poll_read(cx, &mut buf))?;
    ahead.extend_from_slice(buf.filled());
    Poll::Ready(Ok(buf.filled().len()))
}

/// A socket of which some bytes were read already: they come first.
pub(crate) struct Rewound<S> {
    ahead: Vec<u8>,
    given: usize,
    socket: S,
    /// Where what is read is counted until it is a request.
    clock: Option<Arc<Clock>>,
}

impl<S> Rewound<S> {
    pub(crate) fn new(ahead: Vec<u8>, socket: S) -> Rewound<S> {
        Rewound {
            ahead,
            given: 0,
            socket,
            clock: None,
        }
    }

    /// Counts what is read until it is a request.
    pub(crate) fn counting(mut self, clock: &Arc<Clock>) -> Rewound<S> {
        self.clock = Some(clock.clone());
        self
    }

    fn counted(&self, read: usize) -> io::Result<()> {
        match &self.clock {
            Some(clock) => clock.reads(read),
            None => Ok(()),
        }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.socket
    }

    /// What was read ahead and not given yet.
    pub(crate) fn ahead(&self) -> &[u8] {
        self.ahead.get(self.given..).unwrap_or_default()
    }

    /// Takes back what it gave last.
    pub(crate) fn rewind(&mut self, bytes: &[u8]) {
        self.ahead = [bytes, self.ahead()].concat();
        self.given = 0;
    }
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    /// Reads more ahead, and gives how much.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_some(&mut self.socket, &mut self.ahead, cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
            return Poll::Ready(self.counted(buf.filled().len() - before));
        }
        let this = &mut *self;
        let left = this.ahead.get(this.given..).unwrap_or_default();
        let count = left.len().min(buf.remaining());
        buf.put_slice(left.get(..count).unwrap_or_default());
        this.given += count;
        if this.given >= this.ahead.len() {
            this.ahead = Vec::new();
        }
        Poll::Ready(this.counted(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
