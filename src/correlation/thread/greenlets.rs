//! Whether a process has greenlets: threads of its own making, which the kernel cannot tell apart.
//!
//! Asked only where the app's sockets do not block, as they must in a server of greenlets, and only where the process
//! can be seen: gevent gives itself away by epoll as well, eventlet does not. A library that brings greenlets along
//! (SQLAlchemy does) makes a server with non-blocking sockets look like one: that costs a join, never the truth.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::correlation::process;

/// A process, and when it began: numbers are used again.
type Process = (u32, u64);

/// How long a process without greenlets is believed to have none; it may load them later.
const FRESH: Duration = Duration::from_secs(10);
/// Processes remembered; when there are more, all are looked at anew.
const REMEMBERED: usize = 1024;

/// What is known of processes.
#[derive(Default)]
pub(super) struct Greenlets {
    known: Mutex<HashMap<Process, (bool, Instant)>>,
}

impl Greenlets {
    /// Whether the process has them, as far as can be seen.
    pub(super) async fn has(&self, process: Process) -> bool {
        if let Some(known) = self.known(process) {
            return known;
        }
        // Some hundreds of microseconds of reading, once in a while.
        let read = tokio::task::spawn_blocking(move || has_greenlets(process.0));
        let found = read.await.unwrap_or(false);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(process, (found, Instant::now()));
        found
    }

    fn known(&self, process: Process) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, at) = *known.get(&process)?;
        (found || at.elapsed() < FRESH).then_some(found)
    }
}

/// A process that may not be looked at has none that can be seen.
fn has_greenlets(pid: u32) -> bool {
    process::Process::open(pid).is_ok_and(|process| process.has_greenlets().unwrap_or(false))
}
