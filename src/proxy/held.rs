//! Data of responses in hand: read from an upstream, not yet taken by the client.
//!
//! A client that reads nothing costs itself one small request, and us what was read ahead for it. Two things bound that
//! without slowing those who read. [`Gated`] takes no more of a response while the client's socket is full, and one large
//! piece at a time: hyper would fill its buffer. And each piece counts as held until it is written, over all clients of both
//! directions: the more is held, the less is read at once ([`Held`]), soonest for a client of which nothing shows that it
//! reads; and where that is little, or the client may have no window, nothing while one piece is held ([`Flow`]).
//! Requests that an upstream does not take are held and bounded alike, apart from responses ([`Sending`]). What the kernel
//! buffers is not counted, nor what hyper hands from one connection to the other: a piece of either.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, ReadBuf};

use super::body::{BodyError, ResponseBody};
use super::timed::Clock;
use crate::telemetry::Metrics;
use flow::End;
pub(crate) use flow::{Flow, Gate, Pieces};

mod flow;

/// What all responses together may hold, and all requests, before the least is read ahead.
const BUDGET: usize = 8 * 1024 * 1024;
/// A read takes at most this part of what is left of it.
const PART: usize = 64;
/// The most that is read at once: hyper's buffer.
const MOST: usize = 64 * 1024;
/// The least: one byte below hyper's first buffer, which grows when it is filled.
const LEAST: usize = 8 * 1024 - 1;
/// From here on clients that have yet to show that they read have less read at once: one byte below hyper's second buffer.
const UNPROVEN: i64 = 256 * 1024;
const SECOND: usize = 16 * 1024 - 1;
/// From here on a response by HTTP/2 has but one piece held, and a small one, until more was taken of it than there may
/// have been a window for.
const MUCH: i64 = 1024 * 1024;
/// After a piece as large as this, none is taken before it is written.
const LARGE: usize = SECOND;
/// Smaller pieces are not worth counting: a client's connection takes as much. Nor is the buffer of some 8 KiB, which one
/// was read into, worth keeping for it.
pub(super) const SMALL: usize = 2 * 1024;

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
    pub(super) fn read_ahead(&self) -> Option<usize> {
        let held = usize::try_from(self.bytes.get()).unwrap_or(0);
        let part = BUDGET.saturating_sub(held) / PART;
        let most = match usize::try_from(self.most.get()) {
            Ok(most) if most > 0 => most.min(part),
            _ => part,
        };
        (most < MOST).then_some(most.max(LEAST))
    }

    /// Whether there is so little room that nothing more of a response is read while a piece of it is held.
    fn is_scarce(&self) -> bool {
        self.read_ahead().is_some_and(|most| most <= LARGE)
    }

    /// Whether that is so for the response that comes here.
    pub(super) fn is_scarce_for(&self, flow: &Flow) -> bool {
        self.is_scarce_unless(|| flow.is_taken())
    }

    /// Whether that is so for a response; `is_taken`: whether its client has taken what it had a window for.
    fn is_scarce_unless(&self, is_taken: impl FnOnce() -> bool) -> bool {
        self.is_scarce() || self.is_much() && !is_taken()
    }

    /// Whether so much is held that no more than a piece is for who may have no window for it.
    fn is_much(&self) -> bool {
        self.bytes.get() >= MUCH
    }

    /// Whether `body`, of which these pieces are held, waits for its client, since nothing more of it is read. If so, the
    /// task is woken when they are taken.
    pub(super) fn waits(
        &self,
        body: &mut ResponseBody,
        pieces: Option<&Arc<Pieces>>,
        cx: &mut Context<'_>,
    ) -> bool {
        let waits = pieces.is_some_and(|pieces| {
            self.is_scarce_unless(|| pieces.is_taken())
                && pieces.poll_taken(End::Client, cx).is_pending()
        });
        if waits {
            // It is not the upstream that makes no progress.
            body.pauses();
        }
        waits
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
            pieces.add();
        }
        Bytes::from_owner(Piece {
            bytes,
            held: self.bytes.clone(),
            pieces: pieces.cloned(),
        })
    }

    /// How much of this response may be read at once.
    pub(super) fn at_once(&self, flow: &Flow) -> Option<usize> {
        let most = self.read_ahead();
        if self.is_much() && !flow.is_taken() {
            return Some(LEAST);
        }
        // Small reads cost those who do read: they have to wait for them only where many do not.
        if self.bytes.get() < UNPROVEN || !flow.is_unproven() {
            return most;
        }
        Some(most.unwrap_or(SECOND).min(SECOND))
    }

    /// Reads as much of a message as there is room for.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &self,
        socket: &mut S,
        most: Option<usize>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
        if let Some(pieces) = &pieces {
            pieces.are_taken();
            pieces.proven(clock.client_reads());
        }
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
        let this = &mut *self;
        if this.held.waits(&mut this.inner, this.pieces.as_ref(), cx) {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Some(pieces) = &this.pieces {
            pieces.proven(this.clock.client_reads());
        }
        polled.map_ok(|frame| {
            frame.map_data(|data| {
                if data.len() >= LARGE {
                    this.clock.gate.flush_first();
                }
                this.held.hold(data, this.pieces.as_ref())
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

impl Drop for Gated {
    fn drop(&mut self) {
        if self.clock.is_untaken() {
            self.inner.is_untaken();
        }
        std::mem::take(&mut self.inner).let_go();
    }
}

#[cfg(test)]
mod tests;
