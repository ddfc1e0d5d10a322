//! What Linux tells about a process, and the clocks: `/proc` (`man 5 proc`), `process_vm_readv`.
//!
//! A [`Process`] keeps its `/proc` directory open, which is bound to the process and not to its number: when the
//! process is gone, every question answers so, whoever has the number now. Descriptors and sockets need the same user
//! (or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH); what a thread waits for needs what ptrace needs, so Yama has a say.
//! Nothing here stops, changes or attaches to the process.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::kernel::{Fd, Inode, Pid};

/// Ticks in a second of the times in `/proc`: USER_HZ, which is part of the ABI.
const TICK_NANOS: u64 = 1_000_000_000 / 100;

/// CLOCK_MONOTONIC in nanoseconds.
pub(super) fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CLOCK_REALTIME in nanoseconds since 1970.
pub(super) fn realtime() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// CLOCK_BOOTTIME in nanoseconds: what process start times are counted in; goes on while suspended.
pub(super) fn boottime() -> u64 {
    clock(libc::CLOCK_BOOTTIME)
}

/// CPU time of the calling thread in nanoseconds.
pub(super) fn thread_cpu() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Reads a clock; those used exist on every Linux.
fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, writable timespec for the whole call.
    unsafe { libc::clock_gettime(id, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets the calling thread's sleeps end on time: by default the kernel adds up to 50 us.
pub(super) fn sleep_precisely() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and changes the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_u64) };
}

/// The user this process acts as.
pub(super) fn effective_uid() -> u32 {
    // SAFETY: geteuid(2) has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// A process by its open `/proc` directory.
pub(super) struct Process {
    pid: Pid,
    directory: OwnedFd,
    /// `fd/`, `None` where it may not be opened.
    descriptors: Option<OwnedFd>,
    /// `syscall` of the main thread: every reading at offset 0 is a fresh one.
    syscall: Option<OwnedFd>,
}

/// What `stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// The parent process.
    pub(super) parent: Pid,
    /// Nanoseconds of CLOCK_BOOTTIME, rounded down to 10 ms.
    pub(super) started: u64,
    /// Ended, and waits to be reaped.
    pub(super) dead: bool,
}

/// What `syscall` says of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syscall {
    /// It runs or can run.
    Running,
    /// It waits outside a system call (a page fault).
    Outside,
    /// It waits in this call with these arguments.
    In {
        /// As in `libc::SYS_*`.
        number: i64,
        /// Its first six arguments.
        arguments: [u64; 6],
    },
}

impl Process {
    /// Opens a process. The parts that may not be opened fail later, when they are asked for.
    pub(super) fn open(pid: Pid) -> io::Result<Process> {
        let path = CString::new(format!("/proc/{pid}"))?;
        let directory = open_at(libc::AT_FDCWD, &path, libc::O_DIRECTORY)?;
        let descriptors = open_at(directory.as_raw_fd(), c"fd", libc::O_DIRECTORY).ok();
        let syscall = open_at(directory.as_raw_fd(), c"syscall", 0).ok();
        Ok(Process {
            pid,
            directory,
            descriptors,
            syscall,
        })
    }

    /// Parent, start and whether it is dead.
    pub(super) fn stat(&self) -> io::Result<Stat> {
        let file = open_at(self.directory.as_raw_fd(), c"stat", 0)?;
        let mut buffer = [0; 1024];
        let text = read_at_start(&file, &mut buffer)?;
        parse_stat(text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether the process is there: alive, or waiting to be reaped.
    pub(super) fn is_there(&self) -> bool {
        // SAFETY: the name is NUL-terminated; faccessat(2) takes nothing else from memory.
        let done =
            unsafe { libc::faccessat(self.directory.as_raw_fd(), c"stat".as_ptr(), libc::F_OK, 0) };
        done == 0
    }

    /// A hash of what `cgroup` says: the same for processes of one control group.
    pub(super) fn control_group(&self) -> io::Result<u64> {
        let file = open_at(self.directory.as_raw_fd(), c"cgroup", 0)?;
        let mut buffer = [0; 4096];
        let mut hasher = DefaultHasher::new();
        read_at_start(&file, &mut buffer)?.hash(&mut hasher);
        Ok(hasher.finish())
    }

    /// The inode of the socket behind a descriptor; `None` where it is closed, no socket, or the process is gone.
    pub(super) fn socket(&self, fd: Fd) -> io::Result<Option<Inode>> {
        let directory = self.descriptors.as_ref().ok_or_else(denied)?;
        let mut name = [0; 16];
        match socket_link(directory, decimal(fd, &mut name)) {
            // Closed, or the process is gone: either way it does not hold it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            other => other,
        }
    }

    /// Its sockets by descriptor.
    pub(super) fn sockets(&self) -> io::Result<Vec<(Fd, Inode)>> {
        let directory = self.descriptors.as_ref().ok_or_else(denied)?;
        let mut sockets = Vec::new();
        let mut refused = None;
        each_entry(directory, |name| {
            let Some(fd) = parse_number(name.to_bytes()) else {
                return;
            };
            match socket_link(directory, name) {
                Ok(Some(inode)) => sockets.push((fd as Fd, inode)),
                // Closed meanwhile, or not a socket.
                Ok(None) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => refused = Some(error),
            }
        })?;
        if sockets.is_empty() {
            self.exists()?;
        }
        match refused {
            Some(error) => Err(error),
            None => Ok(sockets),
        }
    }

    /// The children of all its threads.
    pub(super) fn children(&self) -> io::Result<Vec<Pid>> {
        let mut children = Vec::new();
        for thread in self.threads()? {
            let path = CString::new(format!("task/{thread}/children"))?;
            let file = match open_at(self.directory.as_raw_fd(), &path, 0) {
                Ok(file) => file,
                Err(_) if thread != self.pid => continue, // the thread ended; its children went to another
                Err(error) => return Err(error),
            };
            read_children(&file, &mut children)?;
        }
        Ok(children)
    }

    /// Its threads, without a look into the directory where the main thread is the only one.
    fn threads(&self) -> io::Result<Vec<Pid>> {
        // SAFETY: a zeroed `stat` is a valid value of that plain struct.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the name is NUL-terminated, and `stat` is writable for the whole call.
        let done =
            unsafe { libc::fstatat(self.directory.as_raw_fd(), c"task".as_ptr(), &mut stat, 0) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        // Two links are the directory's own.
        if stat.st_nlink == 3 {
            return Ok(vec![self.pid]);
        }
        let directory = open_at(self.directory.as_raw_fd(), c"task", libc::O_DIRECTORY)?;
        let mut threads = Vec::new();
        each_entry(&directory, |name| {
            threads.extend(parse_number(name.to_bytes()));
        })?;
        Ok(threads)
    }

    /// What its main thread waits for.
    pub(super) fn syscall(&self) -> io::Result<Syscall> {
        let file = self.syscall.as_ref().ok_or_else(denied)?;
        let mut buffer = [0; 256];
        let text = read_at_start(file, &mut buffer)?;
        parse_syscall(text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// CPU time of the main thread in nanoseconds, where the kernel counts it (CONFIG_SCHED_INFO).
    pub(super) fn main_thread_cpu(&self) -> io::Result<u64> {
        let file = open_at(self.directory.as_raw_fd(), c"schedstat", 0)?;
        let mut buffer = [0; 96];
        let text = read_at_start(&file, &mut buffer)?;
        let cpu = text.split_ascii_whitespace().next();
        cpu.and_then(|cpu| cpu.parse().ok())
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Copies from its memory; `false` where that is not possible.
    ///
    /// This goes by the process's number: what was copied counts only if the process answers another question after.
    pub(super) fn memory(&self, address: u64, target: &mut [u8]) -> bool {
        let local = libc::iovec {
            iov_base: target.as_mut_ptr().cast(),
            iov_len: target.len(),
        };
        let remote = libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: target.len(),
        };
        // SAFETY: `local` describes `target`, writable for the whole call. `remote` is an address in the other
        // process, which the kernel checks and this process never follows.
        let copied =
            unsafe { libc::process_vm_readv(self.pid as libc::pid_t, &local, 1, &remote, 1, 0) };
        copied == target.len() as isize
    }

    /// Whether a descriptor is in non-blocking mode; `fdinfo` says so.
    pub(super) fn non_blocking(&self, fd: Fd) -> io::Result<bool> {
        let path = CString::new(format!("fdinfo/{fd}"))?;
        let file = open_at(self.directory.as_raw_fd(), &path, 0)?;
        let mut buffer = [0; 512];
        let text = read_at_start(&file, &mut buffer)?;
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        let flags = flags.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(flags & libc::O_NONBLOCK != 0)
    }

    /// Whether the file that it runs is a program for this machine's word size: system calls are numbered by that.
    pub(super) fn same_word_size(&self) -> io::Result<bool> {
        let file = open_at(self.directory.as_raw_fd(), c"exe", 0)?;
        let mut head = [0; 5];
        // SAFETY: the pointer and length describe `head`, which is writable.
        let length =
            unsafe { libc::pread(file.as_raw_fd(), head.as_mut_ptr().cast(), head.len(), 0) };
        let own_class = if cfg!(target_pointer_width = "64") {
            2
        } else {
            1
        };
        Ok(length == 5 && head == [0x7f, b'E', b'L', b'F', own_class])
    }

    /// `Err` where the process is gone or dead.
    fn exists(&self) -> io::Result<()> {
        match self.stat() {
            Ok(stat) if !stat.dead => Ok(()),
            Ok(_) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            Err(error) => Err(error),
        }
    }
}

/// `/proc/loadavg`.
pub(super) fn open_loads() -> io::Result<OwnedFd> {
    open_at(libc::AT_FDCWD, c"/proc/loadavg", 0)
}

/// The number that was given last to a process or thread: the last word of `/proc/loadavg`.
pub(super) fn newest(loads: &OwnedFd) -> Option<Pid> {
    let mut buffer = [0; 128];
    let text = read_at_start(loads, &mut buffer).ok()?;
    text.split_ascii_whitespace().nth(4)?.parse().ok()
}

fn denied() -> io::Error {
    io::Error::from_raw_os_error(libc::EACCES)
}

fn open_at(directory: i32, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: `path` is NUL-terminated.
    let fd = unsafe { libc::openat(directory, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just returned by openat(2) and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads once from the start: what is read here is made in one piece by the kernel.
fn read_at_start<'a>(file: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<&'a str> {
    // SAFETY: the pointer and length describe `buffer`, which is writable.
    let length = unsafe {
        libc::pread(
            file.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
        )
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let text = buffer.get(..length as usize).unwrap_or_default();
    // A command name may hold any bytes, and is the only part that does.
    Ok(match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(_) => {
            let after = text.iter().rposition(|byte| *byte == b')').unwrap_or(0);
            std::str::from_utf8(text.get(after..).unwrap_or_default()).unwrap_or_default()
        }
    })
}

/// `pid (name) state ppid .. starttime ..`, where the name may hold spaces and brackets.
fn parse_stat(text: &str) -> Option<Stat> {
    let after_name = text.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // starttime is field 22; state is field 3 and two have been taken.
    let started: u64 = fields.nth(22 - 5)?.parse().ok()?;
    Some(Stat {
        parent,
        started: started.saturating_mul(TICK_NANOS),
        dead: matches!(state, "Z" | "X" | "x"),
    })
}

/// `running`, `-1 sp pc`, or `number a1 .. a6 sp pc`.
fn parse_syscall(text: &str) -> Option<Syscall> {
    let mut fields = text.split_ascii_whitespace();
    let first = fields.next()?;
    if first == "running" {
        return Some(Syscall::Running);
    }
    let number: i64 = first.parse().ok()?;
    if number < 0 {
        return Some(Syscall::Outside);
    }
    let mut hexadecimal = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = hexadecimal()?;
    }
    Some(Syscall::In { number, arguments })
}

fn read_children(file: &OwnedFd, children: &mut Vec<Pid>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut text = Vec::new();
    loop {
        // SAFETY: the pointer and length describe `buffer`, which is writable.
        let length = unsafe {
            let target = buffer.as_mut_ptr().cast();
            libc::pread(file.as_raw_fd(), target, buffer.len(), text.len() as i64)
        };
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        if length == 0 {
            break;
        }
        text.extend_from_slice(buffer.get(..length as usize).unwrap_or_default());
    }
    let numbers = text.split(u8::is_ascii_whitespace);
    children.extend(numbers.filter_map(parse_number));
    Ok(())
}

fn parse_number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A descriptor as the name of its link.
fn decimal(fd: Fd, buffer: &mut [u8; 16]) -> &CStr {
    use std::io::Write;
    let mut rest = buffer.as_mut_slice();
    // Ten digits and a sign fit.
    let _ = write!(rest, "{fd}\0");
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"-")
}

/// The inode in `socket:[123]`; `None` for a link to anything else.
fn socket_link(directory: &OwnedFd, name: &CStr) -> io::Result<Option<Inode>> {
    let mut target = [0_u8; 40];
    // SAFETY: `name` is NUL-terminated; the pointer and length describe `target`, which is writable.
    let length = unsafe {
        libc::readlinkat(
            directory.as_raw_fd(),
            name.as_ptr(),
            target.as_mut_ptr().cast(),
            target.len(),
        )
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    if length == 0 {
        // With CAP_DAC_READ_SEARCH alone the link is there and says nothing.
        return Err(denied());
    }
    let target = target.get(..length as usize).unwrap_or_default();
    let inode = target.strip_prefix(b"socket:[".as_slice());
    Ok(inode
        .and_then(|inode| inode.strip_suffix(b"]".as_slice()))
        .and_then(parse_number))
}

/// Calls `each` with the names in a directory, from its start.
fn each_entry(directory: &OwnedFd, mut each: impl FnMut(&CStr)) -> io::Result<()> {
    // `struct linux_dirent64`: inode 8, offset 8, record length 2, type 1, name.
    const NAME: usize = 19;
    // SAFETY: lseek(2) on an owned descriptor has no memory preconditions.
    if unsafe { libc::lseek(directory.as_raw_fd(), 0, libc::SEEK_SET) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut buffer = [0_u8; 8192];
    loop {
        // SAFETY: the pointer and length describe `buffer`, which is writable; the call is getdents64(2).
        let length = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                directory.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        if length == 0 {
            return Ok(());
        }
        let mut rest = buffer.get(..length as usize).unwrap_or_default();
        while let Some(size) = rest.get(16..18).and_then(|size| size.try_into().ok()) {
            let size = u16::from_ne_bytes(size) as usize;
            let Some(entry) = rest.get(NAME..size) else {
                break;
            };
            if let Ok(name) = CStr::from_bytes_until_nul(entry) {
                each(name);
            }
            rest = rest.get(size..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests;
