//! Glitches of one HTTP/2 connection: what its client does that is of use to nobody, one at a time harmless. At a number
//! of them the client is told to go (GOAWAY: what is in hand is still served, and a client of good will connects anew);
//! at twice as many it is cut off.
//!
//! Seen here are requests that hopspan refuses for what they are, and those that their client resets before the response
//! began. Most else stays within h2, which bounds it itself: empty frames, resets of what was not looked at yet, streams
//! that the client's mistakes end (`http2_resets`, `http2_local_resets`). What neither sees are floods of PING, SETTINGS,
//! PRIORITY and WINDOW_UPDATE: each is answered as it comes and nothing of it is kept. HTTP/1.x has no need of a count:
//! whoever sends there what is refused for what it is loses the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::telemetry::metrics::{Metrics, Reason};

/// In the extensions of an answer: it refuses a request for what it is.
#[derive(Clone, Copy, Debug)]
pub struct Glitch;

/// The glitches of one connection.
pub(super) struct Glitches {
    count: AtomicUsize,
    limit: Option<usize>,
    many: Notify,
    metrics: Arc<Metrics>,
}

impl Glitches {
    /// None so far. `limit`: how many end the connection.
    pub(super) fn new(limit: Option<usize>, metrics: &Arc<Metrics>) -> Arc<Glitches> {
        Arc::new(Glitches {
            count: AtomicUsize::new(0),
            limit,
            many: Notify::new(),
            metrics: metrics.clone(),
        })
    }

    /// Counts one.
    pub(super) fn add(&self, reason: &'static str) {
        let glitches = &self.metrics.client_glitches;
        glitches.get_or_create(&Reason { reason }).inc();
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.limit.is_some_and(|limit| count.is_multiple_of(limit)) {
            self.many.notify_one();
        }
    }

    /// Waits for so many that something is to be done: whether the client is to be cut off, or told to go.
    pub(super) async fn many(&self) -> bool {
        self.many.notified().await;
        let count = self.count.load(Ordering::Relaxed);
        self.limit
            .is_some_and(|limit| count >= limit.saturating_mul(2))
    }

    /// To be held until the response to a request begins.
    pub(super) fn unanswered(self: &Arc<Glitches>) -> Unanswered {
        Unanswered(Some(self.clone()))
    }
}

/// A request whose response has not begun: a glitch, where it comes to none.
pub(super) struct Unanswered(Option<Arc<Glitches>>);

impl Unanswered {
    /// The response begins; `refused`: it refuses the request for what that is.
    pub(super) fn answered(mut self, refused: bool) {
        if let (Some(glitches), true) = (self.0.take(), refused) {
            glitches.add("refused");
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(glitches) = &self.0 {
            glitches.add("abandoned");
        }
    }
}
