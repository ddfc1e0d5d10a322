//! One connection's clock: when its client was last heard of, and one timer for all its waits for a head.
//!
//! hyper's `header_read_timeout` runs from the end of the last response, so it is the keep-alive idle limit and the
//! slow-head limit at once. [`HeadTimer`] is a hyper timer that tells the two apart: idle until a byte of the next
//! head has come, then the (shorter) head limit. The tokio timer is only set again when it fires too early.
//!
//! It is also how the connection finds out that it has waited for a while, and hyper's buffers can go ([`Clock::rests`]).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::proxy::ahead::READS;
use crate::proxy::growing::{FREE, Growing};
use crate::proxy::held::Gate;
use crate::proxy::pressure::Pressure;

/// What idle times are counted from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
const IN_USE: u64 = u64::MAX;
/// As a time: none.
const NEVER: u64 = u64::MAX;
/// After a wait this long hyper's buffers go; and when memory is short.
const REST: Duration = Duration::from_secs(1);
const REST_WHEN_SHORT: Duration = Duration::from_millis(100);

/// What the timer and the socket of one connection share.
pub(crate) struct Clock {
    pub(super) read: AtomicU64,
    /// What the socket has taken.
    written: AtomicU64,
    head_late: AtomicBool,
    pub(super) lifted: AtomicBool,
    pub(super) body_expected: AtomicBool,
    pub(super) head_awaited: AtomicBool,
    /// Whether the client was cut off, since it took nothing of what is written.
    pub(super) untaken: AtomicBool,
    /// Whether something was written and not yet flushed.
    pub(super) unflushed: AtomicBool,
    /// Whether a head has been waited for so long that hyper is not needed for it.
    rests: AtomicBool,
    /// Milliseconds since [`BEGINNING`] at which the first byte of a head came, or [`NEVER`].
    head_began: AtomicU64,
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
            written: AtomicU64::new(0),
            head_late: AtomicBool::new(false),
            lifted: AtomicBool::new(false),
            body_expected: AtomicBool::new(false),
            head_awaited: AtomicBool::new(false),
            untaken: AtomicBool::new(false),
            unflushed: AtomicBool::new(false),
            rests: AtomicBool::new(false),
            head_began: AtomicU64::new(NEVER),
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

    /// Whether the client was cut off: it was there, and took nothing of what is written for too long.
    pub(crate) fn is_untaken(&self) -> bool {
        self.untaken.load(Ordering::Relaxed)
    }

    /// Notes that the socket took so many bytes.
    pub(crate) fn wrote(&self, bytes: usize) {
        let written = self.written.load(Ordering::Relaxed);
        let written = written.saturating_add(bytes as u64);
        self.written.store(written, Ordering::Relaxed);
    }

    /// Whether the client has shown that it reads what it is sent.
    pub(crate) fn client_reads(&self) -> bool {
        self.written.load(Ordering::Relaxed) >= u64::from(READS)
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
        self.head_began.store(NEVER, Ordering::Relaxed);
        self.growing.settle();
    }

    /// Notes that no request is in hand since then.
    pub(crate) fn idles_from(&self, since: Instant) {
        self.idle_since.store(stamp(since), Ordering::Relaxed);
    }

    /// Notes that a byte of a head has come, unless one had before. Gives when the first did.
    pub(crate) fn head_begins(&self) -> Instant {
        let began = self.head_began.load(Ordering::Relaxed);
        if began != NEVER {
            return time(began);
        }
        let now = Instant::now();
        self.head_began.store(stamp(now), Ordering::Relaxed);
        now
    }

    /// Until when a request is waited for, whose head has `head` from its first byte on.
    pub(crate) fn waits_until(&self, idle: Duration, head: Duration) -> Instant {
        match self.head_began.load(Ordering::Relaxed) {
            NEVER => self.idle_since().unwrap_or_else(Instant::now) + idle,
            began => time(began) + head,
        }
    }

    /// Whether hyper waits for a head and has nothing else to do.
    pub(crate) fn is_between(&self) -> bool {
        self.head_awaited.load(Ordering::Relaxed) && !self.unflushed.load(Ordering::Relaxed)
    }

    /// Whether hyper has waited for a head for so long that it is not needed for it. Says so once.
    pub(crate) fn rests(&self) -> bool {
        let rests = self.rests.load(Ordering::Relaxed) && self.is_between();
        if rests {
            self.rests.store(false, Ordering::Relaxed);
        }
        rests
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
        (since != IN_USE).then(|| time(since))
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

fn stamp(at: Instant) -> u64 {
    let since = at.saturating_duration_since(*BEGINNING);
    u64::try_from(since.as_millis()).unwrap_or(0)
}

fn time(stamp: u64) -> Instant {
    *BEGINNING + Duration::from_millis(stamp)
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
        self.clock.rests.store(false, Ordering::Relaxed);
        let since = deadline.checked_sub(self.idle);
        if let Some(since) = since {
            self.clock.idles_from(since);
        }
        let rest = match self.clock.growing.is_short() {
            true => REST_WHEN_SHORT,
            false => REST,
        };
        Box::pin(HeadWait {
            clock: self.clock.clone(),
            idle_until: deadline,
            rest_at: since.map(|since| since + rest),
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
    rest_at: Option<Instant>,
    head: Duration,
    read_before: u64,
    head_until: Option<Instant>,
}

impl hyper::rt::Sleep for HeadWait {}

impl Future for HeadWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let read = self.clock.read.load(Ordering::Relaxed) - self.read_before;
        if read > 0 && self.head_until.is_none() {
            self.head_until = Some(self.clock.head_begins() + self.head);
        }
        let deadline = self.head_until.unwrap_or(self.idle_until);
        if let Some(rest_at) = self.rest_at.filter(|rest_at| *rest_at < deadline) {
            ready!(self.clock.poll_until(rest_at, cx));
            self.rest_at = None;
            let small = read < FREE as u64;
            self.clock.rests.store(small, Ordering::Relaxed);
        }
        ready!(self.clock.poll_until(deadline, cx));
        self.clock
            .head_late
            .store(self.head_until.is_some(), Ordering::Relaxed);
        Poll::Ready(())
    }
}
