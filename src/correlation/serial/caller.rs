//! Who calls: the process that made the call's socket, and whether its main thread waits for the answer.

use std::collections::HashMap;
use std::time::Duration;

use super::{Call, Caller, Pending, Rule, Serial};
use crate::correlation::family::{Holder, Kind, Wanted};
use crate::correlation::in_flight::Nanos;
use crate::correlation::inbound::unreadable;
use crate::correlation::kernel::{End, Fd, Kernel, ProcessId, Socket, State, Thread};
use crate::correlation::unlinked::Unlinked;

/// Callers' sockets that are remembered; when there are more, all are looked up anew.
const CALLERS: usize = 1024;
/// How long a socket stays a stranger's: a pooled connection of another program is not searched for at every call.
const STRANGER: Nanos = Duration::from_secs(1).as_nanos() as Nanos;

/// A process that a call's socket belongs to.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: ProcessId,
    pub(super) fd: Fd,
    /// It sent what was sent on it since then.
    pub(super) since: Nanos,
    /// Processes younger than the socket that do not hold it.
    pub(super) cleared: Vec<ProcessId>,
}

impl<K: Kernel> Serial<K> {
    /// The caller's own socket, the same one at every look.
    pub(super) fn call_socket(
        &self,
        kernel: &mut K,
        call: &Call,
        first: Option<Socket>,
    ) -> Result<Socket, Unlinked> {
        let socket = kernel
            .socket(End::Tcp(call.peer, call.local))
            .map_err(unreadable)?;
        let socket = socket
            .filter(|socket| socket.state == State::Established && socket.inode != 0)
            .ok_or(Unlinked::SocketGone)?;
        let same = first.is_none_or(|first| first == socket);
        self.require(Rule::Still, same, Unlinked::SocketGone)?;
        Ok(socket)
    }

    /// The process that made the caller's socket.
    pub(super) fn caller(
        &mut self,
        kernel: &mut K,
        call: &Call,
        socket: &Socket,
    ) -> Result<ProcessId, Unlinked> {
        let id = match self.known_caller(kernel, socket) {
            Some((id, since)) => {
                let own = call.earliest > since;
                self.require(Rule::Maker, own, Unlinked::SharedSocket)?;
                id
            }
            None => self.find_caller(kernel, call, socket)?,
        };
        let several = self.family.member(id).is_some_and(|member| member.several);
        self.require(Rule::OneRequest, !several, Unlinked::SeveralRequests)?;
        Ok(id)
    }

    fn known_caller(&mut self, kernel: &mut K, socket: &Socket) -> Option<(ProcessId, Nanos)> {
        let Known { id, fd, since, .. } = *self.callers.get(&socket.cookie)?;
        let held = self.family.held(kernel, id, fd);
        (held == Ok(Some(socket.inode))).then_some((id, since))
    }

    fn find_caller(
        &mut self,
        kernel: &mut K,
        call: &Call,
        socket: &Socket,
    ) -> Result<ProcessId, Unlinked> {
        if !self.apps.iter().all(|app| self.family.knows(app)) {
            self.family.discover(kernel, &self.apps);
        }
        let now = kernel.now();
        match self.strangers.get(&socket.cookie) {
            Some((reason, until)) if now < *until => return Err(*reason),
            _ => {}
        }
        let any = self
            .require(Rule::Maker, false, Unlinked::SharedSocket)
            .is_ok();
        let wanted = Wanted {
            kind: Kind::Outbound,
            inode: socket.inode,
            made: if any { Nanos::MAX } else { call.made },
            deadline: call.deadline,
        };
        let reason = match self.family.holder(kernel, wanted, &self.apps)? {
            Holder::Maker(id, fd) if !self.shared.contains(&socket.cookie) => {
                let known = Known {
                    id,
                    fd,
                    since: 0,
                    cleared: Vec::new(),
                };
                note(&mut self.callers, socket.cookie, known);
                return Ok(id);
            }
            Holder::Maker(id, fd) | Holder::Heir(id, fd) => {
                if let Some(known) = self.sole(kernel, (id, fd), socket.inode, call.made)? {
                    note(&mut self.callers, socket.cookie, known);
                    return Err(Unlinked::SharedSocket);
                }
                Unlinked::SharedSocket
            }
            Holder::Heirs => Unlinked::SharedSocket,
            Holder::Nobody if self.family.denied => Unlinked::NoProcessAccess,
            Holder::Nobody => Unlinked::UnknownCaller,
        };
        note(&mut self.strangers, socket.cookie, (reason, now + STRANGER));
        Err(reason)
    }

    /// What the caller's main thread does, where it does not wait for the call's answer yet; `None` where it does.
    pub(super) fn pending(
        &mut self,
        kernel: &mut K,
        caller: &Caller,
    ) -> Result<Option<Pending>, Unlinked> {
        if self
            .require(Rule::Parked, false, Unlinked::NotParked)
            .is_ok()
        {
            return Ok(None);
        }
        let member = self.family.member(caller.id);
        let member = member.ok_or(Unlinked::UnknownCaller)?;
        match kernel.main_thread(&member.handle).map_err(unreadable)? {
            Thread::Running => Ok(Some(Pending::Running(caller.id))),
            Thread::Blocked => Ok(Some(Pending::Blocked)),
            Thread::Multiplexing => Err(Unlinked::OtherThread),
            Thread::OnSocket(inode) if inode == caller.socket.inode => Ok(None),
            // It is in another call, and this one is another thread's or nobody's.
            Thread::OnSocket(_) => Err(Unlinked::OtherThread),
        }
    }
}

/// Remembers, within bounds.
fn note<V>(map: &mut HashMap<u64, V>, cookie: u64, value: V) {
    if map.len() >= CALLERS {
        map.clear();
    }
    map.insert(cookie, value);
}
