//! What the hops hold while a connection to the app is open, and while the app works on a request: guards.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;

use super::call::Stamp;
use super::in_flight::{self, Ends, InFlight};
use super::thread::Thread;
use super::token::Held;
use super::{clock, process};

/// The two ends of a connection to the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppEnd {
    /// By TCP.
    Tcp {
        /// hopspan's address.
        local: SocketAddr,
        /// The app's.
        app: SocketAddr,
    },
    /// By a unix socket.
    Unix {
        /// Where the app listens.
        path: PathBuf,
        /// SO_COOKIE of hopspan's socket.
        cookie: u64,
        /// The inode of hopspan's socket.
        inode: u64,
    },
}

/// A connection to the app that is open. Drop it when the socket is closed.
#[must_use]
pub struct AppConnection {
    pub(super) in_flight: Arc<InFlight>,
    pub(super) thread: Option<Arc<Thread>>,
    pub(super) ends: Ends,
    pub(super) id: u64,
}

impl Drop for AppConnection {
    fn drop(&mut self) {
        self.in_flight.close(self.id, process::monotonic());
        if let Some(thread) = &self.thread {
            thread.closed(self.ends);
        }
    }
}

/// A request that the app works on. Drop it when the response's body has ended, or better, end it with
/// [`Presence::finished`].
#[must_use]
pub struct Presence {
    pub(super) entered: Option<(Arc<InFlight>, u64, u64)>,
    pub(super) token: Option<Held>,
}

impl Presence {
    /// The value of [`token::HEADER`] for the request to the app, where tokens are on.
    pub fn token(&self) -> Option<HeaderValue> {
        self.token.as_ref().and_then(Held::value)
    }

    /// The response's body has ended with the bytes that came at `received`, the last read on its connection.
    ///
    /// A worker often starts its next request before hopspan gets to see that it answered the last one. Knowing when
    /// the kernel had the answer tells the two apart, so that the next one's calls can be joined.
    pub fn finished(mut self, received: Option<Stamp>) {
        // In this order: where the thread is interrupted between the two, the end seems later than it was, never
        // earlier.
        let realtime = process::realtime();
        let now = process::monotonic();
        let ended = received.map_or(now, |stamp| clock::just_passed(stamp, now, realtime));
        self.leave(ended);
    }

    fn leave(&mut self, ended: in_flight::Nanos) {
        if let Some((in_flight, id, number)) = self.entered.take() {
            in_flight.leave(id, number, ended);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.leave(process::monotonic());
    }
}
