//! The span queue between the data path and the worker.
//!
//! Bounded by spans and by bytes. Never waits: a push holds one short lock (a pointer is moved, counters are set). Spans
//! wait encoded, which is done before the lock is taken.
//! When full, the oldest span makes room: what happens now is worth more than what happened before the outage.
//! All counting is done under the same lock, so that a [`Ledger`] is exact at every instant.

use std::cell::RefCell;
use std::collections::VecDeque;
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

/// A finished span as it is sent ([`encode::span`]).
pub(super) type Encoded = Box<[u8]>;

/// What is kept for a span besides its bytes: its place in the list, and what an allocator adds.
const OVERHEAD: usize = size_of::<Encoded>() + 16;
/// A thread keeps no more than this for the next span.
const SCRATCH: usize = 16 * 1024;

struct State {
    waiting: VecDeque<Encoded>,
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
                waiting: VecDeque::new(),
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
    fn make_room(&self, state: &mut State, spans: usize, bytes: usize) -> Vec<Encoded> {
        let mut out = Vec::new();
        let (max_spans, max_bytes) = self.room(state);
        while state.waiting.len() + spans > max_spans || state.bytes + bytes > max_bytes {
            let Some(oldest) = state.waiting.pop_front() else {
                break;
            };
            state.bytes = state.bytes.saturating_sub(cost(&oldest));
            state.ledger.queued -= 1;
            self.count_dropped(state, 1, Dropped::QueueFull);
            out.push(oldest);
        }
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
    pub(super) fn take(&self) -> Vec<Encoded> {
        let mut state = self.lock();
        let mut batch = Vec::with_capacity(self.max_batch.min(state.waiting.len()));
        let mut bytes = 0;
        while batch.len() < self.max_batch {
            match state.waiting.front() {
                Some(span) if batch.is_empty() || bytes + cost(span) <= MAX_BATCH_BYTES => {}
                _ => break,
            }
            if let Some(span) = state.waiting.pop_front() {
                bytes += cost(&span);
                batch.push(span);
            }
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        state.since = Instant::now();
        state.ledger.queued -= batch.len() as u64;
        state.ledger.in_flight += batch.len() as u64;
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
        let waiting = std::mem::take(&mut state.waiting);
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
        let span = match self.disabled {
            true => Encoded::default(),
            false => encoded(&record),
        };
        drop(record);
        let size = cost(&span);
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
        if state.waiting.is_empty() {
            state.since = Instant::now();
        }
        state.waiting.push_back(span);
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

/// What a span counts for while it waits.
fn cost(span: &Encoded) -> usize {
    span.len() + OVERHEAD
}

/// Written where the one before was, then copied at its exact size.
fn encoded(record: &Record) -> Encoded {
    thread_local! {
        static PLACE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let write = |place: &RefCell<Vec<u8>>| {
        // Nothing that is called here comes back here.
        let mut place = place.borrow_mut();
        place.clear();
        encode::span(&mut place, record);
        let span = Encoded::from(place.as_slice());
        place.shrink_to(SCRATCH);
        span
    };
    PLACE.try_with(write).unwrap_or_else(|_| {
        // The thread is going down.
        let mut span = Vec::new();
        encode::span(&mut span, record);
        span.into_boxed_slice()
    })
}

/// Bytes of one batch at most: collectors take 4 MiB by default.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

#[cfg(test)]
mod tests;
