//! Whether the caller serves one request at a time: nothing shows an event loop, greenlets, or another connection to the
//! app, be it one that did not come from hopspan.

use super::{Caller, Held, Rule, Serial};
use crate::correlation::inbound::unreadable;
use crate::correlation::kernel::{Inode, Kernel};
use crate::correlation::unlinked::Unlinked;

/// Sockets that are remembered to be no connections to the app; when there are more, all are looked up anew.
const ELSEWHERE: usize = 4096;

impl<K: Kernel> Serial<K> {
    /// The caller's main thread cannot work on another request while this one is in flight: it waits for no two at once,
    /// and holds no connection to the app but the one.
    ///
    /// It waits for the call's answer meanwhile, so what it holds now it held when it sent the call.
    pub(super) fn alone(
        &mut self,
        kernel: &mut K,
        caller: &Caller,
        held: &Held<'_>,
    ) -> Result<(), Unlinked> {
        let reason = Unlinked::SeveralRequests;
        if self.require(Rule::Alone, false, reason).is_ok() {
            return Ok(());
        }
        let member = self.family.member(caller.id);
        let handle = &member.ok_or(Unlinked::UnknownCaller)?.handle;
        let open = kernel.open_files(handle).map_err(unreadable)?;
        for poll in open.polls {
            // Closed meanwhile, by another thread: it waits for nothing.
            let polled = kernel.polled(handle, poll).unwrap_or_default();
            if polled.contains(&held.accepted.inode) {
                self.family.serves_several(caller.id);
                return Err(Unlinked::EventLoop);
            }
        }
        if kernel.greenlets(handle, held.fd).map_err(unreadable)? {
            return Err(Unlinked::EventLoop);
        }
        let own = [held.accepted.inode, caller.socket.inode];
        let mut others: Vec<Inode> = open.sockets.into_iter().map(|(_, inode)| inode).collect();
        others.retain(|inode| !own.contains(inode) && !self.elsewhere.contains(inode));
        if others.is_empty() {
            return Ok(());
        }
        for app in &self.apps {
            if kernel.any_connected(app, &others).map_err(unreadable)? {
                self.family.serves_several(caller.id);
                return Err(reason);
            }
        }
        // What a socket is does not change.
        if self.elsewhere.len() + others.len() > ELSEWHERE {
            self.elsewhere.clear();
        }
        self.elsewhere.extend(others);
        Ok(())
    }
}
