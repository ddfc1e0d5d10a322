//! Message content, what can go wrong with it, and how it ended ([`Watched`]). Nothing is buffered here.

mod upload;
mod watched;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::runtime::Handle;

use super::held::Sending;
pub use upload::Upload;
pub use watched::{BodyEnd, Watch, Watched};

/// How long an upstream may take to say that a content is over of which nothing is to come.
const END: Duration = Duration::from_secs(10);

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
    /// Streamed from the other side; tells how it ended. Boxed: hyper keeps the room of 32 requests for each connection to an
    /// upstream.
    Streaming(Box<Watched<Incoming>>),
}

const _: () = assert!(size_of::<Content>() <= 40);

impl Content {
    /// Streams `body`, and fails it when its sender makes no progress for `limit` while it is being read.
    /// Where its length is not known, `trailers` is set once it has ended with any. `upload` is kept up to date.
    pub fn limited(
        body: Incoming,
        limit: Option<Duration>,
        trailers: Option<&Arc<AtomicBool>>,
        upload: Option<&Arc<Upload>>,
    ) -> Content {
        if body.is_end_stream() {
            if let Some(upload) = upload {
                upload.end(true);
            }
            return Content::Empty;
        }
        let watch = trailers.map(|seen| -> Box<dyn Watch> { Box::new(Trailers(seen.clone())) });
        let mut watched = Watched::perhaps(body, watch).idle_limit(limit);
        watched.upload = upload.cloned();
        watched.into()
    }

    /// It is its receiver that makes no progress: the time does not count against its sender.
    pub(super) fn pauses(&mut self) {
        if let Content::Streaming(body) = self {
            body.pauses();
        }
    }

    /// Its receiver is cut off, having taken nothing more of it for too long.
    pub(super) fn is_untaken(&mut self) {
        if let Content::Streaming(body) = self {
            body.is_untaken();
        }
    }

    /// Lets go of it where its receiver wants no more of it. An upstream of HTTP/2 may say in a frame of its own that a
    /// content is over whose length is through, or that there is none (RFC 9110 section 6.4.1): hyper does not wait for
    /// that, and without it the stream would be reset, and told as one that its receiver left.
    pub(super) fn let_go(self) {
        let Content::Streaming(mut body) = self else {
            return;
        };
        if body.is_through()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(END, poll_fn(|cx| body.poll_over(cx))).await;
            });
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
            Content::Streaming(_) => "Streaming",
        })
    }
}

impl From<Watched<Incoming>> for Content {
    fn from(body: Watched<Incoming>) -> Content {
        Content::Streaming(Box::new(body))
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
            Content::Streaming(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Empty => true,
            Content::Full(_) => false,
            Content::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
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
    /// A field of its trailers begins or ends with whitespace.
    #[error("a trailer field begins or ends with whitespace")]
    Untrimmed,
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
        let error = match self {
            BodyError::Http(error) => error,
            BodyError::Idle(_) => return BodyFault::Idle,
            BodyError::Untrimmed => return BodyFault::Malformed,
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

#[cfg(test)]
mod tests;
