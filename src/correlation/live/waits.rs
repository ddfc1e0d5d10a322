//! What a thread waits for, by the system call that it is in: `/proc/PID/syscall`, and what its arguments point to.

use std::io;

use super::super::kernel::{Fd, Thread};
use super::super::process::Process;

/// Descriptors that `select` can name.
const SELECTABLE: u64 = 1024;

/// Reads a system call that a thread waits in.
pub(super) fn waits_for(process: &Process, number: i64, arguments: [u64; 6]) -> io::Result<Thread> {
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
