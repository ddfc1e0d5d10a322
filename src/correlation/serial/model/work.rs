//! What processes do, one step at a time, and what clients do.

use super::*;

/// A child stays for as long as a call on its parent's connection may be looked up: that no such child is gone before
/// is assumed.
const STAY: Op = Op::Wait(4 * MS);

impl World {
    pub(super) fn client(&mut self, client: usize) {
        let foreign = self.plan.visits[client].foreign;
        self.clients[client] = match self.clients[client] {
            Client::Connect => {
                let peer = SocketAddr::from(([127, 0, 0, 1], self.port(10_000)));
                let id = self.socket(app(), peer);
                self.sockets[id].visit = client;
                // Some are open on this side for milliseconds before they wait to be accepted.
                let late = match self.byte() {
                    byte if byte.is_multiple_of(4) => u64::from(byte) * 19 * US,
                    _ => 0,
                };
                self.opening.push((self.now + late, id));
                Client::Open(id)
            }
            Client::Open(id) => {
                if !foreign {
                    let (peer, began) = (self.sockets[id].peer, self.sockets[id].made);
                    let written = Some(self.sockets[id].written.clone());
                    let end = End::Tcp(app(), peer);
                    self.in_flight
                        .open(id as u64, end, began, written, self.now);
                }
                Client::Enter(id, 0)
            }
            Client::Enter(id, at) => {
                let number = match foreign {
                    true => None,
                    false => self
                        .in_flight
                        .enter(id as u64, Context::new_root(), None, self.now),
                };
                self.sockets[id].numbers.push(number);
                Client::Deliver(id, at)
            }
            Client::Deliver(id, at) => {
                let socket = &mut self.sockets[id];
                socket.unread += 10;
                socket.received += 10;
                socket.written.fetch_add(10, Ordering::Relaxed);
                Client::Await(id, at)
            }
            Client::Await(id, at) => {
                let ended = match self.sockets[id].responded.get(at) {
                    Some(ended) => *ended,
                    // The app closed it without a word.
                    None if !self.sockets[id].alive => self.now,
                    None => return,
                };
                if let Some(number) = self.sockets[id].numbers[at] {
                    let seen = if client.is_multiple_of(2) {
                        self.now
                    } else {
                        ended
                    };
                    self.in_flight.leave(id as u64, number, seen);
                }
                let more = at + 1 < self.plan.visits[client].requests.len();
                match more && self.sockets[id].alive {
                    true => Client::Enter(id, at + 1),
                    false => Client::CloseConnection(id),
                }
            }
            Client::CloseConnection(id) => {
                if !foreign {
                    self.in_flight.close(id as u64, self.now);
                }
                self.sockets[id].peer_open = false;
                Client::Done
            }
            Client::Done => Client::Done,
        };
    }

    /// One step of a process's main thread, or of its other one.
    pub(super) fn run(&mut self, pid: Pid, side: bool) {
        let process = self.processes.get_mut(&pid).unwrap();
        if side {
            if let Some(op) = process.side.pop_front() {
                self.side(pid, op);
            }
            return;
        }
        if self.now < process.until {
            // Nobody else may have anything to do: time must pass.
            self.now += 20 * US;
            return;
        }
        let Some(op) = process.ops.pop_front() else {
            return self.exit(pid);
        };
        match op {
            Op::Act(act, truth, request) => self.act(pid, act, truth, request),
            Op::Send(socket, truth, whole) => self.send(socket, truth, whole),
            Op::Park(socket) if self.sockets[socket].answers == 0 => self.retry(pid, op),
            Op::Park(socket) => self.sockets[socket].answers -= 1,
            Op::Read(socket) if self.sockets[socket].unread == 0 => {
                if self.sockets[socket].peer_open {
                    self.retry(pid, op);
                }
            }
            Op::Read(socket) => {
                self.sockets[socket].unread = 0;
                self.serve(pid, socket);
            }
            Op::Respond(socket) => {
                let now = self.now;
                self.sockets[socket].responded.push(now);
            }
            Op::Next(socket) => {
                let visit = &self.plan.visits[self.sockets[socket].visit];
                if self.sockets[socket].served < visit.requests.len() {
                    self.then(pid, [Op::Read(socket)]);
                }
            }
            Op::Close(socket) => self.close(pid, socket),
            Op::Accept => self.accept(pid),
            Op::Nested(truth) => self.nested(pid, truth),
            Op::Wait(time) => self.processes.get_mut(&pid).unwrap().until = self.now + time,
            Op::Exit => self.exit(pid),
        }
    }

    pub(super) fn retry(&mut self, pid: Pid, op: Op) {
        self.processes.get_mut(&pid).unwrap().ops.push_front(op);
    }

    /// To be done next, in this order.
    pub(super) fn then<const N: usize>(&mut self, pid: Pid, ops: [Op; N]) {
        let process = self.processes.get_mut(&pid).unwrap();
        for op in ops.into_iter().rev() {
            process.ops.push_front(op);
        }
    }

    pub(super) fn side(&mut self, pid: Pid, op: Op) {
        let mut put = |op| self.processes.get_mut(&pid).unwrap().side.push_front(op);
        match op {
            Op::Park(socket) if self.sockets[socket].answers == 0 => put(op),
            Op::Park(socket) => self.close(pid, socket),
            Op::Send(socket, truth, whole) => self.send(socket, truth, whole),
            Op::Act(_, truth, _) => {
                let socket = self.connect_out(pid);
                let side = &mut self.processes.get_mut(&pid).unwrap().side;
                side.push_front(Op::Park(socket));
                side.push_front(Op::Send(socket, truth, true));
            }
            // The background's own work, for ever.
            _ => {
                put(Op::Wait(MS));
                if self.byte().is_multiple_of(8) {
                    let side = &mut self.processes.get_mut(&pid).unwrap().side;
                    side.push_front(Op::Act(Act::Fresh, None, None));
                }
            }
        }
    }

    pub(super) fn accept(&mut self, pid: Pid) {
        self.retry(pid, Op::Accept);
        let Some(socket) = self.queue.pop_front() else {
            if self.plan.idle_calls && self.byte().is_multiple_of(16) {
                self.then(pid, [Op::Act(Act::Pooled, None, None)]);
            }
            return;
        };
        self.take(pid, socket);
        self.then(pid, [Op::Read(socket), Op::Close(socket)]);
    }

    pub(super) fn take(&mut self, pid: Pid, socket: SocketId) {
        self.next += 1;
        self.sockets[socket].inode = self.next as Inode;
        self.sockets[socket].accepted = true;
        self.install(pid, socket);
    }

    /// The request that was just read.
    pub(super) fn serve(&mut self, pid: Pid, socket: SocketId) {
        let (visit, at) = (self.sockets[socket].visit, self.sockets[socket].served);
        self.sockets[socket].served += 1;
        let truth = self.sockets[socket].numbers.get(at).copied().flatten();
        let visit = &self.plan.visits[visit];
        let (before, after) = visit.requests[at].clone();
        let act = |act: &Act| Op::Act(*act, truth, Some(socket));
        let mut ops: Vec<Op> = before.iter().map(act).collect();
        ops.push(Op::Respond(socket));
        ops.extend(after.iter().map(act));
        ops.push(Op::Next(socket));
        for op in ops.into_iter().rev() {
            self.then(pid, [op]);
        }
    }

    pub(super) fn nested(&mut self, pid: Pid, truth: Truth) {
        let Some(socket) = self.queue.pop_front() else {
            return;
        };
        self.take(pid, socket);
        let call = Op::Act(Act::Fresh, truth, None);
        self.then(
            pid,
            [call.clone(), Op::Read(socket), Op::Close(socket), call],
        );
    }

    pub(super) fn act(&mut self, pid: Pid, act: Act, truth: Truth, request: Option<SocketId>) {
        match act {
            Act::Fresh | Act::Split => {
                let socket = self.connect_out(pid);
                let part = Op::Send(socket, truth, act == Act::Fresh);
                let rest = Op::Send(socket, truth, true);
                self.then(pid, [Op::Park(socket), Op::Close(socket)]);
                if act == Act::Split {
                    self.then(pid, [rest]);
                }
                self.then(pid, [part]);
            }
            Act::Pooled => {
                let kept = self.processes[&pid].kept;
                let socket = kept.unwrap_or_else(|| self.connect_out(pid));
                self.processes.get_mut(&pid).unwrap().kept = Some(socket);
                self.then(pid, [Op::Send(socket, truth, true), Op::Park(socket)]);
            }
            Act::Fire => {
                let socket = self.connect_out(pid);
                self.then(pid, [Op::Send(socket, truth, true)]);
            }
            Act::Leave => {
                let socket = self.connect_out(pid);
                self.then(pid, [Op::Send(socket, truth, true)]);
                self.processes.get_mut(&pid).unwrap().left.push(socket);
            }
            Act::Collect => {
                for socket in std::mem::take(&mut self.processes.get_mut(&pid).unwrap().left) {
                    self.then(pid, [Op::Park(socket), Op::Close(socket)]);
                }
            }
            Act::Shared => {
                let shared = self.shared;
                self.then(pid, [Op::Send(shared, truth, true), Op::Park(shared)]);
            }
            Act::Fork => {
                let call = Op::Act(Act::Fresh, truth, None);
                let pooled = Op::Act(Act::Pooled, truth, None);
                let ops = [call.clone(), Op::Wait(MS), pooled, call, STAY, Op::Exit];
                self.fork(pid, ops.into());
            }
            Act::Daemon => {
                let pooled = Op::Act(Act::Pooled, truth, None);
                let calls = [Op::Wait(MS), pooled.clone(), Op::Wait(MS), pooled];
                let ops = calls.into_iter().chain([STAY, Op::Exit]).collect();
                let daemon = self.fork(pid, ops);
                self.orphan(daemon);
            }
            Act::ForkWorker => {
                self.fork(pid, [Op::Accept].into());
            }
            Act::HandOver | Act::HandDown => {
                if let Some(socket) = request {
                    let call = Op::Act(Act::Fresh, truth, None);
                    let ops = [
                        call.clone(),
                        Op::Wait(MS),
                        call,
                        Op::Respond(socket),
                        Op::Exit,
                    ];
                    let child = self.fork(pid, ops.into());
                    if act == Act::HandDown {
                        self.orphan(child);
                    }
                    let ops = &mut self.processes.get_mut(&pid).unwrap().ops;
                    ops.retain(|op| !matches!(op, Op::Respond(s) | Op::Next(s) if *s == socket));
                }
            }
            Act::Nest => self.then(pid, [Op::Nested(truth)]),
            Act::Thread => {
                let side = &mut self.processes.get_mut(&pid).unwrap().side;
                side.push_front(Op::Act(Act::Fresh, truth, None));
            }
            Act::Work => self.then(pid, [Op::Wait(MS)]),
            Act::Sleep => self.now += 350 * MS,
            Act::Die => self.exit(pid),
        }
    }

    pub(super) fn send(&mut self, id: SocketId, truth: Truth, whole: bool) {
        let now = self.now;
        let socket = &mut self.sockets[id];
        let first = *socket.first_bytes.get_or_insert(now);
        if !whole {
            return;
        }
        socket.first_bytes = None;
        socket.unanswered += 1;
        // hyper reads ahead: these bytes come with no time of their own.
        let pipelined = socket.unanswered > 1;
        let call = Call {
            peer: socket.app,
            local: hopspan(),
            made: socket.made.saturating_sub(ACCEPTING),
            earliest: first,
            latest: first,
            deadline: now + 1_000 * MS,
        };
        self.arrived.push_back(Arrived {
            call: (!pipelined).then_some(call),
            truth,
            socket: id,
        });
    }
}
