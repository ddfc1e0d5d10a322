//! The last questions: the request can have caused the call, and at the end all of it holds still.

use super::requests::alive;
use super::{Call, Caller, Held, Rule, Serial};
use crate::correlation::in_flight::RequestView;
use crate::correlation::inbound::unreadable;
use crate::correlation::kernel::{Inflow, Kernel, State};
use crate::correlation::unlinked::Unlinked;

impl<K: Kernel> Serial<K> {
    /// At last: it waits for this call, holds this request and has read of it, and both sockets are the ones meant.
    ///
    /// The wait is asked for between two looks at the request's socket, so that both were so at one moment.
    pub(super) fn still(
        &mut self,
        kernel: &mut K,
        call: &Call,
        caller: &Caller,
        held: &Held<'_>,
        request: &RequestView,
    ) -> Result<(), Unlinked> {
        let parked = self.pending(kernel, caller)?.is_none();
        self.require(Rule::Still, parked, Unlinked::NotParked)?;
        let connection = held.connection;
        let inflow = kernel.inflow(connection.end);
        let (socket, inflow) = inflow.map_err(unreadable)?.ok_or(Unlinked::NoInbound)?;
        let same = socket.state == State::Established
            && (socket.inode, socket.cookie) == (held.accepted.inode, held.accepted.cookie);
        let holds = self.family.held(kernel, caller.id, held.fd) == Ok(Some(held.accepted.inode));
        self.require(Rule::Still, same && holds, Unlinked::NoInbound)?;
        let read = has_read(connection.written, request, inflow);
        self.require(Rule::Read, read, Unlinked::NotRead)?;
        self.call_socket(kernel, call, Some(caller.socket))?;
        Ok(())
    }

    /// The request that the connection carries, if it can have caused the call.
    pub(super) fn current(&self, call: &Call, held: &Held<'_>) -> Result<RequestView, Unlinked> {
        let mut requests = held.connection.requests.iter().rev();
        let request = requests.next().filter(|request| request.done.is_none());
        let request = *request.ok_or(Unlinked::NoInbound)?;
        let before = request.dispatched < call.earliest;
        self.require(Rule::Before, before, Unlinked::NotRead)?;
        let others = requests.any(|request| alive(call, request));
        self.require(Rule::OneRequest, !others, Unlinked::SeveralRequests)?;
        Ok(request)
    }
}

/// Whether the app has read some of a request: more bytes than hopspan had sent before it. `written`: those it has sent
/// at a moment before the kernel was asked.
fn has_read(written: Option<u64>, request: &RequestView, inflow: Inflow) -> bool {
    let first = request.follows.is_none();
    let Some(before) = request.before.or(first.then_some(0)) else {
        return false;
    };
    match inflow.read {
        // Of a later request, all that came: what the app left unread of one before is not this one's.
        Some(read) => read > before && (first || !inflow.unread),
        // The kernel counts no bytes, but knows when none is left.
        None => !inflow.unread && written.is_some_and(|written| written > before),
    }
}
