//! Finding members: what hopspan started, what listens at the app's address, and what descends from either.

use std::time::Duration;

use super::{Family, Member};
use crate::correlation::in_flight::Nanos;
use crate::correlation::kernel::{Inode, Kernel, Open, Pid, ProcessId, Trouble};
use crate::correlation::server::Place;

/// Between two searches through all processes of the machine; doubles while they find nothing new, up to 64 times.
const DISCOVERY_PAUSE: Nanos = Duration::from_millis(250).as_nanos() as Nanos;

impl<P> Family<P> {
    /// Adds what members have forked, and takes out what is gone. Returns the new ones.
    pub(in crate::correlation) fn grow<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
    ) -> Vec<ProcessId> {
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
    pub(in crate::correlation) fn discover<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        apps: &[Place],
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
            if let Ok(listeners) = kernel.listeners(app) {
                inodes.extend_from_slice(&listeners.inodes);
                if let Place::Tcp(address) = app {
                    self.listeners.insert(*address, listeners);
                }
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
        let listens = |open: Open| open.has_socket(|inode| listeners.contains(inode));
        self.members
            .values()
            .any(|member| kernel.open_files(&member.handle).is_ok_and(listens))
    }

    fn listens<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        pid: Pid,
        listeners: &[Inode],
    ) -> bool {
        let open = kernel
            .open(pid)
            .and_then(|(handle, _)| kernel.open_files(&handle));
        match open {
            Ok(open) => open.has_socket(|inode| listeners.contains(inode)),
            Err(trouble) => {
                self.denied |= trouble == Trouble::Denied;
                false
            }
        }
    }
}
