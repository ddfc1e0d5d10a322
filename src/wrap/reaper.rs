//! The thread that starts the child, waits for it, and reaps the orphans it leaves.
//!
//! One thread for all three: the kernel ties PR_SET_PDEATHSIG to the *thread* that forked, and an end that only one
//! thread can take is never taken twice. Ends are looked at first (WNOWAIT) and taken second, under a lock, so that no
//! signal can hit a process that got the child's number after it.

use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use tokio::sync::watch;

use super::ExitCode;
use super::sys::{self, Change, Mode, Whom};

/// What the reaper tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// How the child ended.
    pub(super) code: Option<ExitCode>,
    /// Orphans reaped so far.
    pub(super) orphans: u64,
}

/// The child as others may touch it.
pub(super) struct Watched {
    pid: u32,
    /// Whether the child's number is taken back.
    gone: Mutex<bool>,
}

impl Watched {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    fn gone(&self) -> MutexGuard<'_, bool> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signals the child; false if it is gone.
    pub(super) fn signal(&self, signal: i32) -> bool {
        let gone = self.gone();
        !*gone && sys::kill(self.pid, signal)
    }

    /// Signals the child's group. Once the child is gone only if orphans of ours are known to be in it: its number
    /// may belong to a stranger otherwise.
    pub(super) fn signal_group(&self, signal: i32, reaps_orphans: bool) -> bool {
        let gone = self.gone();
        let ours = !*gone || (reaps_orphans && self.group_remains());
        ours && sys::kill_group(self.pid, signal)
    }

    /// Whether a child of ours is in the group.
    pub(super) fn group_remains(&self) -> bool {
        sys::wait(Whom::Group(self.pid), Mode::Probe).is_ok()
    }
}

/// Starts `command` on a thread of its own that then reaps.
pub(super) fn start(
    mut command: Command,
    reap_orphans: bool,
) -> io::Result<(Arc<Watched>, watch::Receiver<State>)> {
    sys::keep_exit_codes();
    if reap_orphans {
        sys::become_subreaper()?;
    }
    let terminal = sys::has_terminal();
    sys::lead_group(&mut command, terminal);
    let (tell_started, started) = mpsc::sync_channel(1);
    let (tell, state) = watch::channel(State::default());
    std::thread::Builder::new()
        .name("hopspan-child".to_owned())
        .spawn(move || {
            // The handle is dropped: std's Child neither kills nor waits on drop.
            let pid = match command.spawn() {
                Ok(child) => child.id(),
                Err(error) => {
                    // std has reaped what it forked; the terminal may be with that group still.
                    if terminal {
                        sys::give_terminal(None);
                    }
                    let _ = tell_started.send(Err(error));
                    return;
                }
            };
            let watched = Arc::new(Watched {
                pid,
                gone: Mutex::new(false),
            });
            let _ = tell_started.send(Ok(Arc::clone(&watched)));
            let reaper = Reaper {
                watched,
                tell,
                terminal,
            };
            reaper.run(reap_orphans);
        })?;
    let watched = started
        .recv()
        .map_err(|_| io::Error::other("the thread that starts the command ended"))??;
    Ok((watched, state))
}

struct Reaper {
    watched: Arc<Watched>,
    tell: watch::Sender<State>,
    terminal: bool,
}

impl Reaper {
    /// Until no child is left (ECHILD), or the one asked for is gone.
    fn run(&self, reap_orphans: bool) {
        let pid = self.watched.pid;
        let whom = if reap_orphans {
            Whom::All
        } else {
            Whom::Process(pid)
        };
        while let Ok(Some((changed, change))) = sys::wait(whom, Mode::Peek) {
            match change {
                Change::Stopped(_) => {
                    let _ = sys::wait(Whom::Process(changed), Mode::TakeStop);
                    if changed == pid && self.terminal {
                        self.stopped();
                    }
                }
                Change::Exited(status) if changed == pid => self.ended(status & 0xff),
                Change::Killed(signal) if changed == pid => self.ended(128 + signal),
                Change::Exited(_) | Change::Killed(_) => {
                    let _ = sys::wait(Whom::Process(changed), Mode::TakeEnd);
                    self.tell.send_modify(|state| state.orphans += 1);
                }
            }
        }
    }

    fn ended(&self, code: i32) {
        let mut gone = self.watched.gone();
        let _ = sys::wait(Whom::Process(self.watched.pid), Mode::TakeEnd);
        *gone = true;
        drop(gone);
        if self.terminal {
            sys::give_terminal(None);
        }
        let code = ExitCode(u8::try_from(code).unwrap_or(u8::MAX));
        self.tell.send_modify(|state| state.code = Some(code));
    }

    /// The child was stopped from the terminal (Ctrl-Z): so are we, and both continue together (`fg`).
    fn stopped(&self) {
        sys::give_terminal(None);
        sys::stop_own_group();
        if sys::has_terminal() {
            sys::give_terminal(Some(self.watched.pid));
        }
        self.watched.signal_group(libc::SIGCONT, false);
    }
}
