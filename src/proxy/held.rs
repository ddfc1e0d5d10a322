//! Data of responses in hand: read from an upstream, not yet taken by the client.
//!
//! A client that reads nothing costs itself one small request, and us what was read ahead for it. Two things bound that
//! without slowing those who read. [`Gated`] takes no more of a response while the client's socket is full, and one large
//! piece at a time: hyper would fill its buffer. And each piece counts as held until it is written, over all clients of both directions: the more
//! is held, the less is read ahead ([`Held`]); and where that is little, nothing while one piece is held ([`Flow`]).
//! Requests that an upstream does not take are held and bounded alike, apart from responses ([`Sending`]). What the kernel
//! buffers is not counted, nor what hyper hands from one connection to the other: a piece of either.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, ReadBuf};

use super::body::{BodyError, ResponseBody};
use super::timed::Clock;
use crate::telemetry::Metrics;

/// What all responses together may hold, and all requests, before the least is read ahead.
const BUDGET: usize = 8 * 1024 * 1024;
/// A read takes at most this part of what is left of it.
const PART: usize = 64;
/// The most that is read at once: hyper's buffer.
const MOST: usize = 64 * 1024;
/// The least: one byte below hyper's first buffer, which grows when it is filled.
const LEAST: usize = 8 * 1024 - 1;
/// After a piece as large as this, none is taken before it is written.
const LARGE: usize = 16 * 1024;
/// Smaller pieces are not worth counting: a client's connection takes as much.
const SMALL: usize = 2 * 1024;

/// What is held of responses, or of requests, and how much of one may be read.
#[derive(Clone, Default)]
pub(crate) struct Held {
    bytes: Gauge,
    /// As memory allows; 0: as much as there is room for.
    most: Gauge,
}

impl Held {
    /// Of requests.
    pub(crate) fn requests(metrics: &Metrics) -> Held {
        Held {
            bytes: metrics.request_bytes_held.clone(),
            most: metrics.content_read_bytes.clone(),
        }
    }

    /// Of responses.
    pub(crate) fn responses(metrics: &Metrics) -> Held {
        Held {
            bytes: metrics.response_bytes_held.clone(),
            most: metrics.content_read_bytes.clone(),
        }
    }

    /// How much of a message may be read at once; `None`: as much as there is room for.
    fn read_ahead(&self) -> Option<usize> {
        let held = usize::try_from(self.bytes.get()).unwrap_or(0);
        let part = BUDGET.saturating_sub(held) / PART;
        let most = match usize::try_from(self.most.get()) {
            Ok(most) if most > 0 => most.min(part),
            _ => part,
        };
        (most < MOST).then_some(most.max(LEAST))
    }

    /// Whether there is so little room that nothing more of a response is read while a piece of it is held.
    pub(super) fn is_scarce(&self) -> bool {
        self.read_ahead().is_some_and(|most| most <= LARGE)
    }

    /// `bytes`, counted until the last of them is dropped, and as one of these pieces.
    pub(super) fn hold(&self, bytes: Bytes, pieces: Option<&Arc<Pieces>>) -> Bytes {
        if bytes.len() < SMALL {
            return bytes;
        }
        self.bytes.inc_by(count(&bytes));
        // It may be a small part of the buffer that it was read into, which it keeps.
        let bytes = match self.read_ahead() {
            Some(_) => Bytes::copy_from_slice(&bytes),
            None => bytes,
        };
        if let Some(pieces) = pieces {
            pieces.count.fetch_add(1, Ordering::Relaxed);
        }
        Bytes::from_owner(Piece {
            bytes,
            held: self.bytes.clone(),
            pieces: pieces.cloned(),
        })
    }

    /// Reads as much of a message as there is room for.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &self,
        socket: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = self.read_ahead();
        let Some(most) = most.filter(|most| *most < buf.remaining()) else {
            return Pin::new(socket).poll_read(cx, buf);
        };
        let read = {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            ready!(Pin::new(socket).poll_read(cx, &mut part))?;
            part.filled().len()
        };
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

fn count(bytes: &Bytes) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

struct Piece {
    bytes: Bytes,
    held: Gauge,
    pieces: Option<Arc<Pieces>>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.dec_by(count(&self.bytes));
        if let Some(pieces) = &self.pieces {
            pieces.taken();
        }
    }
}

/// Whether what was written to a socket waits for the peer; shared by the socket and the content that goes there, on one
/// task.
#[derive(Default)]
pub(crate) struct Gate {
    /// Whether nothing more is to be written before what was is flushed; and whether somebody waits for that.
    unflushed: AtomicBool,
    awaited: AtomicBool,
}

impl Gate {
    /// Nothing more is to be written before what was is flushed.
    pub(crate) fn flush_first(&self) {
        self.unflushed.store(true, Ordering::Relaxed);
    }

    /// Whether what was written has yet to be flushed. If so, the task of the connection is woken when it has.
    pub(crate) fn waits_to_flush(&self) -> bool {
        let waits = self.unflushed.load(Ordering::Relaxed);
        if waits {
            self.awaited.store(true, Ordering::Relaxed);
        }
        waits
    }

    /// All is flushed.
    pub(crate) fn flushed(&self, cx: &mut Context<'_>) {
        if self.unflushed.load(Ordering::Relaxed) {
            self.unflushed.store(false, Ordering::Relaxed);
            if self.awaited.swap(false, Ordering::Relaxed) {
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// What an upstream's connection of HTTP/1 and the content on it know of each other.
#[derive(Default)]
pub(crate) struct Flow {
    /// Of what is written to the upstream.
    pub(crate) gate: Gate,
    /// Of the response that is read, and of no other.
    response: Mutex<Arc<Pieces>>,
}

impl Flow {
    /// An exchange begins, or has ended: what is held of the response before is no reason to wait.
    pub(crate) fn begin(&self) -> Arc<Pieces> {
        let pieces = Arc::<Pieces>::default();
        let before = std::mem::replace(&mut *self.response(), pieces.clone());
        before.wake();
        pieces
    }

    /// Ready when nothing of the response is held.
    pub(crate) fn poll_taken(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Locked until the waker is there, or `begin` could miss it.
        let response = self.response();
        response.poll_taken(cx)
    }

    fn response(&self) -> MutexGuard<'_, Arc<Pieces>> {
        self.response.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pieces of one response that are held; and who waits to read more.
#[derive(Default)]
pub(crate) struct Pieces {
    count: AtomicUsize,
    reader: Mutex<Option<Waker>>,
}

impl Pieces {
    fn poll_taken(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.count.load(Ordering::Relaxed) > 0 {
            *self.reader() = Some(cx.waker().clone());
            // The last may have been taken since; if not, it finds the waker.
            if self.count.load(Ordering::Relaxed) > 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn taken(&self) {
        if self.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.wake();
        }
    }

    fn wake(&self) {
        let reader = self.reader().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Content of a request on its way to an upstream: none is taken while what was taken waits for the upstream.
pub(crate) struct Sending {
    /// Of HTTP/2 each stream has a window.
    pub(crate) flow: Option<Arc<Flow>>,
    /// What is held of all requests.
    pub(crate) held: Held,
}

impl Sending {
    pub(super) fn waits(&self) -> bool {
        let flow = self.flow.as_ref();
        flow.is_some_and(|flow| flow.gate.waits_to_flush())
    }

    pub(super) fn hold(&self, data: Bytes) -> Bytes {
        self.held.hold(data, None)
    }
}

/// The content of a response by HTTP/1.x, of which none is taken while what was taken waits for the client.
pub(super) struct Gated {
    inner: ResponseBody,
    clock: Arc<Clock>,
    held: Held,
    pieces: Option<Arc<Pieces>>,
}

impl Gated {
    /// To be sent on the connection whose clock this is.
    pub(super) fn new(
        inner: ResponseBody,
        clock: Arc<Clock>,
        held: Held,
        pieces: Option<Arc<Pieces>>,
    ) -> Gated {
        Gated {
            inner,
            clock,
            held,
            pieces,
        }
    }
}

impl Body for Gated {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.clock.gate.waits_to_flush() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        polled.map_ok(|frame| {
            frame.map_data(|data| {
                if data.len() >= LARGE {
                    self.clock.gate.flush_first();
                }
                self.held.hold(data, self.pieces.as_ref())
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_held_the_less_is_read_ahead() {
        let held = Held::default();
        for (already, at_once) in [
            (0, None),
            (BUDGET / 2, None),
            (BUDGET * 3 / 4, Some(MOST / 2)),
            (BUDGET, Some(LEAST)),
            (BUDGET * 2, Some(LEAST)),
        ] {
            held.bytes.set(already as i64);
            assert_eq!(held.read_ahead(), at_once, "{already}");
        }
        held.bytes.set(-1);
        assert_eq!(held.read_ahead(), None);
        for (most, at_once) in [(1, LEAST), (MOST / 2, MOST / 2)] {
            held.most.set(most as i64);
            assert_eq!(held.read_ahead(), Some(at_once), "{most}");
        }
        held.most.set(2 * MOST as i64);
        assert_eq!(held.read_ahead(), None);
    }

    #[test]
    fn a_piece_is_held_until_the_last_of_it_is_dropped() {
        let held = Held::default();
        let mut bytes = held.hold(Bytes::from(vec![b'x'; 10_000]), None);
        assert_eq!(held.bytes.get(), 10_000);
        let first = bytes.split_to(4_000);
        drop(bytes);
        assert_eq!(held.bytes.get(), 10_000);
        drop(first);
        assert_eq!(held.bytes.get(), 0);
        let _small = held.hold(Bytes::from_static(b"small"), None);
        assert_eq!(held.bytes.get(), 0);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_reads_ahead_is_woken_when_the_last_piece_is_taken() {
        let (held, flow, woken) = (Held::default(), Flow::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let pieces = flow.begin();
        assert!(flow.poll_taken(&mut cx).is_ready());
        let first = held.hold(Bytes::from(vec![b'x'; 10_000]), Some(&pieces));
        let second = held.hold(Bytes::from(vec![b'x'; 10_000]), Some(&pieces));
        assert!(flow.poll_taken(&mut cx).is_pending());
        drop(first);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(flow.poll_taken(&mut cx).is_ready());
    }

    #[test]
    fn what_one_client_does_not_take_delays_no_other_response_on_its_connection() {
        let (held, flow, woken) = (Held::default(), Flow::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let stalls = held.hold(Bytes::from(vec![b'x'; 10_000]), Some(&flow.begin()));
        assert!(flow.poll_taken(&mut cx).is_pending());
        // It was read to its end, and the connection is idle: its end is to be seen.
        flow.begin();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(flow.poll_taken(&mut cx).is_ready());
        // The next exchange.
        let next = flow.begin();
        assert!(flow.poll_taken(&mut cx).is_ready());
        let piece = held.hold(Bytes::from(vec![b'y'; 10_000]), Some(&next));
        assert!(flow.poll_taken(&mut cx).is_pending());
        drop(stalls);
        assert!(flow.poll_taken(&mut cx).is_pending(), "not for the other's");
        drop(piece);
        assert!(flow.poll_taken(&mut cx).is_ready());
    }
}
