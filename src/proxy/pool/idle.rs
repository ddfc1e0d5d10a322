//! The idle list: per upstream, the one used last on top.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use crate::proxy::upstream::Upstream;

/// Idle connections of a pool, whatever the number of upstreams: an app may call thousands within the idle limit.
const MAX_IDLE: usize = 1024;

/// Idle things per upstream. Takes and gives; whoever calls drops what it is given, outside of any lock.
pub(crate) struct Idle<T> {
    upstreams: HashMap<Upstream, VecDeque<Entry<T>>>,
    count: usize,
    sweeping: bool,
}

struct Entry<T> {
    line: T,
    since: Instant,
}

impl<T> Default for Idle<T> {
    fn default() -> Idle<T> {
        Idle {
            upstreams: HashMap::new(),
            count: 0,
            sweeping: false,
        }
    }
}

impl<T> Idle<T> {
    /// The one idle for the shortest time, unless that is since before `expired`.
    pub(crate) fn take(&mut self, upstream: &Upstream, expired: Option<Instant>) -> Option<T> {
        let entries = self.upstreams.get_mut(upstream)?;
        if expired.is_some_and(|at| entries.back().is_some_and(|entry| entry.since <= at)) {
            // All below it are older still; the sweep closes them.
            return None;
        }
        let entry = entries.pop_back()?;
        self.count -= 1;
        Some(entry.line)
    }

    /// Keeps `line`, and gives back the oldest where its upstream has more than `max`. With [`MAX_IDLE`] in all, gives
    /// back `line` itself.
    pub(crate) fn put(
        &mut self,
        upstream: Upstream,
        line: T,
        since: Instant,
        max: usize,
    ) -> Option<T> {
        if self.count >= MAX_IDLE {
            return Some(line);
        }
        let entries = self.upstreams.entry(upstream).or_default();
        entries.push_back(Entry { line, since });
        if entries.len() > max {
            return entries.pop_front().map(|entry| entry.line);
        }
        self.count += 1;
        None
    }

    /// Removes those idle since before `expired`, and those that `closed` says are dead.
    pub(crate) fn expire(
        &mut self,
        expired: Option<Instant>,
        closed: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let mut removed = Vec::new();
        for entries in self.upstreams.values_mut() {
            for _ in 0..entries.len() {
                let Some(entry) = entries.pop_front() else {
                    break;
                };
                if expired.is_some_and(|at| entry.since <= at) || closed(&entry.line) {
                    removed.push(entry.line);
                } else {
                    // A full turn keeps the order.
                    entries.push_back(entry);
                }
            }
        }
        self.upstreams.retain(|_, entries| !entries.is_empty());
        self.count -= removed.len();
        removed
    }

    /// Since when the one idle longest is.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let fronts = self.upstreams.values().filter_map(VecDeque::front);
        fronts.map(|entry| entry.since).min()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether the caller must start the sweep.
    pub(crate) fn start_sweeping(&mut self) -> bool {
        !std::mem::replace(&mut self.sweeping, true)
    }

    /// The sweep ends.
    pub(crate) fn stop_sweeping(&mut self) {
        self.sweeping = false;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Address;

    #[test]
    fn gives_the_last_used_first_and_expires_the_oldest() {
        let app = Upstream::from(Address::tcp("127.0.0.1", 8000));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut idle = Idle::default();
        for number in 0..4 {
            let surplus = idle.put(app.clone(), number, at(number), 3);
            assert_eq!(surplus, (number == 3).then_some(0));
        }
        assert_eq!(idle.oldest(), Some(at(1)));
        assert_eq!(
            idle.take(&Address::tcp("127.0.0.1", 8001).into(), None),
            None
        );
        assert_eq!(idle.take(&app, Some(at(2))), Some(3));
        assert_eq!(idle.take(&app, Some(at(2))), None, "2 has just expired");
        assert_eq!(idle.expire(Some(at(1)), |_| false), [1]);
        assert_eq!(idle.expire(None, |number| *number == 2), [2]);
        assert_eq!((idle.count(), idle.oldest()), (0, None));
        for number in 0..2000 {
            let upstream = Address::tcp("service", number).into();
            let kept = idle.put(upstream, 7, at(9), 3).is_none();
            assert_eq!(kept, usize::from(number) < MAX_IDLE);
        }
        assert_eq!(idle.expire(Some(at(9)), |_| false).len(), MAX_IDLE);
        assert_eq!(idle.count(), 0);
        assert!(
            idle.upstreams.is_empty(),
            "an upstream not in use is forgotten"
        );
    }
}
