//! What Linux tells about a process, and the clocks: `/proc` (`man 5 proc`), `process_vm_readv`.
//!
//! A [`Process`] keeps its `/proc` directory open, which is bound to the process and not to its number: when the
//! process is gone, every question answers so, whoever has the number now. Descriptors and sockets need the same user
//! (or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH); what a thread waits for needs what ptrace needs, so Yama has a say.
//! Nothing here stops, changes or attaches to the process.
#![allow(unsafe_code)]

mod clocks;
mod files;
mod text;

use std::cell::OnceCell;
use std::ffi::{CStr, CString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use super::kernel::{Fd, Inode, Open, Pid};
pub(super) use clocks::{
    boottime, monotonic, realtime, sleep_precisely, take_short_turns, thread_cpu,
};
use files::{Link, decimal, each_entry, open_at, read_at_start, read_children, read_link};
pub(super) use files::{newest, open_loads};
use text::{parse_innermost, parse_number, parse_polled, parse_stat, parse_syscall};

/// Ticks in a second of the times in `/proc`: USER_HZ, which is part of the ABI.
const TICK_NANOS: u64 = 1_000_000_000 / 100;
/// Bytes that are read of what an epoll set waits for: some ten thousand descriptors.
const POLLED: u64 = 1 << 20;

/// The user this process acts as.
pub(super) fn effective_uid() -> u32 {
    // SAFETY: geteuid(2) has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// A process by its open `/proc` directory.
pub(super) struct Process {
    pid: Pid,
    directory: OwnedFd,
    /// `fd/`, opened and kept where single descriptors are asked for: most processes are only known, and take one
    /// descriptor of ours.
    descriptors: OnceCell<OwnedFd>,
    /// `syscall` of the main thread: every reading at offset 0 is a fresh one.
    syscall: OnceCell<OwnedFd>,
    /// `children` of the main thread, kept where `fd/` is.
    children: OnceCell<OwnedFd>,
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
    /// Opens a process. Its parts are opened when they are asked for.
    pub(super) fn open(pid: Pid) -> io::Result<Process> {
        let path = CString::new(format!("/proc/{pid}"))?;
        Ok(Process {
            pid,
            directory: open_at(libc::AT_FDCWD, &path, libc::O_DIRECTORY)?,
            descriptors: OnceCell::new(),
            syscall: OnceCell::new(),
            children: OnceCell::new(),
        })
    }

    /// A part of the directory, which stays open from the first time on.
    fn part<'p>(
        &self,
        part: &'p OnceCell<OwnedFd>,
        name: &CStr,
        flags: i32,
    ) -> io::Result<&'p OwnedFd> {
        match part.get() {
            Some(open) => Ok(open),
            None => {
                let open = open_at(self.directory.as_raw_fd(), name, flags)?;
                Ok(part.get_or_init(|| open))
            }
        }
    }

    /// Parent, start and whether it is dead.
    pub(super) fn stat(&self) -> io::Result<Stat> {
        let file = open_at(self.directory.as_raw_fd(), c"stat", 0)?;
        let mut buffer = [0; 1024];
        let text = read_at_start(&file, &mut buffer)?;
        parse_stat(text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether it is the first one of its PID namespace: `NSpid` in `status` ends in its number there.
    pub(super) fn is_first(&self) -> io::Result<bool> {
        let file = open_at(self.directory.as_raw_fd(), c"status", 0)?;
        let mut buffer = [0; 4096];
        let text = read_at_start(&file, &mut buffer)?;
        parse_innermost(text)
            .map(|pid| pid == 1)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
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
        let directory = self.part(&self.descriptors, c"fd", libc::O_DIRECTORY)?;
        let mut name = [0; 16];
        match read_link(directory, decimal(fd, &mut name)) {
            Ok(Link::Socket(inode)) => Ok(Some(inode)),
            Ok(Link::Epoll | Link::Other) => Ok(None),
            // Closed, or the process is gone: either way it does not hold it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What it has open.
    pub(super) fn open_files(&self) -> io::Result<Open> {
        let opened;
        let directory = match self.descriptors.get() {
            Some(kept) => kept,
            None => {
                opened = open_at(self.directory.as_raw_fd(), c"fd", libc::O_DIRECTORY)?;
                &opened
            }
        };
        let mut open = Open::default();
        let mut refused = None;
        each_entry(directory, |name| {
            let Some(fd) = parse_number(name.to_bytes()) else {
                return;
            };
            match read_link(directory, name) {
                Ok(Link::Socket(inode)) => open.sockets.push((fd as Fd, inode)),
                Ok(Link::Epoll) => open.polls.push(fd as Fd),
                Ok(Link::Other) => {}
                // Closed meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => refused = Some(error),
            }
        })?;
        if open.sockets.is_empty() {
            self.exists()?;
        }
        match refused {
            Some(error) => Err(error),
            None => Ok(open),
        }
    }

    /// The children of all its threads.
    pub(super) fn children(&self) -> io::Result<Vec<Pid>> {
        let mut children = Vec::new();
        if let Some(kept) = self.children.get() {
            read_children(kept, &mut children)?;
            // Asked after it: what is gone would have seemed to have none.
            if self.threads()? == [self.pid] {
                return Ok(children);
            }
            children.clear();
        }
        for thread in self.threads()? {
            let path = CString::new(format!("task/{thread}/children"))?;
            let file = match open_at(self.directory.as_raw_fd(), &path, 0) {
                Ok(file) => file,
                Err(_) if thread != self.pid => continue, // the thread ended; its children went to another
                Err(error) => return Err(error),
            };
            read_children(&file, &mut children)?;
            if thread == self.pid && self.descriptors.get().is_some() {
                let _ = self.children.set(file);
            }
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
        let file = self.part(&self.syscall, c"syscall", 0)?;
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

    /// Inodes of what an epoll set waits for: `tfd:` lines of its fdinfo.
    pub(super) fn polled(&self, poll: Fd) -> io::Result<Vec<Inode>> {
        let path = CString::new(format!("fdinfo/{poll}"))?;
        let file = open_at(self.directory.as_raw_fd(), &path, 0)?;
        let mut text = String::new();
        std::fs::File::from(file)
            .take(POLLED)
            .read_to_string(&mut text)?;
        Ok(parse_polled(&text))
    }

    /// Whether the library of greenlets is loaded: a file with such a name is mapped.
    pub(super) fn has_greenlets(&self) -> io::Result<bool> {
        let file = open_at(self.directory.as_raw_fd(), c"maps", 0)?;
        let maps = BufReader::new(std::fs::File::from(file)).split(b'\n');
        let greenlet = |line: &[u8]| line.windows(8).any(|word| word == b"greenlet");
        for line in maps {
            if greenlet(&line?) {
                return Ok(true);
            }
        }
        Ok(false)
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

#[cfg(test)]
mod tests;
