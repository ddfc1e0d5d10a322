//! Data of responses in hand: read from an upstream, not yet taken by the client.
//!
//! A client that reads nothing costs itself one small request, and us what was read ahead for it. Two things bound that
//! without slowing those who read. [`Gated`] takes no more of a response while the client's socket is full, and one large
//! piece at a time: hyper would fill its buffer. And each piece counts as held until it is written, over all clients of both directions: the more
//! is held, the less is read ahead ([`read_ahead`]). What the kernel buffers is not counted, nor one piece a response that hyper
//! hands from one connection to the other.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus_client::metrics::gauge::Gauge;

use super::body::{BodyError, ResponseBody};
use super::timed::Clock;

/// What all responses together may hold before the least is read ahead.
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

/// How much of a response may be read at once while `held` bytes are in hand; `None`: as much as there is room for.
pub(super) fn read_ahead(held: &Gauge) -> Option<usize> {
    let held = usize::try_from(held.get()).unwrap_or(0);
    let part = BUDGET.saturating_sub(held) / PART;
    (part < MOST).then_some(part.max(LEAST))
}

/// `bytes`, counted in `held` until the last of them is dropped.
pub(super) fn hold(bytes: Bytes, held: &Gauge) -> Bytes {
    if bytes.len() < SMALL {
        return bytes;
    }
    held.inc_by(count(&bytes));
    // It may be a small part of the buffer that it was read into, which it keeps.
    let bytes = match read_ahead(held) {
        Some(_) => Bytes::copy_from_slice(&bytes),
        None => bytes,
    };
    Bytes::from_owner(Piece {
        bytes,
        held: held.clone(),
    })
}

fn count(bytes: &Bytes) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

struct Piece {
    bytes: Bytes,
    held: Gauge,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.dec_by(count(&self.bytes));
    }
}

/// The content of a response by HTTP/1.x, of which none is taken while what was taken waits for the client.
pub(super) struct Gated {
    inner: ResponseBody,
    clock: Arc<Clock>,
    held: Gauge,
}

impl Gated {
    /// To be sent on the connection whose clock this is.
    pub(super) fn new(inner: ResponseBody, clock: Arc<Clock>, held: Gauge) -> Gated {
        Gated { inner, clock, held }
    }
}

impl Body for Gated {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.clock.waits_to_flush() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        polled.map_ok(|frame| {
            frame.map_data(|data| {
                if data.len() >= LARGE {
                    self.clock.flush_first();
                }
                hold(data, &self.held)
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
        let held = Gauge::default();
        for (already, at_once) in [
            (0, None),
            (BUDGET / 2, None),
            (BUDGET * 3 / 4, Some(MOST / 2)),
            (BUDGET, Some(LEAST)),
            (BUDGET * 2, Some(LEAST)),
        ] {
            held.set(already as i64);
            assert_eq!(read_ahead(&held), at_once, "{already}");
        }
        held.set(-1);
        assert_eq!(read_ahead(&held), None);
    }

    #[test]
    fn a_piece_is_held_until_the_last_of_it_is_dropped() {
        let held = Gauge::default();
        let mut bytes = hold(Bytes::from(vec![b'x'; 10_000]), &held);
        assert_eq!(held.get(), 10_000);
        let first = bytes.split_to(4_000);
        drop(bytes);
        assert_eq!(held.get(), 10_000);
        drop(first);
        assert_eq!(held.get(), 0);
        let _small = hold(Bytes::from_static(b"small"), &held);
        assert_eq!(held.get(), 0);
    }
}
