//! Which requests the app is working on, and on which of its connections: what the inbound hop tells.
//!
//! It asks the kernel nothing: entering and leaving is a short critical section per inbound request. Requests are
//! remembered for [`RETAIN`] after they ended, since a call that they made may be looked up a little later. Times are
//! CLOCK_MONOTONIC nanoseconds.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod view;

use super::kernel::End;
#[cfg(test)]
use super::toothless::is_off;
use super::unlinked::Unlinked;
use crate::trace::Context;
pub(super) use view::{ConnectionView, RequestView};

/// Whether a rule of the thread rung is off: never, but in this library's own test program.
#[cfg(not(test))]
fn is_off(_rule: &str) -> bool {
    false
}

/// How long ended requests and closed connections are remembered.
pub(super) const RETAIN: Duration = Duration::from_millis(400);

/// Nanoseconds of CLOCK_MONOTONIC.
pub(super) type Nanos = u64;

/// One request on a connection to the app.
#[derive(Debug)]
struct Request {
    number: u64,
    context: Context,
    dispatched: Nanos,
    done: Option<Nanos>,
    /// Bytes that the app had sent on the connection before, where they are counted.
    received: Option<u64>,
    /// Bytes that hopspan had sent on it before, where they are counted.
    before: Option<u64>,
}

/// The two ends of a connection to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ends {
    /// hopspan's address and the app's.
    Tcp([SocketAddr; 2]),
    /// The cookie of hopspan's unix socket.
    Unix(u64),
}

impl Ends {
    pub(super) fn of(app: End) -> Ends {
        match app {
            End::Tcp(app, hopspan) => Ends::Tcp([hopspan, app]),
            End::Unix(_, cookie) => Ends::Unix(cookie),
        }
    }
}

/// One connection from hopspan to the app.
#[derive(Debug)]
struct Connection {
    end: End,
    /// Bytes that hopspan sent on it, where they are counted.
    written: Option<Arc<AtomicU64>>,
    began: Nanos,
    opened: Nanos,
    closed: Option<Nanos>,
    /// Another connection took the same pair of addresses: the kernel's answers are no longer about this one.
    replaced: bool,
    /// Requests share it (HTTP/2).
    multiplexed: bool,
    requests: VecDeque<Request>,
    /// When the last request ended that is no longer remembered.
    forgotten: Option<Nanos>,
}

/// Connections by their number, which is hopspan's own: nobody can choose it, so any spread will do.
type Numbered = HashMap<u64, Connection, BuildHasherDefault<Spread>>;

/// Spreads numbers that count up.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: 2^64 over the golden ratio.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The table looks at both ends.
        self.0.rotate_left(32)
    }
}

#[derive(Debug, Default)]
struct Table {
    /// Those that hopspan has open, and those whose request has not left yet.
    connections: Numbered,
    /// Those that are over.
    past: Numbered,
    /// The newest connection between two ends.
    between: HashMap<Ends, u64>,
    /// Connections that are over in the order they came to that, and a moment when all of each was.
    over: VecDeque<(Nanos, u64)>,
    next: u64,
}

/// The table of requests in flight.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    table: Mutex<Table>,
}

/// When the thread that made a call had to do with its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    /// It last read bytes of the request.
    pub(super) read: Nanos,
    /// It last sent bytes of the call.
    pub(super) sent: Nanos,
    /// The app had last written to the request's connection.
    pub(super) answered: Nanos,
    /// Bytes that the app had written to it by then.
    pub(super) written: u64,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // The critical sections do not panic half-way; a poisoned table is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the app was made, after `began`.
    /// `written` counts what hopspan sends on it.
    pub(super) fn open(
        &self,
        id: u64,
        end: End,
        began: Nanos,
        written: Option<Arc<AtomicU64>>,
        now: Nanos,
    ) {
        let mut table = self.lock();
        table.forget(now);
        if let Some(old) = table.between.insert(Ends::of(end), id)
            && let Some(old) = table.connections.get_mut(&old)
        {
            old.replaced = true;
        }
        let connection = Connection {
            end,
            written,
            began,
            opened: now,
            closed: None,
            replaced: false,
            multiplexed: false,
            requests: VecDeque::new(),
            forgotten: None,
        };
        table.connections.insert(id, connection);
    }

    /// Requests share the connection: what a thread or process has to do with it is said of none of them.
    pub(super) fn multiplexed(&self, id: u64) {
        if let Some(connection) = self.lock().connections.get_mut(&id) {
            connection.multiplexed = true;
        }
    }

    /// The connection was closed by hopspan.
    pub(super) fn close(&self, id: u64, now: Nanos) {
        let mut table = self.lock();
        let Some(connection) = table.connections.get_mut(&id) else {
            return;
        };
        connection.closed = Some(now);
        table.retire(id);
        table.forget(now);
    }

    /// A request is about to be written to the app; `None` where the connection is not known.
    /// `received`: bytes that the app sent on it before, where they are counted.
    pub(super) fn enter(
        &self,
        id: u64,
        context: Context,
        received: Option<u64>,
        now: Nanos,
    ) -> Option<u64> {
        let mut table = self.lock();
        let number = table.next;
        let connection = table.connections.get_mut(&id)?;
        let kept = now.saturating_sub(RETAIN.as_nanos() as Nanos);
        while let Some(done) = connection.requests.front().and_then(|r| r.done) {
            if done >= kept {
                break;
            }
            connection.requests.pop_front();
            connection.forgotten = connection.forgotten.max(Some(done));
        }
        connection.requests.push_back(Request {
            number,
            context,
            dispatched: now,
            done: None,
            received,
            before: connection.written(),
        });
        table.next += 1;
        Some(number)
    }

    /// The app's response has ended, or the request was given up.
    pub(super) fn leave(&self, id: u64, number: u64, now: Nanos) {
        let mut table = self.lock();
        let Some(connection) = table.connections.get_mut(&id) else {
            return;
        };
        // The newest are at the back, and a serial server has one.
        if let Some(request) = connection
            .requests
            .iter_mut()
            .rev()
            .find(|r| r.number == number)
        {
            request.done = Some(now);
        }
        if connection.closed.is_some() {
            table.retire(id);
        }
    }

    /// The context of a request that is still in flight on an open connection.
    pub(super) fn context(&self, id: u64, number: u64) -> Option<Context> {
        let table = self.lock();
        let connection = table.connections.get(&id)?;
        if connection.closed.is_some() || connection.replaced || connection.multiplexed {
            return None;
        }
        let mut requests = connection.requests.iter();
        let request = requests.find(|r| r.number == number && r.done.is_none())?;
        Some(request.context.clone())
    }

    /// The context of the one request that a thread read on this connection and that was not answered, not even in
    /// part, when the thread sent its call. It may be done by now.
    pub(super) fn at(&self, ends: Ends, moment: &Moment) -> Result<Context, Unlinked> {
        let table = self.lock();
        let connection = table.between.get(&ends);
        let connection = connection.and_then(|id| table.remembered(*id));
        let connection = connection.ok_or(Unlinked::NoInbound)?;
        if connection.multiplexed {
            return Err(Unlinked::Multiplexed);
        }
        let mut then = connection.requests.iter().filter(|request| {
            let ended = request.done.is_some_and(|done| done < moment.sent) && !is_off("Ended");
            request.dispatched <= moment.read && !ended
        });
        let Some(request) = then.next() else {
            let mut requests = connection.requests.iter();
            let earlier = requests.any(|request| request.dispatched <= moment.read);
            return Err(match earlier {
                true => Unlinked::AnswerBegun,
                false => Unlinked::NoInbound,
            });
        };
        if then.next().is_some() {
            return Err(Unlinked::SeveralRequests);
        }
        let answered = match request.received {
            Some(received) => received != moment.written,
            None => moment.answered >= request.dispatched,
        };
        if answered && !is_off("AnswerBegun") {
            return Err(Unlinked::AnswerBegun);
        }
        Ok(request.context.clone())
    }

    /// Whether the kernel's answers for a connection's addresses are about that connection.
    pub(super) fn is_open(&self, id: u64) -> bool {
        let table = self.lock();
        let connection = table.connections.get(&id);
        connection.is_some_and(|connection| connection.closed.is_none() && !connection.replaced)
    }

    /// Connections remembered.
    pub(super) fn connections(&self) -> usize {
        let table = self.lock();
        table.connections.len() + table.past.len()
    }

    /// Connections and requests remembered.
    pub(super) fn size(&self) -> (usize, usize) {
        let table = self.lock();
        let all = table.connections.values().chain(table.past.values());
        let requests = all.map(|connection| connection.requests.len()).sum();
        (table.connections.len() + table.past.len(), requests)
    }
}

impl Connection {
    fn written(&self) -> Option<u64> {
        let written = self.written.as_ref()?;
        Some(written.load(Ordering::Acquire))
    }
}

impl Table {
    fn remembered(&self, id: u64) -> Option<&Connection> {
        self.connections.get(&id).or_else(|| self.past.get(&id))
    }

    /// Puts a closed connection with the past as soon as its requests have left.
    fn retire(&mut self, id: u64) {
        let ended = |connection: &Connection| {
            let mut last = connection.closed;
            for request in &connection.requests {
                last = last.max(Some(request.done?));
            }
            last
        };
        let Some(ended) = self.connections.get(&id).and_then(ended) else {
            return;
        };
        if let Some(connection) = self.connections.remove(&id) {
            // In order: one that seems to have ended before others did so with them.
            let last = self.over.back().map_or(0, |(last, _)| *last);
            self.over.push_back((ended.max(last), id));
            self.past.insert(id, connection);
        }
    }

    /// Drops connections that have been over for longer than [`RETAIN`].
    fn forget(&mut self, now: Nanos) {
        let kept = now.saturating_sub(RETAIN.as_nanos() as Nanos);
        while let Some((ended, id)) = self.over.front().copied() {
            if ended >= kept {
                break;
            }
            self.over.pop_front();
            if let Some(old) = self.past.remove(&id)
                && self.between.get(&Ends::of(old.end)) == Some(&id)
            {
                self.between.remove(&Ends::of(old.end));
            }
        }
    }
}

#[cfg(test)]
mod tests;
