//! Whether the serial proof can work here, and what would change it: for the start line and `doctor`.
//!
//! It looks at what a join would look at, once, and keeps nothing.

use std::net::SocketAddr;

use super::family::Family;
use super::kernel::{Kernel, Pid, Trouble};
use super::live::Live;
use super::process;
use crate::telemetry::Code;

/// What the serial rung can do here. Prints as `serial: ready` or `serial: off: <why> — <what to do>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rung {
    /// Calls of serial (prefork, sync) servers are joined.
    Ready,
    /// The app does not run yet, so nobody knows.
    Waiting {
        /// What is missing.
        why: String,
    },
    /// No call can be joined.
    Off {
        /// What is missing.
        why: String,
        /// What would change it.
        fix: String,
        /// Its page.
        code: Code,
    },
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rung::Ready => f.write_str("serial: ready"),
            Rung::Waiting { why } => write!(f, "serial: waiting: {why}"),
            Rung::Off { why, fix, .. } => write!(f, "serial: off: {why} — {fix}"),
        }
    }
}

impl Rung {
    pub(super) fn off(code: Code, why: impl Into<String>, fix: &str) -> Rung {
        Rung::Off {
            why: why.into(),
            fix: fix.to_owned(),
            code,
        }
    }
}

/// See [`super::Correlator::describe`]. `wraps`: hopspan starts the app; `child`: it runs with this number.
pub(super) fn describe(wraps: bool, child: Option<Pid>, apps: &[SocketAddr]) -> Rung {
    let Ok(mut live) = Live::new() else {
        return Rung::off(
            Code::SerialNoSockDiag,
            "the kernel answers no questions about sockets",
            "allow netlink sockets (NETLINK_SOCK_DIAG) and mount /proc",
        );
    };
    if apps.is_empty() {
        return Rung::off(
            Code::SerialUnixSocket,
            "the app listens on a unix socket",
            "let it listen on 127.0.0.1:PORT",
        );
    }
    if wraps && child.is_none() {
        return waiting("the app has not been started");
    }
    let mut listening = Vec::new();
    for app in apps {
        match live.listeners(*app) {
            Ok(listeners) => listening.extend(listeners.inodes),
            Err(_) => {
                return Rung::off(
                    Code::SerialNoSockDiag,
                    "the kernel answers no questions about TCP sockets",
                    "load the module tcp_diag",
                );
            }
        }
    }
    let mut family: Family<<Live as Kernel>::Process> = Family::default();
    if listening.is_empty() && child.is_none() {
        return waiting("nothing listens at the app's address on this host");
    }
    family.discover(&mut live, apps);
    let workers = family.ids();
    if workers.is_empty() {
        return unseen(&mut live);
    }
    for id in workers {
        let Some(member) = family.member(id) else {
            continue;
        };
        let sockets = live.sockets(&member.handle).map(drop);
        let thread = live.main_thread(&member.handle).map(drop);
        let children = live.children(&member.handle).map(drop);
        match sockets.and(children).and(thread) {
            Ok(()) | Err(Trouble::Gone) => {}
            Err(Trouble::Denied) => return denied(id.pid),
            Err(Trouble::Unsupported) => {
                return Rung::off(
                    Code::SerialKernel,
                    format!("what /proc says of process {} cannot be read", id.pid),
                    "use a kernel with CONFIG_PROC_CHILDREN, and an app of the same word size",
                );
            }
        }
    }
    Rung::Ready
}

fn waiting(why: &str) -> Rung {
    Rung::Waiting {
        why: why.to_owned(),
    }
}

/// Somebody listens, and no process that may be looked at does.
fn unseen(live: &mut Live) -> Rung {
    let hidden = live.pids().into_iter().find(|pid| {
        let opened = live.open(*pid);
        opened.is_ok_and(|(handle, _)| live.sockets(&handle) == Err(Trouble::Denied))
    });
    match hidden {
        Some(pid) => denied(pid),
        None => Rung::off(
            Code::SerialPidNamespace,
            "the app's processes are not visible from here",
            "share the PID namespace (Kubernetes: shareProcessNamespace: true; Docker: --pid=container:APP)",
        ),
    }
}

/// Why a process may not be looked at, as far as can be told.
fn denied(pid: Pid) -> Rung {
    let own = process::effective_uid();
    let user = status_uid(pid);
    if let Some(user) = user.filter(|user| *user != own) {
        return Rung::off(
            Code::SerialUser,
            format!("process {pid} runs as user {user}, hopspan as user {own}"),
            "run both as one user, or give hopspan CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        );
    }
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    match yama.as_deref().map(str::trim) {
        Ok("1") => Rung::off(
            Code::SerialYama,
            "kernel.yama.ptrace_scope is 1 and hopspan did not start the app",
            "start the app by hopspan (hopspan run -- COMMAND), or give hopspan CAP_SYS_PTRACE",
        ),
        Ok("2") => Rung::off(
            Code::SerialYama,
            "kernel.yama.ptrace_scope is 2",
            "give hopspan CAP_SYS_PTRACE",
        ),
        Ok("3") => Rung::off(
            Code::SerialYama,
            "kernel.yama.ptrace_scope is 3: no process may be looked at until the next boot",
            "set it to 1 or lower in /etc/sysctl.d and reboot",
        ),
        _ => Rung::off(
            Code::SerialNotDumpable,
            format!(
                "/proc/{pid} may not be read (it changed its user without exec, or seccomp forbids it)"
            ),
            "start the app as its user from the beginning, or give hopspan CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        ),
    }
}

/// The user a process acts as.
fn status_uid(pid: Pid) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}
