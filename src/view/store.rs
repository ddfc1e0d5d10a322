//! The traces in memory: bounded by bytes and by number, oldest out first, traces with errors last.
//!
//! What is evicted or not kept is counted, never silent. Spans of one trace may come in any order and in many batches;
//! one that comes twice (same trace and span ID) is kept once. Nothing is written to disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use opentelemetry::{SpanId, TraceId};
use tokio::sync::watch;

use super::span::Span;
use super::weight;

/// What a trace takes besides its spans, about, in bytes.
const TRACE_BYTES: usize = 512;

/// How much a [`Store`] may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes over all traces, as estimated by `weight`. One trace gets a quarter of it.
    pub bytes: usize,
    /// Traces.
    pub traces: usize,
}

/// What a [`Store`] has seen and holds.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Export requests received.
    pub requests: u64,
    /// Spans received, valid or not.
    pub spans_received: u64,
    /// Spans without a valid trace or span ID.
    pub spans_rejected: u64,
    /// Spans that came more than once.
    pub spans_duplicate: u64,
    /// Spans not kept since their trace was too large.
    pub spans_not_kept: u64,
    /// Spans that left with their trace.
    pub spans_evicted: u64,
    /// Traces that left to make room.
    pub traces_evicted: u64,
    /// When a trace was first evicted, seconds since the Unix epoch.
    pub evicting_since: Option<u64>,
    /// Connections that spoke another protocol than the port's.
    pub protocol_mistakes: u64,
    /// Traces held now.
    pub traces: usize,
    /// Spans held now.
    pub spans: usize,
    /// Bytes held now, about.
    pub bytes: usize,
    /// Bytes that may be held.
    pub max_bytes: usize,
}

/// A trace as it is at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its ID.
    pub trace_id: TraceId,
    /// Its spans, in order of arrival.
    pub spans: Vec<Arc<Span>>,
    /// Spans of it that were not kept.
    pub not_kept: u64,
    /// When its newest span came.
    pub last_arrival: Instant,
}

/// What a prefix of a trace ID found.
#[derive(Debug)]
pub enum Found {
    /// One trace.
    One(Snapshot),
    /// None.
    None,
    /// Several: their number and the first few IDs.
    Several(usize, Vec<TraceId>),
}

struct Trace {
    seq: u64,
    spans: Vec<Arc<Span>>,
    index: HashMap<SpanId, usize>,
    bytes: usize,
    /// For the order of the list: when it started, but not later than when it came.
    start: u64,
    failing: bool,
    not_kept: u64,
    last_arrival: Instant,
}

#[derive(Default)]
struct Inner {
    traces: HashMap<TraceId, Trace>,
    /// Traces without an error, by age.
    calm: BTreeMap<u64, TraceId>,
    /// Traces with an error, by age.
    failing: BTreeMap<u64, TraceId>,
    failing_bytes: usize,
    next_seq: u64,
    counts: Counts,
}

/// The traces. Shared by the receivers (which add) and the API (which reads).
pub struct Store {
    limits: Limits,
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

impl Store {
    /// An empty store.
    pub fn new(limits: Limits) -> Arc<Store> {
        let mut inner = Inner::default();
        inner.counts.max_bytes = limits.bytes;
        Arc::new(Store {
            limits,
            inner: Mutex::new(inner),
            changed: watch::Sender::new(0),
        })
    }

    /// Adds the spans of one export request, of which `rejected` more were not valid.
    pub fn add(&self, spans: Vec<Span>, rejected: usize) {
        {
            let inner = &mut *self.lock();
            inner.counts.requests += 1;
            inner.counts.spans_received += (spans.len() + rejected) as u64;
            inner.counts.spans_rejected += rejected as u64;
            let now = Instant::now();
            for span in spans {
                inner.insert(span, self.limits.bytes / 4, now);
            }
            inner.evict(&self.limits);
        }
        self.changed.send_modify(|generation| *generation += 1);
    }

    /// Counts a connection that spoke another protocol than the port's.
    pub fn count_protocol_mistake(&self) {
        self.lock().counts.protocol_mistakes += 1;
    }

    /// The counts, now.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        let mut counts = inner.counts.clone();
        counts.traces = inner.traces.len();
        counts
    }

    /// Changes whenever spans came. Subscribe before looking, then nothing is missed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// IDs of the traces, newest first by when they started; with `failing`, only those with a failed span.
    pub fn newest(&self, failing: bool) -> Vec<TraceId> {
        let inner = self.lock();
        let mut found: Vec<(u64, u64, TraceId)> = inner
            .traces
            .iter()
            .filter(|(_, trace)| trace.failing || !failing)
            .map(|(id, trace)| (trace.start, trace.seq, *id))
            .collect();
        found.sort_unstable_by_key(|(start, seq, _)| std::cmp::Reverse((*start, *seq)));
        found.into_iter().map(|(_, _, id)| id).collect()
    }

    /// A trace by its ID.
    pub fn get(&self, id: TraceId) -> Option<Snapshot> {
        self.lock().snapshot(id)
    }

    /// The trace whose ID in hex starts with `prefix` (lower case).
    pub fn find(&self, prefix: &str) -> Found {
        if let Ok(id) = TraceId::from_hex(prefix)
            && prefix.len() == 32
        {
            return self.get(id).map_or(Found::None, Found::One);
        }
        let inner = self.lock();
        let mut matching: Vec<TraceId> = inner
            .traces
            .keys()
            .filter(|id| id.to_string().starts_with(prefix))
            .copied()
            .collect();
        match matching.as_slice() {
            [] => Found::None,
            [only] => inner.snapshot(*only).map_or(Found::None, Found::One),
            _ => {
                matching.sort_unstable_by_key(|id| id.to_bytes());
                let number = matching.len();
                matching.truncate(3);
                Found::Several(number, matching)
            }
        }
    }

    /// A panic while the lock was held leaves counts off by one at worst; the viewer goes on.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn snapshot(&self, id: TraceId) -> Option<Snapshot> {
        self.traces.get(&id).map(|trace| Snapshot {
            trace_id: id,
            spans: trace.spans.clone(),
            not_kept: trace.not_kept,
            last_arrival: trace.last_arrival,
        })
    }

    fn insert(&mut self, span: Span, max_trace_bytes: usize, now: Instant) {
        let id = span.trace_id;
        let trace = self.traces.entry(id).or_insert_with(|| {
            let seq = self.next_seq;
            self.next_seq += 1;
            self.calm.insert(seq, id);
            self.counts.bytes += TRACE_BYTES;
            Trace {
                seq,
                spans: Vec::new(),
                index: HashMap::new(),
                bytes: TRACE_BYTES,
                start: unix_nanos_now(),
                failing: false,
                not_kept: 0,
                last_arrival: now,
            }
        });
        trace.last_arrival = now;
        if trace.index.contains_key(&span.span_id) {
            self.counts.spans_duplicate += 1;
            return;
        }
        let bytes = weight::span(&span);
        if trace.bytes + bytes > max_trace_bytes {
            trace.not_kept += 1;
            self.counts.spans_not_kept += 1;
            return;
        }
        if span.failed() && !trace.failing {
            trace.failing = true;
            self.calm.remove(&trace.seq);
            self.failing.insert(trace.seq, id);
            self.failing_bytes += trace.bytes;
        }
        trace.start = trace.start.min(span.start_unix_nanos);
        trace.bytes += bytes;
        trace.index.insert(span.span_id, trace.spans.len());
        trace.spans.push(Arc::new(span));
        self.counts.bytes += bytes;
        self.counts.spans += 1;
        if trace.failing {
            self.failing_bytes += bytes;
        }
    }

    /// Oldest calm traces leave first. Failing ones may fill three quarters, so that new traces always have room.
    fn evict(&mut self, limits: &Limits) {
        while self.counts.bytes > limits.bytes || self.traces.len() > limits.traces.max(1) {
            let too_many_failing = self.failing_bytes > limits.bytes / 4 * 3
                || self.failing.len() > limits.traces / 4 * 3;
            let oldest = if too_many_failing || self.calm.is_empty() {
                self.failing.pop_first()
            } else {
                self.calm.pop_first()
            };
            let Some(trace) = oldest.and_then(|(_, id)| self.traces.remove(&id)) else {
                return;
            };
            self.counts.bytes = self.counts.bytes.saturating_sub(trace.bytes);
            if trace.failing {
                self.failing_bytes = self.failing_bytes.saturating_sub(trace.bytes);
            }
            self.counts.spans = self.counts.spans.saturating_sub(trace.spans.len());
            self.counts.traces_evicted += 1;
            self.counts.spans_evicted += trace.spans.len() as u64;
            self.counts
                .evicting_since
                .get_or_insert_with(|| unix_nanos_now() / 1_000_000_000);
        }
    }
}

fn unix_nanos_now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests;
