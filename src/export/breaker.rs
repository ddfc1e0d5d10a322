//! When the next attempt may be made: a circuit breaker whose open time grows with each failure.
//!
//! Open, nothing is sent and the queue fills; when the time is up one batch probes; its success closes the circuit. The
//! waits grow by half ([`Timing`]: from 1 s to 30 s), spread by a random half so that sidecars do not return in step. A server's own
//! wish (`Retry-After`, gRPC `RetryInfo`) is honoured where it is longer.

use std::time::Duration;

use crate::config::Export;

/// Waits of the exporter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// The first wait.
    pub(super) first: Duration,
    /// The longest wait of our own.
    pub(super) longest: Duration,
    /// How long a batch is tried for; also the longest wait a server may ask for.
    pub(super) give_up: Duration,
}

impl Timing {
    /// What the config says.
    pub(super) fn of(settings: &Export) -> Timing {
        Timing {
            first: settings.retry_initial_interval,
            longest: settings.retry_max_interval,
            give_up: settings.give_up.max(Duration::from_millis(1)),
        }
    }
}

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Breaker {
    timing: Timing,
    failures: u32,
}

impl Breaker {
    /// Closed.
    pub(super) fn new(timing: Timing) -> Breaker {
        Breaker {
            timing,
            failures: 0,
        }
    }

    /// An attempt succeeded, or was refused for good by a server that is there.
    pub(super) fn close(&mut self) {
        self.failures = 0;
    }

    /// An attempt failed: how long to wait before the next.
    pub(super) fn open(&mut self, asked: Option<Duration>) -> Duration {
        let grown =
            self.timing.first.as_secs_f64() * 1.5_f64.powi(self.failures.min(64).cast_signed());
        let wait = grown.min(self.timing.longest.as_secs_f64()) * (0.5 + fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        let asked = asked.unwrap_or_default().min(self.timing.give_up);
        Duration::from_secs_f64(wait).max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_obey_the_server() {
        let mut breaker = Breaker::new(Timing::of(&Export::default()));
        let mut mean = 1.0_f64;
        for _ in 0..100 {
            let wait = breaker.open(None).as_secs_f64();
            assert!(
                (mean * 0.5..=mean * 1.5).contains(&wait),
                "{wait} around {mean}"
            );
            mean = (mean * 1.5).min(30.0);
        }
        assert_eq!(
            breaker.open(Some(Duration::from_secs(60))),
            Duration::from_secs(60)
        );
        assert_eq!(breaker.open(Some(Duration::MAX)), Duration::from_secs(300));
        breaker.close();
        assert!(breaker.open(None) <= Duration::from_millis(1500));
    }

    #[test]
    fn the_waits_are_settings() {
        let mut breaker = Breaker::new(Timing::of(&Export {
            retry_initial_interval: Duration::from_millis(100),
            retry_max_interval: Duration::from_millis(600),
            give_up: Duration::from_secs(5),
            ..Export::default()
        }));
        // Far enough from each other and from the defaults that chance does not hide it.
        let mut mean = 0.1_f64;
        for _ in 0..20 {
            let wait = breaker.open(None).as_secs_f64();
            assert!(
                (mean * 0.5..=mean * 1.5).contains(&wait),
                "{wait} around {mean}"
            );
            mean = (mean * 1.5).min(0.6);
        }
        let asked = Some(Duration::from_secs(60));
        assert_eq!(breaker.open(asked), Duration::from_secs(5));
    }
}
