//! What a connection takes before there is a request: a head that is not whole, a TLS handshake. Charged as it grows.
//!
//! A connection is charged when it is let in, which covers a head as most are. Many that grow beyond that together take
//! more than all that was looked at when they came; so what is beyond is counted over all connections, and who finds no
//! room is told and closed. What is small costs no more than a look at the connection's own counter.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::pressure::{Level, Pressure};

/// Bytes of a head that its connection was charged for when it was let in; the first read takes no more.
pub(super) const FREE: usize = 4 * 1024;
/// What a byte of a head takes: the buffer doubles, and is copied to where it has room.
pub(super) const COST: usize = 2;

/// What so many bytes take beyond what was charged with the connection.
pub(super) fn beyond(read: usize) -> usize {
    read.saturating_sub(FREE).saturating_mul(COST)
}

/// What one connection has read that is no request yet.
pub(crate) struct Growing {
    pressure: Arc<Pressure>,
    read: AtomicUsize,
    charged: AtomicUsize,
    /// Whether [`Growing::holds`] says what there is, and nothing else does.
    told: AtomicBool,
}

impl Growing {
    /// Nothing yet.
    pub(crate) fn new(pressure: &Arc<Pressure>) -> Growing {
        Growing {
            pressure: pressure.clone(),
            read: AtomicUsize::new(0),
            charged: AtomicUsize::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// What the connection speaks is known, which takes so many bytes. Whether there is room; when memory is out only for a
    /// few, until they have a request.
    pub(crate) fn begins(&self, bytes: usize) -> bool {
        self.pressure.asks(bytes) || self.takes(bytes)
    }

    /// So many bytes more were read. An error where there is no room for them: the connection is to be closed.
    pub(crate) fn by(&self, bytes: usize) -> io::Result<()> {
        // One task reads.
        let read = self.read.load(Ordering::Relaxed).saturating_add(bytes);
        self.read.store(read, Ordering::Relaxed);
        match self.beyond() {
            1.. if !self.told.load(Ordering::Relaxed) => match self.takes_at_least(self.beyond()) {
                true => Ok(()),
                false => Err(no_room()),
            },
            _ => Ok(()),
        }
    }

    /// Whether there is little memory.
    pub(crate) fn is_short(&self) -> bool {
        self.pressure.level() > Level::Ease
    }

    /// What was read takes beyond what was charged with the connection.
    pub(crate) fn beyond(&self) -> usize {
        beyond(self.read.load(Ordering::Relaxed))
    }

    /// What was read was passed on: of TLS it was a whole record.
    pub(crate) fn passed_on(&self) {
        self.read.store(0, Ordering::Relaxed);
    }

    /// What was read is a request now, or gone.
    pub(crate) fn settle(&self) {
        if !self.told.load(Ordering::Relaxed) {
            self.passed_on();
            self.takes(0);
        }
    }

    /// From now on it is told what there is, and nothing counted. Gives what is charged until then.
    pub(crate) fn is_told(&self) -> usize {
        self.told.store(true, Ordering::Relaxed);
        self.charged.load(Ordering::Relaxed)
    }

    /// Tells that so much is held that is not whole, of which `open` is a head; `idle`: and nothing else is in hand. Whether
    /// there is room.
    ///
    /// What is in hand with others is not worth theirs, unless memory is out and the head may still grow.
    pub(crate) fn holds(&self, bytes: usize, open: bool, idle: bool) -> bool {
        self.takes(bytes) || !(idle || open && self.pressure.level() == Level::Out)
    }

    fn takes_at_least(&self, bytes: usize) -> bool {
        bytes <= self.charged.load(Ordering::Relaxed) || self.takes(bytes)
    }

    fn takes(&self, bytes: usize) -> bool {
        if self.charged.load(Ordering::Relaxed) == bytes {
            return true;
        }
        let before = self.charged.swap(bytes, Ordering::Relaxed);
        match bytes.checked_sub(before) {
            Some(more) => self.pressure.grows(more),
            None => {
                self.pressure.shrinks(before - bytes);
                true
            }
        }
    }
}

/// The connection is to be closed.
pub(crate) fn no_room() -> io::Error {
    let why = "no memory for what is no request yet";
    io::Error::new(io::ErrorKind::OutOfMemory, why)
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.takes(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growing(most: usize) -> (Arc<Pressure>, impl Fn() -> Growing) {
        let pressure = Arc::new(Pressure::default());
        pressure.heads_up_to(most);
        let shared = pressure.clone();
        (pressure, move || Growing::new(&shared))
    }

    #[test]
    fn a_small_head_costs_nothing_and_a_large_one_what_it_takes() {
        let (pressure, new) = growing(usize::MAX);
        let head = new();
        for _ in 0..4 {
            head.by(FREE / 4).unwrap();
        }
        assert_eq!(pressure.heads(), 0);
        head.by(1000).unwrap();
        head.by(24).unwrap();
        assert_eq!(pressure.heads(), 1024 * COST);
        head.settle();
        assert_eq!(pressure.heads(), 0);
        head.by(FREE).unwrap();
        assert_eq!(pressure.heads(), 0, "the next begins anew");
    }

    #[test]
    fn heads_that_grow_together_find_no_more_room_than_there_is() {
        let each = 10_000;
        let (pressure, new) = growing(10 * (each - FREE) * COST);
        let heads: Vec<_> = (0..100).map(|_| new()).collect();
        let refused = heads.iter().filter(|head| head.by(each).is_err());
        assert_eq!(refused.count(), 90);
        drop(heads);
        assert_eq!(pressure.heads(), 0);
        assert!(new().by(each).is_ok(), "as soon as they have left");
    }

    #[test]
    fn when_memory_is_out_only_a_few_grow() {
        let (pressure, new) = growing(usize::MAX);
        pressure.set(Level::Out, i64::MAX);
        let heads: Vec<_> = (0..100).map(|_| new()).collect();
        let grown = heads.iter().filter(|head| head.by(28 * 1024).is_ok());
        let grown = grown.count();
        assert!((8..20).contains(&grown), "{grown}");
    }

    #[test]
    fn who_begins_when_memory_is_out_is_one_of_a_few() {
        let (pressure, new) = growing(1000);
        let before: Vec<_> = (0..100).map(|_| new()).collect();
        assert!(before.iter().all(|one| one.begins(16 * 1024)));
        assert_eq!(pressure.heads(), 0, "it is not held against them");
        pressure.set(Level::Out, i64::MAX);
        let after: Vec<_> = (0..100).map(|_| new()).collect();
        let let_in = after.iter().filter(|one| one.begins(16 * 1024)).count();
        assert!((8..=32).contains(&let_in), "{let_in}");
        after.iter().for_each(Growing::settle);
        assert!(new().begins(16 * 1024), "as soon as they have requests");
    }

    #[test]
    fn what_grows_is_looked_at_before_it_is_too_much() {
        let (pressure, new) = growing(usize::MAX);
        let set = Arc::downgrade(&pressure);
        pressure.on_full(move || set.upgrade().unwrap().set(Level::Out, 0));
        pressure.set(Level::Ease, 1 << 20);
        let heads: Vec<_> = (0..1000).map(|_| new()).collect();
        let grown = heads.iter().filter(|head| head.by(28 * 1024).is_ok());
        let grown = grown.count();
        assert!((20..24).contains(&grown), "{grown}");
    }

    #[test]
    fn what_is_told_is_not_counted_and_lasts_until_it_is_told_otherwise() {
        let (pressure, new) = growing(1000);
        let head = new();
        head.is_told();
        head.by(100_000).unwrap();
        assert_eq!(pressure.heads(), 0);
        head.passed_on();
        assert_eq!(head.beyond(), 0);
        assert!(head.holds(1000, true, true));
        head.settle();
        assert_eq!(pressure.heads(), 1000, "another request began");
        let other = new();
        other.is_told();
        assert!(!other.holds(500, true, true));
        assert!(other.holds(501, true, false), "it has requests in hand");
        pressure.set(Level::Out, i64::MAX);
        pressure.grows(1 << 30);
        assert!(!other.holds(502, true, false));
        assert!(other.holds(503, false, false));
        drop(other);
        head.holds(0, false, true);
        assert_eq!(pressure.heads(), 1 << 30);
    }
}
