//! Message content, and how it ended.
//!
//! [`Watched`] tells its [`Watch`] exactly once whether a body was complete, failed or was dropped. This is harder
//! than it looks, since hyper does not poll a body to its end: with an exact `Content-Length` it never polls the last
//! `None`, and the bodies of HEAD, 204 and 304 are never polled at all. Both are seen by `is_end_stream()`, which is
//! asked after every frame and when the body is dropped. Nothing is buffered here.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::held::Sending;

/// What a request to an upstream carries.
pub type RequestBody = Content;
/// What a response to a client carries.
pub type ResponseBody = Content;

/// The content of a message (RFC 9110 section 6.4).
#[derive(Default)]
pub enum Content {
    /// None at all.
    #[default]
    Empty,
    /// Bytes at hand, sent as one frame.
    Full(Bytes),
    /// Streamed from the other side, unwatched.
    Plain(Incoming),
    /// Streamed from the other side; tells how it ended.
    Streaming(Watched<Incoming>),
}

impl Content {
    /// Streams `body`, and fails it when its sender makes no progress for `limit` while it is being read.
    /// Where its length is not known, `trailers` is set once it has ended with any.
    pub fn limited(
        body: Incoming,
        limit: Option<Duration>,
        trailers: Option<&Arc<AtomicBool>>,
    ) -> Content {
        if body.is_end_stream() {
            return Content::Empty;
        }
        let watch = trailers.map(|seen| -> Box<dyn Watch> { Box::new(Trailers(seen.clone())) });
        let watched = Watched {
            inner: body,
            watch,
            idle: None,
            sending: None,
        };
        Content::Streaming(watched.idle_limit(limit))
    }

    /// It is its receiver that makes no progress: the time does not count against its sender.
    pub(super) fn pauses(&mut self) {
        if let Content::Streaming(body) = self {
            body.pauses();
        }
    }

    /// How it is sent to an upstream.
    pub(super) fn is_sent(&mut self, how: Sending) {
        if let Content::Streaming(body) = self {
            body.sending = Some(how);
        }
    }
}

/// Notes trailers.
struct Trailers(Arc<AtomicBool>);

impl Watch for Trailers {
    fn trailers(&mut self, _: &HeaderMap) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn end(self: Box<Self>, _: BodyEnd<'_>) {}
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Content::Empty => "Empty",
            Content::Full(_) => "Full",
            Content::Plain(_) => "Plain",
            Content::Streaming(_) => "Streaming",
        })
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Content {
        if bytes.is_empty() {
            Content::Empty
        } else {
            Content::Full(bytes)
        }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Content {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Content {
    fn from(text: &'static str) -> Content {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Content::Empty => Poll::Ready(None),
            Content::Full(_) => match std::mem::take(&mut *self) {
                Content::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Content::Plain(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Http),
            Content::Streaming(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Empty => true,
            Content::Full(_) => false,
            Content::Plain(body) => body.is_end_stream(),
            Content::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Plain(body) => body.size_hint(),
            Content::Streaming(body) => body.size_hint(),
        }
    }
}

/// Why a body did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection or its framing failed.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// No byte came for this long.
    #[error("no progress for {0:?}")]
    Idle(Duration),
}

impl From<Infallible> for BodyError {
    fn from(never: Infallible) -> BodyError {
        match never {}
    }
}

/// What kind of [`BodyError`], for whoever must name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// The connection ended before the body did.
    Truncated,
    /// The connection was reset.
    Reset,
    /// The framing was not HTTP.
    Malformed,
    /// No byte came for too long.
    Idle,
}

impl BodyError {
    /// Which kind it is.
    pub fn fault(&self) -> BodyFault {
        let BodyError::Http(error) = self else {
            return BodyFault::Idle;
        };
        match io_kind(error) {
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => BodyFault::Reset,
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => BodyFault::Malformed,
            Some(io::ErrorKind::TimedOut) => BodyFault::Idle,
            _ => BodyFault::Truncated,
        }
    }
}

/// The kind of the first `io::Error` among the causes of an error.
pub(crate) fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = current.source();
    }
    None
}

/// The first [`BodyError`] among the causes of an error.
pub(crate) fn body_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a BodyError> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(body) = current.downcast_ref::<BodyError>() {
            return Some(body);
        }
        cause = current.source();
    }
    None
}

/// How a body ended.
#[derive(Debug)]
pub enum BodyEnd<'a> {
    /// Every byte was handed on, trailers included.
    Complete,
    /// It broke; the receiver is told by an aborted connection.
    Failed(&'a BodyError),
    /// Whoever read it stopped before the end.
    Cancelled,
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
    /// Of a request.
    sending: Option<Sending>,
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
        Watched {
            inner,
            watch: Some(watch),
            idle: None,
            sending: None,
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

    fn pauses(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.waiting_since = None;
        }
    }

    fn tell(&mut self, how: BodyEnd<'_>) {
        if let Some(watch) = self.watch.take() {
            watch.end(how);
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
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
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
        if self.inner.is_end_stream() {
            self.tell(BodyEnd::Complete);
        } else {
            self.tell(BodyEnd::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests;
