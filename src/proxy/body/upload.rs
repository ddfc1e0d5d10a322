//! Whose time it is while a request is sent: its sender's, who has yet to send more of it, or its receiver's, who has yet
//! to take more of it, or has all of it and has yet to answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// How far the content of one request has got.
#[derive(Debug)]
pub struct Upload {
    stage: Mutex<Stage>,
    ended: Notify,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// There is nothing to send on: more is to come.
    Sender,
    /// There may be more to send on, since then.
    Receiver(Instant),
    /// Nothing more is sent.
    Ended { at: Instant, whole: bool },
}

impl Default for Upload {
    fn default() -> Upload {
        Upload {
            stage: Mutex::new(Stage::Receiver(Instant::now())),
            ended: Notify::new(),
        }
    }
}

impl Upload {
    /// Whether all of it was handed on.
    pub fn is_whole(&self) -> bool {
        matches!(*self.stage(), Stage::Ended { whole: true, .. })
    }

    /// Ready when the receiver is late: it has had all of it for `limit`, or has taken nothing more for `stalled`.
    /// Counts from now: what it took to connect is not the receiver's time.
    pub async fn late(&self, limit: Duration, stalled: Duration) {
        self.begin();
        loop {
            let stage = *self.stage();
            let look_again = match stage {
                Stage::Ended { at, .. } => return sleep_until(at + limit).await,
                Stage::Sender => stalled,
                Stage::Receiver(since) => match stalled.checked_sub(since.elapsed()) {
                    Some(left) if !left.is_zero() => left,
                    _ => return,
                },
            };
            tokio::select! {
                () = sleep(look_again) => {}
                () = self.ended.notified() => {}
            }
        }
    }

    fn begin(&self) {
        let (mut stage, now) = (self.stage(), Instant::now());
        *stage = match *stage {
            Stage::Ended { whole, .. } => Stage::Ended { at: now, whole },
            _ => Stage::Receiver(now),
        };
    }

    /// A piece is at hand, or would be if there were room for it.
    pub(super) fn goes_on(&self) {
        let mut stage = self.stage();
        if !matches!(*stage, Stage::Ended { .. }) {
            *stage = Stage::Receiver(Instant::now());
        }
    }

    /// The receiver takes nothing more for now.
    pub(super) fn is_full(&self) {
        let mut stage = self.stage();
        if matches!(*stage, Stage::Sender) {
            *stage = Stage::Receiver(Instant::now());
        }
    }

    /// There is nothing to send on.
    pub(super) fn waits(&self) {
        let mut stage = self.stage();
        if matches!(*stage, Stage::Receiver(_)) {
            *stage = Stage::Sender;
        }
    }

    pub(super) fn end(&self, whole: bool) {
        let at = Instant::now();
        *self.stage() = Stage::Ended { at, whole };
        self.ended.notify_one();
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);
    const STALLED: Duration = Duration::from_secs(10);

    type Act = fn(&Upload);

    /// What happens at which second, and when the receiver is late.
    async fn late(script: &[(u64, Act)]) -> u64 {
        let (begun, upload) = (Instant::now(), Arc::<Upload>::default());
        let acting = async {
            for (second, act) in script {
                sleep_until(begun + Duration::from_secs(*second)).await;
                act(&upload);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = upload.late(LIMIT, STALLED) => {}
            () = acting => {}
        }
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_receivers_time_counts() {
        let done: Act = |upload| upload.end(true);
        let mut rows = 0;
        for (script, expected) in [
            (vec![], 10),
            (vec![(0, done)], 2),
            // A slow sender, for whom others wait.
            (vec![(1, Upload::waits as Act), (100, done)], 102),
            (vec![(1, Upload::waits), (30, Upload::goes_on)], 40),
            (vec![(1, Upload::waits), (30, Upload::is_full)], 40),
            // A receiver that takes a piece now and then.
            (vec![(8, Upload::goes_on), (16, Upload::goes_on)], 26),
            (vec![(8, Upload::is_full)], 10),
            (vec![(3, done), (4, Upload::waits)], 5),
        ] {
            assert_eq!(late(&script).await, expected, "row {rows}");
            rows += 1;
        }
        assert_eq!(rows, 8);
    }
}
