//! The kernel as it is: [`Kernel`] over sock_diag and `/proc`.

mod waits;

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use super::clock::BootTime;
use super::in_flight::Nanos;
use super::kernel::{
    End, Fd, Inflow, Inode, Kernel, Listeners, Open, Pid, ProcessId, Socket, State, Thread, Trouble,
};
use super::process::{self, Process, Syscall};
use super::server::{Place, UnixSockets};
use super::sock_diag::{Answer, Diag, ESTABLISHED, UnixAnswer};
use crate::proxy::listener::descriptor_limit;

/// How long a process without greenlets is believed to have none: it may load them later.
const GREENLETS: Nanos = 10_000_000_000;

/// Processes beside the app's that are held open: a quarter of the descriptors that hopspan may have, since connections
/// need the others, and within these.
const LEAST: usize = 16;
const MOST: usize = 4096;

/// This machine's kernel, asked by one thread.
pub(super) struct Live {
    diag: Diag,
    boot: BootTime,
    own: Process,
    /// `/proc/loadavg`, which ends in the newest process's number.
    loads: Option<OwnedFd>,
    room: usize,
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
            room: descriptor_limit().map_or(MOST, |limit| (limit / 4).clamp(LEAST, MOST)),
            questions: 0,
        };
        live.note_time();
        Ok(live)
    }

    /// How often it was asked.
    pub(super) fn questions(&self) -> u64 {
        self.questions
    }

    /// For a question about sockets.
    fn diag(&mut self) -> &mut Diag {
        self.questions += 1;
        &mut self.diag
    }

    /// For a question about a process.
    fn ask<'h>(&mut self, handle: &'h Handle) -> &'h Process {
        self.questions += 1;
        &handle.process
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
        let mut found = self
            .diag()
            .listeners(libc::AF_INET as u8)
            .map_err(trouble)?;
        // A machine without IPv6 has no such listeners.
        let by_ipv6 = self.diag().listeners(libc::AF_INET6 as u8);
        found.extend(by_ipv6.unwrap_or_default());
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
        match end {
            End::Tcp(local, remote) => {
                let answer = self.diag().connection(local, remote, false);
                Ok(answer.map_err(trouble)?.as_ref().map(socket))
            }
            End::Unix(..) => Ok(self.inflow(end)?.map(|(socket, _)| socket)),
        }
    }

    fn inflow(&mut self, end: End) -> Result<Option<(Socket, Inflow)>, Trouble> {
        match end {
            End::Tcp(local, remote) => {
                let answer = self.diag().connection(local, remote, true);
                let Some(answer) = answer.map_err(trouble)? else {
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
                let answer = self.diag().unix(inode, cookie).map_err(trouble)?;
                Ok(answer.map(|answer| peer(cookie, &answer)))
            }
        }
    }

    fn listeners(&mut self, app: &Place) -> Result<Listeners, Trouble> {
        let app = match app {
            Place::Tcp(app) => *app,
            Place::Unix(path) => {
                self.questions += 1;
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

    fn room(&self) -> usize {
        self.room
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
        match self.ask(handle).stat().map_err(trouble)? {
            stat if stat.dead => Err(Trouble::Gone),
            stat => Ok(stat.parent),
        }
    }

    fn reaps(&mut self, pid: Pid) -> bool {
        self.questions += 1;
        let first = || Process::open(pid).and_then(|process| process.is_first());
        pid == std::process::id() || first().unwrap_or(true)
    }

    fn is_there(&mut self, handle: &Handle) -> bool {
        self.ask(handle).is_there()
    }

    fn control_group(&mut self, handle: &Handle) -> Option<u64> {
        self.ask(handle).control_group().ok()
    }

    fn held(&mut self, handle: &Handle, fd: Fd) -> Result<Option<Inode>, Trouble> {
        self.ask(handle).socket(fd).map_err(trouble)
    }

    fn open_files(&mut self, handle: &Handle) -> Result<Open, Trouble> {
        self.ask(handle).open_files().map_err(trouble)
    }

    fn polled(&mut self, handle: &Handle, poll: Fd) -> Result<Vec<Inode>, Trouble> {
        self.ask(handle).polled(poll).map_err(trouble)
    }

    fn greenlets(&mut self, handle: &Handle, socket: Fd) -> Result<bool, Trouble> {
        if !self.ask(handle).non_blocking(socket).map_err(trouble)? {
            return Ok(false);
        }
        let now = self.now();
        match handle.greenlets.get() {
            Some((found, at)) if found || now < at + GREENLETS => Ok(found),
            _ => {
                let found = self.ask(handle).has_greenlets().map_err(trouble)?;
                handle.greenlets.set(Some((found, now)));
                Ok(found)
            }
        }
    }

    fn children(&mut self, handle: &Handle) -> Result<Vec<Pid>, Trouble> {
        self.ask(handle).children().map_err(|error| {
            let gone = self.parent(handle) == Err(Trouble::Gone);
            match trouble(error) {
                // The process is there, its list is not: a kernel without CONFIG_PROC_CHILDREN.
                Trouble::Gone if !gone => Trouble::Unsupported,
                other => other,
            }
        })
    }

    fn ran(&mut self, handle: &Handle) -> Result<Nanos, Trouble> {
        self.ask(handle).main_thread_cpu().map_err(trouble)
    }

    fn main_thread(&mut self, handle: &Handle) -> Result<Thread, Trouble> {
        let process = self.ask(handle);
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
        waits::waits_for(process, number, arguments).map_err(trouble)
    }
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
