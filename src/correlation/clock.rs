//! Times of other clocks as times of CLOCK_MONOTONIC, with certain bounds.
//!
//! Clocks differ by an offset that changes: CLOCK_REALTIME is set and slewed, CLOCK_BOOTTIME runs on while the machine
//! sleeps. The offset is measured now and then; a time in the other clock is converted with every offset that may have
//! held at that time.

use std::collections::VecDeque;
use std::time::Duration;

use super::Stamp;
use super::in_flight::Nanos;

/// Measurements closer together than this share one entry.
const STEP: Nanos = Duration::from_millis(50).as_nanos() as Nanos;
/// How far back offsets are known; older ones are merged into one entry.
const KEPT: Nanos = Duration::from_secs(2).as_nanos() as Nanos;

/// Kernel times older than this are not converted: the clock may have been set since.
const RECENT: Nanos = Duration::from_millis(50).as_nanos() as Nanos;
/// What a slewed clock can be off in that time, and more.
const SLEW: Nanos = Duration::from_micros(50).as_nanos() as Nanos;

/// A moment that `stamp` was not after, given both clocks as they are now, `realtime` read first. For a stamp of just now it is the kernel's
/// time; else the time it was read at.
pub(super) fn just_passed(stamp: Stamp, now: Nanos, realtime: Nanos) -> Nanos {
    let read = stamp.monotonic_ns.min(now);
    match realtime.checked_sub(stamp.realtime_ns) {
        Some(age) if age <= RECENT => read.min(now.saturating_sub(age) + SLEW),
        _ => read,
    }
}

/// CLOCK_REALTIME minus CLOCK_MONOTONIC over the last seconds.
#[derive(Debug, Default)]
pub(super) struct RealTime {
    entries: VecDeque<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    first: Nanos,
    last: Nanos,
    lowest: Nanos,
    highest: Nanos,
}

impl RealTime {
    /// A measurement: `realtime` was read right after `monotonic`.
    pub(super) fn note(&mut self, monotonic: Nanos, realtime: Nanos) {
        let offset = realtime.saturating_sub(monotonic);
        match self.entries.back_mut() {
            Some(entry) if monotonic.saturating_sub(entry.first) < STEP => {
                entry.last = monotonic;
                entry.lowest = entry.lowest.min(offset);
                entry.highest = entry.highest.max(offset);
            }
            _ => self.entries.push_back(Entry {
                first: monotonic,
                last: monotonic,
                lowest: offset,
                highest: offset,
            }),
        }
        // The first entry kept is the last one that is old enough.
        while self
            .entries
            .get(1)
            .is_some_and(|entry| entry.last + KEPT < monotonic)
        {
            self.entries.pop_front();
        }
    }

    /// The earliest and the latest moment that `realtime` can have been, if it was at most `age` before `until`.
    pub(super) fn bounds(
        &self,
        realtime: Nanos,
        until: Nanos,
        age: Nanos,
    ) -> Option<(Nanos, Nanos)> {
        let from = until.saturating_sub(age);
        let before = self.entries.iter().rposition(|entry| entry.last <= from);
        let possible = self.entries.iter().skip(before.unwrap_or(0));
        let (lowest, highest) = possible.fold((Nanos::MAX, 0), |(lowest, highest), entry| {
            (lowest.min(entry.lowest), highest.max(entry.highest))
        });
        let earliest = realtime.checked_sub(highest)?;
        let latest = realtime.checked_sub(lowest)?.min(until);
        (earliest <= latest && earliest >= from).then_some((earliest, latest))
    }
}

/// CLOCK_BOOTTIME minus CLOCK_MONOTONIC: grows by each suspend, and never shrinks.
#[derive(Debug, Default)]
pub(super) struct BootTime {
    /// When an offset was first seen, and the offset.
    seen: Vec<(Nanos, Nanos)>,
}

impl BootTime {
    /// A measurement: `boottime` was read right after `monotonic`.
    pub(super) fn note(&mut self, monotonic: Nanos, boottime: Nanos) {
        const READING: Nanos = 1_000_000;
        let offset = boottime.saturating_sub(monotonic);
        if self
            .seen
            .last()
            .is_none_or(|(_, last)| offset > last + READING)
        {
            self.seen.push((monotonic, offset));
        }
    }

    /// A moment that `boottime` was not after, for what began since the first measurement.
    pub(super) fn monotonic(&self, boottime: Nanos) -> Nanos {
        let since = |(at, offset): &&(Nanos, Nanos)| at.saturating_add(*offset) <= boottime;
        // The offset that held then was at least the last one seen before; before the first, any will do.
        let offset = self.seen.iter().rev().find(since).or(self.seen.first());
        boottime.saturating_sub(offset.map_or(0, |(_, offset)| *offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;
    const AGE: Nanos = 200 * MS;

    #[test]
    fn a_steady_clock_converts_exactly() {
        let mut clock = RealTime::default();
        clock.note(1_000 * MS, 9_000 * MS);
        clock.note(2_000 * MS, 10_000 * MS);
        let bounds = clock.bounds(9_990 * MS, 1_995 * MS, AGE);
        assert_eq!(bounds, Some((1_990 * MS, 1_990 * MS)));
    }

    #[test]
    fn a_step_between_widens_the_bounds_either_way() {
        for step in [-500_i64, 500] {
            let stepped = (10_000 + step) as Nanos * MS;
            let mut clock = RealTime::default();
            clock.note(1_000 * MS, 9_000 * MS);
            clock.note(2_000 * MS, stepped);
            // Received at 1990 by the old clock, before the step.
            let bounds = clock.bounds(9_990 * MS, 1_995 * MS, 600 * MS);
            match bounds {
                Some((earliest, latest)) => assert!(earliest <= 1_990 * MS && 1_990 * MS <= latest),
                None => panic!("refused a step within the age"),
            }
            // With a smaller age the wide bounds are refused, or still hold the truth.
            if let Some((earliest, latest)) = clock.bounds(9_990 * MS, 1_995 * MS, AGE) {
                assert!(earliest <= 1_990 * MS && 1_990 * MS <= latest);
            }
        }
    }

    #[test]
    fn a_time_from_the_future_is_refused() {
        let mut clock = RealTime::default();
        clock.note(1_000 * MS, 9_000 * MS);
        assert_eq!(clock.bounds(9_500 * MS, 1_400 * MS, AGE), None);
    }

    #[test]
    fn the_end_of_a_response_is_the_kernels_if_it_is_recent() {
        let now = 5_000 * MS;
        let stamp = |realtime, monotonic| Stamp {
            realtime_ns: realtime * MS,
            monotonic_ns: monotonic * MS,
        };
        for (stamp, realtime, expected) in [
            (stamp(9_990, 4_998), 10_000, 4_990 * MS + SLEW),
            (stamp(9_000, 4_998), 10_000, 4_998 * MS), // too old: the clock was set, or it waited
            (stamp(10_500, 4_998), 10_000, 4_998 * MS), // from the future: the clock was set
            (stamp(9_999, 4_990), 10_000, 4_990 * MS), // read before the kernel had it: cannot be
            (stamp(9_990, 6_000), 10_000, 4_990 * MS + SLEW),
        ] {
            assert_eq!(just_passed(stamp, now, realtime * MS), expected);
        }
    }

    #[test]
    fn forgets_old_entries_but_one() {
        let mut clock = RealTime::default();
        for second in 0..100 {
            clock.note(second * 1_000 * MS, (second * 1_000 + 5) * MS);
        }
        assert!(clock.entries.len() <= 4, "{}", clock.entries.len());
    }

    #[test]
    fn a_process_started_after_a_suspend_is_not_taken_for_old() {
        let mut clock = BootTime::default();
        clock.note(1_000, 1_000);
        // Slept for an hour, noticed at 2000 (boot time one hour more).
        let hour = 3_600_000 * MS;
        clock.note(2_000, hour + 2_000);
        assert_eq!(clock.monotonic(500), 500);
        assert_eq!(clock.monotonic(1_500), 1_500);
        assert_eq!(clock.monotonic(hour + 3_000), 3_000);
        // Between waking and noticing: later than true, which only refuses.
        assert_eq!(clock.monotonic(hour + 1_500), hour + 1_500);
    }
}
