//! The open connections of one listener, and room for new ones when there are many: those that have waited for a
//! request for longest are closed first, as at their idle limit.
//!
//! Closing is graceful: a request that just arrives is still answered. A connection in use is never closed here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::timed::Clock;

/// Who has waited for less than this may be about to send its first request.
const IDLE: Duration = Duration::from_secs(1);
/// After a look at all that found nobody, until the next.
const REST: Duration = Duration::from_millis(100);
/// A fiftieth of what a listener may have is kept free, so that one look makes room for many.
const SPARE: usize = 50;

/// The open connections of one listener.
#[derive(Default)]
pub(super) struct Crowd {
    open: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    members: HashMap<u64, Member>,
    /// Those that were asked to leave and have not yet.
    leaving: usize,
    /// Not before then is it looked again for somebody to leave.
    rest_until: Option<Instant>,
}

struct Member {
    clock: Arc<Clock>,
    leave: CancellationToken,
}

impl Crowd {
    /// Counts a connection for as long as the returned value lives.
    pub(super) fn enter(
        self: &Arc<Crowd>,
        id: u64,
        clock: &Arc<Clock>,
        leave: &CancellationToken,
    ) -> Place {
        let member = Member {
            clock: clock.clone(),
            leave: leave.clone(),
        };
        self.open.fetch_add(1, Ordering::Relaxed);
        self.state().members.insert(id, member);
        Place {
            crowd: self.clone(),
            id,
        }
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether there is room for one more of `cap`. When there is little, says how many were asked to leave.
    pub(super) fn admits(&self, cap: usize, now: Instant) -> (bool, usize) {
        let open = self.open.load(Ordering::Relaxed);
        let spare = (cap / SPARE).max(1);
        let asked = match open.saturating_add(spare) > cap {
            true => self.make_room(spare, now),
            false => 0,
        };
        (open < cap, asked)
    }

    /// Asks the `count` that have been idle for longest to leave, fewer by those that are still on their way out. Gives
    /// how many it asked.
    pub(super) fn make_room(&self, count: usize, now: Instant) -> usize {
        let mut state = self.state();
        let count = count.saturating_sub(state.leaving);
        if count == 0 || state.rest_until.is_some_and(|until| now < until) {
            return 0;
        }
        let members = state.members.iter();
        let mut idle: Vec<(Instant, u64)> = members
            .filter_map(|(id, member)| Some((member.clock.idle_since()?, *id)))
            .filter(|(since, _)| now.saturating_duration_since(*since) >= IDLE)
            .collect();
        if idle.len() > count {
            idle.select_nth_unstable(count - 1);
            idle.truncate(count);
        }
        state.rest_until = idle.is_empty().then(|| now + REST);
        state.leaving += idle.len();
        for (_, id) in &idle {
            if let Some(member) = state.members.remove(id) {
                member.leave.cancel();
            }
        }
        idle.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the crowd.
pub(super) struct Place {
    crowd: Arc<Crowd>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.open.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.crowd.state();
        if state.members.remove(&self.id).is_none() {
            state.leaving = state.leaving.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections that have been idle for so many seconds at the time that is given, or are in use.
    fn crowd(idle: &[Option<u64>]) -> (Arc<Crowd>, Vec<(Place, CancellationToken)>, Instant) {
        let crowd = Arc::new(Crowd::default());
        let now = Instant::now() + Duration::from_secs(60);
        let enter = |(id, idle): (usize, &Option<u64>)| {
            let (clock, leave) = (Clock::new(IDLE, &Arc::default()), CancellationToken::new());
            match idle {
                Some(seconds) => clock.idles_from(now - Duration::from_secs(*seconds)),
                None => clock.request_begins(false),
            }
            (crowd.enter(id as u64, &clock, &leave), leave)
        };
        let places = idle.iter().enumerate().map(enter).collect();
        (crowd, places, now)
    }

    fn asked(places: &[(Place, CancellationToken)]) -> Vec<u64> {
        let asked = places.iter().filter(|(_, leave)| leave.is_cancelled());
        asked.map(|(place, _)| place.id).collect()
    }

    #[tokio::test]
    async fn those_idle_for_longest_leave_and_nobody_in_use() {
        let (crowd, mut places, now) = crowd(&[Some(5), None, Some(9), Some(0), Some(7)]);
        assert_eq!(crowd.make_room(2, now), 2);
        assert_eq!(asked(&places), [2, 4]);
        assert_eq!(crowd.make_room(2, now), 0, "two are on their way out");
        places.remove(2);
        assert_eq!(crowd.make_room(2, now), 1);
        assert_eq!(asked(&places), [0, 4]);
        places.clear();
        assert_eq!(crowd.state().leaving, 0);
        assert_eq!(crowd.open.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn who_came_just_now_stays_and_is_not_looked_at_each_time() {
        let (crowd, places, now) = crowd(&[None, Some(0)]);
        assert_eq!(crowd.make_room(1, now), 0);
        assert!(crowd.state().rest_until.is_some());
        drop(places);
    }

    #[tokio::test]
    async fn the_cap_holds_and_room_is_made_before_it_is_reached() {
        let (crowd, places, now) = crowd(&[Some(5), None, None]);
        assert_eq!(crowd.admits(10, now), (true, 0));
        assert_eq!(crowd.admits(3, now), (false, 1));
        drop(places);
        assert_eq!(crowd.admits(3, now), (true, 0));
    }
}
