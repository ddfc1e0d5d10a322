//! Whether the caller serves one request at a time: nothing shows an event loop, or greenlets.

use super::{Caller, Held, Rule, Serial};
use crate::correlation::inbound::unreadable;
use crate::correlation::kernel::Kernel;
use crate::correlation::unlinked::Unlinked;

impl<K: Kernel> Serial<K> {
    /// The caller's main thread does not turn from this request to other work and back: the request's socket is in no
    /// epoll set of its, and no greenlet waits for it.
    pub(super) fn alone(
        &mut self,
        kernel: &mut K,
        caller: &Caller,
        held: &Held<'_>,
    ) -> Result<(), Unlinked> {
        let reason = Unlinked::EventLoop;
        if self.require(Rule::Alone, false, reason).is_ok() {
            return Ok(());
        }
        let member = self.family.member(caller.id);
        let handle = &member.ok_or(Unlinked::UnknownCaller)?.handle;
        for poll in &held.polls {
            // Closed meanwhile, by another thread: it waits for nothing.
            let polled = kernel.polled(handle, *poll).unwrap_or_default();
            if polled.contains(&held.accepted.inode) {
                self.family.serves_several(caller.id);
                return Err(reason);
            }
        }
        match kernel.greenlets(handle, held.fd).map_err(unreadable)? {
            true => Err(reason),
            false => Ok(()),
        }
    }
}
