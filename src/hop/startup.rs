//! Wrap mode: the app was started a moment ago and may not listen yet, so requests wait for it instead of failing.
//!
//! Only while nothing has ever been connected to the app, only for [`PATIENCE`], and only until a stop begins. An app
//! that stops listening later is down, and said to be.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::error::ExchangeError;

/// How long an app may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether the app may still be starting.
pub struct Startup {
    over: AtomicBool,
    deadline: Instant,
}

impl Startup {
    /// The app is hopspan's child (`true`), or was there before (`false`).
    pub fn new(is_child: bool) -> Startup {
        Startup {
            over: AtomicBool::new(!is_child),
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// The app listens, or nobody waits for it any more.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// The outcome of `connect`, tried again while the app is starting and nobody listens there.
    pub async fn patiently<T, F>(&self, connect: impl Fn() -> F) -> Result<T, ExchangeError>
    where
        F: Future<Output = Result<T, ExchangeError>>,
    {
        loop {
            // Before, not after: another request may find the app listening just when this one was refused.
            let waits = self.waits();
            let outcome = connect().await;
            match outcome {
                // Also a unix socket that is not there yet.
                Err(ExchangeError::ConnectionRefused(_) | ExchangeError::SocketMissing(_))
                    if waits =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(connected) => {
                    self.end();
                    return Ok(connected);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn waits(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && Instant::now() < self.deadline
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    async fn tries(startup: &Startup, refused: usize) -> (usize, bool) {
        let count = AtomicUsize::new(0);
        let outcome = startup.patiently(|| async {
            match count.fetch_add(1, Ordering::Relaxed) < refused {
                true => Err(ExchangeError::ConnectionRefused("app".to_owned())),
                false => Ok(()),
            }
        });
        let listens = outcome.await.is_ok();
        (count.into_inner(), listens)
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_is_waited_for_once_and_not_for_ever() {
        let startup = Startup::new(true);
        assert_eq!(tries(&startup, 3).await, (4, true));
        assert_eq!(tries(&startup, 3).await, (1, false), "it has listened");
        assert_eq!(tries(&Startup::new(false), 3).await, (1, false));
        let (count, listens) = tries(&Startup::new(true), usize::MAX).await;
        assert!(!listens && (500..=700).contains(&count), "{count}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_while_another_finds_it_listening_tries_again() {
        let (startup, count) = (Startup::new(true), AtomicUsize::new(0));
        let outcome = startup.patiently(|| async {
            // Another's success comes between the refusal and its being looked at.
            startup.end();
            match count.fetch_add(1, Ordering::Relaxed) {
                0 => Err(ExchangeError::ConnectionRefused("app".to_owned())),
                _ => Ok(()),
            }
        });
        assert!(outcome.await.is_ok());
        assert_eq!(count.into_inner(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait() {
        let startup = Startup::new(true);
        startup.end();
        assert_eq!(tries(&startup, 3).await, (1, false));
    }
}
