//! What the proof asks of the kernel, and nothing else: the real one is `live`, the tests' is a model.
//!
//! Times are nanoseconds of CLOCK_MONOTONIC. A handle of a process is bound to that process: once it is gone every
//! question about it answers [`Trouble::Gone`], even where its number was given to another.

use std::net::SocketAddr;

use super::in_flight::Nanos;
use super::server::Place;

/// The number of a process. Reused by the kernel; [`ProcessId`] is not.
pub(super) type Pid = u32;
/// The number of a socket's inode; 0 until it is accepted and after it is closed.
pub(super) type Inode = u32;
/// A file descriptor number in the app's process.
pub(super) type Fd = i32;

/// A process, for its whole life and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ProcessId {
    /// Its number.
    pub(super) pid: Pid,
    /// Not before it started; the same at every reading.
    pub(super) started: Nanos,
}

/// Why the kernel did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The process ended.
    Gone,
    /// Not allowed: another user, Yama, or not dumpable.
    Denied,
    /// An answer in a form that is not known here.
    Unsupported,
}

/// The app's end of a connection, by what the kernel finds it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// TCP: its own address and its peer's.
    Tcp(SocketAddr, SocketAddr),
    /// The peer of hopspan's own unix socket, which has this inode and this cookie.
    Unix(Inode, u64),
}

/// The life of a socket, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The handshake goes on.
    Opening,
    /// Both sides may send.
    Established,
    /// One side or both have closed.
    Closing,
}

/// A socket of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// Its state; never that of a listener.
    pub(super) state: State,
    /// 0 until it is accepted, and after the app closed it.
    pub(super) inode: Inode,
    /// The same for the connection's whole life, and never given to another.
    pub(super) cookie: u64,
}

/// What the app has read on its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inflow {
    /// Bytes in its life; `None` where the kernel does not count them (unix sockets).
    pub(super) read: Option<u64>,
    /// Whether there are more, to be read.
    pub(super) unread: bool,
}

/// What a process has open, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    /// Its sockets.
    pub(super) sockets: Vec<(Fd, Inode)>,
    /// Its epoll sets.
    pub(super) polls: Vec<Fd>,
}

impl Open {
    /// Whether one of its sockets is wanted.
    pub(super) fn has_socket(&self, wanted: impl Fn(&Inode) -> bool) -> bool {
        self.sockets.iter().any(|(_, inode)| wanted(inode))
    }
}

/// The sockets that accept connections for one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listeners {
    /// Their inodes.
    pub(super) inodes: Vec<Inode>,
    /// The shortest of their accept queues' limits; 0 where that is not known.
    pub(super) backlog: u32,
}

/// What the main thread of a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thread {
    /// It runs, or is about to.
    Running,
    /// It waits for something that a call in the making may wait for: a lock, a disk, a pipe.
    Blocked,
    /// It waits to receive or to send on this socket alone.
    OnSocket(Inode),
    /// It waits for several things, or for new connections: it is not inside a call.
    Multiplexing,
}

/// The kernel.
pub(super) trait Kernel {
    /// A handle of a process.
    type Process;

    /// CLOCK_MONOTONIC.
    fn now(&mut self) -> Nanos;
    /// The app's socket of a connection. `None` where there is none but a listener.
    fn socket(&mut self, end: End) -> Result<Option<Socket>, Trouble>;
    /// That socket, and what was read from it.
    fn inflow(&mut self, end: End) -> Result<Option<(Socket, Inflow)>, Trouble>;
    /// Who accepts connections to this address.
    fn listeners(&mut self, app: &Place) -> Result<Listeners, Trouble>;
    /// All processes that are visible, but hopspan's.
    fn pids(&mut self) -> Vec<Pid>;
    /// The number given last to a new process or thread; `None` where nobody says.
    fn newest(&mut self) -> Option<Pid>;
    /// hopspan's own number.
    fn own(&mut self) -> Pid;
    /// The processes that hopspan itself started, and those that it reaps.
    fn own_children(&mut self) -> Vec<Pid>;
    /// How many processes that are not the app's may be held open: each takes a descriptor of hopspan's.
    fn room(&self) -> usize;
    /// A handle and the identity.
    fn open(&mut self, pid: Pid) -> Result<(Self::Process, ProcessId), Trouble>;
    /// The parent now; [`Trouble::Gone`] also for what has ended and waits to be reaped.
    fn parent(&mut self, process: &Self::Process) -> Result<Pid, Trouble>;
    /// Whether this process may have been given others' children, whose parent ended: hopspan is, and the first process
    /// of a PID namespace; true also where that cannot be seen.
    fn reaps(&mut self, pid: Pid) -> bool;
    /// Whether the process is there, be it to be reaped only.
    fn is_there(&mut self, process: &Self::Process) -> bool;
    /// Something that is the same for processes of one control group; `None` where nobody says.
    fn control_group(&mut self, process: &Self::Process) -> Option<u64>;
    /// The socket behind a descriptor, if it is one.
    fn held(&mut self, process: &Self::Process, fd: Fd) -> Result<Option<Inode>, Trouble>;
    /// All that it has open.
    fn open_files(&mut self, process: &Self::Process) -> Result<Open, Trouble>;
    /// Inodes of what one of its epoll sets waits for.
    fn polled(&mut self, process: &Self::Process, poll: Fd) -> Result<Vec<Inode>, Trouble>;
    /// Whether it may run greenlets that wait for this socket: it does not block, and their library is loaded.
    fn greenlets(&mut self, process: &Self::Process, socket: Fd) -> Result<bool, Trouble>;
    /// Its children, of all its threads.
    fn children(&mut self, process: &Self::Process) -> Result<Vec<Pid>, Trouble>;
    /// CPU time that its main thread has had.
    fn ran(&mut self, process: &Self::Process) -> Result<Nanos, Trouble>;
    /// What its main thread does.
    fn main_thread(&mut self, process: &Self::Process) -> Result<Thread, Trouble>;
}
