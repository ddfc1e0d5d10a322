//! Deadlines that hyper does not have, without a timer per request.
//!
//! hyper's `header_read_timeout` runs from the end of the last response, so it is the keep-alive idle limit and the
//! slow-head limit at once. [`HeadTimer`] is a hyper timer that tells the two apart: idle until a byte of the next
//! head has come, then the (shorter) head limit. One tokio timer per connection serves all its waits; it is only set
//! again when it fires too early. [`Timed`] counts the bytes read, which is how the timer sees the first byte, and
//! fails a write that the peer does not take for too long. It reads no more at
//! once than what is held of all requests leaves room for.
//!
//! hyper asks for that timer each time it begins to wait for a head. What it then writes, with everything before it
//! written, can only be its own answer to a head that it did not take: [`Timed`] sends [`refusal`]'s in its place.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::frames::{CALM, Frames};
use super::growing::{self, Growing};
use super::held::{Gate, Held};
use super::linger::Linger;
use super::pressure::Pressure;
use super::refusal;

/// What idle times are counted from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
const IN_USE: u64 = u64::MAX;

/// What the timer and the socket of one connection share.
pub(crate) struct Clock {
    read: AtomicU64,
    head_late: AtomicBool,
    lifted: AtomicBool,
    body_expected: AtomicBool,
    head_awaited: AtomicBool,
    /// What was read of what is no request yet.
    pub(crate) growing: Growing,
    /// Of what is written to the client.
    pub(crate) gate: Gate,
    /// Milliseconds since [`BEGINNING`] at which the wait for a request began; [`IN_USE`] while there is one.
    idle_since: AtomicU64,
    sleep: Mutex<Pin<Box<Sleep>>>,
}

impl Clock {
    /// A clock whose timer first looks after `first`.
    pub(crate) fn new(first: Duration, pressure: &Arc<Pressure>) -> Arc<Clock> {
        let clock = Arc::new(Clock {
            read: AtomicU64::new(0),
            head_late: AtomicBool::new(false),
            lifted: AtomicBool::new(false),
            body_expected: AtomicBool::new(false),
            head_awaited: AtomicBool::new(false),
            growing: Growing::new(pressure),
            gate: Gate::default(),
            idle_since: AtomicU64::new(IN_USE),
            sleep: Mutex::new(Box::pin(tokio::time::sleep(first))),
        });
        clock.idles_from(Instant::now());
        clock
    }

    /// Whether a head was begun and not ended in time (as opposed to none begun).
    pub(crate) fn head_was_late(&self) -> bool {
        self.head_late.load(Ordering::Relaxed)
    }

    /// Lifts the write deadline for good: the connection is a tunnel now.
    pub(crate) fn lift(&self) {
        self.lifted.store(true, Ordering::Relaxed);
    }

    /// Notes whether the request that begins has a body, which may be answered before it is read.
    pub(crate) fn request_begins(&self, with_body: bool) {
        self.body_expected.store(with_body, Ordering::Relaxed);
        self.head_awaited.store(false, Ordering::Relaxed);
        self.idle_since.store(IN_USE, Ordering::Relaxed);
        self.growing.settle();
    }

    /// Notes that no request is in hand since then.
    pub(crate) fn idles_from(&self, since: Instant) {
        let since = since.saturating_duration_since(*BEGINNING);
        let since = u64::try_from(since.as_millis()).unwrap_or(0);
        self.idle_since.store(since, Ordering::Relaxed);
    }

    /// Counts what was read where it is no request yet; an error where there is no room for it.
    pub(crate) fn reads(&self, bytes: usize) -> io::Result<()> {
        match self.idle_since.load(Ordering::Relaxed) {
            IN_USE => Ok(()),
            _ => self.growing.by(bytes),
        }
    }

    /// Since when there is no request in hand; `None` while there is one.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let since = self.idle_since.load(Ordering::Relaxed);
        (since != IN_USE).then(|| *BEGINNING + Duration::from_millis(since))
    }

    /// Waits on the one timer of this connection.
    pub(crate) fn poll_until(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = tokio::time::Instant::from_std(deadline);
        loop {
            // Set for later: bring it forward. Set for earlier: let it fire, then set it again.
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// The hyper timer of one server connection.
#[derive(Clone)]
pub(crate) struct HeadTimer {
    clock: Arc<Clock>,
    idle: Duration,
    head: Duration,
}

impl HeadTimer {
    /// Waits as long as hyper asks for a first byte, which is its `header_read_timeout` and has to be `idle`; then
    /// `head` for the rest.
    pub(crate) fn new(clock: Arc<Clock>, idle: Duration, head: Duration) -> HeadTimer {
        HeadTimer { clock, idle, head }
    }
}

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.clock.head_awaited.store(true, Ordering::Relaxed);
        if let Some(since) = deadline.checked_sub(self.idle) {
            self.clock.idles_from(since);
        }
        Box::pin(HeadWait {
            clock: self.clock.clone(),
            idle_until: deadline,
            head: self.head,
            read_before: self.clock.read.load(Ordering::Relaxed),
            head_until: None,
        })
    }
}

/// One wait for one head.
struct HeadWait {
    clock: Arc<Clock>,
    idle_until: Instant,
    head: Duration,
    read_before: u64,
    head_until: Option<Instant>,
}

impl hyper::rt::Sleep for HeadWait {}

impl Future for HeadWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let begun = self.clock.read.load(Ordering::Relaxed) != self.read_before;
        if begun && self.head_until.is_none() {
            self.head_until = Some(Instant::now() + self.head);
        }
        let deadline = self.head_until.unwrap_or(self.idle_until);
        ready!(self.clock.poll_until(deadline, cx));
        self.clock
            .head_late
            .store(self.head_until.is_some(), Ordering::Relaxed);
        Poll::Ready(())
    }
}

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
    /// Whether something was written and not yet flushed.
    unflushed: bool,
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
            unflushed: false,
            refusal: None,
            _guard: guard,
        }
    }

    /// HTTP/2 is spoken, with heads of so many bytes at most.
    pub(crate) fn framed(mut self, head: usize) -> Self {
        let base = self.clock.growing.is_told();
        self.frames = Some(Box::new(Frames::new(head, base)));
        self
    }

    fn written(
        &mut self,
        polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if polled.is_pending() {
            self.clock.gate.flush_first();
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
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer takes no bytes",
        )))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> Timed<S, G> {
    /// Whether what is written now is hyper's own answer; see the module.
    fn refuses(&self) -> bool {
        self.clock.head_awaited.load(Ordering::Relaxed) && !self.unflushed
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
        self.unflushed = true;
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
        if idle && !self.unflushed {
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
        let polled = this.held.poll_read(&mut this.socket, cx, buf)?;
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
        self.unflushed = true;
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
        self.unflushed = true;
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
                self.unflushed = false;
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
