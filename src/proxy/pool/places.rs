//! Places at an upstream: how many exchanges and tunnels it has at once, where that is limited. Others wait for their turn,
//! first come, first served, up to a number and a time.
//!
//! An upstream is its address here, whatever is spoken there. Over HTTP/1.1 a place is a connection, over HTTP/2 a stream.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PoolLimits;
use crate::config::Address;
use crate::proxy::connect::ConnectError;
use crate::telemetry::Metrics;

/// The upstreams that have places taken. Empty where nothing is limited.
#[derive(Default)]
pub(super) struct Places {
    gates: Mutex<HashMap<Address, Arc<Gate>>>,
}

/// A place, for as long as it lives; [`Place::default`] where there is no limit.
#[derive(Default)]
pub struct Place {
    _taken: Option<Taken>,
}

impl Places {
    /// A place at `address`, at once or when it is this one's turn.
    ///
    /// # Errors
    /// As many wait as may, or the wait was too long.
    pub(super) async fn take(
        &self,
        address: &Address,
        limits: &PoolLimits,
        metrics: &Metrics,
    ) -> Result<Place, ConnectError> {
        let Some(cap) = limits.max_in_use else {
            return Ok(Place::default());
        };
        let gate = self.gate(address);
        gate.resize(cap.min(Semaphore::MAX_PERMITS));
        // None is to be had while somebody waits: what comes free goes to the first of those.
        let permit = match gate.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => gate.wait(limits, metrics).await?,
        };
        let taken = Taken {
            gate,
            permit: Some(permit),
        };
        Ok(Place {
            _taken: Some(taken),
        })
    }

    fn gate(&self, address: &Address) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(address) {
            return gate.clone();
        }
        // Upstreams come and go: those that nobody is at are forgotten.
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        gates.entry(address.clone()).or_default().clone()
    }
}

/// Who may go to one upstream.
struct Gate {
    permits: Arc<Semaphore>,
    size: Mutex<Size>,
    waiting: AtomicUsize,
}

/// How many permits there are.
#[derive(Default)]
struct Size {
    wanted: usize,
    /// Those to be taken out of use when they come back.
    surplus: usize,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate {
            permits: Arc::new(Semaphore::new(0)),
            size: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the config says now. Where there are more than that they end as usual, and nobody comes after them.
    fn resize(&self, wanted: usize) {
        let mut size = self.size();
        if let Some(more) = wanted.checked_sub(size.wanted) {
            let kept = more.min(size.surplus);
            size.surplus -= kept;
            self.permits.add_permits(more - kept);
        } else {
            let fewer = size.wanted - wanted;
            size.surplus += fewer - self.permits.forget_permits(fewer);
        }
        size.wanted = wanted;
    }

    async fn wait(
        &self,
        limits: &PoolLimits,
        metrics: &Metrics,
    ) -> Result<OwnedSemaphorePermit, ConnectError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        metrics.upstream_queue.inc();
        let _waiting = Waiting(self, metrics);
        if before >= limits.max_queue {
            return Err(ConnectError::Busy);
        }
        let turn = self.permits.clone().acquire_owned();
        match tokio::time::timeout(limits.max_wait, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            // Never closed, so the first error is the second.
            Ok(Err(_)) | Err(_) => Err(ConnectError::Busy),
        }
    }
}

/// One who waits, until his turn or until he leaves.
struct Waiting<'a>(&'a Gate, &'a Metrics);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.1.upstream_queue.dec();
    }
}

struct Taken {
    gate: Arc<Gate>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut size = self.gate.size();
        if let (Some(surplus), Some(permit)) = (size.surplus.checked_sub(1), self.permit.take()) {
            size.surplus = surplus;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(cap: usize, queue: usize) -> PoolLimits {
        PoolLimits {
            max_in_use: Some(cap),
            max_queue: queue,
            max_wait: Duration::from_secs(5),
            ..PoolLimits::app()
        }
    }

    struct Bench {
        places: Arc<Places>,
        metrics: Arc<Metrics>,
        app: Address,
    }

    impl Bench {
        fn new() -> Bench {
            Bench {
                places: Arc::default(),
                metrics: Metrics::new(),
                app: Address::tcp("127.0.0.1", 8000),
            }
        }

        async fn take(&self, cap: usize, queue: usize) -> Result<Place, ConnectError> {
            let limits = limits(cap, queue);
            self.places.take(&self.app, &limits, &self.metrics).await
        }

        /// Whether there is a place without waiting; not kept.
        async fn free(&self, cap: usize) -> bool {
            let taking = self.take(cap, 1);
            tokio::select! { biased; taken = taking => taken.is_ok(), () = std::future::ready(()) => false }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_came_first_goes_first_and_who_left_is_passed_over() {
        let bench = Arc::new(Bench::new());
        let first = bench.take(1, 9).await.unwrap();
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for number in 0..4 {
            let (bench_, sender) = (bench.clone(), sender.clone());
            waiting.push(tokio::spawn(async move {
                let place = bench_.take(1, 9).await.unwrap();
                sender.send((number, place)).unwrap();
            }));
            tokio::task::yield_now().await;
            assert_eq!(bench.metrics.upstream_queue.get(), number + 1);
        }
        waiting[1].abort();
        tokio::task::yield_now().await;
        assert_eq!(bench.metrics.upstream_queue.get(), 3);
        drop(first);
        for expected in [0, 2, 3] {
            assert!(!bench.free(1).await, "nobody pushes in");
            let (number, place) = order.recv().await.unwrap();
            assert_eq!(number, expected);
            drop(place);
        }
        assert_eq!(bench.metrics.upstream_queue.get(), 0);
        assert!(bench.free(1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_has_a_length_and_a_wait_has_an_end() {
        let bench = Arc::new(Bench::new());
        let held = bench.take(1, 1).await.unwrap();
        let bench_ = bench.clone();
        let began = tokio::time::Instant::now();
        let second = tokio::spawn(async move { bench_.take(1, 1).await.is_ok() });
        tokio::task::yield_now().await;
        let third = bench.take(1, 1).await;
        assert!(matches!(third, Err(ConnectError::Busy)));
        assert_eq!(began.elapsed(), Duration::ZERO, "it was told at once");
        assert!(!second.await.unwrap());
        assert_eq!(began.elapsed().as_secs(), 5);
        drop(held);
        assert!(bench.free(1).await);
    }

    #[tokio::test]
    async fn a_cap_that_changes_holds_at_once() {
        let bench = Bench::new();
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(bench.take(3, 1).await.unwrap());
        }
        assert!(!bench.free(3).await);
        assert!(!bench.free(2).await);
        held.pop();
        assert!(!bench.free(2).await, "one of three has left");
        held.pop();
        assert!(bench.free(2).await);
        assert!(bench.free(4).await);
        held.push(bench.take(4, 1).await.unwrap());
        assert!(!bench.free(1).await);
        assert!(bench.free(3).await, "what was to go stays after all");
        held.clear();
        assert_eq!(bench.places.gate(&bench.app).permits.available_permits(), 3);
        assert!(bench.free(1).await);
        assert_eq!(bench.places.gate(&bench.app).permits.available_permits(), 1);
    }

    #[tokio::test]
    async fn upstreams_that_nobody_is_at_are_forgotten() {
        let bench = Bench::new();
        let (limits, at) = (limits(1, 1), |port| Address::tcp("service", port));
        let held = bench.places.take(&at(1), &limits, &bench.metrics).await;
        for port in 2..100 {
            let taken = bench.places.take(&at(port), &limits, &bench.metrics).await;
            drop(taken.unwrap());
        }
        assert_eq!(bench.places.gates.lock().unwrap().len(), 2);
        drop(held);
    }
}
