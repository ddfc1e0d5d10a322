//! Files and directories of `/proc`, read without a detour: what is read here is made in one piece by the kernel.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::text::parse_number;
use crate::correlation::kernel::{Fd, Inode, Pid};

/// `/proc/loadavg`.
pub(in crate::correlation) fn open_loads() -> io::Result<OwnedFd> {
    open_at(libc::AT_FDCWD, c"/proc/loadavg", 0)
}

/// The number that was given last to a process or thread: the last word of `/proc/loadavg`.
pub(in crate::correlation) fn newest(loads: &OwnedFd) -> Option<Pid> {
    let mut buffer = [0; 128];
    let text = read_at_start(loads, &mut buffer).ok()?;
    text.split_ascii_whitespace().nth(4)?.parse().ok()
}

fn denied() -> io::Error {
    io::Error::from_raw_os_error(libc::EACCES)
}

pub(super) fn open_at(directory: i32, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
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
pub(super) fn read_at_start<'a>(file: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<&'a str> {
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

pub(super) fn read_children(file: &OwnedFd, children: &mut Vec<Pid>) -> io::Result<()> {
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

/// A descriptor as the name of its link.
pub(super) fn decimal(fd: Fd, buffer: &mut [u8; 16]) -> &CStr {
    use std::io::Write;
    let mut rest = buffer.as_mut_slice();
    // Ten digits and a sign fit.
    let _ = write!(rest, "{fd}\0");
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"-")
}

/// What a descriptor is, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Socket(Inode),
    Epoll,
    Other,
}

/// Reads the link of a descriptor: `socket:[123]`, `anon_inode:[eventpoll]`.
pub(super) fn read_link(directory: &OwnedFd, name: &CStr) -> io::Result<Link> {
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
    if target == b"anon_inode:[eventpoll]" {
        return Ok(Link::Epoll);
    }
    let inode = target.strip_prefix(b"socket:[".as_slice());
    let inode = inode.and_then(|inode| inode.strip_suffix(b"]".as_slice()));
    let inode = inode.and_then(parse_number);
    Ok(inode.map_or(Link::Other, Link::Socket))
}

/// Calls `each` with the names in a directory, from its start.
pub(super) fn each_entry(directory: &OwnedFd, mut each: impl FnMut(&CStr)) -> io::Result<()> {
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
