//! What the kernel has of a TCP connection in its queues (tcp(7)): received and not read, written and not acknowledged.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

/// Bytes received that nobody has read (SIOCINQ). 0 where the kernel does not say.
pub(super) fn unread(socket: &impl AsFd) -> libc::c_int {
    ask(socket, libc::FIONREAD)
}

/// Bytes written that the peer has not acknowledged (SIOCOUTQ). 0 where the kernel does not say.
pub(super) fn unsent(socket: &impl AsFd) -> libc::c_int {
    ask(socket, libc::TIOCOUTQ)
}

fn ask(socket: &impl AsFd, queue: libc::Ioctl) -> libc::c_int {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both questions, by their other names, write one c_int, to a live one.
    let asked = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), queue, &raw mut bytes) };
    if asked == 0 { bytes } else { 0 }
}
