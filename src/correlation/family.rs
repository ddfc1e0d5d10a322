//! The app's processes: found once, kept current by their children, never confused with others of the same number.
//!
//! A member is a process that hopspan started, or that holds a socket listening at the app's address, or descends from
//! one that does. Which member *made* a socket follows from two facts: it holds the socket, and it had started well
//! before the socket was made, so that it cannot have inherited it.

mod discovery;
mod kin;
mod search;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use super::in_flight::Nanos;
use super::kernel::{Fd, Inode, Kernel, Listeners, Open, Pid, ProcessId, Trouble};
use super::server::Place;
pub(super) use kin::Kin;
pub(super) use search::{Holder, Wanted};

/// Start times are rounded down to 10 ms, and converted from a clock that is read a moment after ours.
const ROUNDING: Nanos = Duration::from_millis(20).as_nanos() as Nanos;

/// A process of the app.
pub(super) struct Member<P> {
    pub(super) handle: P,
    pub(super) id: ProcessId,
    /// It was seen holding two of our connections at once: it serves them by threads or an event loop.
    pub(super) several: bool,
}

/// Descriptor numbers that sockets of one kind lately had: workers use the same few, over and over.
#[derive(Debug, Default)]
pub(super) struct HotNumbers(Vec<Fd>);

impl HotNumbers {
    const KEPT: usize = 4;

    fn note(&mut self, fd: Fd) {
        if self.0.first() == Some(&fd) {
            return;
        }
        self.0.retain(|hot| *hot != fd);
        self.0.insert(0, fd);
        self.0.truncate(Self::KEPT);
    }
}

/// The two kinds of socket that are searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// The app's end of a connection from hopspan.
    Inbound,
    /// The app's end of a connection to hopspan.
    Outbound,
}

/// The app's processes.
pub(super) struct Family<P> {
    members: BTreeMap<Pid, Member<P>>,
    hot: HashMap<Kind, HotNumbers>,
    listeners: HashMap<SocketAddr, Listeners>,
    discovered: Nanos,
    pause: Nanos,
    /// Searches in a row that found nothing new.
    barren: u32,
    registry: kin::Registry<P>,
    /// Processes that may be the app's but may not be looked at.
    pub(super) denied: bool,
}

impl<P> Default for Family<P> {
    fn default() -> Self {
        Family {
            members: BTreeMap::new(),
            hot: HashMap::new(),
            listeners: HashMap::new(),
            discovered: 0,
            pause: 0,
            barren: 0,
            registry: kin::Registry::default(),
            denied: false,
        }
    }
}

/// Whether a process is certain to have been there before `moment`.
pub(super) fn existed(process: ProcessId, moment: Nanos) -> bool {
    process.started.saturating_add(ROUNDING) <= moment
}

impl<P> Family<P> {
    /// The member, if it is still the same process as far as is known.
    pub(super) fn member(&self, id: ProcessId) -> Option<&Member<P>> {
        self.members.get(&id.pid).filter(|member| member.id == id)
    }

    /// Notes that a process serves several requests at once.
    pub(super) fn serves_several(&mut self, id: ProcessId) {
        if let Some(member) = self
            .members
            .get_mut(&id.pid)
            .filter(|member| member.id == id)
        {
            member.several = true;
        }
    }

    /// Who accepts connections at an address, as of the last discovery.
    pub(super) fn listeners(&self, app: SocketAddr) -> Option<&Listeners> {
        self.listeners.get(&app)
    }

    /// Whether it was found out who accepts connections at an address; always where nobody asks.
    pub(super) fn knows(&self, app: &Place) -> bool {
        match app {
            Place::Tcp(address) => self.listeners.contains_key(address),
            Place::Unix(_) => true,
        }
    }

    /// All members.
    pub(super) fn ids(&self) -> Vec<ProcessId> {
        self.members.values().map(|member| member.id).collect()
    }

    /// All members but one.
    pub(super) fn others(&self, id: ProcessId) -> Vec<ProcessId> {
        let others = self.members.values().map(|member| member.id);
        others.filter(|other| *other != id).collect()
    }

    /// Descriptor numbers that sockets of a kind lately had, the last one first.
    pub(super) fn hot(&self, kind: Kind) -> Vec<Fd> {
        let hot = self.hot.get(&kind);
        hot.map(|hot| hot.0.clone()).unwrap_or_default()
    }

    /// Notes a descriptor number that a socket had.
    pub(super) fn note(&mut self, kind: Kind, fd: Fd) {
        self.hot.entry(kind).or_default().note(fd);
    }

    /// Takes a process out that is gone.
    pub(super) fn forget(&mut self, id: ProcessId) {
        if self.member(id).is_some() {
            self.members.remove(&id.pid);
            self.barren = 0;
        }
    }

    /// The socket behind a member's descriptor.
    pub(super) fn held<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
        fd: Fd,
    ) -> Result<Option<Inode>, Trouble> {
        let member = self.member(id).ok_or(Trouble::Gone)?;
        let held = kernel.held(&member.handle, fd);
        if held == Err(Trouble::Gone) {
            self.forget(id);
        }
        held
    }

    /// All sockets of a process, member or not.
    pub(super) fn sockets<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
    ) -> Result<Vec<(Fd, Inode)>, Trouble> {
        self.open_files(kernel, id).map(|open| open.sockets)
    }

    /// All that a process has open, member or not.
    pub(super) fn open_files<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
    ) -> Result<Open, Trouble> {
        let handle = self.reach(kernel, id)?;
        let open = kernel.open_files(handle);
        if open == Err(Trouble::Gone) {
            self.forget(id);
        }
        open
    }
}

#[cfg(test)]
mod tests;
