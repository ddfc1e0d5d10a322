//! The serial proof: a process whose main thread waits for exactly this call's answer, while it serves exactly one
//! request of ours, makes the call on that request's behalf.
//!
//! Every step may refuse, and a refusal is final but for one: that the main thread does not wait *yet*. The rules
//! are named in [`Rule`]; each closes a hole that a program was found to fall into, and the model test turns each off
//! to see that it does. What is assumed and cannot be seen from here:
//! sockets are not passed between processes (SCM_RIGHTS), and a process that sends a call *between* two requests does
//! not read its answer *within* the second.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::family::{Family, Holder, Kind, Wanted, existed};
use super::in_flight::{ConnectionView, InFlight, Nanos, RequestView};
use super::inbound::{Accepted, Inbound, Known, Search, unreadable};
use super::kernel::{Fd, Inode, Kernel, ProcessId, Socket, State, Thread, Trouble};
use super::unlinked::Unlinked;

/// Requests that ended this little before the call's bytes came are taken for alive then.
const SLACK: Nanos = Duration::from_micros(20).as_nanos() as Nanos;
/// Callers' sockets that are remembered; when there are more, all are looked up anew.
const CALLERS: usize = 1024;
/// How long a socket stays a stranger's: a pooled connection of another program is not searched for at every call.
const STRANGER: Nanos = Duration::from_secs(1).as_nanos() as Nanos;

/// The rules that refuse, by name. All hold, always; only the model's test can turn one off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The caller's process is older than its socket, so that it made it.
    Maker,
    /// No process that it forked since holds the call's socket or the request's.
    NoHeirs,
    /// Its main thread waits on the call's socket, and on nothing else.
    Parked,
    /// It is not known to serve several requests at once, and does not now.
    OneRequest,
    /// The request was given to the app before the call's bytes came.
    Before,
    /// The process has read some of the request.
    Read,
    /// Every other request that was alive at that moment waits, or is another worker's.
    OthersElsewhere,
    /// Where the caller is younger than another's request: both are living children of one process.
    Siblings,
    /// At the end all of it still holds, for the same sockets.
    Still,
}

#[cfg(test)]
impl Rule {
    const ALL: [Rule; 9] = [
        Rule::Maker,
        Rule::NoHeirs,
        Rule::Parked,
        Rule::OneRequest,
        Rule::Before,
        Rule::Read,
        Rule::OthersElsewhere,
        Rule::Siblings,
        Rule::Still,
    ];
}

/// A call as the proof sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// The caller's address.
    pub(super) peer: SocketAddr,
    /// Where it connected to.
    pub(super) local: SocketAddr,
    /// When hopspan accepted its connection.
    pub(super) accepted: Nanos,
    /// The kernel did not receive its bytes before this.
    pub(super) earliest: Nanos,
    /// Nor after this.
    pub(super) latest: Nanos,
    /// When to give up.
    pub(super) deadline: Nanos,
}

/// A request by connection and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The pool's number of the connection.
    pub(super) connection: u64,
    /// The request's number.
    pub(super) request: u64,
}

/// What one look brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Proven.
    Proven(Claim),
    /// The caller is not waiting yet: look again.
    Again,
}

/// A process, its call and its one request, as far as the proof has come.
struct Caller {
    id: ProcessId,
    socket: Socket,
}

/// The one connection of ours that the caller holds.
struct Held<'a> {
    connection: &'a ConnectionView,
    accepted: Accepted,
    fd: Fd,
}

/// The prover, with all that it has learnt.
pub(super) struct Serial<K: Kernel> {
    family: Family<K::Process>,
    inbound: Inbound,
    apps: Vec<SocketAddr>,
    callers: HashMap<u64, (ProcessId, Fd)>,
    strangers: HashMap<u64, (Unlinked, Nanos)>,
    #[cfg(test)]
    pub(super) off: Vec<Rule>,
}

impl<K: Kernel> Default for Serial<K> {
    fn default() -> Self {
        Serial {
            family: Family::default(),
            inbound: Inbound::default(),
            apps: Vec::new(),
            callers: HashMap::new(),
            strangers: HashMap::new(),
            #[cfg(test)]
            off: Vec::new(),
        }
    }
}

impl<K: Kernel> Serial<K> {
    /// Learns of an address of the app, and finds its processes before the first call needs them.
    pub(super) fn app(&mut self, kernel: &mut K, app: SocketAddr) {
        if !self.apps.contains(&app) {
            self.apps.push(app);
        }
        self.family.discover(kernel, &self.apps);
    }

    /// Looks once. `first` is the caller's socket as seen at the first look of this call; `None` then.
    pub(super) fn look(
        &mut self,
        kernel: &mut K,
        in_flight: &InFlight,
        call: &Call,
        first: &mut Option<Socket>,
    ) -> Result<Look, Unlinked> {
        let socket = self.call_socket(kernel, call, first)?;
        let id = self.caller(kernel, call, &socket)?;
        let caller = Caller { id, socket };
        if !self.parked(kernel, &caller)? {
            return Ok(Look::Again);
        }
        let connections = in_flight.view(kernel.now());
        let held = self.request(kernel, in_flight, call, &caller, &connections)?;
        let request = current(self, call, &held)?;
        self.no_heirs(kernel, call, &caller, &held)?;
        self.still(kernel, call, &caller, &held, &request)?;
        Ok(Look::Proven(Claim {
            connection: held.connection.id,
            request: request.number,
        }))
    }

    /// Refuses with `reason` where a rule is broken.
    fn require(&self, rule: Rule, kept: bool, reason: Unlinked) -> Result<(), Unlinked> {
        #[cfg(test)]
        if self.off.contains(&rule) {
            return Ok(());
        }
        let _ = rule;
        if kept { Ok(()) } else { Err(reason) }
    }

    /// The caller's own socket, the same one at every look.
    fn call_socket(
        &self,
        kernel: &mut K,
        call: &Call,
        first: &mut Option<Socket>,
    ) -> Result<Socket, Unlinked> {
        let socket = kernel.socket(call.peer, call.local).map_err(unreadable)?;
        let socket = socket
            .filter(|socket| socket.state == State::Established && socket.inode != 0)
            .ok_or(Unlinked::SocketGone)?;
        let same = *first.get_or_insert(socket) == socket;
        self.require(Rule::Still, same, Unlinked::SocketGone)?;
        Ok(socket)
    }

    /// The process that made the caller's socket.
    fn caller(
        &mut self,
        kernel: &mut K,
        call: &Call,
        socket: &Socket,
    ) -> Result<ProcessId, Unlinked> {
        let id = match self.known_caller(kernel, socket) {
            Some(id) => id,
            None => self.find_caller(kernel, call, socket)?,
        };
        let several = self.family.member(id).is_some_and(|member| member.several);
        self.require(Rule::OneRequest, !several, Unlinked::SeveralRequests)?;
        Ok(id)
    }

    fn known_caller(&mut self, kernel: &mut K, socket: &Socket) -> Option<ProcessId> {
        let (id, fd) = *self.callers.get(&socket.cookie)?;
        let held = self.family.held(kernel, id, fd);
        (held == Ok(Some(socket.inode))).then_some(id)
    }

    fn find_caller(
        &mut self,
        kernel: &mut K,
        call: &Call,
        socket: &Socket,
    ) -> Result<ProcessId, Unlinked> {
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
            made: if any { Nanos::MAX } else { call.accepted },
            deadline: call.deadline,
        };
        let reason = match self.family.holder(kernel, wanted, &self.apps)? {
            Holder::Maker(id, fd) => {
                note(&mut self.callers, socket.cookie, (id, fd));
                return Ok(id);
            }
            Holder::Heir => Unlinked::SharedSocket,
            Holder::Nobody if self.family.denied => Unlinked::NoProcessAccess,
            Holder::Nobody => Unlinked::UnknownCaller,
        };
        note(&mut self.strangers, socket.cookie, (reason, now + STRANGER));
        Err(reason)
    }

    /// Whether the main thread waits on the call's socket; `Ok(false)`: not yet.
    fn parked(&mut self, kernel: &mut K, caller: &Caller) -> Result<bool, Unlinked> {
        if self
            .require(Rule::Parked, false, Unlinked::NotParked)
            .is_ok()
        {
            return Ok(true);
        }
        let member = self.family.member(caller.id);
        let member = member.ok_or(Unlinked::UnknownCaller)?;
        match kernel.main_thread(&member.handle).map_err(unreadable)? {
            Thread::Running | Thread::Blocked => Ok(false),
            Thread::Multiplexing => Err(Unlinked::OtherThread),
            Thread::OnSocket(inode) if inode == caller.socket.inode => Ok(true),
            // It is in another call, and this one is another thread's or nobody's.
            Thread::OnSocket(_) => Err(Unlinked::OtherThread),
        }
    }

    /// The one connection of ours that the caller holds, with every other accounted for.
    fn request<'a>(
        &mut self,
        kernel: &mut K,
        in_flight: &InFlight,
        call: &Call,
        caller: &Caller,
        connections: &'a [ConnectionView],
    ) -> Result<Held<'a>, Unlinked> {
        let known = self.account(kernel, in_flight, call, caller, connections)?;
        let mut own_sockets = None;
        let mut held: Option<Held<'a>> = None;
        for (connection, known) in connections.iter().zip(known) {
            let alive = connection.requests.iter().any(|r| alive(call, r));
            let accepted = match known {
                Known::Waiting => continue,
                Known::Lost => {
                    self.require(Rule::OthersElsewhere, !alive, Unlinked::UnknownOwner)?;
                    continue;
                }
                Known::Accepted(accepted) => accepted,
            };
            let Some((_, fd)) = accepted.owner.filter(|(id, _)| *id == caller.id) else {
                let elsewhere =
                    self.elsewhere(kernel, caller, &accepted, alive, &mut own_sockets)?;
                self.require(Rule::OthersElsewhere, elsewhere, Unlinked::UnknownOwner)?;
                continue;
            };
            let here = self
                .family
                .held(kernel, caller.id, fd)
                .map_err(unreadable)?;
            if here != Some(accepted.inode) {
                // The caller has answered it and closed it, but so lately that the call may be its.
                self.require(Rule::OthersElsewhere, !alive, Unlinked::SeveralRequests)?;
                continue;
            }
            if let Some(first) = &held {
                let both = self.family.held(kernel, caller.id, first.fd);
                if both == Ok(Some(first.accepted.inode)) {
                    self.family.serves_several(caller.id);
                }
                self.require(Rule::OneRequest, false, Unlinked::SeveralRequests)?;
            }
            held = Some(Held {
                connection,
                accepted,
                fd,
            });
        }
        held.ok_or(Unlinked::NoInbound)
    }

    /// What is known of every connection, the caller's own first: what this look learns of them serves later calls
    /// even where this one is refused.
    fn account(
        &mut self,
        kernel: &mut K,
        in_flight: &InFlight,
        call: &Call,
        caller: &Caller,
        connections: &[ConnectionView],
    ) -> Result<Vec<Known>, Unlinked> {
        let (family, inbound) = (&mut self.family, &mut self.inbound);
        inbound.keep(connections);
        let mut known = inbound.learn(kernel, family, in_flight, connections)?;
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
        own_sockets: &mut Option<Vec<Inode>>,
    ) -> Result<bool, Unlinked> {
        let owner = accepted.owner.map(|(id, _)| id);
        // A caller older than the connection cannot have inherited it from the process that accepted it.
        if owner.is_some() && existed(caller.id, accepted.since) {
            return Ok(true);
        }
        if alive {
            let siblings = owner.is_some_and(|owner| self.siblings(kernel, caller.id, owner));
            self.require(Rule::Siblings, siblings, Unlinked::UnknownOwner)?;
        }
        if own_sockets.is_none() {
            let sockets = self.family.sockets(kernel, caller.id).map_err(unreadable)?;
            *own_sockets = Some(sockets.into_iter().map(|(_, inode)| inode).collect());
        }
        let holds = own_sockets
            .iter()
            .flatten()
            .any(|inode| *inode == accepted.inode);
        Ok(!holds)
    }

    /// Whether both live and neither forked the other, nor are they children of different processes.
    fn siblings(&mut self, kernel: &mut K, one: ProcessId, other: ProcessId) -> bool {
        let mut parent = |id| {
            let member = self.family.member(id)?;
            kernel.parent(&member.handle).ok()
        };
        let parents = (parent(one), parent(other));
        matches!(parents, (Some(of_one), Some(of_other)) if of_one == of_other)
    }

    /// No process forked by the caller since holds either socket.
    fn no_heirs(
        &mut self,
        kernel: &mut K,
        call: &Call,
        caller: &Caller,
        held: &Held<'_>,
    ) -> Result<(), Unlinked> {
        let since = call.accepted.min(held.accepted.since);
        let inodes = [caller.socket.inode, held.accepted.inode];
        let heirs = self.heirs(kernel, caller.id, since, inodes)?;
        self.require(Rule::NoHeirs, !heirs, Unlinked::SharedSocket)
    }

    fn heirs(
        &mut self,
        kernel: &mut K,
        id: ProcessId,
        since: Nanos,
        inodes: [Inode; 2],
    ) -> Result<bool, Unlinked> {
        let mut parents = vec![id];
        while let Some(parent) = parents.pop() {
            let member = self.family.member(parent);
            let Some(member) = member else { continue };
            let children = kernel.children(&member.handle).map_err(unreadable)?;
            for pid in children {
                let Some(child) = self.family.adopt(kernel, pid) else {
                    continue; // ended
                };
                if existed(child, since) {
                    continue;
                }
                match self.family.sockets(kernel, child) {
                    Ok(sockets) if sockets.iter().any(|(_, inode)| inodes.contains(inode)) => {
                        return Ok(true);
                    }
                    Ok(_) => parents.push(child),
                    Err(Trouble::Gone) => {}
                    Err(_) => return Ok(true),
                }
            }
        }
        Ok(false)
    }

    /// At last: it waits for this call, holds this request and has read of it, and both sockets are the ones meant.
    ///
    /// The wait is asked for between two looks at the request's socket, so that both were so at one moment.
    fn still(
        &mut self,
        kernel: &mut K,
        call: &Call,
        caller: &Caller,
        held: &Held<'_>,
        request: &RequestView,
    ) -> Result<(), Unlinked> {
        let parked = self.parked(kernel, caller)?;
        self.require(Rule::Still, parked, Unlinked::NotParked)?;
        let connection = held.connection;
        let inflow = kernel.inflow(connection.app, connection.local);
        let (socket, inflow) = inflow.map_err(unreadable)?.ok_or(Unlinked::NoInbound)?;
        let same = socket.state == State::Established
            && (socket.inode, socket.cookie) == (held.accepted.inode, held.accepted.cookie);
        let holds = self.family.held(kernel, caller.id, held.fd) == Ok(Some(held.accepted.inode));
        self.require(Rule::Still, same && holds, Unlinked::NoInbound)?;
        let read = match request.follows {
            None => inflow.received > inflow.unread,
            // Bytes that came after all before it were answered, and none of them waits.
            Some(answered) => inflow.unread == 0 && inflow.last_since > answered,
        };
        self.require(Rule::Read, read, Unlinked::NotRead)?;
        self.call_socket(kernel, call, &mut Some(caller.socket))?;
        Ok(())
    }
}

/// Remembers, within bounds.
fn note<V>(map: &mut HashMap<u64, V>, cookie: u64, value: V) {
    if map.len() >= CALLERS {
        map.clear();
    }
    map.insert(cookie, value);
}

/// The request that the connection carries, if it can have caused the call.
fn current<K: Kernel>(
    serial: &Serial<K>,
    call: &Call,
    held: &Held<'_>,
) -> Result<RequestView, Unlinked> {
    let mut requests = held.connection.requests.iter().rev();
    let request = requests.next().filter(|request| request.done.is_none());
    let request = *request.ok_or(Unlinked::NoInbound)?;
    let before = request.dispatched < call.earliest;
    serial.require(Rule::Before, before, Unlinked::NotRead)?;
    let others = requests.any(|request| alive(call, request));
    serial.require(Rule::OneRequest, !others, Unlinked::SeveralRequests)?;
    Ok(request)
}

/// Whether a request was in the app's hands when the call's bytes came, or ended since.
fn alive(call: &Call, request: &RequestView) -> bool {
    let ended_before = |done| done < call.earliest.saturating_sub(SLACK);
    request.dispatched <= call.latest && !request.done.is_some_and(ended_before)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
