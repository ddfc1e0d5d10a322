//! The span queue between the data path and the worker.
//!
//! Bounded by spans and by bytes. Never waits: a push holds one short lock (some hundred bytes are copied, counters are
//! set). Spans wait encoded, which is done before the lock is taken.
//! When full, the oldest span makes room: what happens now is worth more than what happened before the outage.
//! All counting is done under the same lock, so that a [`Ledger`] is exact at every instant.

mod waiting;

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use super::encode;
use super::ledger::{Dropped, Ledger, Status};
use crate::config::Export;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::{Code, Metrics};
use crate::trace::span::{Record, Sink};
pub(super) use waiting::Taken;
use waiting::{OVERHEAD, Waiting};

/// A thread keeps no more than this for the next span.
const SCRATCH: usize = 16 * 1024;

struct State {
    waiting: Waiting,
    bytes: usize,
    /// When the span at the front began to wait for a batch.
    since: Instant,
    closed: Option<Dropped>,
    /// Whether only a quarter of it may be used: memory is short.
    tight: bool,
    ledger: Ledger,
    status: Status,
}

/// Counter and gauge handles, looked up once.
struct Series {
    spans: Counter,
    exported: Counter,
    dropped: [(Dropped, Counter); 5],
    queue_spans: Gauge,
    queue_bytes: Gauge,
    in_flight: Gauge,
}

/// The queue: the data path's [`Sink`].
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
    /// Nothing is ever sent.
    disabled: bool,
    max_spans: usize,
    max_bytes: usize,
    max_batch: usize,
    series: Series,
}

impl Queue {
    /// An empty queue. `endpoint` is for people.
    pub(super) fn new(settings: &Export, endpoint: String, metrics: &Arc<Metrics>) -> Queue {
        let outcome = |outcome| {
            metrics
                .export_spans
                .get_or_create_owned(&Outcome { outcome })
        };
        Queue {
            state: Mutex::new(State {
                waiting: Waiting::new(settings.queue_bytes),
                bytes: 0,
                since: Instant::now(),
                closed: settings.disabled.then_some(Dropped::Disabled),
                tight: false,
                ledger: Ledger::default(),
                status: Status {
                    endpoint,
                    protocol: settings.protocol.as_str(),
                    failing: false,
                    last_error: None,
                    code: None,
                    last_success: None,
                },
            }),
            changed: Notify::new(),
            disabled: settings.disabled,
            max_spans: settings.queue_spans.max(1),
            max_bytes: settings.queue_bytes,
            // A batch can never be larger than the queue.
            max_batch: settings.max_batch.clamp(1, settings.queue_spans.max(1)),
            series: Series {
                spans: metrics.spans.clone(),
                exported: outcome("exported"),
                dropped: Dropped::ALL.map(|why| (why, outcome(why.as_str()))),
                queue_spans: metrics.export_queue_spans.clone(),
                queue_bytes: metrics.export_queue_bytes.clone(),
                in_flight: metrics.export_in_flight_spans.clone(),
            },
        }
    }

    /// Where every span is, exact.
    pub fn ledger(&self) -> Ledger {
        self.lock().ledger
    }

    /// Whether only a quarter of the queue may be used; the oldest beyond that are dropped.
    pub fn tighten(&self, tight: bool) {
        let mut state = self.lock();
        if state.tight == tight {
            return;
        }
        state.tight = tight;
        let out = self.make_room(&mut state, 0, 0);
        self.show(&state);
        // Freed after the lock is given back.
        drop(state);
        drop(out);
    }

    /// Takes the oldest out until there is room for so many more.
    fn make_room(&self, state: &mut State, spans: usize, bytes: usize) -> Taken {
        let (max_spans, max_bytes) = self.room(state);
        let spans = (state.waiting.len() + spans).saturating_sub(max_spans);
        let bytes = (state.bytes + bytes).saturating_sub(max_bytes);
        if spans == 0 && bytes == 0 {
            return Taken::default();
        }
        let more = |gone, cost, _| gone < spans || cost < bytes;
        let (out, cost) = state.waiting.take(more);
        state.bytes = state.bytes.saturating_sub(cost);
        state.ledger.queued -= out.spans as u64;
        self.count_dropped(state, out.spans as u64, Dropped::QueueFull);
        out
    }

    /// How many spans and bytes it may hold now.
    fn room(&self, state: &State) -> (usize, usize) {
        match state.tight {
            true => ((self.max_spans / 4).max(1), self.max_bytes / 4),
            false => (self.max_spans, self.max_bytes),
        }
    }

    /// How the exporter is doing.
    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and a list are consistent after any panic: nothing in here can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a batch is due: full, or its first span has waited for `delay`.
    pub(super) async fn due(&self, delay: Duration) {
        loop {
            let changed = self.changed.notified();
            let (spans, bytes, since) = {
                let state = self.lock();
                (state.waiting.len(), state.bytes, state.since)
            };
            if spans >= self.max_batch || bytes >= MAX_BATCH_BYTES {
                return;
            }
            if spans == 0 {
                changed.await;
                continue;
            }
            let due = tokio::time::Instant::from_std(since + delay);
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                () = changed => {}
            }
        }
    }

    /// Takes the oldest spans, a batch at most; they are in flight until [`Queue::settle`].
    pub(super) fn take(&self) -> Taken {
        let mut state = self.lock();
        let more = |spans, bytes, next| {
            spans == 0 || (spans < self.max_batch && bytes + next <= MAX_BATCH_BYTES)
        };
        let (batch, bytes) = state.waiting.take(more);
        state.bytes = state.bytes.saturating_sub(bytes);
        state.since = Instant::now();
        state.ledger.queued -= batch.spans as u64;
        state.ledger.in_flight += batch.spans as u64;
        self.show(&state);
        batch
    }

    /// `spans` that were in flight are done: `dropped` of them for `why`, the others exported.
    pub(super) fn settle(&self, spans: u64, dropped: u64, why: Dropped) {
        let mut state = self.lock();
        let spans = spans.min(state.ledger.in_flight);
        let dropped = dropped.min(spans);
        state.ledger.in_flight -= spans;
        state.ledger.exported += spans - dropped;
        self.series.exported.inc_by(spans - dropped);
        self.count_dropped(&mut state, dropped, why);
        self.show(&state);
    }

    /// Closes the queue: spans that finish from now on are dropped as `shutdown`.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed.get_or_insert(Dropped::Shutdown);
        drop(state);
        self.changed.notify_one();
    }

    /// Drops all that is left, in flight too: the worker is gone.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        let (waiting, _) = state.waiting.take(|_, _, _| true);
        let left = state.ledger.left();
        state.bytes = 0;
        state.ledger.queued = 0;
        state.ledger.in_flight = 0;
        self.count_dropped(&mut state, left, Dropped::Shutdown);
        self.show(&state);
        drop(state);
        drop(waiting);
    }

    /// Notes the result of an attempt. Gives whether this is news: the first failure, or the first success after one.
    pub(super) fn note(&self, result: Result<(), (Code, String)>) -> bool {
        let mut state = self.lock();
        let status = &mut state.status;
        let failed = result.is_err();
        match result {
            Ok(()) => status.last_success = Some(SystemTime::now()),
            Err((code, error)) => {
                status.last_error = Some((error, SystemTime::now()));
                status.code = Some(code);
            }
        }
        std::mem::replace(&mut status.failing, failed) != failed
    }

    fn count_dropped(&self, state: &mut State, spans: u64, why: Dropped) {
        if spans == 0 {
            return;
        }
        *state.ledger.drop_slot(why) += spans;
        for (reason, counter) in &self.series.dropped {
            if *reason == why {
                counter.inc_by(spans);
            }
        }
    }

    fn show(&self, state: &State) {
        self.series
            .queue_spans
            .set(state.ledger.queued.cast_signed());
        self.series.queue_bytes.set(state.bytes as i64);
        self.series
            .in_flight
            .set(state.ledger.in_flight.cast_signed());
    }
}

impl Sink for Queue {
    fn finished(&self, record: Box<Record>) {
        thread_local! {
            static PLACE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        if self.disabled {
            return self.push(&[]);
        }
        let mut record = Some(record);
        // Written where the one before was.
        let mut write = |place: &mut Vec<u8>| {
            let Some(record) = record.take() else { return };
            place.clear();
            encode::span(place, &record);
            drop(record);
            self.push(place);
            place.shrink_to(SCRATCH);
        };
        // Nothing that is called here comes back here.
        let written = PLACE.try_with(|place| write(&mut place.borrow_mut()));
        if written.is_err() {
            // The thread is going down.
            write(&mut Vec::new());
        }
    }
}

impl Queue {
    /// Queues an encoded span.
    fn push(&self, span: &[u8]) {
        let size = span.len() + OVERHEAD;
        let mut state = self.lock();
        self.series.spans.inc();
        state.ledger.finished += 1;
        if let Some(why) = state.closed {
            self.count_dropped(&mut state, 1, why);
            return;
        }
        if size > self.room(&state).1 {
            self.count_dropped(&mut state, 1, Dropped::QueueFull);
            return;
        }
        // What falls out is freed after the lock is given back.
        let out = self.make_room(&mut state, 1, size);
        if state.waiting.len() == 0 {
            state.since = Instant::now();
        }
        state.waiting.push(span);
        state.ledger.queued += 1;
        let before = state.bytes;
        state.bytes += size;
        self.show(&state);
        let spans = state.waiting.len();
        // The worker is woken when its clock starts and when a batch is full, not for each span.
        let wake = spans == 1
            || spans == self.max_batch
            || (before < MAX_BATCH_BYTES && state.bytes >= MAX_BATCH_BYTES);
        drop(state);
        drop(out);
        if wake {
            self.changed.notify_one();
        }
    }
}

/// Bytes of one batch at most: collectors take 4 MiB by default.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

#[cfg(test)]
mod tests;
