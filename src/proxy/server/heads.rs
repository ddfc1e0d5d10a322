//! What HTTP/2 requests may take in all: their heads, and how many of them there are at once.
//!
//! HPACK lets some bytes on the wire stand for a head a hundred times as large, and one connection may have many
//! streams (CVE-2026-49975): a limit per connection bounds nothing that counts. So heads are counted where they are
//! seen first, over all connections, until they were sent on. A stream costs more than its head while it lasts, and is as
//! cheap to open: their number has a limit as that of connections has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use http::request::Parts;

use crate::telemetry::Metrics;

/// Bytes of heads in hand, and streams.
pub struct HeadBudget {
    used: AtomicUsize,
    streams: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl HeadBudget {
    /// Nothing in hand; shown as a gauge of `metrics`.
    pub fn new(metrics: &Arc<Metrics>) -> HeadBudget {
        HeadBudget {
            used: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            metrics: metrics.clone(),
        }
    }

    /// Room for `bytes` where no more than `limit` are in hand then; `None` where there is none.
    pub(super) fn take(self: &Arc<HeadBudget>, bytes: usize, limit: usize) -> Option<Room> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let room = Room {
            budget: self.clone(),
            bytes,
        };
        self.metrics.http2_head_bytes.inc_by(as_i64(bytes));
        (before.saturating_add(bytes) <= limit).then_some(room)
    }
}

impl HeadBudget {
    /// A place for one more stream where there are fewer than `limit`.
    pub(super) fn enter(self: &Arc<HeadBudget>, limit: usize) -> Option<Entered> {
        let before = self.streams.fetch_add(1, Ordering::Relaxed);
        self.metrics.http2_streams.inc();
        let entered = Entered(self.clone());
        (before < limit).then_some(entered)
    }
}

/// A stream's place, for as long as it lives.
pub(super) struct Entered(Arc<HeadBudget>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.http2_streams.dec();
    }
}

/// Bytes in hand, for as long as it lives: it travels with the head it is for.
pub(super) struct Room {
    budget: Arc<HeadBudget>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget
            .metrics
            .http2_head_bytes
            .dec_by(as_i64(self.bytes));
    }
}

fn as_i64(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The size of a head as RFC 9113 section 6.5.2 counts it: 32 bytes for each field besides its name and value.
pub(super) fn size(parts: &Parts) -> usize {
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len())
        + parts.uri.authority().map_or(0, |host| host.as_str().len());
    target + fields(&parts.headers)
}

fn fields(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_to_the_limit_and_comes_back() {
        let metrics = Metrics::new();
        let budget = Arc::new(HeadBudget::new(&metrics));
        let first = budget.take(60, 100).unwrap();
        assert!(budget.take(60, 100).is_none());
        let second = budget.take(40, 100).unwrap();
        assert_eq!(metrics.http2_head_bytes.get(), 100);
        drop((first, second));
        assert_eq!(metrics.http2_head_bytes.get(), 0);
        assert!(budget.take(100, 100).is_some());
    }

    #[test]
    fn streams_are_let_in_up_to_their_number() {
        let metrics = Metrics::new();
        let budget = Arc::new(HeadBudget::new(&metrics));
        let first = budget.enter(1).unwrap();
        assert!(budget.enter(1).is_none());
        assert_eq!(metrics.http2_streams.get(), 1);
        drop(first);
        assert!(budget.enter(1).is_some());
    }

    #[test]
    fn a_head_is_counted_with_what_each_field_costs() {
        let request = http::Request::get("http://shop/a?b")
            .header("cookie", "a=b")
            .header("cookie", "c=d")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        assert_eq!(size(&parts), 8 + 2 * (6 + 3 + 32));
    }
}
