//! Kin: where every process is found that may have inherited what a process holds.
//!
//! That is among its children and, since a process whose parent ends is given to an ancestor that reaps (at last to
//! process 1), among its ancestors' children; and below these. Listing them is saved where no process was started
//! since the last time, and none of those in the list can be an heir or have had one below it.

use std::collections::HashMap;
use std::time::Duration;

use super::{Family, Member};
use crate::correlation::in_flight::Nanos;
use crate::correlation::kernel::{Kernel, Pid, ProcessId, Trouble};

/// Parents that are remembered; when there are more, all are looked at anew.
const PARENTS: usize = 4096;
/// Ancestors that are followed; there are a handful.
const DEPTH: usize = 64;
/// A process may have its number so long before it is in its parent's list.
const BIRTH: Nanos = Duration::from_millis(100).as_nanos() as Nanos;

/// Where the heirs of a process are.
#[derive(Clone, Debug, Default)]
pub(in crate::correlation) struct Kin {
    /// From its parent up. hopspan itself and what is above it are left out: what they hold is no app's.
    pub(in crate::correlation) ancestors: Vec<ProcessId>,
    /// Its children, and its ancestors' other children.
    pub(in crate::correlation) near: Vec<ProcessId>,
}

/// What is remembered of kin.
pub(super) struct Registry<P> {
    /// Processes that are no members: as many as there is room for ([`Kernel::room`]), the living ones first.
    strangers: HashMap<Pid, Member<P>>,
    /// Kin of members, as of when the newest process had this number.
    lists: HashMap<ProcessId, (Pid, Kin)>,
    parents: HashMap<ProcessId, ProcessId>,
    /// The newest process's number, and since when it is.
    newest: Option<(Pid, Nanos)>,
}

impl<P> Default for Registry<P> {
    fn default() -> Self {
        Registry {
            strangers: HashMap::new(),
            lists: HashMap::new(),
            parents: HashMap::new(),
            newest: None,
        }
    }
}

impl<P> Family<P> {
    /// The kin of a member, as of now as far as those matter that are `suspect`, or below one that is.
    pub(in crate::correlation) fn kin<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
        suspect: impl Fn(ProcessId) -> bool,
    ) -> Result<Kin, Trouble> {
        let newest = kernel.newest();
        let listed = self.registry.lists.get(&id);
        if let Some((_, kin)) = listed.filter(|(as_of, _)| Some(*as_of) == newest) {
            // Who was below a suspect is elsewhere by now, if one in between has ended.
            if !kin.near.iter().any(|one| suspect(*one)) {
                return Ok(kin.clone());
            }
        }
        let kin = self.list_kin(kernel, id)?;
        let now = kernel.now();
        match (newest, self.registry.newest) {
            (Some(newest), Some((same, since))) if same == newest => {
                if now > since + BIRTH {
                    self.registry.lists.insert(id, (newest, kin.clone()));
                }
            }
            (newest, _) => {
                self.registry.newest = newest.map(|newest| (newest, now));
                self.registry.lists.clear();
            }
        }
        Ok(kin)
    }

    fn list_kin<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
    ) -> Result<Kin, Trouble> {
        let (ancestors, below_hopspan) = self.ancestors(kernel, id)?;
        let mut pids = self.children(kernel, id)?;
        for ancestor in &ancestors {
            pids.extend(self.children(kernel, *ancestor)?);
        }
        if below_hopspan {
            pids.extend(kernel.own_children());
        } else if let Ok(first) = self.identify(kernel, 1) {
            // In a namespace of its own it gets the orphans, whoever their ancestors are.
            pids.extend(self.children(kernel, first)?);
        }
        pids.sort_unstable();
        pids.dedup();
        let above = |pid: &Pid| *pid != id.pid && ancestors.iter().all(|a| a.pid != *pid);
        pids.retain(above);
        // Those that have ended hold nothing.
        let near = pids
            .into_iter()
            .filter_map(|pid| self.identify(kernel, pid).ok())
            .collect();
        Ok(Kin { ancestors, near })
    }

    /// From the parent up to below hopspan (then `true`), or to the first process of the namespace.
    fn ancestors<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
    ) -> Result<(Vec<ProcessId>, bool), Trouble> {
        let own = kernel.own();
        let mut ancestors: Vec<ProcessId> = Vec::new();
        while ancestors.len() < DEPTH {
            let at = ancestors.last().copied().unwrap_or(id);
            // A parent changes only by ending.
            let known = self.registry.parents.get(&at).copied();
            let there = known.filter(|known| self.is_there(kernel, *known));
            if let Some(parent) = there {
                ancestors.push(parent);
                continue;
            }
            let handle = self.reach(kernel, at)?;
            let parent = kernel.parent(handle)?;
            if parent == 0 || parent == own {
                return Ok((ancestors, parent == own));
            }
            let parent = self.identify(kernel, parent)?;
            if self.registry.parents.len() >= PARENTS {
                self.registry.parents.clear();
            }
            self.registry.parents.insert(at, parent);
            ancestors.push(parent);
        }
        Ok((ancestors, false))
    }

    /// The children of a process.
    pub(in crate::correlation) fn children<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
    ) -> Result<Vec<Pid>, Trouble> {
        let handle = self.reach(kernel, id)?;
        kernel.children(handle)
    }

    /// The living process that has this number, member or not.
    pub(in crate::correlation) fn identify<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        pid: Pid,
    ) -> Result<ProcessId, Trouble> {
        for known in [self.members.get(&pid), self.registry.strangers.get(&pid)] {
            if let Some(known) = known.filter(|known| kernel.is_there(&known.handle)) {
                return Ok(known.id);
            }
        }
        let (handle, id) = kernel.open(pid)?;
        let strangers = &mut self.registry.strangers;
        if strangers.len() >= kernel.room() {
            strangers.retain(|_, stranger| kernel.is_there(&stranger.handle));
        }
        if strangers.len() >= kernel.room() {
            strangers.clear();
        }
        let several = false;
        strangers.insert(
            pid,
            Member {
                handle,
                id,
                several,
            },
        );
        Ok(id)
    }

    fn is_there<K: Kernel<Process = P>>(&self, kernel: &mut K, id: ProcessId) -> bool {
        self.handle(id)
            .is_some_and(|handle| kernel.is_there(handle))
    }

    /// The handle of a process, opened again where it was put out of mind to make room for others.
    ///
    /// # Errors
    /// [`Trouble::Gone`] where the process has ended, be it that another has its number.
    pub(super) fn reach<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
    ) -> Result<&P, Trouble> {
        if self.handle(id).is_none() && self.identify(kernel, id.pid)? != id {
            return Err(Trouble::Gone);
        }
        self.handle(id).ok_or(Trouble::Gone)
    }

    /// The handle of a process, member or not.
    pub(super) fn handle(&self, id: ProcessId) -> Option<&P> {
        let known = [
            self.members.get(&id.pid),
            self.registry.strangers.get(&id.pid),
        ];
        let same = known.into_iter().flatten().find(|known| known.id == id);
        same.map(|known| &known.handle)
    }

    /// Whether two processes are certainly not of one blood: whoever forks is in one control group with its child.
    pub(in crate::correlation) fn unrelated<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        one: ProcessId,
        other: ProcessId,
    ) -> bool {
        let mut group = |id| {
            let handle = self.reach(kernel, id).ok()?;
            kernel.control_group(handle)
        };
        matches!((group(one), group(other)), (Some(one), Some(other)) if one != other)
    }
}
