//! Breaking off a TCP connection with RST (RFC 9293 section 3.5.2), so that its peer does not take what came for all there
//! is; but not before it has what was written: the RST would take that from it.
//!
//! A unix socket has no such end. What TLS has yet to encrypt is not waited for.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::queues::unsent;

/// A peer that has taken nothing for so long is not waited for.
const STALLED: Duration = Duration::from_secs(1);
/// Nor is one that is slow, for longer.
const MOST: Duration = Duration::from_secs(30);
/// Nothing says when a peer has taken all: it is looked at so often.
const LOOK: Duration = Duration::from_millis(10);

/// Makes the end of a connection that is about to be closed a RST.
pub(super) fn reset(stream: &TcpStream) {
    if unsent(stream) > 0
        && let Ok(runtime) = Handle::try_current()
        && let Ok(kept) = stream.as_fd().try_clone_to_owned()
    {
        // Until this is closed, too, the connection stays.
        runtime.spawn(taken(Broken(Socket::from(kept))));
    } else {
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

/// Closes with RST, whenever that is.
struct Broken(Socket);

impl Drop for Broken {
    fn drop(&mut self) {
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}

/// Waits until the peer has taken what was written, or seems to take no more.
async fn taken(broken: Broken) {
    let begun = Instant::now();
    let (mut left, mut moved) = (unsent(&broken.0), begun);
    while left > 0 && moved.elapsed() < STALLED && begun.elapsed() < MOST {
        sleep(LOOK).await;
        let now = unsent(&broken.0);
        if now != left {
            (left, moved) = (now, Instant::now());
        }
    }
}
