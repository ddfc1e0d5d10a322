//! What the two sides of an exchange know of each other: whether what was written to a socket waits for the peer, and
//! which pieces of a response are held. What is held in all is not known here.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Whether what was written to a socket waits for the peer; shared by the socket and the content that goes there, on one
/// task.
#[derive(Default)]
pub(crate) struct Gate {
    /// Whether nothing more is to be written before what was is flushed; and whether somebody waits for that.
    unflushed: AtomicBool,
    awaited: AtomicBool,
}

impl Gate {
    /// Nothing more is to be written before what was is flushed.
    pub(crate) fn flush_first(&self) {
        self.unflushed.store(true, Ordering::Relaxed);
    }

    /// Whether what was written has yet to be flushed. If so, the task of the connection is woken when it has.
    pub(crate) fn waits_to_flush(&self) -> bool {
        let waits = self.unflushed.load(Ordering::Relaxed);
        if waits {
            self.awaited.store(true, Ordering::Relaxed);
        }
        waits
    }

    /// All is flushed.
    pub(crate) fn flushed(&self, cx: &mut Context<'_>) {
        if self.unflushed.load(Ordering::Relaxed) {
            self.unflushed.store(false, Ordering::Relaxed);
            if self.awaited.swap(false, Ordering::Relaxed) {
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// What an upstream's connection of HTTP/1 and the content on it know of each other.
#[derive(Default)]
pub(crate) struct Flow {
    /// Of what is written to the upstream.
    pub(crate) gate: Gate,
    /// Of the response that is read, and of no other.
    response: Mutex<Arc<Pieces>>,
}

impl Flow {
    /// Those of the response that is read, or of the next one.
    pub(crate) fn pieces(&self) -> Arc<Pieces> {
        self.response().clone()
    }

    /// The response was read to its end: what is held of it is no reason to wait, neither for the connection's end nor for
    /// the next response.
    pub(crate) fn ended(&self) {
        let before = std::mem::take(&mut *self.response());
        before.wake();
    }

    /// Ready when nothing of the response is held.
    pub(crate) fn poll_taken(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Locked until the waker is there, or `ended` could miss it.
        let response = self.response();
        response.poll_taken(End::Upstream, cx)
    }

    /// See [`Pieces::are_taken`].
    pub(super) fn is_taken(&self) -> bool {
        self.response().is_taken()
    }

    /// Whether the client has yet to show that it reads the response.
    pub(crate) fn is_unproven(&self) -> bool {
        self.response().unproven.load(Ordering::Relaxed)
    }

    fn response(&self) -> MutexGuard<'_, Arc<Pieces>> {
        self.response.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits until the pieces of a response are taken.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// To send more.
    Client,
    /// To read more.
    Upstream,
}

/// The pieces of one response that are held; and who waits until they are taken.
#[derive(Default)]
pub(crate) struct Pieces {
    count: AtomicUsize,
    /// Whether the client has yet to show that it reads.
    unproven: AtomicBool,
    taken: AtomicBool,
    /// As [`End`]s.
    waiting: Mutex<[Option<Waker>; 2]>,
}

impl Pieces {
    /// They wait for no window: the client has taken what it had one for from the beginning, or speaks HTTP/1.
    pub(crate) fn are_taken(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// Notes whether the client has shown that it reads.
    pub(super) fn proven(&self, reads: bool) {
        self.unproven.store(!reads, Ordering::Relaxed);
    }

    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn poll_taken(&self, end: End, cx: &mut Context<'_>) -> Poll<()> {
        if self.count.load(Ordering::Relaxed) > 0 {
            let [client, upstream] = &mut *self.waiting();
            let waits = match end {
                End::Client => client,
                End::Upstream => upstream,
            };
            *waits = Some(cx.waker().clone());
            // The last may have been taken since; if not, it finds the waker.
            if self.count.load(Ordering::Relaxed) > 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    pub(super) fn taken(&self) {
        if self.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.wake();
        }
    }

    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, [Option<Waker>; 2]> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::proxy::held::Held;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_reads_ahead_is_woken_when_the_last_piece_is_taken() {
        let (held, flow, woken) = (Held::default(), Flow::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let pieces = flow.pieces();
        assert!(flow.poll_taken(&mut cx).is_ready());
        let first = held.hold(Bytes::from(vec![b'x'; 10_000]), Some(&pieces));
        let second = held.hold(Bytes::from(vec![b'x'; 10_000]), Some(&pieces));
        assert!(flow.poll_taken(&mut cx).is_pending());
        drop(first);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(flow.poll_taken(&mut cx).is_ready());
    }

    #[test]
    fn what_one_client_does_not_take_delays_no_other_response_on_its_connection() {
        let (held, flow, woken) = (Held::default(), Flow::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let stalls = held.hold(Bytes::from(vec![b'x'; 10_000]), Some(&flow.pieces()));
        assert!(flow.poll_taken(&mut cx).is_pending());
        // It was read to its end, and the connection is idle: its end is to be seen.
        flow.ended();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(flow.poll_taken(&mut cx).is_ready());
        // The next exchange.
        let next = flow.pieces();
        assert!(flow.poll_taken(&mut cx).is_ready());
        let piece = held.hold(Bytes::from(vec![b'y'; 10_000]), Some(&next));
        assert!(flow.poll_taken(&mut cx).is_pending());
        drop(stalls);
        assert!(flow.poll_taken(&mut cx).is_pending(), "not for the other's");
        drop(piece);
        assert!(flow.poll_taken(&mut cx).is_ready());
    }
}
