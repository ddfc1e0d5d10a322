//! How short of memory the process is, as the sidecar finds out, and what is let in then.
//!
//! Who is already here is served to the end; short of being killed for its memory, a proxy does best to take no more. A
//! few are let in whatever happens: what an allocator keeps for itself must not shut the door for good.
//!
//! A flood takes more between two looks than there is, and what was let in goes on growing. So what is let in is charged
//! at once, at the most that it may come to, and where that may be more than there is, memory is looked at there and then.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// Requests at once, of those that come while memory is out; and connections to a listener.
pub(crate) const FEW: usize = 8;
/// What is charged for a request, and for a connection, until memory is looked at again.
const REQUEST: i64 = 192 * 1024;
const CONNECTION: i64 = 16 * 1024;
/// What a request in hand may still come to take, however long ago it was let in: a connection to its upstream, and a
/// piece of content either way.
const GROWTH: usize = 32 * 1024;
/// What the kernel takes for a connection, and charges to the control group.
const SOCKET: usize = 3 * 1024;
/// What heads that are not whole may take beyond what their connections were charged, when memory is out.
const FEW_HEADS: usize = FEW * 64 * 1024;

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It is not.
    #[default]
    Ease = 0,
    /// What can be given back is.
    Tight = 1,
    /// Nothing new is taken.
    Out = 2,
}

/// The level, shared by all who look at it.
pub struct Pressure {
    level: AtomicU8,
    /// Requests in hand that were let in while memory was out.
    late: AtomicUsize,
    /// Those let in before, tunnels aside.
    requests: AtomicUsize,
    connections: AtomicUsize,
    /// Bytes of large heads that are not whole; and the most.
    heads: AtomicUsize,
    heads_most: AtomicUsize,
    /// Bytes that may be charged before memory is looked at.
    room: AtomicI64,
    out: Notify,
    look: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Default for Pressure {
    /// At ease for good, unless it is set.
    fn default() -> Pressure {
        Pressure {
            level: AtomicU8::default(),
            late: AtomicUsize::default(),
            requests: AtomicUsize::default(),
            connections: AtomicUsize::default(),
            heads: AtomicUsize::default(),
            heads_most: AtomicUsize::new(usize::MAX),
            room: AtomicI64::new(i64::MAX),
            out: Notify::new(),
            look: OnceLock::new(),
        }
    }
}

impl Pressure {
    /// Sets the level, and how many bytes may be charged until memory is looked at again.
    pub fn set(&self, level: Level, room: i64) {
        self.room.store(room, Ordering::Relaxed);
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Sets how many bytes the heads that are not whole may take beyond what their connections were charged.
    pub fn heads_up_to(&self, bytes: usize) {
        self.heads_most.store(bytes, Ordering::Relaxed);
    }

    /// How many those are.
    pub fn heads(&self) -> usize {
        self.heads.load(Ordering::Relaxed)
    }

    /// What looks at memory and sets the level, to be called by whoever finds no room; takes some ten microseconds.
    pub fn on_full(&self, look: impl Fn() + Send + Sync + 'static) {
        let _ = self.look.set(Box::new(look));
    }

    /// The level as it was set last.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Ease,
            1 => Level::Tight,
            _ => Level::Out,
        }
    }

    /// Bytes beside what is resident: what the kernel has for connections, of which `upstream` are not a client's, and what
    /// requests in hand may still come to.
    pub fn beside(&self, upstream: usize) -> u64 {
        let connections = self.connections.load(Ordering::Relaxed) + upstream;
        let growth = self.requests.load(Ordering::Relaxed) * GROWTH;
        u64::try_from(connections * SOCKET + growth).unwrap_or(u64::MAX)
    }

    /// How much may be read of a message at once, so that all requests in hand together come to no more than `bytes`.
    pub fn share(&self, bytes: u64) -> u64 {
        let requests = self.requests.load(Ordering::Relaxed).max(1);
        // A buffer is filled while another is passed on.
        bytes / 2 / u64::try_from(requests).unwrap_or(u64::MAX)
    }

    /// Whether a new connection finds memory out.
    pub(crate) fn refuses(&self) -> bool {
        self.charge(CONNECTION);
        self.level() == Level::Out
    }

    /// Counts a connection for as long as what it gives lives.
    pub(crate) fn connected(self: &Arc<Pressure>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    /// Whether a request is taken; what it gives is to be kept for as long as the request is in hand.
    pub fn admit(self: &Arc<Pressure>) -> Option<Admitted> {
        self.charge(REQUEST);
        let late = self.level() == Level::Out;
        let before = self.counter(late).fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted {
            pressure: self.clone(),
            late,
        };
        (!late || before < FEW).then_some(admitted)
    }

    /// Whether there is memory for so many bytes that somebody who was let in before takes now.
    pub(crate) fn asks(&self, bytes: usize) -> bool {
        self.charge(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.level() < Level::Out
    }

    /// Resolves when memory is found to be out.
    pub(crate) async fn is_out(&self) {
        self.out.notified().await;
    }

    /// Tells those who wait for it that memory is out: to be called at each look that finds it so.
    pub fn tell_out(&self) {
        self.out.notify_waiters();
    }

    /// A head takes so many bytes more; whether there is room for them. To be given back by [`Pressure::shrinks`] in any
    /// case.
    pub(crate) fn grows(&self, bytes: usize) -> bool {
        self.charge(i64::try_from(bytes).unwrap_or(i64::MAX));
        let before = self.heads.fetch_add(bytes, Ordering::Relaxed);
        let most = match self.level() {
            Level::Out => FEW_HEADS,
            Level::Ease | Level::Tight => self.heads_most.load(Ordering::Relaxed),
        };
        before.saturating_add(bytes) <= most
    }

    /// A head takes so many bytes less.
    pub(crate) fn shrinks(&self, bytes: usize) {
        self.heads.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn charge(&self, bytes: i64) {
        let room = self.room.fetch_sub(bytes, Ordering::Relaxed);
        // Once it is out, the next look that comes anyway is soon enough.
        if let (true, Some(look)) = (room < bytes && self.level() < Level::Out, self.look.get()) {
            look();
        }
    }

    fn counter(&self, late: bool) -> &AtomicUsize {
        match late {
            true => &self.late,
            false => &self.requests,
        }
    }
}

/// A request that was let in.
pub struct Admitted {
    pressure: Arc<Pressure>,
    late: bool,
}

impl Admitted {
    /// Whether it was let in while there was memory: then, as a tunnel, it comes to no more than it has.
    pub fn in_time(&self) -> bool {
        !self.late
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let counter = self.pressure.counter(self.late);
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is counted.
pub(crate) struct Connected(Arc<Pressure>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_let_in_when_memory_is_out_and_all_when_it_is_not() {
        let pressure = Arc::new(Pressure::default());
        let before: Vec<_> = (0..100).map(|_| pressure.admit().unwrap()).collect();
        pressure.set(Level::Tight, i64::MAX);
        assert!(pressure.admit().is_some());
        pressure.set(Level::Out, i64::MAX);
        let mut late: Vec<_> = std::iter::from_fn(|| pressure.admit()).collect();
        assert_eq!(late.len(), FEW, "whoever was here before");
        late.pop();
        late.extend(pressure.admit());
        assert!(pressure.admit().is_none());
        assert_eq!(late.len(), FEW);
        drop(before);
        assert!(pressure.admit().is_none());
        pressure.set(Level::Ease, i64::MAX);
        assert!(pressure.admit().is_some());
    }

    #[test]
    fn what_is_let_in_is_charged_and_looked_at_before_it_is_too_much() {
        let pressure = Arc::new(Pressure::default());
        let looks = Arc::new(AtomicUsize::new(0));
        let (seen, set) = (looks.clone(), Arc::downgrade(&pressure));
        pressure.on_full(move || {
            // The first finds as much room again, the second none.
            let level = match seen.fetch_add(1, Ordering::Relaxed) {
                0 => Level::Ease,
                _ => Level::Out,
            };
            set.upgrade().unwrap().set(level, 10 * REQUEST);
        });
        pressure.set(Level::Ease, 10 * REQUEST);
        let mut let_in = Vec::new();
        while pressure.level() < Level::Out {
            assert!(let_in.len() < 100, "nobody looks");
            let_in.extend(pressure.admit());
        }
        assert_eq!(looks.load(Ordering::Relaxed), 2);
        assert_eq!(
            let_in.len(),
            10 + 1 + 10 + 1,
            "each look lets one in after it"
        );
        assert_eq!(let_in.iter().filter(|one| !one.in_time()).count(), 1);
        let socket = pressure.connected();
        assert_eq!(pressure.beside(2), (21 * GROWTH + 3 * SOCKET) as u64);
        drop((let_in, socket));
        assert_eq!(pressure.beside(0), 0);
        assert!(pressure.refuses(), "and nobody looks once it is out");
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }
}
