//! Whether the serial proof can work here, and what would change it: for the start line and `doctor`.
//!
//! It looks at what a join would look at, once, and keeps nothing.

use super::family::Family;
use super::kernel::{Kernel, Pid, Trouble};
use super::live::Live;
use super::server::Place;
use crate::telemetry::Code;

mod hidden;

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
pub(super) fn describe(wraps: bool, child: Option<Pid>, apps: &[Place]) -> Rung {
    let Ok(mut live) = Live::new() else {
        return Rung::off(
            Code::SerialNoSockDiag,
            "the kernel answers no questions about sockets",
            "allow netlink sockets (NETLINK_SOCK_DIAG) and mount /proc",
        );
    };
    if apps.is_empty() {
        return waiting("the app's address is not known");
    }
    if apps.iter().any(|app| matches!(app, Place::Unix(_))) && !live.knows_unix() {
        return Rung::off(
            Code::SerialUnixSocket,
            "the kernel answers no questions about unix sockets",
            "load the module unix_diag, or let the app listen on 127.0.0.1:PORT",
        );
    }
    if wraps && child.is_none() {
        return waiting("the app has not been started");
    }
    let mut listening = Vec::new();
    for app in apps {
        match live.listeners(app) {
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
        return hidden::unseen(&mut live, apps);
    }
    for id in workers {
        let Some(member) = family.member(id) else {
            continue;
        };
        let sockets = live.open_files(&member.handle).map(drop);
        let thread = live.main_thread(&member.handle).map(drop);
        let children = live.children(&member.handle).map(drop);
        match sockets.and(children).and(thread) {
            Ok(()) | Err(Trouble::Gone) => {}
            Err(Trouble::Denied) => return hidden::denied(id.pid),
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
