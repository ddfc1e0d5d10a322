//! How short of memory the process is, as the sidecar finds out, and what is let in then.
//!
//! Who is already here is served to the end; short of being killed for its memory, a proxy does best to take no more. A
//! few are let in whatever happens: what an allocator keeps for itself must not shut the door for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Requests at once, of those that come while memory is out; and connections to a listener.
pub(crate) const FEW: usize = 8;

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
#[derive(Debug, Default)]
pub struct Pressure {
    level: AtomicU8,
    /// Requests in hand that were let in while memory was out.
    late: AtomicUsize,
}

impl Pressure {
    /// Sets the level.
    pub fn set(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Whether nothing new is taken.
    pub fn is_out(&self) -> bool {
        self.level.load(Ordering::Relaxed) == Level::Out as u8
    }

    /// Whether a request is taken; what it gives is to be kept for as long as the request is in hand.
    pub fn admit(self: &Arc<Pressure>) -> Option<Admitted> {
        if !self.is_out() {
            return Some(Admitted(None));
        }
        let before = self.late.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(Some(self.clone()));
        (before < FEW).then_some(admitted)
    }
}

/// A request that was let in.
#[derive(Debug)]
pub struct Admitted(Option<Arc<Pressure>>);

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(pressure) = &self.0 {
            pressure.late.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_let_in_when_memory_is_out_and_all_when_it_is_not() {
        let pressure = Arc::new(Pressure::default());
        let before: Vec<_> = (0..100).map(|_| pressure.admit().unwrap()).collect();
        pressure.set(Level::Tight);
        assert!(pressure.admit().is_some());
        pressure.set(Level::Out);
        let mut late: Vec<_> = std::iter::from_fn(|| pressure.admit()).collect();
        assert_eq!(late.len(), FEW, "whoever was here before");
        late.pop();
        late.extend(pressure.admit());
        assert!(pressure.admit().is_none());
        assert_eq!(late.len(), FEW);
        drop(before);
        assert!(pressure.admit().is_none());
        pressure.set(Level::Ease);
        assert!(pressure.admit().is_some());
    }
}
