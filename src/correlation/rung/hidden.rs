//! Why the app's processes may not be looked at: which of those that are closed to hopspan could be the app's, and what
//! closes them.
//!
//! A pod has processes of others, too (the pause process, another sidecar, somebody's shell): what closes those is not
//! said of the app. The kernel tells which user made the listening socket; that user's processes, and what descends from
//! them, are the app's as far as anybody can tell.

use std::os::unix::fs::MetadataExt;

use super::super::kernel::{Kernel, Pid, Trouble};
use super::super::live::Live;
use super::super::process;
use super::super::server::Place;
use super::Rung;
use crate::telemetry::Code;

/// A process that may not be looked at, by what everybody may read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stranger {
    pid: Pid,
    parent: Pid,
    /// Whom it acts as.
    user: u32,
    /// It changed its user without exec, so that the kernel closed it: its `/proc` entries are root's.
    changed: bool,
    /// Its permitted capabilities, as bits.
    permitted: u64,
}

impl Stranger {
    fn read(pid: Pid) -> Option<Stranger> {
        // The folder itself stays the user's, its files do not.
        let file = format!("/proc/{pid}/status");
        let owner = std::fs::metadata(&file).ok()?.uid();
        let status = std::fs::read_to_string(&file).ok()?;
        let user = field(&status, "Uid:", 1)?.parse().ok()?;
        Some(Stranger {
            pid,
            parent: field(&status, "PPid:", 0)?.parse().ok()?,
            user,
            changed: owner != user,
            permitted: permitted(&status)?,
        })
    }
}

fn field<'a>(status: &'a str, name: &str, at: usize) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().nth(at)
}

fn permitted(status: &str) -> Option<u64> {
    u64::from_str_radix(field(status, "CapPrm:", 0)?, 16).ok()
}

/// Somebody listens at `apps`, and no process that may be looked at does.
pub(super) fn unseen(live: &mut Live, apps: &[Place]) -> Rung {
    let makers: Vec<u32> = apps.iter().flat_map(|app| live.makers(app)).collect();
    let mut hidden = Vec::new();
    for pid in live.pids() {
        let opened = live.open(pid);
        if opened.is_ok_and(|(handle, _)| live.open_files(&handle) == Err(Trouble::Denied)) {
            hidden.extend(Stranger::read(pid));
        }
    }
    match suspect(&makers, &hidden, process::effective_uid()) {
        Some(stranger) => closed(stranger),
        None => Rung::off(
            Code::SerialPidNamespace,
            "the app's processes are not visible from here",
            "share the PID namespace (Kubernetes: shareProcessNamespace: true; Docker: --pid=container:APP)",
        ),
    }
}

/// Which of the hidden processes is the app's; `own` is hopspan's user. One of hopspan's own user says most: for those of
/// another the user is reason enough.
fn suspect<'a>(makers: &[u32], hidden: &'a [Stranger], own: u32) -> Option<&'a Stranger> {
    let mut app: Vec<&Stranger> = hidden
        .iter()
        .filter(|stranger| makers.contains(&stranger.user))
        .collect();
    // In the order of numbers children mostly come after their parents; as often as somebody is new otherwise.
    loop {
        let known: Vec<Pid> = app.iter().map(|stranger| stranger.pid).collect();
        let is_new = |s: &&Stranger| known.contains(&s.parent) && !known.contains(&s.pid);
        let before = app.len();
        app.extend(hidden.iter().filter(is_new));
        if app.len() == before {
            break;
        }
    }
    if app.is_empty() && makers.contains(&0) {
        // Root made the socket and has become somebody else since, wholly.
        app.extend(hidden.iter().filter(|stranger| stranger.changed));
    }
    let mine = app.iter().find(|stranger| stranger.user == own);
    mine.or(app.first()).copied()
}

/// Why a process of the app may not be looked at, as far as can be told.
pub(super) fn denied(pid: Pid) -> Rung {
    match Stranger::read(pid) {
        Some(stranger) => closed(&stranger),
        None => Rung::Waiting {
            why: "the app's process has just ended".to_owned(),
        },
    }
}

fn closed(stranger: &Stranger) -> Rung {
    let (own, pid) = (process::effective_uid(), stranger.pid);
    if stranger.user != own {
        return Rung::off(
            Code::SerialUser,
            format!(
                "the app runs as user {}, hopspan as user {own}",
                stranger.user
            ),
            "run both as one user, or give hopspan CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        );
    }
    if stranger.changed {
        return Rung::off(
            Code::SerialNotDumpable,
            format!("process {pid} changed its user without exec, so it may not be looked at"),
            "start the app as its user from the beginning, or give hopspan CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        );
    }
    let mine = std::fs::read_to_string("/proc/thread-self/status").ok();
    let mine = mine.as_deref().and_then(permitted);
    if mine.is_some_and(|mine| stranger.permitted & !mine != 0) {
        return Rung::off(
            Code::SerialNotDumpable,
            format!(
                "process {pid} has capabilities that hopspan lacks, so it may not be looked at"
            ),
            "drop the app's capabilities (Kubernetes: capabilities: { drop: [ALL] }), or run both as a user other than root",
        );
    }
    yama().unwrap_or_else(|| {
        Rung::off(
            Code::SerialNotDumpable,
            format!("process {pid} may not be looked at: seccomp or a security module forbids it"),
            "allow hopspan to read the app's /proc entries in its seccomp or AppArmor profile",
        )
    })
}

fn yama() -> Option<Rung> {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?;
    let (why, fix) = match scope.trim() {
        "1" => (
            "kernel.yama.ptrace_scope is 1 and hopspan did not start the app",
            "start the app by hopspan (hopspan run -- COMMAND), or give hopspan CAP_SYS_PTRACE",
        ),
        "2" => (
            "kernel.yama.ptrace_scope is 2",
            "give hopspan CAP_SYS_PTRACE",
        ),
        "3" => (
            "kernel.yama.ptrace_scope is 3: no process may be looked at until the next boot",
            "set it to 1 or lower in /etc/sysctl.d and reboot",
        ),
        _ => return None,
    };
    Some(Rung::off(Code::SerialYama, why, fix))
}

#[cfg(test)]
mod tests;
