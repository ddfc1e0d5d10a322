//! What is known of the app's ends of hopspan's connections: accepted or not, by whom.
//!
//! Learnt when a call is looked up, and kept: the process that accepted a connection does not change.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::family::{Family, Kind, existed};
use super::in_flight::{ConnectionView, InFlight, Nanos, RETAIN};
use super::kernel::{End, Fd, Inode, Kernel, ProcessId, State, Trouble};
use super::unlinked::Unlinked;

/// From the end of connect(2) to the app's accept queue: the caller is woken before its last packet of the handshake is
/// sent. That takes microseconds on one host, and more where a CPU is taken away in between: two turns of a scheduler.
const QUEUED: Nanos = 20_000_000;

/// What is known of one connection's app end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Waits in the accept queue, as of now.
    Waiting,
    /// Some process has accepted it.
    Accepted(Accepted),
    /// It was closed before anything was known.
    Lost,
}

impl Known {
    /// Whether this process accepted it.
    pub(super) fn is_of(&self, process: ProcessId) -> bool {
        matches!(self, Known::Accepted(Accepted { owner: Some((id, _)), .. }) if *id == process)
    }

    /// Whether some process accepted it, and which is not known.
    pub(super) fn is_unowned(&self) -> bool {
        matches!(self, Known::Accepted(Accepted { owner: None, .. }))
    }
}

/// A connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Of the app's socket.
    pub(super) inode: Inode,
    /// Of the app's socket.
    pub(super) cookie: u64,
    /// Not accepted before this.
    pub(super) since: Nanos,
    /// Who accepted it, and the descriptor.
    pub(super) owner: Option<(ProcessId, Fd)>,
    /// Who was now seen to have it, and may have inherited it.
    pub(super) heir: Option<ProcessId>,
}

#[derive(Debug, Default)]
struct Entry {
    cookie: Option<u64>,
    /// When it was last seen to wait.
    waited: Nanos,
    /// When it was first seen in the accept queue: just after the kernel said so.
    queued: Option<Nanos>,
    accepted: Option<Accepted>,
    /// The last time that it was looked at, as a moment and as a number.
    learnt: (Nanos, u64),
}

/// All connections' app ends.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// By the pool's number.
    entries: HashMap<u64, Entry>,
    /// The pool's numbers by those of the app's sockets.
    accepted: HashMap<Inode, u64>,
    looks: u64,
    tidied: Nanos,
}

impl Inbound {
    /// Drops what has not been looked at for a while, as it is over.
    fn tidy(&mut self, now: Nanos) {
        let kept = RETAIN.as_nanos() as Nanos;
        if now < self.tidied + kept {
            return;
        }
        self.tidied = now;
        self.entries.retain(|_, entry| entry.learnt.0 + kept >= now);
        let entries = &self.entries;
        self.accepted.retain(|_, id| entries.contains_key(id));
    }

    /// Whether a socket is the app's end of a connection that was not among those last looked at, since it is over.
    pub(super) fn over(&self, inode: Inode) -> Option<Accepted> {
        let id = self.accepted.get(&inode)?;
        let entry = self.entries.get(id)?;
        entry.accepted.filter(|_| entry.learnt.1 != self.looks)
    }

    /// What is known of each connection now, in the order given: oldest first.
    ///
    /// One that nobody had accepted at a moment after `latest`, when the call's bytes had come, is not asked about again:
    /// nobody had read a byte of its requests when the call was sent. What becomes of it is for later calls to learn.
    pub(super) fn learn<K: Kernel>(
        &mut self,
        kernel: &mut K,
        family: &Family<K::Process>,
        in_flight: &InFlight,
        connections: &[ConnectionView],
        latest: Nanos,
    ) -> Result<Vec<Known>, Unlinked> {
        let now = kernel.now();
        self.looks += 1;
        let remembered = in_flight.connections();
        let mut queued: HashMap<SocketAddr, Queued> = HashMap::new();
        let mut known = Vec::with_capacity(connections.len());
        for connection in connections {
            let entry = self.entries.entry(connection.id).or_default();
            entry.learnt = (now, self.looks);
            if let Some(accepted) = entry.accepted {
                known.push(Known::Accepted(accepted));
                continue;
            }
            let at = match connection.end {
                End::Tcp(app, _) => Some(app),
                // Looked at one by one: another may have taken its path, and have a queue too.
                End::Unix(..) => None,
            };
            if connection.began.max(entry.waited) > latest {
                known.push(Known::Waiting);
            } else if !connection.open {
                known.push(Known::Lost);
                continue;
            } else if let Some(ahead) = at.and_then(|at| queued.get(&at))
                && connection.began >= ahead.there
                // Each is asked about once: the sooner it was seen there, the fewer have to be asked about with it.
                && entry.queued.is_some()
            {
                entry.waited = entry.waited.max(ahead.seen);
                known.push(Known::Waiting);
                continue;
            } else {
                known.push(match entry.look(kernel, connection)? {
                    Seen::Queued | Seen::Opening => Known::Waiting,
                    // The same addresses may be another connection's by now: only an open one was asked about.
                    Seen::Accepted(accepted) if in_flight.is_open(connection.id) => {
                        entry.accepted = Some(accepted);
                        self.accepted.insert(accepted.inode, connection.id);
                        Known::Accepted(accepted)
                    }
                    Seen::Accepted(_) | Seen::Gone => Known::Lost,
                });
            }
            if let (Some(Known::Waiting), Some(at), Some(first)) = (known.last(), at, entry.queued)
                && let Some(there) = in_queue(family, at, remembered, connection.opened, first)
            {
                let seen = entry.waited;
                let first = queued.entry(at).or_insert(Queued { there, seen });
                (first.there, first.seen) = (first.there.min(there), first.seen.min(seen));
            }
        }
        self.tidy(now);
        Ok(known)
    }

    /// Notes which of the processes `among` accepted which of the connections `known`: by the descriptor numbers that
    /// such sockets lately had, or by all their sockets.
    pub(super) fn resolve<K: Kernel>(
        &mut self,
        kernel: &mut K,
        family: &mut Family<K::Process>,
        connections: &[ConnectionView],
        known: &mut [Known],
        search: Search<'_>,
    ) -> Result<(), Unlinked> {
        let mut open: HashMap<Inode, usize> = HashMap::new();
        for (at, known) in known.iter().enumerate() {
            match known {
                Known::Accepted(accepted) if accepted.owner.is_none() => {
                    open.insert(accepted.inode, at);
                }
                _ => {}
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        if search.thorough {
            for id in search.among {
                if open.is_empty() {
                    return Ok(());
                }
                for held in family.sockets(kernel, *id).unwrap_or_default() {
                    self.settle(family, connections, known, &mut open, *id, held);
                }
                search.goes_on(kernel)?;
            }
            return Ok(());
        }
        // The likeliest number of all first.
        for fd in family.hot(Kind::Inbound) {
            for id in search.among {
                if open.is_empty() {
                    return Ok(());
                }
                if let Ok(Some(inode)) = family.held(kernel, *id, fd) {
                    self.settle(family, connections, known, &mut open, *id, (fd, inode));
                }
            }
            search.goes_on(kernel)?;
        }
        Ok(())
    }

    /// Notes a socket that a process holds, where it is the app's end of one of the connections that are `open`.
    fn settle<P>(
        &mut self,
        family: &mut Family<P>,
        connections: &[ConnectionView],
        known: &mut [Known],
        open: &mut HashMap<Inode, usize>,
        id: ProcessId,
        (fd, inode): (Fd, Inode),
    ) {
        let Some(at) = open.get(&inode).copied() else {
            return;
        };
        let (Some(Known::Accepted(accepted)), Some(connection)) =
            (known.get_mut(at), connections.get(at))
        else {
            return;
        };
        if !existed(id, accepted.since) {
            accepted.heir.get_or_insert(id);
            return;
        }
        open.remove(&inode);
        family.note(Kind::Inbound, fd);
        accepted.owner = Some((id, fd));
        if let Some(entry) = self.entries.get_mut(&connection.id) {
            entry.accepted = Some(*accepted);
        }
    }

    /// Looks again at connections whose process was not found: most were closed in the meantime, and are lost.
    pub(super) fn confirm<K: Kernel>(
        &mut self,
        kernel: &mut K,
        connections: &[ConnectionView],
        known: &mut [Known],
    ) -> Result<(), Unlinked> {
        for (connection, known) in connections.iter().zip(known) {
            let Known::Accepted(accepted) = known else {
                continue;
            };
            if accepted.owner.is_some() {
                continue;
            }
            let socket = kernel.socket(connection.end).map_err(unreadable)?;
            let there = socket.is_some_and(|socket| {
                (socket.inode, socket.cookie) == (accepted.inode, accepted.cookie)
            });
            if !there {
                *known = Known::Lost;
            }
        }
        Ok(())
    }
}

/// Where to search for the processes behind connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    /// In these processes.
    pub(super) among: &'a [ProcessId],
    /// All their sockets, not only those with a likely number.
    pub(super) thorough: bool,
    /// When to give up.
    pub(super) deadline: Nanos,
}

impl Search<'_> {
    fn goes_on<K: Kernel>(&self, kernel: &mut K) -> Result<(), Unlinked> {
        match kernel.now() > self.deadline {
            true => Err(Unlinked::TimedOut),
            false => Ok(()),
        }
    }
}

/// Connections that wait: all that began after one of them was in the accept queue are behind it, and wait as well.
#[derive(Clone, Copy, Debug)]
struct Queued {
    /// When the first one was in the queue.
    there: Nanos,
    /// When all were seen there: none has been accepted before.
    seen: Nanos,
}

/// What a look at a connection brought.
enum Seen {
    Opening,
    Queued,
    Accepted(Accepted),
    Gone,
}

impl Entry {
    /// Asks the kernel about a connection that was not accepted so far.
    fn look<K: Kernel>(
        &mut self,
        kernel: &mut K,
        connection: &ConnectionView,
    ) -> Result<Seen, Unlinked> {
        let now = kernel.now();
        let socket = kernel.socket(connection.end).map_err(unreadable)?;
        let Some(socket) = socket else {
            return Ok(Seen::Gone);
        };
        if *self.cookie.get_or_insert(socket.cookie) != socket.cookie {
            return Ok(Seen::Gone); // another socket has the addresses
        }
        Ok(match (socket.inode, socket.state) {
            // In the handshake it is not in the queue yet, and says nothing of those after it.
            (0, State::Opening) => Seen::Opening,
            (0, State::Established) => {
                self.waited = now;
                self.queued.get_or_insert(kernel.now());
                Seen::Queued
            }
            (0, State::Closing) => Seen::Gone,
            (inode, _) => Seen::Accepted(Accepted {
                inode,
                cookie: socket.cookie,
                since: connection.began.max(self.waited),
                owner: None,
                heir: None,
            }),
        })
    }
}

/// Since when a connection is certainly in the one queue of an address, first `seen` there at some moment. Where that queue
/// cannot have overflowed by all the `connections` of late, since soon after it was `opened`; `None` where there are
/// several queues.
fn in_queue<P>(
    family: &Family<P>,
    app: SocketAddr,
    connections: usize,
    opened: Nanos,
    seen: Nanos,
) -> Option<Nanos> {
    let listeners = family.listeners(app)?;
    let only = listeners.inodes.len() == 1;
    let fits = connections <= listeners.backlog as usize;
    let soon = if fits { opened + QUEUED } else { seen };
    only.then_some(seen.min(soon))
}

/// What a kernel answer that did not come means for the call.
pub(super) fn unreadable(trouble: Trouble) -> Unlinked {
    match trouble {
        Trouble::Gone => Unlinked::UnknownCaller,
        Trouble::Denied => Unlinked::NoProcessAccess,
        Trouble::Unsupported => Unlinked::Unsupported,
    }
}

#[cfg(test)]
mod tests;
