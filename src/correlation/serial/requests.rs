//! Which request: the one connection of ours that the caller holds, with every other one accounted for.

use std::time::Duration;

use super::{Call, Caller, Held, Rule, Serial, Stop};
use crate::correlation::family::existed;
use crate::correlation::in_flight::{ConnectionView, InFlight, Nanos, RequestView};
use crate::correlation::inbound::{Accepted, Known, Search, unreadable};
use crate::correlation::kernel::{Fd, Inode, Kernel, ProcessId};
use crate::correlation::unlinked::Unlinked;

/// Requests that ended this little before the call's bytes came are taken for alive then.
const SLACK: Nanos = Duration::from_micros(20).as_nanos() as Nanos;

impl<K: Kernel> Serial<K> {
    /// The one connection of ours that the caller holds, with every other accounted for.
    pub(super) fn request<'a>(
        &mut self,
        kernel: &mut K,
        in_flight: &InFlight,
        call: &Call,
        caller: &Caller,
        connections: &'a [ConnectionView],
    ) -> Result<Held<'a>, Stop> {
        let known = self.account(kernel, in_flight, call, caller, connections)?;
        let own = self.family.open_files(kernel, caller.id);
        let own = own.map_err(unreadable)?;
        let mut held: Option<Held<'a>> = None;
        for (connection, known) in connections.iter().zip(known) {
            let alive = connection.requests.iter().any(|r| alive(call, r));
            let accepted = match known {
                Known::Waiting => continue,
                Known::Lost => {
                    self.ended(call, connection, Unlinked::UnknownOwner)?;
                    continue;
                }
                Known::Accepted(accepted) => accepted,
            };
            let Some((_, fd)) = accepted.owner.filter(|(id, _)| *id == caller.id) else {
                let elsewhere = self.elsewhere(kernel, caller, &accepted, alive, &own.sockets)?;
                self.require(Rule::OthersElsewhere, elsewhere, Unlinked::UnknownOwner)?;
                continue;
            };
            if !own.sockets.contains(&(fd, accepted.inode)) {
                // The caller has answered it and closed it, but so lately that the call may be its.
                self.ended(call, connection, Unlinked::SeveralRequests)?;
                continue;
            }
            if let Some(first) = &held {
                let first = (first.fd, first.accepted.inode);
                self.several(kernel, caller, first, (fd, accepted.inode))?;
            }
            held = Some(Held {
                connection,
                accepted,
                fd,
                polls: Vec::new(),
            });
        }
        let mut held = held.ok_or(Unlinked::NoInbound)?;
        for (fd, inode) in own.sockets {
            let Some(over) = self.inbound.over(inode) else {
                continue;
            };
            if Known::Accepted(over).is_of(caller.id) {
                let current = (held.fd, held.accepted.inode);
                self.several(kernel, caller, current, (fd, inode))?;
                continue;
            }
            self.require(Rule::OthersElsewhere, false, Unlinked::UnknownOwner)?;
        }
        held.polls = own.polls;
        Ok(held)
    }

    /// Refuses a caller that was seen to hold two connections of ours, and remembers it where it does at one moment.
    fn several(
        &mut self,
        kernel: &mut K,
        caller: &Caller,
        one: (Fd, Inode),
        other: (Fd, Inode),
    ) -> Result<(), Unlinked> {
        // Each was seen before: whoever holds the first still when the second is asked about held both then.
        let mut holds = |(fd, inode)| self.family.held(kernel, caller.id, fd) == Ok(Some(inode));
        if holds(one) && holds(other) {
            self.family.serves_several(caller.id);
        }
        self.require(Rule::OneRequest, false, Unlinked::SeveralRequests)
    }

    /// Whether the requests of a connection that the app has closed had ended when the call's bytes came.
    fn ended(
        &self,
        call: &Call,
        connection: &ConnectionView,
        reason: Unlinked,
    ) -> Result<(), Stop> {
        let mut alive = connection.requests.iter().filter(|r| alive(call, r));
        let unread = |request: &RequestView| request.done.is_none();
        match alive.next() {
            Some(request) if connection.open && unread(request) => self
                .require(Rule::OthersElsewhere, false, reason)
                .map_err(Stop::Unread),
            other => Ok(self.require(Rule::OthersElsewhere, other.is_none(), reason)?),
        }
    }

    /// What is known of every connection, the caller's own first: what this look learns of them serves later calls
    /// even where this one is refused.
    pub(super) fn account(
        &mut self,
        kernel: &mut K,
        in_flight: &InFlight,
        call: &Call,
        caller: &Caller,
        connections: &[ConnectionView],
    ) -> Result<Vec<Known>, Unlinked> {
        let (family, inbound) = (&mut self.family, &mut self.inbound);
        let mut known = inbound.learn(kernel, family, in_flight, connections, call.latest)?;
        let mut search = Search {
            among: &[caller.id],
            thorough: false,
            deadline: call.deadline,
        };
        inbound.resolve(kernel, family, connections, &mut known, search)?;
        if !known.iter().any(|known| known.is_of(caller.id)) {
            search.thorough = true;
            inbound.resolve(kernel, family, connections, &mut known, search)?;
        }
        let unsettled = |known: &[Known]| {
            let mut all = connections.iter().zip(known);
            all.any(|(connection, known)| {
                known.is_unowned() && connection.requests.iter().any(|r| alive(call, r))
            })
        };
        for thorough in [false, true] {
            if !unsettled(&known) {
                return Ok(known);
            }
            if thorough {
                inbound.confirm(kernel, connections, &mut known)?;
            }
            let among = family.others(caller.id);
            let search = Search {
                among: &among,
                thorough,
                ..search
            };
            inbound.resolve(kernel, family, connections, &mut known, search)?;
        }
        if unsettled(&known) {
            let among = family.grow(kernel);
            let search = Search {
                among: &among,
                thorough: true,
                ..search
            };
            inbound.resolve(kernel, family, connections, &mut known, search)?;
        }
        Ok(known)
    }

    /// Whether a connection that another process accepted, or an unknown one, is certainly not the caller's business.
    fn elsewhere(
        &mut self,
        kernel: &mut K,
        caller: &Caller,
        accepted: &Accepted,
        alive: bool,
        own_sockets: &[(Fd, Inode)],
    ) -> Result<bool, Unlinked> {
        let owner = accepted.owner.map(|(id, _)| id);
        // A caller older than the connection cannot have inherited it, from the process that accepted it or any other.
        let older = existed(caller.id, accepted.since);
        if owner.is_some() && older {
            return Ok(true);
        }
        if alive {
            // Such a caller never had it where a process has it that descends from none that the caller forked: who was
            // started after the connection was made has it from the one that accepted it, or accepted it itself.
            let other = owner.or(accepted.heir.filter(|_| older));
            let siblings = other.is_some_and(|other| self.siblings(kernel, caller.id, other));
            self.require(Rule::Siblings, siblings, Unlinked::UnknownOwner)?;
        }
        let holds = (own_sockets.iter()).any(|(_, inode)| *inode == accepted.inode);
        Ok(!holds)
    }

    /// Whether both live and one process forked both: their parent, if it is none that is given others' children.
    fn siblings(&mut self, kernel: &mut K, one: ProcessId, other: ProcessId) -> bool {
        let mut parent = |id| {
            let member = self.family.member(id)?;
            kernel.parent(&member.handle).ok()
        };
        let parents = (parent(one), parent(other));
        matches!(parents, (Some(of_one), Some(of_other)) if of_one == of_other && !kernel.reaps(of_one))
    }
}

/// Requests that ended before this have nothing to do with the call.
pub(super) fn since(call: &Call) -> Nanos {
    call.earliest.saturating_sub(SLACK)
}

/// Whether a request was in the app's hands when the call's bytes came, or ended since.
pub(super) fn alive(call: &Call, request: &RequestView) -> bool {
    request.dispatched <= call.latest && request.done.is_none_or(|done| done >= since(call))
}

#[cfg(test)]
mod tests;
