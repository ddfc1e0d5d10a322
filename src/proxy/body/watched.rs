//! A body that tells how it ended.
//!
//! [`Watched`] tells its [`Watch`] exactly once whether a body was complete, failed or was dropped. This is harder
//! than it looks, since hyper does not poll a body to its end: with an exact `Content-Length` it never polls the last
//! `None`, and the bodies of HEAD, 204 and 304 are never polled at all. Both are seen by `is_end_stream()`, which is
//! asked after every frame and when the body is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{BodyError, Upload};
use crate::proxy::forwarding::are_trimmed;
use crate::proxy::held::Sending;

/// How a body ended.
#[derive(Debug)]
pub enum BodyEnd<'a> {
    /// Every byte was handed on, trailers included.
    Complete,
    /// It broke; the receiver is told by an aborted connection.
    Failed(&'a BodyError),
    /// Whoever read it stopped before the end.
    Cancelled,
    /// Whoever read it is there and took nothing more for too long: it was cut off.
    Untaken,
}

/// Told about a body: its data as they pass, and once how it ended.
pub trait Watch: Send {
    /// `bytes` of data pass. Called per frame, so it must be cheap.
    fn data(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// Trailers pass.
    fn trailers(&mut self, fields: &HeaderMap) {
        let _ = fields;
    }

    /// The body has ended. Called exactly once, also when the body is merely dropped.
    fn end(self: Box<Self>, how: BodyEnd<'_>);
}

/// A body that tells how it ended.
pub struct Watched<B: Body> {
    inner: B,
    watch: Option<Box<dyn Watch>>,
    idle: Option<IdleLimit>,
    /// Whether it is cut off from who reads it.
    untaken: bool,
    /// Whether nothing is to come of it, whatever its head says.
    bare: bool,
    /// Whether nothing more is to come of it but its end.
    through: bool,
    /// Of a request.
    pub(super) sending: Option<Sending>,
    pub(super) upload: Option<Arc<Upload>>,
}

/// The longest wait for the next frame. The timer is set once per limit, not once per frame: when it fires too
/// early because of progress since, it is set again.
struct IdleLimit {
    limit: Duration,
    waiting_since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleLimit {
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + self.limit;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

impl<B: Body> Watched<B> {
    /// Watches `inner`.
    pub fn new(inner: B, watch: Box<dyn Watch>) -> Watched<B> {
        Watched::perhaps(inner, Some(watch))
    }

    /// Watches `inner` where there is who wants to be told.
    pub(super) fn perhaps(inner: B, watch: Option<Box<dyn Watch>>) -> Watched<B> {
        Watched {
            inner,
            watch,
            idle: None,
            untaken: false,
            bare: false,
            through: false,
            sending: None,
            upload: None,
        }
    }

    /// Fails the body when its sender makes no progress for `limit` while it is being read. `None`: waits for ever.
    pub fn idle_limit(mut self, limit: Option<Duration>) -> Watched<B> {
        self.idle = limit.map(|limit| IdleLimit {
            limit,
            waiting_since: None,
            sleep: None,
        });
        self
    }

    /// There is none: it is of an answer to HEAD, of a 204 or of a 304.
    pub fn bare(mut self, bare: bool) -> Watched<B> {
        self.bare = bare;
        self
    }

    /// Whether nothing more is to come of it but its end; notes that, since who had all of it has not left before that.
    pub(super) fn is_through(&mut self) -> bool {
        let all = self.bare || self.inner.size_hint().exact() == Some(0);
        self.through = all && !self.untaken && !self.inner.is_end_stream();
        self.through
    }

    pub(super) fn pauses(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.waiting_since = None;
        }
    }

    pub(super) fn is_untaken(&mut self) {
        self.untaken = true;
    }

    fn tell(&mut self, how: BodyEnd<'_>) {
        if let Some(upload) = self.upload.take() {
            upload.end(matches!(how, BodyEnd::Complete));
        }
        if let Some(watch) = self.watch.take() {
            watch.end(how);
        }
    }
}

impl<B, E> Watched<B>
where
    B: Body<Data = Bytes, Error = E> + Unpin,
    E: Into<BodyError>,
{
    /// Waits until it is over, or goes on against its own head.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(Pin::new(&mut *self).poll_frame(cx)) {
                Some(Ok(frame)) if frame.data_ref().is_none_or(Bytes::is_empty) => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<B, E> Body for Watched<B>
where
    B: Body<Data = Bytes, Error = E> + Unpin,
    E: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.sending.as_ref().is_some_and(Sending::waits) {
            // It is the upstream that makes no progress.
            this.pauses();
            if let Some(upload) = &this.upload {
                upload.is_full();
            }
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Some(upload) = &this.upload {
            match polled {
                Poll::Ready(_) => upload.goes_on(),
                Poll::Pending => upload.waits(),
            }
        }
        let frame = match (polled, &mut this.idle) {
            (Poll::Ready(frame), idle) => {
                if let Some(idle) = idle {
                    idle.waiting_since = None;
                }
                frame.map(|frame| frame.map_err(Into::into))
            }
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(idle)) => {
                ready!(idle.poll_expired(cx));
                Some(Err(BodyError::Idle(idle.limit)))
            }
        };
        let trailers = |frame: &Frame<Bytes>| frame.trailers_ref().is_some_and(|t| !are_trimmed(t));
        let frame = match frame {
            // HTTP/1 leaves no such whitespace; in HTTP/2 it makes a message malformed (RFC 9113 section 8.2.1).
            Some(Ok(frame)) if trailers(&frame) => Some(Err(BodyError::Untrimmed)),
            // h2 wants as much content as the length says, of a 304, too.
            Some(Err(_)) if this.bare => None,
            frame => frame,
        };
        match &frame {
            None => this.tell(BodyEnd::Complete),
            Some(Err(error)) => this.tell(BodyEnd::Failed(error)),
            Some(Ok(frame)) => {
                if let Some(watch) = &mut this.watch {
                    match (frame.data_ref(), frame.trailers_ref()) {
                        (Some(data), _) => watch.data(data.len()),
                        (None, Some(fields)) => watch.trailers(fields),
                        (None, None) => {}
                    }
                }
                // Tell now: whoever reads may not poll again when the length is exact, and never after trailers.
                if frame.is_trailers() || this.inner.is_end_stream() {
                    this.tell(BodyEnd::Complete);
                }
            }
        }
        let hold = |data| match &this.sending {
            Some(sending) => sending.hold(data),
            None => data,
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body> Drop for Watched<B> {
    fn drop(&mut self) {
        // A body with nothing (left) to read is never polled again, and that is no cancellation.
        if self.inner.is_end_stream() || self.through {
            self.tell(BodyEnd::Complete);
        } else {
            self.tell(match self.untaken {
                true => BodyEnd::Untaken,
                false => BodyEnd::Cancelled,
            });
        }
    }
}
