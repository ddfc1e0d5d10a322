//! The kernel as it is: [`Kernel`] over sock_diag and `/proc`.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::clock::BootTime;
use super::in_flight::Nanos;
use super::kernel::{
    End, Fd, Inflow, Inode, Kernel, Listeners, Pid, ProcessId, Socket, State, Thread, Trouble,
};
use super::process::{self, Process, Syscall};
use super::server::{Place, UnixSockets};
use super::sock_diag::{Answer, Diag, ESTABLISHED, UnixAnswer};

/// How long a process without greenlets is believed to have none: it may load them later.
const GREENLETS: Nanos = 10_000_000_000;
/// Descriptors that `select` can name.
const SELECTABLE: u64 = 1024;

/// This machine's kernel, asked by one thread.
pub(super) struct Live {
    diag: Diag,
    boot: BootTime,
    own: Process,
    /// `/proc/loadavg`, which ends in the newest process's number.
    loads: Option<OwnedFd>,
    questions: u64,
}

/// A process and what was learnt of its program.
pub(super) struct Handle {
    process: Process,
    /// Whether its system calls are numbered as ours; asked when first needed.
    readable: Cell<Option<bool>>,
    /// Whether it has greenlets, and when that was read.
    greenlets: Cell<Option<(bool, Nanos)>>,
}

impl Live {
    /// Opens what is needed to ask.
    pub(super) fn new() -> io::Result<Live> {
        let mut live = Live {
            diag: Diag::new()?,
            boot: BootTime::default(),
            own: Process::open(std::process::id())?,
            loads: process::open_loads().ok(),
            questions: 0,
        };
        live.note_time();
        Ok(live)
    }

    /// How often it was asked.
    pub(super) fn questions(&self) -> u64 {
        self.questions
    }

    /// Whether this kernel can be asked about unix sockets.
    pub(super) fn knows_unix(&mut self) -> bool {
        self.diag.knows_unix()
    }

    /// Notices a suspend; to be called every second or so.
    pub(super) fn note_time(&mut self) {
        self.boot.note(process::monotonic(), process::boottime());
    }

    /// The users that made the sockets which accept connections for `app`.
    pub(super) fn makers(&mut self, app: &Place) -> Vec<u32> {
        let app = match app {
            Place::Tcp(app) => *app,
            Place::Unix(path) => {
                let file = std::fs::metadata(path);
                return file.iter().map(MetadataExt::uid).collect();
            }
        };
        let found = self.listening(app).unwrap_or_default();
        found.iter().map(|listener| listener.uid).collect()
    }

    fn listening(&mut self, app: SocketAddr) -> Result<Vec<Answer>, Trouble> {
        let mut found = self.diag.listeners(libc::AF_INET as u8).map_err(trouble)?;
        // A machine without IPv6 has no such listeners.
        found.extend(
            self.diag
                .listeners(libc::AF_INET6 as u8)
                .unwrap_or_default(),
        );
        found.retain(|listener| listens_at(listener, app));
        Ok(found)
    }
}

impl Kernel for Live {
    type Process = Handle;

    fn now(&mut self) -> Nanos {
        process::monotonic()
    }

    fn socket(&mut self, end: End) -> Result<Option<Socket>, Trouble> {
        self.questions += 1;
        match end {
            End::Tcp(local, remote) => {
                let answer = self.diag.connection(local, remote, false);
                Ok(answer.map_err(trouble)?.as_ref().map(socket))
            }
            End::Unix(..) => Ok(self.inflow(end)?.map(|(socket, _)| socket)),
        }
    }

    fn inflow(&mut self, end: End) -> Result<Option<(Socket, Inflow)>, Trouble> {
        self.questions += 1;
        match end {
            End::Tcp(local, remote) => {
                let answer = self.diag.connection(local, remote, true).map_err(trouble)?;
                let Some(answer) = answer else {
                    return Ok(None);
                };
                let received = answer.received.ok_or(Trouble::Unsupported)?;
                let inflow = Inflow {
                    read: Some(received.saturating_sub(u64::from(answer.receive_queue))),
                    unread: answer.receive_queue > 0,
                };
                Ok(Some((socket(&answer), inflow)))
            }
            End::Unix(inode, cookie) => {
                let answer = self.diag.unix(inode, cookie).map_err(trouble)?;
                Ok(answer.map(|answer| peer(cookie, &answer)))
            }
        }
    }

    fn listeners(&mut self, app: &Place) -> Result<Listeners, Trouble> {
        self.questions += 1;
        let app = match app {
            Place::Tcp(app) => *app,
            Place::Unix(path) => {
                return Ok(Listeners {
                    inodes: UnixSockets::read().listening(path).collect(),
                    backlog: 0,
                });
            }
        };
        let found = self.listening(app)?;
        Ok(Listeners {
            inodes: found.iter().map(|listener| listener.inode).collect(),
            backlog: found.iter().map(|l| l.send_queue).min().unwrap_or(0),
        })
    }

    fn pids(&mut self) -> Vec<Pid> {
        self.questions += 1;
        let own = std::process::id();
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .filter_map(|name| name.to_str()?.parse().ok())
            .filter(|pid| *pid != own)
            .collect()
    }

    fn newest(&mut self) -> Option<Pid> {
        self.questions += 1;
        self.loads.as_ref().and_then(process::newest)
    }

    fn own(&mut self) -> Pid {
        std::process::id()
    }

    fn own_children(&mut self) -> Vec<Pid> {
        self.questions += 1;
        self.own.children().unwrap_or_default()
    }

    fn open(&mut self, pid: Pid) -> Result<(Handle, ProcessId), Trouble> {
        self.questions += 1;
        self.note_time();
        let process = Process::open(pid).map_err(trouble)?;
        let stat = process.stat().map_err(trouble)?;
        if stat.dead {
            return Err(Trouble::Gone);
        }
        let started = self.boot.monotonic(stat.started);
        let handle = Handle {
            process,
            readable: Cell::new(None),
            greenlets: Cell::new(None),
        };
        Ok((handle, ProcessId { pid, started }))
    }

    fn parent(&mut self, handle: &Handle) -> Result<Pid, Trouble> {
        self.questions += 1;
        match handle.process.stat().map_err(trouble)? {
            stat if stat.dead => Err(Trouble::Gone),
            stat => Ok(stat.parent),
        }
    }

    fn is_there(&mut self, handle: &Handle) -> bool {
        self.questions += 1;
        handle.process.is_there()
    }

    fn control_group(&mut self, handle: &Handle) -> Option<u64> {
        self.questions += 1;
        handle.process.control_group().ok()
    }

    fn held(&mut self, handle: &Handle, fd: Fd) -> Result<Option<Inode>, Trouble> {
        self.questions += 1;
        handle.process.socket(fd).map_err(trouble)
    }

    fn sockets(&mut self, handle: &Handle) -> Result<Vec<(Fd, Inode)>, Trouble> {
        self.questions += 1;
        let open = handle.process.open_files().map_err(trouble)?;
        Ok(open.sockets)
    }

    fn polls(&mut self, handle: &Handle) -> Result<Vec<Fd>, Trouble> {
        self.questions += 1;
        let open = handle.process.open_files().map_err(trouble)?;
        Ok(open.polls)
    }

    fn polled(&mut self, handle: &Handle, poll: Fd) -> Result<Vec<Inode>, Trouble> {
        self.questions += 1;
        handle.process.polled(poll).map_err(trouble)
    }

    fn greenlets(&mut self, handle: &Handle, socket: Fd) -> Result<bool, Trouble> {
        self.questions += 1;
        if !handle.process.non_blocking(socket).map_err(trouble)? {
            return Ok(false);
        }
        let now = self.now();
        match handle.greenlets.get() {
            Some((found, at)) if found || now < at + GREENLETS => Ok(found),
            _ => {
                let found = handle.process.has_greenlets().map_err(trouble)?;
                handle.greenlets.set(Some((found, now)));
                Ok(found)
            }
        }
    }

    fn children(&mut self, handle: &Handle) -> Result<Vec<Pid>, Trouble> {
        self.questions += 1;
        handle.process.children().map_err(|error| {
            let gone = self.parent(handle) == Err(Trouble::Gone);
            match trouble(error) {
                // The process is there, its list is not: a kernel without CONFIG_PROC_CHILDREN.
                Trouble::Gone if !gone => Trouble::Unsupported,
                other => other,
            }
        })
    }

    fn ran(&mut self, handle: &Handle) -> Result<Nanos, Trouble> {
        self.questions += 1;
        handle.process.main_thread_cpu().map_err(trouble)
    }

    fn main_thread(&mut self, handle: &Handle) -> Result<Thread, Trouble> {
        self.questions += 1;
        let process = &handle.process;
        let (number, arguments) = match process.syscall().map_err(trouble)? {
            Syscall::Running => return Ok(Thread::Running),
            Syscall::Outside => return Ok(Thread::Blocked),
            Syscall::In { number, arguments } => (number, arguments),
        };
        let readable = match handle.readable.get() {
            Some(readable) => readable,
            None => process.same_word_size().map_err(trouble)?,
        };
        handle.readable.set(Some(readable));
        if !readable {
            return Err(Trouble::Unsupported);
        }
        waits_for(process, number, arguments).map_err(trouble)
    }
}

/// Reads a system call that a thread waits in.
fn waits_for(process: &Process, number: i64, arguments: [u64; 6]) -> io::Result<Thread> {
    let [first, second, third, fourth, ..] = arguments;
    let plain = |process, flags: u64| on_socket(process, first as Fd, flags);
    match number {
        libc::SYS_read | libc::SYS_readv | libc::SYS_write | libc::SYS_writev => plain(process, 0),
        libc::SYS_sendfile => plain(process, 0),
        libc::SYS_recvfrom | libc::SYS_sendto => plain(process, fourth),
        libc::SYS_recvmsg | libc::SYS_sendmsg => plain(process, third),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => polled(process, first, second),
        libc::SYS_ppoll => polled(process, first, second),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => selected(process, first, [second, third, fourth]),
        libc::SYS_pselect6 => selected(process, first, [second, third, fourth]),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => Ok(Thread::Multiplexing),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 | libc::SYS_io_uring_enter => {
            Ok(Thread::Multiplexing)
        }
        libc::SYS_accept | libc::SYS_accept4 => Ok(Thread::Multiplexing),
        _ => Ok(Thread::Blocked),
    }
}

/// In a call on one descriptor: a wait only where the descriptor blocks.
fn on_socket(process: &Process, fd: Fd, flags: u64) -> io::Result<Thread> {
    let Some(inode) = process.socket(fd)? else {
        return Ok(Thread::Blocked); // a file or a pipe
    };
    let momentary = flags & libc::MSG_DONTWAIT as u64 != 0 || process.non_blocking(fd)?;
    Ok(if momentary {
        Thread::Blocked
    } else {
        Thread::OnSocket(inode)
    })
}

/// In `poll`: what it polls is in the process's memory.
fn polled(process: &Process, address: u64, count: u64) -> io::Result<Thread> {
    match count {
        0 => Ok(Thread::Blocked), // a sleep
        1 => {
            // struct pollfd: descriptor, events, returned events.
            let mut entry = [0; 8];
            if !process.memory(address, &mut entry) {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
            let [a, b, c, d, ..] = entry;
            alone(process, i32::from_ne_bytes([a, b, c, d]))
        }
        _ => Ok(Thread::Multiplexing),
    }
}

/// In `select`: three sets of bits in the process's memory.
fn selected(process: &Process, count: u64, sets: [u64; 3]) -> io::Result<Thread> {
    if count > SELECTABLE {
        return Ok(Thread::Multiplexing);
    }
    // The kernel reads whole words.
    let bytes = (count as usize).div_ceil(64) * 8;
    let mut all = [0_u8; SELECTABLE as usize / 8];
    for address in sets.into_iter().filter(|address| *address != 0) {
        let mut set = [0; SELECTABLE as usize / 8];
        let Some(target) = set.get_mut(..bytes).filter(|target| !target.is_empty()) else {
            continue;
        };
        if !process.memory(address, target) {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        all.iter_mut().zip(set).for_each(|(all, set)| *all |= set);
    }
    let mut chosen = (0..count).filter(|bit| {
        let byte = all.get(*bit as usize / 8).copied().unwrap_or(0);
        byte & (1 << (bit % 8)) != 0
    });
    match (chosen.next(), chosen.next()) {
        (None, _) => Ok(Thread::Blocked), // a sleep
        (Some(only), None) => alone(process, only as Fd),
        _ => Ok(Thread::Multiplexing),
    }
}

/// The only descriptor of a wait.
fn alone(process: &Process, fd: Fd) -> io::Result<Thread> {
    Ok(match process.socket(fd)? {
        Some(inode) => Thread::OnSocket(inode),
        None => Thread::Blocked,
    })
}

/// The app's end of a unix connection, from what is known of hopspan's.
fn peer(cookie: u64, answer: &UnixAnswer) -> (Socket, Inflow) {
    let socket = Socket {
        // The app's close takes its inode away, and a moment later shuts both directions of hopspan's end. In that moment
        // it looks like one that was never accepted, but for that: what waits to be accepted has been read by nobody.
        state: match answer.state == ESTABLISHED
            && answer.shut == 0
            && (answer.peer != 0 || answer.unread_by_peer > 0)
        {
            true => State::Established,
            false => State::Closing,
        },
        inode: answer.peer,
        cookie,
    };
    let inflow = Inflow {
        read: None,
        // What hopspan sent and the app has not read is charged to hopspan's socket.
        unread: answer.unread_by_peer > 0,
    };
    (socket, inflow)
}

fn socket(answer: &Answer) -> Socket {
    Socket {
        // tcp_states.h: 1 ESTABLISHED, 2 SYN_SENT, 3 SYN_RECV, 12 NEW_SYN_RECV.
        state: match answer.state {
            ESTABLISHED => State::Established,
            2 | 3 | 12 => State::Opening,
            _ => State::Closing,
        },
        inode: answer.inode,
        cookie: answer.cookie,
    }
}

/// Whether a listener gets what connects to `app`: by port, and by address or as a wildcard.
fn listens_at(listener: &Answer, app: SocketAddr) -> bool {
    if listener.port != app.port() {
        return false;
    }
    let any = listener.address == [0; 16];
    let given = match app.ip() {
        IpAddr::V4(address) => {
            let [a, b, c, d, ..] = listener.address;
            let mapped = IpAddr::from(listener.address).to_canonical() == app.ip();
            let plain = i32::from(listener.family) == libc::AF_INET;
            mapped || plain && [a, b, c, d] == address.octets()
        }
        IpAddr::V6(address) => listener.address == address.octets(),
    };
    any || given
}

/// What an error of `/proc` or netlink means.
pub(super) fn trouble(error: io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => Trouble::Gone,
        Some(libc::EACCES | libc::EPERM) => Trouble::Denied,
        _ => Trouble::Unsupported,
    }
}
