//! Who else holds the sockets: processes forked since they were made.

use super::caller::Known;
use super::{Call, Caller, Held, Rule, Serial};
use crate::correlation::family::{Kin, existed};
use crate::correlation::in_flight::Nanos;
use crate::correlation::inbound::unreadable;
use crate::correlation::kernel::{Fd, Inode, Kernel, Pid, ProcessId, Trouble};
use crate::correlation::unlinked::Unlinked;

/// Processes that are remembered not to hold a socket; when there are more, all are looked at anew.
const CLEARED: usize = 256;

/// Sockets that are remembered to have been shared.
const SHARED: usize = 1024;

impl<K: Kernel> Serial<K> {
    /// No process forked since then holds either socket.
    pub(super) fn no_heirs(
        &mut self,
        kernel: &mut K,
        call: &Call,
        caller: &Caller,
        held: &Held<'_>,
    ) -> Result<(), Unlinked> {
        let known = self.callers.get(&caller.socket.cookie);
        let cleared = known.map(|known| &*known.cleared).unwrap_or_default();
        let of_call = |one: ProcessId| !existed(one, call.made) && !cleared.contains(&one);
        let of_either = |one: ProcessId| of_call(one) || !existed(one, held.accepted.since);
        let kin = self.family.kin(kernel, caller.id, of_either);
        let mut suspects = kin.map_err(unreadable)?.near;
        suspects.retain(|one| of_either(*one));
        let of_call: Vec<_> = suspects
            .iter()
            .copied()
            .filter(|one| of_call(*one))
            .collect();
        let inodes = [caller.socket.inode, held.accepted.inode];
        let heirs = self.any_holds(kernel, caller.id, &suspects, &inodes)?;
        if heirs
            && self
                .require(Rule::NoHeirs, false, Unlinked::SharedSocket)
                .is_err()
        {
            self.share(caller.socket.cookie);
            return Err(Unlinked::SharedSocket);
        }
        if let Some(known) = self.callers.get_mut(&caller.socket.cookie) {
            if known.cleared.len() + of_call.len() > CLEARED {
                known.cleared.clear();
            }
            known.cleared.extend(of_call);
        }
        Ok(())
    }

    /// Others hold the socket: they may have sent on it, or taken its answers, even when they are gone.
    fn share(&mut self, cookie: u64) {
        self.callers.remove(&cookie);
        if self.shared.len() >= SHARED {
            self.shared.pop_front();
        }
        self.shared.push_back(cookie);
    }

    /// A caller that may have inherited its socket: whether nobody else has it by now. Then what it sends from now on
    /// is its own.
    pub(super) fn sole(
        &mut self,
        kernel: &mut K,
        (id, fd): (ProcessId, Fd),
        inode: Inode,
        made: Nanos,
    ) -> Result<Option<Known>, Unlinked> {
        let young = |one: ProcessId| !existed(one, made);
        let kin = self.family.kin(kernel, id, young);
        let Kin { ancestors, near } = kin.map_err(unreadable)?;
        for ancestor in ancestors {
            match self.family.sockets(kernel, ancestor) {
                Ok(sockets) if sockets.iter().all(|(_, held)| *held != inode) => {}
                _ => return Ok(None),
            }
            if existed(ancestor, made) {
                break; // it made the socket, or never had it; and so did those above it
            }
        }
        let young: Vec<ProcessId> = near.into_iter().filter(|one| young(*one)).collect();
        if self.any_holds(kernel, id, &young, &[inode])? {
            return Ok(None);
        }
        let since = kernel.now();
        Ok(Some(Known {
            id,
            fd,
            since,
            cleared: young,
        }))
    }

    /// Whether one of these, or a process below it, holds one of the sockets. True also where that cannot be seen.
    fn any_holds(
        &mut self,
        kernel: &mut K,
        caller: ProcessId,
        suspects: &[ProcessId],
        inodes: &[Inode],
    ) -> Result<bool, Unlinked> {
        let mut pending: Vec<ProcessId> = suspects.to_vec();
        pending.retain(|suspect| !self.family.unrelated(kernel, caller, *suspect));
        while let Some(suspect) = pending.pop() {
            let children: Vec<Pid> = match self.family.children(kernel, suspect) {
                Ok(children) => children,
                Err(Trouble::Gone) => continue,
                Err(trouble) => return Err(unreadable(trouble)),
            };
            match self.family.sockets(kernel, suspect) {
                Ok(sockets) if sockets.iter().any(|(_, inode)| inodes.contains(inode)) => {
                    return Ok(true);
                }
                Ok(_) | Err(Trouble::Gone) => {}
                Err(_) => return Ok(true),
            }
            for pid in children {
                pending.extend(self.family.identify(kernel, pid).ok());
            }
        }
        Ok(false)
    }
}
