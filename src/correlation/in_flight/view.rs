//! The table of requests as the look-ups see it: a copy, so that nothing waits for a look-up.
//!
//! It leaves out what ended too early to matter to the call that is looked up: most of what is remembered.

use super::{Connection, InFlight, Nanos};
use crate::correlation::kernel::End;

/// A request as the look-ups see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlation) struct RequestView {
    /// Unique over all requests.
    pub(in crate::correlation) number: u64,
    /// Before its first byte went to the app.
    pub(in crate::correlation) dispatched: Nanos,
    /// When hopspan saw the response end; never earlier than it did.
    pub(in crate::correlation) done: Option<Nanos>,
    /// When all that came before it on its connection had been answered; `None` for the first one.
    pub(in crate::correlation) follows: Option<Nanos>,
    /// Bytes that hopspan had sent on its connection before it, where they are counted.
    pub(in crate::correlation) before: Option<u64>,
}

/// A connection as the look-ups see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlation) struct ConnectionView {
    /// The pool's number for it.
    pub(in crate::correlation) id: u64,
    /// The app's end.
    pub(in crate::correlation) end: End,
    /// Bytes that hopspan has sent on it, where they are counted.
    pub(in crate::correlation) written: Option<u64>,
    /// Before the connection was made.
    pub(in crate::correlation) began: Nanos,
    /// After it was made.
    pub(in crate::correlation) opened: Nanos,
    /// Whether the kernel may still be asked about it: neither closed by hopspan nor replaced.
    pub(in crate::correlation) open: bool,
    /// Remembered requests, oldest first: the last one, and of those before it the ones that had not ended early.
    pub(in crate::correlation) requests: Vec<RequestView>,
}

impl InFlight {
    /// Connections that are open, or had a request that ended at `since` or later: oldest first.
    pub(in crate::correlation) fn view(&self, now: Nanos, since: Nanos) -> Vec<ConnectionView> {
        let mut table = self.lock();
        table.forget(now);
        let over = table.over.iter().rev();
        let lately = over.take_while(|(ended, _)| *ended >= since);
        let lately = lately.filter_map(|(_, id)| table.past.get_key_value(id));
        let mut views: Vec<ConnectionView> = Vec::with_capacity(table.connections.len() + 16);
        views.extend(
            (table.connections.iter().chain(lately))
                .map(|(id, connection)| connection.view(*id, since)),
        );
        drop(table);
        views.sort_unstable_by_key(|view| (view.began, view.id));
        views
    }
}

impl Connection {
    fn view(&self, id: u64, since: Nanos) -> ConnectionView {
        let mut follows = self.forgotten;
        let mut requests = Vec::new();
        for (at, request) in self.requests.iter().enumerate() {
            let last = at + 1 == self.requests.len();
            if last || request.done.is_none_or(|done| done >= since) {
                requests.push(RequestView {
                    number: request.number,
                    dispatched: request.dispatched,
                    done: request.done,
                    follows,
                    before: request.before,
                });
            }
            // Where one is not done yet, the next one's proof fails for that.
            follows = follows.max(Some(request.done.unwrap_or(Nanos::MAX)));
        }
        ConnectionView {
            id,
            end: self.end,
            written: self.written(),
            began: self.began,
            opened: self.opened,
            open: self.closed.is_none() && !self.replaced,
            requests,
        }
    }
}
