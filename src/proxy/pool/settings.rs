//! What an HTTP/2 upstream's settings say of WebSockets (RFC 8441 section 3): asked for where one is to go there.
//!
//! hyper tells the settings to whoever drives the connection, and does not wake him when they come.

use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// Streams at once until an upstream's settings say how many. Another number than an upstream would choose, so that it
/// tells whether they have come; never reached, since [`super::shared`] takes fewer.
pub(super) const UNTOLD_STREAMS: usize = 1009;

/// Between two questions at first; doubles.
const PAUSE: Duration = Duration::from_millis(1);

/// Of one connection.
#[derive(Default)]
pub(super) struct Settings {
    asked: Notify,
    websockets: watch::Sender<Option<bool>>,
}

impl Settings {
    /// For who drives the connection: somebody asks.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The settings have come.
    pub(super) fn tell(&self, websockets: bool) {
        self.websockets.send_replace(Some(websockets));
    }

    /// The connection has ended; who still asks need not wait. What is no HTTP/2 (an HTTP/1.1 server's 400) ends it as well.
    pub(super) fn end(&self) {
        self.websockets.send_if_modified(|told| {
            let untold = told.is_none();
            told.get_or_insert(false);
            untold
        });
    }

    /// Whether the upstream takes WebSockets; what has not come within `limit` is a no.
    pub(super) async fn take_websockets(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut told = self.websockets.subscribe();
        let mut pause = PAUSE;
        loop {
            if let Some(takes) = *told.borrow_and_update() {
                return takes;
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.asked.notify_one();
            let _ = timeout(pause, told.changed()).await;
            pause *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_waits_until_they_have_come() {
        let settings = Settings::default();
        let (asked, came) = (settings.take_websockets(Duration::from_secs(1)), async {
            for _ in 0..5 {
                settings.asked().await;
            }
            settings.tell(true);
        });
        assert!(tokio::join!(asked, came).0);
        assert!(
            settings.take_websockets(Duration::ZERO).await,
            "and from then on nobody"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_a_no() {
        let settings = Settings::default();
        let began = Instant::now();
        assert!(!settings.take_websockets(Duration::from_secs(1)).await);
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_of_a_connection_that_ends_does_not_wait() {
        let settings = Settings::default();
        let began = Instant::now();
        let (asked, ended) = (settings.take_websockets(Duration::from_secs(600)), async {
            settings.asked().await;
            settings.end();
        });
        assert!(!tokio::join!(asked, ended).0);
        assert_eq!(began.elapsed(), Duration::ZERO);
        let told = Settings::default();
        told.tell(true);
        told.end();
        assert!(told.take_websockets(Duration::ZERO).await, "as it was told");
    }
}
