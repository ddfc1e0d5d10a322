//! The worker: one task that takes batches of encoded spans from the queue and sends them.
//!
//! One batch is under way at a time. A batch that failed is kept and tried again as the breaker allows, for `give_up` at
//! most; meanwhile the queue fills and drops its oldest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::breaker::{Breaker, Timing};
use super::encode::Envelope;
use super::ledger::{Dropped, Ledger};
use super::queue::Queue;
use super::transport::{Again, Failure, Transport};
use crate::config::Export;
use crate::telemetry::metrics::Reason;
use crate::telemetry::{Code, Metrics};

/// Complaints of a collector that takes requests are logged so often at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);

/// What a flush or a shutdown achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Whether nothing was left when it ended.
    pub complete: bool,
    /// Where all spans are now.
    pub ledger: Ledger,
}

/// The handle of the exporter's task. Dropping it stops export without a flush; use [`Worker::shutdown`].
pub struct Worker {
    queue: Arc<Queue>,
    running: Option<(mpsc::Sender<Drain>, JoinHandle<()>)>,
}

/// Send all there is, until a point in time; then answer.
struct Drain {
    until: Instant,
    done: oneshot::Sender<()>,
}

impl Worker {
    /// A worker with nothing to do, for disabled export.
    pub(super) fn idle(queue: Arc<Queue>) -> Worker {
        Worker {
            queue,
            running: None,
        }
    }

    /// Starts the task.
    pub(super) fn spawn(
        settings: Export,
        queue: Arc<Queue>,
        transport: Transport,
        envelope: Envelope,
        metrics: Arc<Metrics>,
    ) -> Worker {
        let timing = Timing::of(&settings);
        let (commands, orders) = mpsc::channel(8);
        let task = Task {
            settings,
            queue: queue.clone(),
            transport,
            envelope,
            metrics,
            breaker: Breaker::new(timing),
            give_up: timing.give_up,
            pending: None,
            not_before: None,
            complained: None,
        };
        let running = tokio::spawn(task.run(orders));
        Worker {
            queue,
            running: Some((commands, running)),
        }
    }

    /// Sends what is queued now, for `deadline` at most; a collector that is down is tried until then. What could not be
    /// sent stays queued.
    pub async fn flush(&self, deadline: Duration) -> Flushed {
        if let Some((commands, _)) = &self.running {
            drain(commands, deadline).await;
        }
        self.report()
    }

    /// Closes the queue, sends what is left for `deadline` at most, and stops. The rest is dropped and counted as
    /// `shutdown`, as are spans that finish from now on.
    pub async fn shutdown(mut self, deadline: Duration) -> Flushed {
        self.queue.close();
        let mut complete = true;
        if let Some((commands, task)) = self.running.take() {
            drain(&commands, deadline).await;
            complete = self.queue.ledger().left() == 0;
            task.abort();
            // Ended or aborted: either way it counts nothing any more.
            drop(task.await);
        }
        self.queue.abandon();
        Flushed {
            complete,
            ledger: self.queue.ledger(),
        }
    }

    fn report(&self) -> Flushed {
        let ledger = self.queue.ledger();
        Flushed {
            complete: ledger.left() == 0,
            ledger,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
            self.queue.close();
            self.queue.abandon();
        }
    }
}

async fn drain(commands: &mpsc::Sender<Drain>, deadline: Duration) {
    let until = Instant::now() + deadline;
    let (done, drained) = oneshot::channel();
    let ask = async {
        if commands.send(Drain { until, done }).await.is_ok() {
            // An error means that the task is gone; then there is nothing to wait for.
            let _ = drained.await;
        }
    };
    // The task may be in an attempt that takes longer than the deadline.
    let _ = tokio::time::timeout_at(until, ask).await;
}

/// A batch on its way.
struct Batch {
    request: Bytes,
    spans: u64,
    since: Instant,
}

struct Task {
    settings: Export,
    queue: Arc<Queue>,
    transport: Transport,
    envelope: Envelope,
    metrics: Arc<Metrics>,
    breaker: Breaker,
    give_up: Duration,
    pending: Option<Batch>,
    not_before: Option<Instant>,
    complained: Option<Instant>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Drain>) {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => {
                    let Some(order) = order else { return };
                    self.drain(order.until).await;
                    // Nobody may be waiting any more.
                    let _ = order.done.send(());
                }
                () = self.ready() => self.step(self.settings.timeout).await,
            }
        }
    }

    /// Waits until the breaker allows an attempt and there is a batch to send.
    async fn ready(&self) {
        if let Some(at) = self.not_before {
            tokio::time::sleep_until(at).await;
        }
        if self.pending.is_none() {
            self.queue.due(self.settings.schedule_delay).await;
        }
    }

    /// Sends batch after batch until nothing is left or time is up. The first attempt does not wait for the breaker.
    async fn drain(&mut self, until: Instant) {
        while self.pending.is_some() || self.queue.ledger().queued > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.step(self.settings.timeout.min(left)).await;
            if self.pending.is_some()
                && let Some(at) = self.not_before
            {
                tokio::time::sleep_until(at.min(until)).await;
            }
        }
    }

    /// One attempt with the batch that is pending, or with a new one.
    async fn step(&mut self, timeout: Duration) {
        let batch = match self.pending.take() {
            Some(batch) => batch,
            None => self.next(),
        };
        if batch.spans == 0 {
            return;
        }
        let result = self.transport.send(batch.request.clone(), timeout).await;
        match result {
            Ok(accepted) => {
                self.breaker.close();
                self.not_before = None;
                if accepted.rejected > 0 {
                    let partial = Reason { reason: "partial" };
                    self.metrics.export_failures.get_or_create(&partial).inc();
                }
                if accepted.rejected > 0 || !accepted.message.is_empty() {
                    self.complain(accepted.rejected, &accepted.message);
                }
                if self.queue.note(Ok(())) {
                    tracing::info!("spans are exported again");
                }
                self.queue
                    .settle(batch.spans, accepted.rejected, Dropped::Rejected);
            }
            Err(failure) => self.failed(batch, failure),
        }
    }

    fn failed(&mut self, batch: Batch, failure: Failure) {
        let reason = failure.reason;
        self.metrics
            .export_failures
            .get_or_create(&Reason { reason })
            .inc();
        let Again::Later(asked) = failure.again else {
            // The server is there: the next batch may fare better, at once.
            self.breaker.close();
            self.not_before = None;
            self.complain(batch.spans, &failure.detail);
            self.queue.note(Err((failure.code(), failure.detail)));
            self.queue
                .settle(batch.spans, batch.spans, Dropped::Rejected);
            return;
        };
        let wait = self.breaker.open(asked);
        self.not_before = Some(Instant::now() + wait);
        let endpoint = self.queue.status().endpoint;
        let code = failure.code();
        if self.queue.note(Err((code, failure.detail.clone()))) {
            tracing::warn!(
                %code, %endpoint, reason, error = %failure.detail,
                "spans cannot be exported; hopspan keeps trying, requests are not affected"
            );
        }
        if batch.since.elapsed() >= self.give_up {
            self.queue.settle(batch.spans, batch.spans, Dropped::Failed);
        } else {
            self.pending = Some(batch);
        }
    }

    /// Takes a batch; its spans are in flight from here on.
    fn next(&self) -> Batch {
        let spans = self.queue.take();
        Batch {
            request: self.envelope.request(&spans.blocks),
            spans: spans.spans as u64,
            since: Instant::now(),
        }
    }

    /// Logs what the collector has against spans, now and then.
    fn complain(&mut self, rejected: u64, message: &str) {
        let now = Instant::now();
        if self
            .complained
            .is_none_or(|at| now - at >= COMPLAINT_INTERVAL)
        {
            self.complained = Some(now);
            tracing::warn!(code = %Code::CollectorRejects, rejected, error = %message, "the collector refused spans");
        }
    }
}
