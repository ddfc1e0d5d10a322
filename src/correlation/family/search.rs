//! Who made a socket: by the few descriptor numbers that such sockets have, else by all sockets of all members.

use super::{Family, Kind, existed};
use crate::correlation::in_flight::Nanos;
use crate::correlation::kernel::{Fd, Inode, Kernel, ProcessId, Trouble};
use crate::correlation::server::Place;
use crate::correlation::unlinked::Unlinked;

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlation) enum Holder {
    /// This process made it.
    Maker(ProcessId, Fd),
    /// A process that may have inherited it, and no other member.
    Heir(ProcessId, Fd),
    /// Several processes that may have inherited it.
    Heirs,
    /// Nobody that may be looked at.
    Nobody,
}

/// A socket whose maker is searched for.
#[derive(Clone, Copy, Debug)]
pub(in crate::correlation) struct Wanted {
    pub(in crate::correlation) kind: Kind,
    pub(in crate::correlation) inode: Inode,
    /// It did not exist before this.
    pub(in crate::correlation) made: Nanos,
    /// When to give up.
    pub(in crate::correlation) deadline: Nanos,
}

impl<P> Family<P> {
    /// Who made the socket `inode`, which did not exist before `made`.
    ///
    /// # Errors
    /// [`Unlinked::TimedOut`] where `deadline` passes first.
    pub(in crate::correlation) fn holder<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        wanted: Wanted,
        apps: &[Place],
    ) -> Result<Holder, Unlinked> {
        let mut heirs = Vec::new();
        let known = self.ids();
        if let Some((id, fd)) = self.by_hot_number(kernel, wanted, &known)?
            && existed(id, wanted.made)
        {
            return Ok(Holder::Maker(id, fd));
        }
        if let Some((id, fd)) = self.by_search(kernel, wanted, &known, &mut heirs)? {
            return Ok(Holder::Maker(id, fd));
        }
        // Not among those known: workers come and go.
        let mut added = self.grow(kernel);
        if added.is_empty() && heirs.is_empty() {
            added = self.discover(kernel, apps);
        }
        if let Some((id, fd)) = self.by_search(kernel, wanted, &added, &mut heirs)? {
            return Ok(Holder::Maker(id, fd));
        }
        Ok(match *heirs {
            [] => Holder::Nobody,
            [(id, fd)] => Holder::Heir(id, fd),
            _ => Holder::Heirs,
        })
    }

    /// A few links instead of all of them. The first holder found, maker or not.
    fn by_hot_number<K: Kernel<Process = P>>(
        &mut self,
        kernel: &mut K,
        wanted: Wanted,
        among: &[ProcessId],
    ) -> Result<Option<(ProcessId, Fd)>, Unlinked> {
        for fd in self.hot(wanted.kind) {
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
        heirs: &mut Vec<(ProcessId, Fd)>,
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
                heirs.push((*id, *fd));
            }
            in_time(kernel, wanted)?;
        }
        Ok(None)
    }
}

fn in_time<K: Kernel>(kernel: &mut K, wanted: Wanted) -> Result<(), Unlinked> {
    if kernel.now() > wanted.deadline {
        return Err(Unlinked::TimedOut);
    }
    Ok(())
}
