//! A small machine to test the proof on: prefork workers that do everything a program might, a kernel that answers
//! truly but late, and the truth about every call.
//!
//! Nothing stands still: at each question to the kernel the processes run on, as the schedule says. What the proof
//! assumes holds here too: no sockets are passed, and calls made between requests are awaited there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::correlation::in_flight::{InFlight, Nanos};
use crate::correlation::kernel::{
    End, Fd, Inflow, Inode, Kernel, Listeners, Pid, ProcessId, Socket, State, Thread, Trouble,
};
use crate::correlation::serial::{ACCEPTING, Call};
use crate::correlation::server::Place;
use crate::trace::Context;

const US: Nanos = 1_000;
const MS: Nanos = 1_000_000;
const LISTENER: Inode = 1;
const MASTER: Pid = 10;

/// What a worker does for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A call on a connection of its own, awaited.
    Fresh,
    /// A call on the process's kept connection, awaited.
    Pooled,
    /// A call sent in two pieces, awaited.
    Split,
    /// A call whose answer nobody reads.
    Fire,
    /// A call whose answer is read later, maybe within another request.
    Leave,
    /// Reads the answers of calls that were left.
    Collect,
    /// A call on a connection that all workers hold.
    Shared,
    /// A forked child that makes calls for this request, while its parent goes on.
    Fork,
    /// A forked child that forks another and ends; the other calls, and its parent is the master.
    Daemon,
    /// A forked child that goes on accepting, as a worker, and keeps what it inherited.
    ForkWorker,
    /// A forked child that answers the request in its parent's stead.
    HandOver,
    /// Accepts another connection meanwhile, makes a call, then serves both.
    Nest,
    /// A call by another thread.
    Thread,
    /// Takes a while: a millisecond.
    Work,
    /// Takes long: a third of a second.
    Sleep,
    /// The worker dies; another may get its number.
    Die,
}

/// One request, or several on a kept connection.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// What is done for each: before the response, and after it.
    pub(super) requests: Vec<(Vec<Act>, Vec<Act>)>,
    /// It does not come through hopspan.
    pub(super) foreign: bool,
}

/// All that happens in one run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) workers: usize,
    /// Workers make calls between requests, too.
    pub(super) idle_calls: bool,
    /// Workers have a thread that makes calls of its own.
    pub(super) background: bool,
    pub(super) visits: Vec<Visit>,
    pub(super) schedule: Vec<u8>,
}

/// Who caused something: a request of ours by number, or none.
type Truth = Option<u64>;
type SocketId = usize;

#[derive(Clone, Debug)]
enum Op {
    Act(Act, Truth, Option<SocketId>),
    Send(SocketId, Truth, bool),
    Park(SocketId),
    Read(SocketId),
    Respond(SocketId),
    Next(SocketId),
    Close(SocketId),
    Accept,
    Nested(Truth),
    Wait(Nanos),
    Exit,
}

#[derive(Debug, Default)]
struct Process {
    parent: Pid,
    started: Nanos,
    fds: BTreeMap<Fd, SocketId>,
    ops: VecDeque<Op>,
    /// The other thread's work.
    side: VecDeque<Op>,
    left: Vec<SocketId>,
    kept: Option<SocketId>,
    until: Nanos,
    generation: u64,
}

#[derive(Debug)]
struct Sock {
    app: SocketAddr,
    peer: SocketAddr,
    inode: Inode,
    cookie: u64,
    /// The app has it, or it waits for the app.
    alive: bool,
    /// hopspan's side is open.
    peer_open: bool,
    accepted: bool,
    received: u64,
    unread: u64,
    written: Arc<AtomicU64>,
    /// Outbound: when hopspan accepted it; when the bytes of the request in the making came.
    made: Nanos,
    first_bytes: Option<Nanos>,
    /// Calls that hopspan has not answered, and answers that nobody has read.
    unanswered: u32,
    answers: u32,
    visit: usize,
    /// Requests delivered, and read, on a connection of ours.
    numbers: Vec<Truth>,
    served: usize,
    responded: Vec<Nanos>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Connect,
    Open(SocketId),
    Enter(SocketId, usize),
    Deliver(SocketId, usize),
    Await(SocketId, usize),
    CloseConnection(SocketId),
    Done,
}

/// A call that reached hopspan, and the truth.
pub(super) struct Arrived {
    /// None where it came before the one before it on its connection was answered.
    pub(super) call: Option<Call>,
    pub(super) truth: Truth,
    socket: SocketId,
}

pub(super) struct World {
    pub(super) now: Nanos,
    pub(super) in_flight: Arc<InFlight>,
    plan: Plan,
    schedule: VecDeque<u8>,
    spent: u64,
    processes: BTreeMap<Pid, Process>,
    sockets: Vec<Sock>,
    queue: VecDeque<SocketId>,
    clients: Vec<Client>,
    pub(super) arrived: VecDeque<Arrived>,
    shared: SocketId,
    next: u64,
    /// The generation of the newest process.
    newest: u64,
    /// When processes ended, by their numbers.
    ended: BTreeMap<Pid, Nanos>,
}

impl World {
    pub(super) fn new(plan: &Plan) -> World {
        let mut world = World {
            now: 1_000 * MS,
            in_flight: Arc::default(),
            schedule: plan.schedule.iter().copied().collect(),
            spent: 0,
            processes: BTreeMap::new(),
            sockets: Vec::new(),
            queue: VecDeque::new(),
            clients: vec![Client::Connect; plan.visits.len()],
            arrived: VecDeque::new(),
            shared: 0,
            next: 100,
            newest: 0,
            ended: BTreeMap::new(),
            plan: plan.clone(),
        };
        world.start(1, MASTER);
        world.shared = world.connect_out(MASTER);
        world.now += 10 * MS;
        for _ in 0..plan.workers {
            let pid = world.fork(MASTER, [Op::Accept].into());
            world.hire(pid);
        }
        world.now += 1_000 * MS;
        world
    }

    /// Something else to do than to look at calls: more to come, or somebody at work.
    pub(super) fn busy(&self) -> bool {
        self.clients.iter().any(|client| *client != Client::Done)
    }

    fn start(&mut self, parent: Pid, pid: Pid) {
        self.next += 1;
        self.newest = self.next;
        let process = Process {
            parent,
            started: self.now,
            generation: self.next,
            ..Process::default()
        };
        self.processes.insert(pid, process);
    }

    fn hire(&mut self, pid: Pid) {
        if self.plan.background {
            let process = self.processes.get_mut(&pid).unwrap();
            process.side.push_back(Op::Wait(2 * MS));
        }
    }

    fn fork(&mut self, parent: Pid, ops: VecDeque<Op>) -> Pid {
        // The lowest number that is free: reused as soon as start times can tell.
        let pid = (MASTER + 1..).find(|pid| self.is_free(*pid)).unwrap();
        self.start(parent, pid);
        let (fds, kept) = {
            let parent = &self.processes[&parent];
            (parent.fds.clone(), parent.kept)
        };
        let child = self.processes.get_mut(&pid).unwrap();
        (child.fds, child.kept, child.ops) = (fds, kept, ops);
        pid
    }

    fn is_free(&self, pid: Pid) -> bool {
        let ended = self.ended.get(&pid).copied().unwrap_or(0);
        !self.processes.contains_key(&pid) && ended + 20 * MS <= self.now
    }

    fn exit(&mut self, pid: Pid) {
        self.ended.insert(pid, self.now);
        let held: Vec<SocketId> = self.processes[&pid].fds.values().copied().collect();
        self.processes.remove(&pid);
        for socket in held {
            self.drop_if_unheld(socket);
        }
        for process in self
            .processes
            .values_mut()
            .filter(|process| process.parent == pid)
        {
            process.parent = MASTER; // as where the master is the container's first process
        }
        let workers = self
            .processes
            .values()
            .filter(|p| p.parent == MASTER)
            .count();
        if workers < self.plan.workers {
            let pid = self.fork(MASTER, [Op::Accept].into());
            self.hire(pid);
        }
    }

    fn drop_if_unheld(&mut self, socket: SocketId) {
        let held = self
            .processes
            .values()
            .any(|p| p.fds.values().any(|s| *s == socket));
        if !held {
            self.sockets[socket].alive = false;
        }
    }

    fn close(&mut self, pid: Pid, socket: SocketId) {
        let process = self.processes.get_mut(&pid).unwrap();
        process.fds.retain(|_, held| *held != socket);
        self.drop_if_unheld(socket);
    }

    fn install(&mut self, pid: Pid, socket: SocketId) {
        let process = self.processes.get_mut(&pid).unwrap();
        let fd = (3..).find(|fd| !process.fds.contains_key(fd)).unwrap();
        process.fds.insert(fd, socket);
    }

    fn socket(&mut self, app: SocketAddr, peer: SocketAddr) -> SocketId {
        self.next += 1;
        self.sockets.push(Sock {
            app,
            peer,
            inode: 0,
            cookie: self.next,
            alive: true,
            peer_open: true,
            accepted: false,
            received: 0,
            unread: 0,
            written: Arc::default(),
            made: self.now,
            first_bytes: None,
            unanswered: 0,
            answers: 0,
            visit: 0,
            numbers: Vec::new(),
            served: 0,
            responded: Vec::new(),
        });
        self.sockets.len() - 1
    }

    /// The lowest port that no living connection has: reused at once.
    fn port(&self, from: u16) -> u16 {
        let live = self.sockets.iter().filter(|s| s.alive || s.peer_open);
        let taken: BTreeSet<u16> = live.flat_map(|s| [s.app.port(), s.peer.port()]).collect();
        (from..).find(|port| !taken.contains(port)).unwrap()
    }

    fn connect_out(&mut self, pid: Pid) -> SocketId {
        let app = SocketAddr::from(([127, 0, 0, 1], self.port(20_000)));
        let id = self.socket(app, hopspan());
        self.next += 1;
        let socket = &mut self.sockets[id];
        (socket.inode, socket.accepted) = (self.next as Inode, true);
        // hopspan gets to accept it some time later.
        socket.made += u64::from(self.schedule.front().copied().unwrap_or(0)) * 100 * US;
        self.install(pid, id);
        id
    }

    fn byte(&mut self) -> u8 {
        self.spent += 1;
        // When the plan is used up a fixed pattern goes on, so that everything comes to an end.
        let filler = (self.spent.wrapping_mul(0x9e37_79b9) >> 24) as u8;
        self.schedule.pop_front().unwrap_or(filler)
    }

    /// Lets the machine run a little.
    pub(super) fn churn(&mut self) {
        for _ in 0..self.byte() % 4 {
            self.step();
        }
    }

    /// One step of one actor.
    pub(super) fn step(&mut self) {
        let byte = self.byte();
        self.now += 1 + u64::from(byte % 16) * 2 * US;
        let pids: Vec<Pid> = self
            .processes
            .keys()
            .copied()
            .filter(|p| *p != MASTER)
            .collect();
        let actors = pids.len() * 2 + self.clients.len();
        let actor = (byte as usize).wrapping_mul(7) % actors.max(1);
        match pids.get(actor / 2) {
            Some(pid) if actor < pids.len() * 2 => self.run(*pid, actor % 2 == 1),
            _ => self.client(actor - pids.len() * 2),
        }
    }

    fn client(&mut self, client: usize) {
        let foreign = self.plan.visits[client].foreign;
        self.clients[client] = match self.clients[client] {
            Client::Connect => {
                let peer = SocketAddr::from(([127, 0, 0, 1], self.port(10_000)));
                let id = self.socket(app(), peer);
                self.sockets[id].visit = client;
                self.queue.push_back(id);
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
    fn run(&mut self, pid: Pid, side: bool) {
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

    fn retry(&mut self, pid: Pid, op: Op) {
        self.processes.get_mut(&pid).unwrap().ops.push_front(op);
    }

    /// To be done next, in this order.
    fn then<const N: usize>(&mut self, pid: Pid, ops: [Op; N]) {
        let process = self.processes.get_mut(&pid).unwrap();
        for op in ops.into_iter().rev() {
            process.ops.push_front(op);
        }
    }

    fn side(&mut self, pid: Pid, op: Op) {
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

    fn accept(&mut self, pid: Pid) {
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

    fn take(&mut self, pid: Pid, socket: SocketId) {
        self.next += 1;
        self.sockets[socket].inode = self.next as Inode;
        self.sockets[socket].accepted = true;
        self.install(pid, socket);
    }

    /// The request that was just read.
    fn serve(&mut self, pid: Pid, socket: SocketId) {
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

    fn nested(&mut self, pid: Pid, truth: Truth) {
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

    fn act(&mut self, pid: Pid, act: Act, truth: Truth, request: Option<SocketId>) {
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
                self.fork(
                    pid,
                    [call.clone(), Op::Wait(MS), pooled, call, Op::Exit].into(),
                );
            }
            Act::Daemon => {
                let pooled = Op::Act(Act::Pooled, truth, None);
                let ops = [Op::Wait(MS), pooled.clone(), Op::Wait(MS), pooled, Op::Exit];
                let daemon = self.fork(pid, ops.into());
                self.processes.get_mut(&daemon).unwrap().parent = MASTER;
            }
            Act::ForkWorker => {
                self.fork(pid, [Op::Accept].into());
            }
            Act::HandOver => {
                if let Some(socket) = request {
                    let call = Op::Act(Act::Fresh, truth, None);
                    let ops = [
                        call.clone(),
                        Op::Wait(MS),
                        call,
                        Op::Respond(socket),
                        Op::Exit,
                    ];
                    self.fork(pid, ops.into());
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

    fn send(&mut self, id: SocketId, truth: Truth, whole: bool) {
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

    /// hopspan has answered the call.
    pub(super) fn answer(&mut self, arrived: &Arrived) {
        let socket = &mut self.sockets[arrived.socket];
        socket.unanswered -= 1;
        socket.answers += 1;
    }

    fn process(&self, handle: &Handle) -> Result<&Process, Trouble> {
        let process = self.processes.get(&handle.pid).ok_or(Trouble::Gone)?;
        let same = process.generation == handle.generation;
        same.then_some(process).ok_or(Trouble::Gone)
    }
}

fn app() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8000))
}

fn hopspan() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8081))
}

/// The kernel of a [`World`], which runs on at every question.
pub(super) struct Fake(pub(super) Rc<RefCell<World>>);

/// A process of a [`World`].
pub(super) struct Handle {
    pid: Pid,
    generation: u64,
}

impl Fake {
    fn world(&mut self) -> std::cell::RefMut<'_, World> {
        let mut world = self.0.borrow_mut();
        world.churn();
        world
    }
}

impl Kernel for Fake {
    type Process = Handle;

    fn now(&mut self) -> Nanos {
        self.0.borrow().now
    }

    fn socket(&mut self, end: End) -> Result<Option<Socket>, Trouble> {
        let End::Tcp(local, remote) = end else {
            return Err(Trouble::Unsupported);
        };
        let world = self.world();
        let found = world.sockets.iter().rev().find(|socket| {
            (socket.app, socket.peer) == (local, remote) && (socket.alive || socket.peer_open)
        });
        Ok(found.map(|socket| Socket {
            state: match socket.alive && socket.peer_open {
                true => State::Established,
                false => State::Closing,
            },
            inode: if socket.alive && socket.accepted {
                socket.inode
            } else {
                0
            },
            cookie: socket.cookie,
        }))
    }

    fn inflow(&mut self, end: End) -> Result<Option<(Socket, Inflow)>, Trouble> {
        let Some(socket) = self.socket(end)? else {
            return Ok(None);
        };
        let world = self.0.borrow();
        let found = world
            .sockets
            .iter()
            .find(|found| found.cookie == socket.cookie)
            .unwrap();
        let inflow = Inflow {
            read: Some(found.received - found.unread),
            unread: found.unread > 0,
        };
        Ok(Some((socket, inflow)))
    }

    fn listeners(&mut self, _app: &Place) -> Result<Listeners, Trouble> {
        Ok(Listeners {
            inodes: vec![LISTENER],
            backlog: 128,
        })
    }

    fn pids(&mut self) -> Vec<Pid> {
        self.world().processes.keys().copied().collect()
    }

    fn newest(&mut self) -> Option<Pid> {
        Pid::try_from(self.world().newest).ok()
    }

    fn own(&mut self) -> Pid {
        1
    }

    fn own_children(&mut self) -> Vec<Pid> {
        Vec::new()
    }

    fn open(&mut self, pid: Pid) -> Result<(Handle, ProcessId), Trouble> {
        let world = self.world();
        let process = world.processes.get(&pid).ok_or(Trouble::Gone)?;
        let generation = process.generation;
        let id = ProcessId {
            pid,
            started: process.started / (10 * MS) * (10 * MS), // as /proc says it
        };
        Ok((Handle { pid, generation }, id))
    }

    fn parent(&mut self, handle: &Handle) -> Result<Pid, Trouble> {
        Ok(self.world().process(handle)?.parent)
    }

    fn is_there(&mut self, handle: &Handle) -> bool {
        self.world().process(handle).is_ok()
    }

    fn control_group(&mut self, _handle: &Handle) -> Option<u64> {
        None
    }

    fn held(&mut self, handle: &Handle, fd: Fd) -> Result<Option<Inode>, Trouble> {
        let world = self.world();
        let socket = world.process(handle)?.fds.get(&fd).copied();
        Ok(socket.map(|socket| world.sockets[socket].inode))
    }

    fn sockets(&mut self, handle: &Handle) -> Result<Vec<(Fd, Inode)>, Trouble> {
        let world = self.world();
        let fds = world.process(handle)?.fds.iter();
        let mut sockets: Vec<_> = fds.map(|(fd, s)| (*fd, world.sockets[*s].inode)).collect();
        sockets.push((2, LISTENER));
        Ok(sockets)
    }

    fn children(&mut self, handle: &Handle) -> Result<Vec<Pid>, Trouble> {
        let world = self.world();
        world.process(handle)?;
        let children = world
            .processes
            .iter()
            .filter(|(_, p)| p.parent == handle.pid);
        Ok(children.map(|(pid, _)| *pid).collect())
    }

    fn ran(&mut self, handle: &Handle) -> Result<Nanos, Trouble> {
        let world = self.world();
        world.process(handle)?;
        Ok(world.now)
    }

    fn main_thread(&mut self, handle: &Handle) -> Result<Thread, Trouble> {
        let world = self.world();
        let process = world.process(handle)?;
        Ok(match process.ops.front() {
            _ if world.now < process.until => Thread::Blocked,
            Some(Op::Park(socket)) if world.sockets[*socket].answers == 0 => {
                Thread::OnSocket(world.sockets[*socket].inode)
            }
            Some(Op::Read(socket)) if world.sockets[*socket].unread == 0 => {
                Thread::OnSocket(world.sockets[*socket].inode)
            }
            Some(Op::Accept) if world.queue.is_empty() => Thread::Multiplexing,
            _ => Thread::Running,
        })
    }
}
