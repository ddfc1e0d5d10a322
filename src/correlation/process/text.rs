//! What the files of `/proc` say, read from their text.

use super::{Stat, Syscall, TICK_NANOS};
use crate::correlation::kernel::{Inode, Pid};

/// `pid (name) state ppid .. starttime ..`, where the name may hold spaces and brackets.
pub(super) fn parse_stat(text: &str) -> Option<Stat> {
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

/// The process's number in the namespace that it is in: the last of the line `NSpid: 4711 12 1`.
pub(super) fn parse_innermost(status: &str) -> Option<Pid> {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers?.split_ascii_whitespace().last()?.parse().ok()
}

/// `running`, `-1 sp pc`, or `number a1 .. a6 sp pc`.
pub(super) fn parse_syscall(text: &str) -> Option<Syscall> {
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

pub(super) fn parse_number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Lines `tfd: 5 events: 19 data: .. pos:0 ino:6a5f sdev:8`.
pub(super) fn parse_polled(text: &str) -> Vec<Inode> {
    let targets = text.lines().filter(|line| line.starts_with("tfd:"));
    let inode = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let inode = fields.find_map(|field| field.strip_prefix("ino:"))?;
        Inode::from_str_radix(inode, 16).ok()
    };
    targets.filter_map(inode).collect()
}
