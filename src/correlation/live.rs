//! The kernel as it is: [`Kernel`] over sock_diag and `/proc`.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use super::clock::BootTime;
use super::in_flight::Nanos;
use super::kernel::{
    Fd, Inflow, Inode, Kernel, Listeners, Pid, ProcessId, Socket, State, Thread, Trouble,
};
use super::process::{self, Process, Syscall};
use super::sock_diag::{Answer, Diag};

/// The longest tick that a kernel counts its milliseconds in (CONFIG_HZ=100), doubled.
const TICKS: Nanos = 20_000_000;
/// Descriptors that `select` can name.
const SELECTABLE: u64 = 1024;

/// This machine's kernel, asked by one thread.
pub(super) struct Live {
    diag: Diag,
    boot: BootTime,
    own: Process,
    /// `/proc/loadavg`, which ends in the newest process's number.
    loads: Option<OwnedFd>,
}

/// A process and what was learnt of its program.
pub(super) struct Handle {
    process: Process,
    /// Whether its system calls are numbered as ours; asked when first needed.
    readable: Cell<Option<bool>>,
}

impl Live {
    /// Opens what is needed to ask.
    pub(super) fn new() -> io::Result<Live> {
        let mut live = Live {
            diag: Diag::new()?,
            boot: BootTime::default(),
            own: Process::open(std::process::id())?,
            loads: process::open_loads().ok(),
        };
        live.note_time();
        Ok(live)
    }

    /// Notices a suspend; to be called every second or so.
    pub(super) fn note_time(&mut self) {
        self.boot.note(process::monotonic(), process::boottime());
    }

    /// The users that made the sockets which accept connections for `app`.
    pub(super) fn makers(&mut self, app: SocketAddr) -> Vec<u32> {
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

    fn socket(&mut self, local: SocketAddr, remote: SocketAddr) -> Result<Option<Socket>, Trouble> {
        let answer = self
            .diag
            .connection(local, remote, false)
            .map_err(trouble)?;
        Ok(answer.as_ref().map(socket))
    }

    fn inflow(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Option<(Socket, Inflow)>, Trouble> {
        let asked = self.now();
        let answer = self.diag.connection(local, remote, true).map_err(trouble)?;
        let Some(answer) = answer else {
            return Ok(None);
        };
        let (Some(received), Some(ago)) = (answer.received, answer.last_received_ms) else {
            return Err(Trouble::Unsupported);
        };
        let ago = Nanos::from(ago) * 1_000_000 + TICKS;
        let inflow = Inflow {
            received,
            unread: u64::from(answer.receive_queue),
            last_since: asked.saturating_sub(ago),
        };
        Ok(Some((socket(&answer), inflow)))
    }

    fn listeners(&mut self, app: SocketAddr) -> Result<Listeners, Trouble> {
        let found = self.listening(app)?;
        Ok(Listeners {
            inodes: found.iter().map(|listener| listener.inode).collect(),
            backlog: found.iter().map(|l| l.send_queue).min().unwrap_or(0),
        })
    }

    fn pids(&mut self) -> Vec<Pid> {
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
        self.loads.as_ref().and_then(process::newest)
    }

    fn own(&mut self) -> Pid {
        std::process::id()
    }

    fn own_children(&mut self) -> Vec<Pid> {
        self.own.children().unwrap_or_default()
    }

    fn open(&mut self, pid: Pid) -> Result<(Handle, ProcessId), Trouble> {
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
        };
        Ok((handle, ProcessId { pid, started }))
    }

    fn parent(&mut self, handle: &Handle) -> Result<Pid, Trouble> {
        match handle.process.stat().map_err(trouble)? {
            stat if stat.dead => Err(Trouble::Gone),
            stat => Ok(stat.parent),
        }
    }

    fn is_there(&mut self, handle: &Handle) -> bool {
        handle.process.is_there()
    }

    fn control_group(&mut self, handle: &Handle) -> Option<u64> {
        handle.process.control_group().ok()
    }

    fn held(&mut self, handle: &Handle, fd: Fd) -> Result<Option<Inode>, Trouble> {
        handle.process.socket(fd).map_err(trouble)
    }

    fn sockets(&mut self, handle: &Handle) -> Result<Vec<(Fd, Inode)>, Trouble> {
        handle.process.sockets().map_err(trouble)
    }

    fn children(&mut self, handle: &Handle) -> Result<Vec<Pid>, Trouble> {
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
        handle.process.main_thread_cpu().map_err(trouble)
    }

    fn main_thread(&mut self, handle: &Handle) -> Result<Thread, Trouble> {
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

fn socket(answer: &Answer) -> Socket {
    Socket {
        // tcp_states.h: 1 ESTABLISHED, 2 SYN_SENT, 3 SYN_RECV, 12 NEW_SYN_RECV.
        state: match answer.state {
            1 => State::Established,
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
