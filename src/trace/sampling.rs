//! Whether a trace is recorded: parent-based, by ratio, and by rate.
//!
//! Decisions agree with OpenTelemetry's SDKs (`TraceIdRatioBased`, `ParentBased`): every service of a trace that uses
//! the same ratio comes to the same answer. Consistent probability sampling (`ot=th:`) is not done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Context, TraceId};

/// The rule for traces that begin here (`OTEL_TRACES_SAMPLER`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// Every trace.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// This share of traces, 0.0 to 1.0, by trace ID.
    Ratio(f64),
}

impl Sampler {
    /// The decision for a trace, by its ID alone.
    pub fn samples(self, trace_id: TraceId) -> bool {
        match self {
            Sampler::AlwaysOn => true,
            Sampler::AlwaysOff => false,
            Sampler::Ratio(ratio) if ratio >= 1.0 => true,
            Sampler::Ratio(ratio) => {
                // The SDKs' rule: 63 bits of the ID's lower half against the ratio. A NaN samples nothing.
                let bound = (ratio.max(0.0) * (1_u64 << 63) as f64) as u64;
                let [.., a, b, c, d, e, f, g, h] = trace_id.to_bytes();
                u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < bound
            }
        }
    }
}

/// The decision for an exchange. With `parent_based` a parent's decision is kept, else `sampler` decides for all.
pub fn decide(
    sampler: Sampler,
    parent_based: bool,
    parent: Option<&Context>,
    trace_id: TraceId,
) -> bool {
    match parent {
        Some(parent) if parent_based => parent.flags.is_sampled(),
        _ => sampler.samples(trace_id),
    }
}

/// A cap on traces per second, lock-free; up to a second's worth may come at once.
///
/// Meant for traces that begin here, after [`decide`]: a caller's decision is not taken back.
#[derive(Debug)]
pub struct RateLimiter {
    began: Instant,
    /// Nanoseconds since `began` at which the bucket is full again (GCRA's theoretical arrival time).
    full_at: AtomicU64,
}

impl Default for RateLimiter {
    fn default() -> RateLimiter {
        RateLimiter::new()
    }
}

impl RateLimiter {
    /// A full bucket.
    pub fn new() -> RateLimiter {
        RateLimiter {
            began: Instant::now(),
            full_at: AtomicU64::new(0),
        }
    }

    /// Whether one more may pass at `now`. `per_second` may differ from call to call (a reload).
    pub fn allow(&self, per_second: f64, now: Instant) -> bool {
        const SECOND: f64 = 1e9;
        if per_second.is_nan() || per_second <= 0.0 {
            return false;
        }
        let step = (SECOND / per_second).min(u64::MAX as f64 / 4.0) as u64;
        // At less than one per second the bucket still holds one.
        let depth = step.max(SECOND as u64);
        let now = u64::try_from(now.saturating_duration_since(self.began).as_nanos())
            .unwrap_or(u64::MAX / 2);
        self.full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let next = full_at.max(now).saturating_add(step);
                (next <= now.saturating_add(depth)).then_some(next)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Flags;
    use super::*;
    use opentelemetry_sdk::trace::{Sampler as SdkSampler, ShouldSample};
    use std::time::Duration;

    #[test]
    fn the_ratio_rule_is_the_sdks() {
        let mut ran = 0;
        for ratio in [-1.0, 0.0, 1e-9, 0.01, 0.25, 0.5, 0.999_999, 1.0, 2.0] {
            for at in 0..200_u64 {
                // Around the bound, and anywhere.
                let bound = (ratio * 2_f64.powi(64)) as u64;
                let low = if at % 2 == 0 {
                    bound.wrapping_add(at).wrapping_sub(100)
                } else {
                    fastrand::u64(..)
                };
                let id = TraceId::from((u128::from(fastrand::u64(..)) << 64) | u128::from(low));
                let sdk = SdkSampler::TraceIdRatioBased(ratio).should_sample(
                    None,
                    id,
                    "",
                    &opentelemetry::trace::SpanKind::Server,
                    &[],
                    &[],
                );
                let want =
                    sdk.decision == opentelemetry_sdk::trace::SamplingDecision::RecordAndSample;
                assert_eq!(Sampler::Ratio(ratio).samples(id), want, "{ratio} {id}");
                ran += 1;
            }
        }
        assert_eq!(ran, 1800);
        assert!(!Sampler::Ratio(f64::NAN).samples(TraceId::from(1)));
    }

    #[test]
    fn parents_decide_if_asked() {
        let yes = Context {
            flags: Flags::SAMPLED,
            ..Context::new_root()
        };
        let no = Context {
            flags: Flags::default(),
            ..Context::new_root()
        };
        let id = TraceId::from(1);
        let rows = [
            (Sampler::AlwaysOff, true, Some(&yes), true),
            (Sampler::AlwaysOn, true, Some(&no), false),
            (Sampler::AlwaysOn, true, None, true),
            (Sampler::AlwaysOff, false, Some(&yes), false),
            (Sampler::AlwaysOn, false, Some(&no), true),
            (Sampler::Ratio(0.5), true, None, true),
        ];
        for (sampler, parent_based, parent, want) in rows {
            assert_eq!(
                decide(sampler, parent_based, parent, id),
                want,
                "{sampler:?} {parent_based}"
            );
        }
    }

    #[test]
    fn the_rate_holds_over_bursts_and_pauses() {
        let limiter = RateLimiter::new();
        let now = limiter.began;
        let passed = |at: Instant, rate: f64, asked: usize| {
            (0..asked).filter(|_| limiter.allow(rate, at)).count()
        };
        assert_eq!(passed(now, 50.0, 200), 50);
        assert_eq!(passed(now + Duration::from_millis(100), 50.0, 200), 5);
        assert_eq!(passed(now + Duration::from_secs(60), 50.0, 200), 50);
        assert_eq!(passed(now + Duration::from_secs(120), 0.1, 10), 1);
        assert_eq!(passed(now + Duration::from_secs(129), 0.1, 10), 0);
        assert_eq!(passed(now + Duration::from_secs(131), 0.1, 10), 1);
        assert_eq!(passed(now + Duration::from_secs(999), 0.0, 10), 0);
        assert_eq!(passed(now + Duration::from_secs(999), f64::NAN, 10), 0);
    }
}
