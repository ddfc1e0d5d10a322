//! Deadlines that hyper does not have, without a timer per request.
//!
//! [`HeadTimer`] is the timer by which hyper waits for heads. [`Timed`] counts the bytes read, which is how that timer sees
//! the first one, and fails a write that the peer does not take for too long. It reads no more at once than what is held
//! of all requests leaves room for.
//!
//! hyper asks for that timer each time it begins to wait for a head. What it then writes, with everything before it
//! written, can only be its own answer to a head that it did not take: [`Timed`] sends [`refusal`]'s in its place.

mod clock;

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::frames::{CALM, Frames};
use super::growing;
use super::held::Held;
use super::linger::Linger;
use super::refusal;
use super::windows::Windows;
pub(crate) use clock::{Clock, HeadTimer};

/// A socket that counts what it reads and does not wait for ever to write. `G` is dropped after the socket closed.
pub(crate) struct Timed<S, G> {
    socket: S,
    clock: Arc<Clock>,
    write_limit: Option<Duration>,
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Linger,
    /// What is held of requests.
    held: Held,
    /// Of HTTP/2.
    frames: Option<Box<Frames>>,
    /// An answer of our own, and how much of it is sent.
    refusal: Option<Box<(Vec<u8>, usize)>>,
    _guard: G,
}

impl<S, G> Timed<S, G> {
    /// Wraps `socket`; a write that makes no progress for `write_limit` fails as timed out. `held`: of requests.
    pub(crate) fn new(
        socket: S,
        clock: Arc<Clock>,
        write_limit: Option<Duration>,
        held: Held,
        guard: G,
    ) -> Self {
        Timed {
            socket,
            clock,
            write_limit,
            stalled: None,
            linger: Linger::default(),
            held,
            frames: None,
            refusal: None,
            _guard: guard,
        }
    }

    /// HTTP/2 is spoken, with heads of so many bytes at most. `windows`: those that the client opens.
    pub(crate) fn framed(mut self, head: usize, windows: &Arc<Windows>) -> Self {
        let base = self.clock.growing.is_told();
        self.frames = Some(Box::new(Frames::new(head, base, windows.clone())));
        self
    }

    /// The socket itself, where hyper does not read from it.
    pub(crate) fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    fn written(
        &mut self,
        polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Pending => self.clock.gate.flush_first(),
            Poll::Ready(Ok(bytes)) => self.clock.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
        }
        let limit = match (&polled, self.write_limit) {
            (Poll::Pending, Some(limit)) if !self.clock.lifted.load(Ordering::Relaxed) => limit,
            _ => {
                self.stalled = None;
                return polled;
            }
        };
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        self.clock.untaken.store(true, Ordering::Relaxed);
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer takes no bytes",
        )))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> Timed<S, G> {
    /// Whether what is written now is hyper's own answer; see the module.
    fn refuses(&self) -> bool {
        self.clock.head_awaited.load(Ordering::Relaxed)
            && !self.clock.unflushed.load(Ordering::Relaxed)
    }

    /// Sends [`refusal`]'s answer instead of hyper's, which begins with `theirs` and is `len` bytes long.
    fn poll_refuse(
        &mut self,
        theirs: &[u8],
        len: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut ours = match self.refusal.take() {
            Some(begun) => begun,
            None => Box::new((refusal::answer(refusal::status_of(theirs)), 0)),
        };
        while let Some(rest) = ours.0.get(ours.1..).filter(|rest| !rest.is_empty()) {
            let polled = Pin::new(&mut self.socket).poll_write(cx, rest);
            match self.written(polled, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => ours.1 += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.refusal = Some(ours);
                    return Poll::Pending;
                }
            }
        }
        self.clock.unflushed.store(true, Ordering::Relaxed);
        // The client may be in the middle of what is refused: closing at once could take the answer from it.
        self.clock.body_expected.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(len))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> Timed<S, G> {
    /// Looks at what was read of HTTP/2; an error where there is no room for what is not whole.
    fn hear(&mut self, read: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        let Some(frames) = &mut self.frames else {
            return Ok(());
        };
        frames.read(read);
        if !read.is_empty() {
            self.clock.growing.passed_on();
        }
        let idle = self.clock.idle_since().is_some();
        let growing = &self.clock.growing;
        if growing.holds(frames.takes() + growing.beyond(), frames.is_open(), idle) {
            return Ok(());
        }
        if idle && !self.clock.unflushed.load(Ordering::Relaxed) {
            // As far as the socket takes it at once: who is refused is not waited for.
            let _ = Pin::new(&mut self.socket).poll_write(cx, &CALM);
            let _ = Pin::new(&mut self.socket).poll_flush(cx);
        }
        Err(growing::no_room())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncRead for Timed<S, G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        let most = this.held.read_ahead();
        let polled = this.held.poll_read(&mut this.socket, most, cx, buf)?;
        if polled.is_pending() && this.clock.growing.beyond() > 0 {
            // A record of TLS that is not whole.
            this.hear(&[], cx)?;
        }
        ready!(polled);
        let read = buf.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            let count = read.len() as u64;
            this.clock.read.fetch_add(count, Ordering::Relaxed);
        }
        Poll::Ready(this.hear(read, cx))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncWrite for Timed<S, G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refuses() {
            return self.poll_refuse(buf, buf.len(), cx);
        }
        self.clock.unflushed.store(true, Ordering::Relaxed);
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.written(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.refuses() {
            let len = bufs.iter().map(|buf| buf.len()).sum();
            return self.poll_refuse(bufs.first().map_or(&[], |buf| buf), len, cx);
        }
        self.clock.unflushed.store(true, Ordering::Relaxed);
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.written(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        match flushed {
            Poll::Pending => self.clock.gate.flush_first(),
            Poll::Ready(Ok(())) => {
                self.clock.unflushed.store(false, Ordering::Relaxed);
                self.clock.gate.flushed(cx);
            }
            Poll::Ready(Err(_)) => {}
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.clock.lifted.load(Ordering::Relaxed) {
            // Half of a tunnel: the other half goes on.
            return Pin::new(&mut this.socket).poll_shutdown(cx);
        }
        let more = this.clock.body_expected.load(Ordering::Relaxed);
        let short = this.clock.growing.is_short();
        this.linger.poll_shutdown(&mut this.socket, more, short, cx)
    }
}

#[cfg(test)]
mod tests;
