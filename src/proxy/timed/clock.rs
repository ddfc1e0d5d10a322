//! One connection's clock: when its client was last heard of, and one timer for all its waits for a head.
//!
//! hyper's `header_read_timeout` runs from the end of the last response, so it is the keep-alive idle limit and the
//! slow-head limit at once. [`HeadTimer`] is a hyper timer that tells the two apart: idle until a byte of the next
//! head has come, then the (shorter) head limit. The tokio timer is only set again when it fires too early.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::proxy::growing::Growing;
use crate::proxy::held::Gate;
use crate::proxy::pressure::Pressure;

/// What idle times are counted from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
const IN_USE: u64 = u64::MAX;

/// What the timer and the socket of one connection share.
pub(crate) struct Clock {
    pub(super) read: AtomicU64,
    head_late: AtomicBool,
    pub(super) lifted: AtomicBool,
    pub(super) body_expected: AtomicBool,
    pub(super) head_awaited: AtomicBool,
    /// What was read of what is no request yet.
    pub(crate) growing: Growing,
    /// Of what is written to the client.
    pub(crate) gate: Gate,
    /// Milliseconds since [`BEGINNING`] at which the wait for a request began; [`IN_USE`] while there is one.
    idle_since: AtomicU64,
    sleep: Mutex<Pin<Box<Sleep>>>,
}

impl Clock {
    /// A clock whose timer first looks after `first`.
    pub(crate) fn new(first: Duration, pressure: &Arc<Pressure>) -> Arc<Clock> {
        let clock = Arc::new(Clock {
            read: AtomicU64::new(0),
            head_late: AtomicBool::new(false),
            lifted: AtomicBool::new(false),
            body_expected: AtomicBool::new(false),
            head_awaited: AtomicBool::new(false),
            growing: Growing::new(pressure),
            gate: Gate::default(),
            idle_since: AtomicU64::new(IN_USE),
            sleep: Mutex::new(Box::pin(tokio::time::sleep(first))),
        });
        clock.idles_from(Instant::now());
        clock
    }

    /// Whether a head was begun and not ended in time (as opposed to none begun).
    pub(crate) fn head_was_late(&self) -> bool {
        self.head_late.load(Ordering::Relaxed)
    }

    /// Lifts the write deadline for good: the connection is a tunnel now.
    pub(crate) fn lift(&self) {
        self.lifted.store(true, Ordering::Relaxed);
    }

    /// Notes whether the request that begins has a body, which may be answered before it is read.
    pub(crate) fn request_begins(&self, with_body: bool) {
        self.body_expected.store(with_body, Ordering::Relaxed);
        self.head_awaited.store(false, Ordering::Relaxed);
        self.idle_since.store(IN_USE, Ordering::Relaxed);
        self.growing.settle();
    }

    /// Notes that no request is in hand since then.
    pub(crate) fn idles_from(&self, since: Instant) {
        let since = since.saturating_duration_since(*BEGINNING);
        let since = u64::try_from(since.as_millis()).unwrap_or(0);
        self.idle_since.store(since, Ordering::Relaxed);
    }

    /// Counts what was read where it is no request yet; an error where there is no room for it.
    pub(crate) fn reads(&self, bytes: usize) -> io::Result<()> {
        match self.idle_since.load(Ordering::Relaxed) {
            IN_USE => Ok(()),
            _ => self.growing.by(bytes),
        }
    }

    /// Since when there is no request in hand; `None` while there is one.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let since = self.idle_since.load(Ordering::Relaxed);
        (since != IN_USE).then(|| *BEGINNING + Duration::from_millis(since))
    }

    /// Waits on the one timer of this connection.
    pub(crate) fn poll_until(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = tokio::time::Instant::from_std(deadline);
        loop {
            // Set for later: bring it forward. Set for earlier: let it fire, then set it again.
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// The hyper timer of one server connection.
#[derive(Clone)]
pub(crate) struct HeadTimer {
    clock: Arc<Clock>,
    idle: Duration,
    head: Duration,
}

impl HeadTimer {
    /// Waits as long as hyper asks for a first byte, which is its `header_read_timeout` and has to be `idle`; then
    /// `head` for the rest.
    pub(crate) fn new(clock: Arc<Clock>, idle: Duration, head: Duration) -> HeadTimer {
        HeadTimer { clock, idle, head }
    }
}

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.clock.head_awaited.store(true, Ordering::Relaxed);
        if let Some(since) = deadline.checked_sub(self.idle) {
            self.clock.idles_from(since);
        }
        Box::pin(HeadWait {
            clock: self.clock.clone(),
            idle_until: deadline,
            head: self.head,
            read_before: self.clock.read.load(Ordering::Relaxed),
            head_until: None,
        })
    }
}

/// One wait for one head.
struct HeadWait {
    clock: Arc<Clock>,
    idle_until: Instant,
    head: Duration,
    read_before: u64,
    head_until: Option<Instant>,
}

impl hyper::rt::Sleep for HeadWait {}

impl Future for HeadWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let begun = self.clock.read.load(Ordering::Relaxed) != self.read_before;
        if begun && self.head_until.is_none() {
            self.head_until = Some(Instant::now() + self.head);
        }
        let deadline = self.head_until.unwrap_or(self.idle_until);
        ready!(self.clock.poll_until(deadline, cx));
        self.clock
            .head_late
            .store(self.head_until.is_some(), Ordering::Relaxed);
        Poll::Ready(())
    }
}
