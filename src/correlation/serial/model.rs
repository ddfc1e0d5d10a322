//! A small machine to test the proof on: prefork workers that do everything a program might, a kernel that answers
//! truly but late, and the truth about every call.
//!
//! Nothing stands still: at each question to the kernel the processes run on, as the schedule says. What the proof
//! assumes holds here too: no sockets are passed, and calls made between requests are awaited there.

mod kernel;
mod plan;
mod work;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::correlation::in_flight::{InFlight, Nanos};
use crate::correlation::kernel::{
    End, Fd, Inflow, Inode, Kernel, Listeners, Open, Pid, ProcessId, Socket, State, Thread, Trouble,
};
use crate::correlation::serial::{ACCEPTING, Call};
use crate::correlation::server::Place;
use crate::trace::Context;
pub(super) use kernel::Fake;
use kernel::Handle;
pub(super) use plan::{Act, Plan, Visit};

const US: Nanos = 1_000;
const MS: Nanos = 1_000_000;
const LISTENER: Inode = 1;
const HOPSPAN: Pid = 1;
pub(super) const MASTER: Pid = 10;

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
    /// Connections whose handshake the app's side has not ended yet, and when it does.
    opening: Vec<(Nanos, SocketId)>,
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
            opening: Vec::new(),
            clients: vec![Client::Connect; plan.visits.len()],
            arrived: VecDeque::new(),
            shared: 0,
            next: 100,
            newest: 0,
            ended: BTreeMap::new(),
            plan: plan.clone(),
        };
        world.start(HOPSPAN, MASTER);
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

    /// A process that was forked a while after all others, and stays.
    pub(super) fn late(&mut self, parent: Pid, orphan: bool) -> Pid {
        self.now += 50 * MS;
        let pid = self.fork(parent, [Op::Wait(60_000 * MS)].into());
        if orphan {
            self.orphan(pid);
        }
        pid
    }

    /// The parent of a process ends at once.
    fn orphan(&mut self, pid: Pid) {
        let reaper = self.reaper();
        self.processes.get_mut(&pid).unwrap().parent = reaper;
    }

    /// Who is given the children of those that end.
    fn reaper(&self) -> Pid {
        match self.plan.master_first {
            true => MASTER,
            false => HOPSPAN,
        }
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
        let reaper = self.reaper();
        for process in self.processes.values_mut() {
            if process.parent == pid {
                process.parent = reaper;
            }
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
        self.end_handshakes();
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

    fn end_handshakes(&mut self) {
        self.opening.sort_unstable();
        let due = self.opening.partition_point(|(due, _)| *due <= self.now);
        let ended = self.opening.drain(..due).map(|(_, socket)| socket);
        self.queue.extend(ended);
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
