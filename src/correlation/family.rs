//! The app's processes: found once, kept current by their children, never confused with others of the same number.
//!
//! A member is a process that hopspan started, or that holds a socket listening at the app's address, or descends from
//! one that does. Which member *made* a socket follows from two facts: it holds the socket, and it had started well
//! before the socket was made, so that it cannot have inherited it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use super::in_flight::Nanos;
use super::kernel::{Fd, Inode, Kernel, Listeners, Pid, ProcessId, Trouble};
use super::unlinked::Unlinked;

/// Start times are rounded down to 10 ms, and converted from a clock that is read a moment after ours.
const ROUNDING: Nanos = Duration::from_millis(20).as_nanos() as Nanos;

/// Between two searches through all processes of the machine; doubles while they find nothing new, up to 64 times.
const DISCOVERY_PAUSE: Nanos = Duration::from_millis(250).as_nanos() as Nanos;

/// A process of the app.
pub(super) struct Member<P> {
    pub(super) handle: P,
    pub(super) id: ProcessId,
    /// It was seen holding two of our connections at once: it serves them by threads or an event loop.
    pub(super) several: bool,
}

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// This process made it.
    Maker(ProcessId, Fd),
    /// Only processes that may have inherited it.
    Heir,
    /// Nobody that may be looked at.
    Nobody,
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

    /// All members.
    pub(super) fn ids(&self) -> Vec<ProcessId> {
        self.members.values().map(|member| member.id).collect()
    }

    /// All members but one.
    pub(super) fn others(&self, id: ProcessId) -> Vec<ProcessId> {
        let others = self.members.values().map(|member| member.id);
        others.filter(|other| *other != id).collect()
    }

    /// The sockets of a member that have numbers which connections of hopspan lately had.
    pub(super) fn hot<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
    ) -> Vec<(Fd, Inode)> {
        let numbers = self.hot.entry(Kind::Inbound).or_default().0.clone();
        let held = |fd| {
            self.held(kernel, id, fd)
                .ok()
                .flatten()
                .map(|inode| (fd, inode))
        };
        numbers.into_iter().filter_map(held).collect()
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

    /// All sockets of a member.
    pub(super) fn sockets<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
    ) -> Result<Vec<(Fd, Inode)>, Trouble> {
        let member = self.member(id).ok_or(Trouble::Gone)?;
        let sockets = kernel.sockets(&member.handle);
        if sockets == Err(Trouble::Gone) {
            self.forget(id);
        }
        sockets
    }

    /// Who made the socket `inode`, which did not exist before `made`.
    ///
    /// # Errors
    /// [`Unlinked::TimedOut`] where `deadline` passes first.
    pub(super) fn holder<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        wanted: Wanted,
        apps: &[SocketAddr],
    ) -> Result<Holder, Unlinked> {
        let mut heir = false;
        let known = self.ids();
        if let Some((id, fd)) = self.by_hot_number(kernel, wanted, &known)? {
            if existed(id, wanted.made) {
                return Ok(Holder::Maker(id, fd));
            }
            heir = true;
        }
        if let Some((id, fd)) = self.by_search(kernel, wanted, &known, &mut heir)? {
            return Ok(Holder::Maker(id, fd));
        }
        // Not among those known: workers come and go.
        let mut added = self.grow(kernel);
        if added.is_empty() && !heir {
            added = self.discover(kernel, apps);
        }
        if let Some((id, fd)) = self.by_search(kernel, wanted, &added, &mut heir)? {
            return Ok(Holder::Maker(id, fd));
        }
        Ok(if heir { Holder::Heir } else { Holder::Nobody })
    }

    /// A few links instead of all of them. The first holder found, maker or not.
    fn by_hot_number<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        wanted: Wanted,
        among: &[ProcessId],
    ) -> Result<Option<(ProcessId, Fd)>, Unlinked> {
        let numbers = self.hot.entry(wanted.kind).or_default().0.clone();
        for fd in numbers {
            for id in among {
                if self.held(kernel, *id, fd) == Ok(Some(wanted.inode)) {
                    self.note(wanted.kind, fd);
                    return Ok(Some((*id, fd)));
                }
            }
            in_time(kernel, wanted)?;
        }
        Ok(None)
    }

    /// All sockets of all processes given, until the maker is found.
    fn by_search<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        wanted: Wanted,
        among: &[ProcessId],
        heir: &mut bool,
    ) -> Result<Option<(ProcessId, Fd)>, Unlinked> {
        for id in among {
            let sockets = match self.sockets(kernel, *id) {
                Ok(sockets) => sockets,
                Err(trouble) => {
                    self.denied |= trouble == Trouble::Denied;
                    continue;
                }
            };
            let found = sockets.iter().find(|(_, inode)| *inode == wanted.inode);
            if let Some((fd, _)) = found {
                if existed(*id, wanted.made) {
                    self.note(wanted.kind, *fd);
                    return Ok(Some((*id, *fd)));
                }
                *heir = true;
            }
            in_time(kernel, wanted)?;
        }
        Ok(None)
    }

    /// Adds what members have forked, and takes out what is gone. Returns the new ones.
    pub(super) fn grow<K: Kernel<Process = P>>(&mut self, kernel: &mut K) -> Vec<ProcessId> {
        let mut pending: Vec<Pid> = kernel.own_children();
        let mut gone = Vec::new();
        for member in self.members.values() {
            match kernel.children(&member.handle) {
                Ok(children) => pending.extend(children),
                Err(Trouble::Gone) => gone.push(member.id),
                Err(_) => {}
            }
        }
        for id in gone {
            self.forget(id);
        }
        let mut added = Vec::new();
        while let Some(pid) = pending.pop() {
            if self.members.contains_key(&pid) {
                continue;
            }
            if let Some(id) = self.add(kernel, pid) {
                added.push(id);
                if let Some(member) = self.member(id) {
                    pending.extend(kernel.children(&member.handle).unwrap_or_default());
                }
            }
        }
        added
    }

    /// A living process as a member; `None` where it is gone.
    pub(super) fn adopt<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        pid: Pid,
    ) -> Option<ProcessId> {
        if let Some(member) = self.members.get(&pid) {
            let id = member.id;
            if kernel.parent(&member.handle) != Err(Trouble::Gone) {
                return Some(id);
            }
            self.forget(id);
        }
        self.add(kernel, pid)
    }

    fn add<K: Kernel<Process = P>>(&mut self, kernel: &mut K, pid: Pid) -> Option<ProcessId> {
        match kernel.open(pid) {
            Ok((handle, id)) => {
                let member = Member {
                    handle,
                    id,
                    several: false,
                };
                self.members.insert(pid, member);
                Some(id)
            }
            Err(trouble) => {
                self.denied |= trouble == Trouble::Denied;
                None
            }
        }
    }

    /// Searches through everything that is visible, not too often. Returns the new members.
    pub(super) fn discover<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        apps: &[SocketAddr],
    ) -> Vec<ProcessId> {
        let started = kernel.now();
        if started < self.discovered + (self.pause << self.barren.min(6)) {
            return Vec::new();
        }
        self.denied = false;
        self.listeners.clear();
        let mut added = self.grow(kernel);
        let started_here = !kernel.own_children().is_empty();
        let mut inodes = Vec::new();
        for app in apps {
            if let Ok(listeners) = kernel.listeners(*app) {
                inodes.extend_from_slice(&listeners.inodes);
                self.listeners.insert(*app, listeners);
            }
        }
        // What hopspan started may be no more than the way to the app (a container's client).
        let found = started_here && self.any_listens(kernel, &inodes);
        if !found {
            for pid in kernel.pids() {
                if !self.members.contains_key(&pid) && self.listens(kernel, pid, &inodes) {
                    added.extend(self.add(kernel, pid));
                }
            }
            added.extend(self.grow(kernel));
        }
        let ended = kernel.now();
        let cost = ended.saturating_sub(started);
        self.discovered = ended;
        self.pause = DISCOVERY_PAUSE.max(cost.saturating_mul(20));
        self.barren = if added.is_empty() { self.barren + 1 } else { 0 };
        added
    }

    fn any_listens<K: Kernel<Process = P>>(&self, kernel: &mut K, listeners: &[Inode]) -> bool {
        let listens =
            |sockets: Vec<(Fd, Inode)>| sockets.iter().any(|(_, inode)| listeners.contains(inode));
        self.members
            .values()
            .any(|member| kernel.sockets(&member.handle).is_ok_and(listens))
    }

    fn listens<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        pid: Pid,
        listeners: &[Inode],
    ) -> bool {
        let sockets = kernel
            .open(pid)
            .and_then(|(handle, _)| kernel.sockets(&handle));
        match sockets {
            Ok(sockets) => sockets.iter().any(|(_, inode)| listeners.contains(inode)),
            Err(trouble) => {
                self.denied |= trouble == Trouble::Denied;
                false
            }
        }
    }
}

/// A socket whose maker is searched for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    pub(super) inode: Inode,
    /// It did not exist before this.
    pub(super) made: Nanos,
    /// When to give up.
    pub(super) deadline: Nanos,
}

fn in_time<K: Kernel>(kernel: &mut K, wanted: Wanted) -> Result<(), Unlinked> {
    if kernel.now() > wanted.deadline {
        return Err(Unlinked::TimedOut);
    }
    Ok(())
}
