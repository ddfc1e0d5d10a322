//! What is known of the app's ends of hopspan's connections: accepted or not, by whom.
//!
//! Learnt when a call is looked up, and kept: the process that accepted a connection does not change.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::family::{Family, Kind, existed};
use super::in_flight::{ConnectionView, InFlight, Nanos};
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
}

#[derive(Debug, Default)]
struct Entry {
    cookie: Option<u64>,
    /// When it was last seen to wait.
    waited: Nanos,
    accepted: Option<Accepted>,
}

/// All connections' app ends, by the pool's number.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    entries: HashMap<u64, Entry>,
}

impl Inbound {
    /// Drops what the table of requests has forgotten.
    pub(super) fn keep(&mut self, connections: &[ConnectionView]) {
        if self.entries.len() > connections.len() {
            let ids: std::collections::HashSet<u64> = connections.iter().map(|c| c.id).collect();
            self.entries.retain(|id, _| ids.contains(id));
        }
    }

    /// What is known of each connection now, in the order given: oldest first.
    pub(super) fn learn<K: Kernel>(
        &mut self,
        kernel: &mut K,
        family: &Family<K::Process>,
        in_flight: &InFlight,
        connections: &[ConnectionView],
    ) -> Result<Vec<Known>, Unlinked> {
        let mut queued: HashMap<SocketAddr, Queued> = HashMap::new();
        let mut known = Vec::with_capacity(connections.len());
        for connection in connections {
            let entry = self.entries.entry(connection.id).or_default();
            if entry.accepted.is_some() || !connection.open {
                known.push(entry.accepted.map_or(Known::Lost, Known::Accepted));
                continue;
            }
            // What waits at a unix socket is looked at one by one: another may have taken its path, and have a queue too.
            let at = match connection.end {
                End::Tcp(app, _) => Some(app),
                End::Unix(..) => None,
            };
            let ahead = at.and_then(|at| queued.get(&at));
            let behind = ahead.filter(|ahead| connection.began >= ahead.opened);
            if let (Some(ahead), Some(at)) = (behind, at)
                && is_queue(family, at, connections.len())
            {
                entry.waited = ahead.seen;
                known.push(Known::Waiting);
                continue;
            }
            known.push(match entry.look(kernel, connection)? {
                Seen::Queued => {
                    let (opened, seen) = (connection.opened + QUEUED, entry.waited);
                    if let Some(at) = at {
                        let first = queued.entry(at).or_insert(Queued { opened, seen });
                        first.opened = opened.min(first.opened);
                    }
                    Known::Waiting
                }
                Seen::Opening => Known::Waiting,
                // The same addresses may be another connection's by now: only an open one was asked about.
                Seen::Accepted(accepted) if in_flight.is_open(connection.id) => {
                    entry.accepted = Some(accepted);
                    Known::Accepted(accepted)
                }
                Seen::Accepted(_) | Seen::Gone => Known::Lost,
            });
        }
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
        for id in search.among {
            if open.is_empty() {
                return Ok(());
            }
            let held = match search.thorough {
                false => family.hot(kernel, *id),
                true => family.sockets(kernel, *id).unwrap_or_default(),
            };
            for (fd, inode) in held {
                let Some(at) = open.get(&inode).copied() else {
                    continue;
                };
                let (Some(Known::Accepted(accepted)), Some(connection)) =
                    (known.get_mut(at), connections.get(at))
                else {
                    continue;
                };
                if !existed(*id, accepted.since) {
                    continue; // it may have inherited it
                }
                open.remove(&inode);
                family.note(Kind::Inbound, fd);
                accepted.owner = Some((*id, fd));
                if let Some(entry) = self.entries.get_mut(&connection.id) {
                    entry.accepted = Some(*accepted);
                }
            }
            if kernel.now() > search.deadline {
                return Err(Unlinked::TimedOut);
            }
        }
        Ok(())
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

/// A connection that waits: all that began after it was in the accept queue are behind it, and wait as well.
#[derive(Clone, Copy, Debug)]
struct Queued {
    /// When it was in the queue, [`QUEUED`] allowed for.
    opened: Nanos,
    /// When it was seen there: it has not been accepted before.
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
                Seen::Queued
            }
            (0, State::Closing) => Seen::Gone,
            (inode, _) => Seen::Accepted(Accepted {
                inode,
                cookie: socket.cookie,
                since: connection.began.max(self.waited),
                owner: None,
            }),
        })
    }
}

/// Whether what waits at an address waits in one queue that cannot have overflowed.
fn is_queue<P>(family: &Family<P>, app: SocketAddr, connections: usize) -> bool {
    family.listeners(app).is_some_and(|listeners| {
        listeners.inodes.len() == 1 && connections <= listeners.backlog as usize
    })
}

/// What a kernel answer that did not come means for the call.
pub(super) fn unreadable(trouble: Trouble) -> Unlinked {
    match trouble {
        Trouble::Gone => Unlinked::UnknownCaller,
        Trouble::Denied => Unlinked::NoProcessAccess,
        Trouble::Unsupported => Unlinked::Unsupported,
    }
}
