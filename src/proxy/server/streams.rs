//! The streams of an HTTP/2 connection: a task each, counted, and ended when their client takes no data.
//!
//! A client that gives a stream no window holds what the stream holds for as long as it likes: TCP's own limit does
//! not see it, since the connection goes on. hyper has no deadline for it, so each stream's task has.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::task::TaskTracker;

use super::heads::Entered;
use crate::proxy::body::{BodyError, ResponseBody};
use crate::proxy::held::{Held, Pieces, SMALL};
use crate::proxy::timed::Clock;
use crate::telemetry::metrics::{Metrics, Reason};

/// A client that has taken more of a stream than it had a window for from the beginning has shown that it reads.
const WINDOW: usize = 64 * 1024;

tokio::task_local! {
    /// Of the stream whose task this is.
    static PROGRESS: Arc<Progress>;
}

/// How far a stream's response has come.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether there is data that waits for the client, and not for the upstream.
    owed: AtomicBool,
    frames: AtomicU64,
    /// Whether it was cut off, since its client takes nothing.
    reaped: AtomicBool,
    /// Of its connection, which may be cut off for the same.
    clock: Option<Arc<Clock>>,
}

/// The streams of one connection; hyper spawns them here. Each keeps it twice, so it is one pointer.
#[derive(Clone)]
pub(super) struct Streams(Arc<Shared>);

struct Shared {
    tasks: TaskTracker,
    started: Instant,
    /// When the last one ended, in milliseconds since `started`.
    ended: AtomicU64,
    limit: Option<Duration>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
}

impl Streams {
    /// `limit`: how long a client may take no data of a stream.
    pub(super) fn new(
        limit: Option<Duration>,
        clock: &Arc<Clock>,
        metrics: &Arc<Metrics>,
    ) -> Streams {
        Streams(Arc::new(Shared {
            tasks: TaskTracker::new(),
            started: Instant::now(),
            ended: AtomicU64::default(),
            limit,
            clock: clock.clone(),
            metrics: metrics.clone(),
        }))
    }

    /// How many there are.
    pub(super) fn in_hand(&self) -> usize {
        self.0.tasks.len()
    }

    /// Whether the client has shown that it reads what it is sent.
    pub(super) fn client_reads(&self) -> bool {
        self.0.clock.client_reads()
    }

    /// Since when there is no stream; `None` while there is one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let shared = &*self.0;
        let ended = Duration::from_millis(shared.ended.load(Ordering::Relaxed));
        shared.tasks.is_empty().then(|| shared.started + ended)
    }

    /// Waits until all have ended.
    pub(super) async fn wait(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Shared {
    /// Runs a stream to its end, or until its client has taken nothing for too long: then it is dropped, which resets
    /// it.
    async fn run<F: Future<Output = ()>>(self: Arc<Shared>, stream: F) {
        self.clock.request_begins(true);
        let progress = Arc::new(Progress {
            clock: Some(self.clock.clone()),
            ..Progress::default()
        });
        let mut stream = std::pin::pin!(PROGRESS.scope(progress.clone(), stream));
        let mut reaper = Reaper {
            limit: self.limit,
            seen: 0,
            sleep: None,
        };
        let reaped = std::future::poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            reaper.poll_stalled(&progress, cx).map(|()| true)
        });
        if reaped.await {
            progress.reaped.store(true, Ordering::Relaxed);
            let reason = "stalled_stream";
            self.metrics
                .protocol_errors
                .get_or_create(&Reason { reason })
                .inc();
        }
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ended.store(now, Ordering::Relaxed);
        // This one is still counted.
        if self.tasks.len() <= 1 {
            self.clock.idles_from(std::time::Instant::now());
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.tasks.spawn(self.0.clone().run(stream));
    }
}

/// Waits for a client that owes a stream its window.
struct Reaper {
    limit: Option<Duration>,
    seen: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Reaper {
    fn poll_stalled(&mut self, progress: &Progress, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(limit), true) = (self.limit, progress.owed.load(Ordering::Relaxed)) else {
            self.sleep = None;
            return Poll::Pending;
        };
        let frames = progress.frames.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.seen, frames) != frames {
            self.sleep = None;
        }
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        sleep.as_mut().poll(cx)
    }
}

/// The content of a response on a stream; notes whose turn it is.
pub(super) struct Paced {
    inner: ResponseBody,
    progress: Option<Arc<Progress>>,
    held: Held,
    pieces: Option<Arc<Pieces>>,
    taken: usize,
    _entered: Option<Entered>,
}

impl Paced {
    /// To be called on the task of the stream.
    pub(super) fn new(
        inner: ResponseBody,
        entered: Option<Entered>,
        held: Held,
        pieces: Option<Arc<Pieces>>,
    ) -> Paced {
        let progress = PROGRESS.try_with(Arc::clone).ok();
        if let Some(progress) = &progress {
            // The head goes in any case; the first data waits for a window.
            progress
                .owed
                .store(!inner.is_end_stream(), Ordering::Relaxed);
        }
        Paced {
            inner,
            progress,
            held,
            pieces,
            taken: 0,
            _entered: entered,
        }
    }
}

impl Paced {
    /// `data`, which may wait for a window. What is small is a part of the buffer that it was read into: it would keep all
    /// of that.
    fn hold(&self, data: Bytes) -> Bytes {
        match data.len() {
            ..SMALL => Bytes::copy_from_slice(&data),
            _ => self.held.hold(data, self.pieces.as_ref()),
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.held.waits(&mut this.inner, this.pieces.as_ref(), cx) {
            // Still owed.
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Some(progress) = &self.progress {
            let owed = matches!(polled, Poll::Ready(Some(Ok(_))));
            progress.owed.store(owed, Ordering::Relaxed);
            progress
                .frames
                .fetch_add(u64::from(owed), Ordering::Relaxed);
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.taken += frame.data_ref().map_or(0, Bytes::len);
            if let Some(pieces) = self.pieces.as_ref().filter(|_| self.taken > WINDOW) {
                pieces.are_taken();
            }
        }
        let polled = polled.map_ok(|frame| frame.map_data(|data| self.hold(data)));
        if self.inner.is_end_stream() {
            // The last of it may wait for long, and nothing more comes.
            self.inner = ResponseBody::Empty;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        let cut = |progress: &Arc<Progress>| {
            progress.reaped.load(Ordering::Relaxed)
                || progress.clock.as_ref().is_some_and(|c| c.is_untaken())
        };
        if self.progress.as_ref().is_some_and(cut) {
            self.inner.is_untaken();
        }
        std::mem::take(&mut self.inner).let_go();
    }
}

#[cfg(test)]
mod tests;
