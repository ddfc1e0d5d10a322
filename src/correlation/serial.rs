//! The serial proof: a process whose main thread waits for exactly this call's answer, while it serves exactly one
//! request of ours, makes the call on that request's behalf.
//!
//! A look asks, in this order: which process made the call's socket and whether its main thread waits for it ([`caller`]);
//! which connection of ours that process holds, with all others accounted for ([`requests`]); who else may hold the
//! sockets ([`heirs`]); whether it serves one request at a time ([`alone`]); whether all of it holds at the end ([`last`]). Every step may refuse, by a rule named in [`Rule`]. A refusal is final but for what time will
//! tell: see [`Pending`].
//!
//! What is assumed and cannot be seen from here:
//!
//! * sockets are not passed between processes (SCM_RIGHTS) while both use them;
//! * where other threads than the main one serve requests, the main one makes no calls. Two requests at once show such a
//!   process, a single one does not; where the thread rung works, it knows, and has the last word;
//! * a process that sends a call *between* two requests does not read its answer *within* the second;
//! * a process that takes up a request past hopspan while it works on one of hopspan's, and calls for it, is an event
//!   loop to be known ([`alone`]): to list all connections to the app for each call costs a millisecond;
//! * a process that takes up one of hopspan's requests within another, makes no call for the inner one after it has
//!   answered that: if nothing was looked up meanwhile, nothing tells that it served two;
//! * a child that inherited the caller's connection to hopspan, sent a call on it and was gone before this was looked up
//!   did so for the request that its parent works on now. Children that are there are found ([`heirs`]), and what they
//!   share is remembered; one that came and went between two looks leaves no trace;
//! * whose child a process is, it was from the start, unless its parent is the first of a PID namespace or hopspan: no
//!   server asks to be given its workers' orphans (PR_SET_CHILD_SUBREAPER).
//!
//! A caller that is not yet waiting is waited for: 3 ms, and where it gets no turn on a CPU up to 25 ms (`engine`). The
//! call goes on after that, joined or not.

mod alone;
mod caller;
mod heirs;
mod last;
mod requests;
mod rules;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::family::Family;
use super::in_flight::{ConnectionView, InFlight, Nanos};
use super::inbound::{Accepted, Inbound};
use super::kernel::{Fd, Kernel, ProcessId, Socket};
use super::server::Place;
use super::unlinked::Unlinked;
use caller::Known;
pub(super) use rules::Rule;

/// A call as the proof sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// The caller's address.
    pub(super) peer: SocketAddr,
    /// Where it connected to.
    pub(super) local: SocketAddr,
    /// Its connection was not made before this.
    pub(super) made: Nanos,
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
    /// Nothing yet: look again.
    Again(Pending),
}

/// What a look found unfinished, and what time may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// The caller's main thread runs, or waits for its turn to.
    Running(ProcessId),
    /// The caller's main thread waits for something else than the call's answer.
    Blocked,
    /// The app has closed a connection, and hopspan has yet to read what came on it: then it knows when its request
    /// ended. If it does not, this is the reason for no parent.
    Unread(Unlinked),
}

/// Why a step of the proof ended the look.
enum Stop {
    /// No parent.
    Refused(Unlinked),
    /// See [`Pending::Unread`].
    Unread(Unlinked),
}

/// Addresses of the app that are known, the newest: one that is called by a name may have another every day.
pub(super) const APPS: usize = 64;

/// Longest time from the kernel making a connection until hopspan accepts it.
pub(super) const ACCEPTING: Nanos = Duration::from_millis(180).as_nanos() as Nanos;

impl From<Unlinked> for Stop {
    fn from(reason: Unlinked) -> Stop {
        Stop::Refused(reason)
    }
}

/// A process and its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    id: ProcessId,
    socket: Socket,
}

/// The one connection of ours that the caller holds.
struct Held<'a> {
    connection: &'a ConnectionView,
    accepted: Accepted,
    fd: Fd,
    /// The caller's epoll sets.
    polls: Vec<Fd>,
}

/// The prover, with all that it has learnt.
pub(super) struct Serial<K: Kernel> {
    family: Family<K::Process>,
    inbound: Inbound,
    apps: Vec<Place>,
    callers: HashMap<u64, Known>,
    /// Sockets that were seen to be shared, newest last: who has one now did not always have it alone.
    shared: VecDeque<u64>,
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
            shared: VecDeque::new(),
            strangers: HashMap::new(),
            #[cfg(test)]
            off: Rule::off(),
        }
    }
}

impl<K: Kernel> Serial<K> {
    /// Learns of an address of the app. Its processes are searched for when the first call comes: an app that makes none
    /// is never looked at.
    pub(super) fn app(&mut self, app: Place) {
        self.apps.retain(|known| *known != app);
        if self.apps.len() >= APPS {
            self.apps.remove(0);
        }
        self.apps.push(app);
    }

    /// Looks once. `first` is the caller as seen at the first look of this call; `None` then.
    pub(super) fn look(
        &mut self,
        kernel: &mut K,
        in_flight: &InFlight,
        call: &Call,
        first: &mut Option<Caller>,
    ) -> Result<Look, Unlinked> {
        match self.prove(kernel, in_flight, call, first) {
            Ok(look) => Ok(look),
            Err(Stop::Unread(reason)) => Ok(Look::Again(Pending::Unread(reason))),
            Err(Stop::Refused(reason)) => Err(reason),
        }
    }

    fn prove(
        &mut self,
        kernel: &mut K,
        in_flight: &InFlight,
        call: &Call,
        first: &mut Option<Caller>,
    ) -> Result<Look, Stop> {
        let before = *first;
        let socket = match &before {
            Some(caller) => {
                // Until it waits for the answer, nothing else has to be asked again.
                if let Some(pending) = self.pending(kernel, caller)? {
                    return Ok(Look::Again(pending));
                }
                caller.socket // the same one: it is asked for at the end
            }
            None => self.call_socket(kernel, call, None)?,
        };
        let id = self.caller(kernel, call, &socket)?;
        let caller = Caller { id, socket };
        *first = Some(caller);
        let pending = match before {
            Some(before) if before == caller => None,
            _ => self.pending(kernel, &caller)?,
        };
        let connections = in_flight.view(kernel.now(), requests::since(call));
        if let Some(pending) = pending {
            // Whoever works on other requests now may be done with them when the caller waits.
            self.account(kernel, in_flight, call, &caller, &connections)?;
            return Ok(Look::Again(pending));
        }
        let held = self.request(kernel, in_flight, call, &caller, &connections)?;
        let request = self.current(call, &held)?;
        self.no_heirs(kernel, call, &caller, &held)?;
        self.alone(kernel, &caller, &held)?;
        self.still(kernel, call, &caller, &held, &request)?;
        Ok(Look::Proven(Claim {
            connection: held.connection.id,
            request: request.number,
        }))
    }

    /// CPU time that a process's main thread has had so far; `None` where nobody says.
    pub(super) fn ran(&self, kernel: &mut K, id: ProcessId) -> Option<Nanos> {
        let member = self.family.member(id)?;
        kernel.ran(&member.handle).ok()
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
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
