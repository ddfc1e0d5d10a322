//! The system calls of process control, each with its reason to be sound. No policy here.

#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It returned this code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// It was stopped by this signal and can be continued.
    Stopped(i32),
}

/// Which children a wait is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// Any child.
    All,
    /// One child.
    Process(u32),
    /// The children in a process group.
    Group(u32),
}

/// How a wait behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Waits for a change and leaves it to be taken.
    Peek,
    /// Takes an end that was seen: does not wait.
    TakeEnd,
    /// Takes a stop that was seen: does not wait.
    TakeStop,
    /// Only asks whether such a child exists: does not wait, takes nothing.
    Probe,
}

/// `waitid`. None: nothing changed (modes that do not wait). An error of ECHILD: there is no such child.
pub(super) fn wait(whom: Whom, mode: Mode) -> io::Result<Option<(u32, Change)>> {
    let (kind, id) = match whom {
        Whom::All => (libc::P_ALL, 0),
        Whom::Process(pid) => (libc::P_PID, pid),
        Whom::Group(pgid) => (libc::P_PGID, pgid),
    };
    let flags = match mode {
        Mode::Peek => libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT,
        Mode::TakeEnd => libc::WEXITED | libc::WNOHANG,
        Mode::TakeStop => libc::WSTOPPED | libc::WNOHANG,
        Mode::Probe => libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
    };
    loop {
        // SAFETY: siginfo_t is plain data for which all zeroes is a value (and means "nothing changed" afterwards).
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writes for the whole call; waitid keeps no pointer to it.
        if unsafe { libc::waitid(kind, id, &raw mut info, flags) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        // SAFETY: waitid returned 0, so it filled the child members of the union, or left the zeroes.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        let Some(pid) = u32::try_from(pid).ok().filter(|pid| *pid != 0) else {
            return Ok(None);
        };
        let change = match info.si_code {
            libc::CLD_EXITED => Change::Exited(status),
            libc::CLD_STOPPED | libc::CLD_TRAPPED => Change::Stopped(status),
            _ => Change::Killed(status),
        };
        return Ok(Some((pid, change)));
    }
}

/// `kill` of one process. False if there is none.
pub(super) fn kill(pid: u32, signal: i32) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    // SAFETY: kill takes no pointers.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// `killpg`. False if there is no such group.
pub(super) fn kill_group(pgid: u32, signal: i32) -> bool {
    match i32::try_from(pgid) {
        // 0 and 1 would mean our own group and everything.
        Ok(pgid) if pgid > 1 => {
            // SAFETY: killpg takes no pointers.
            unsafe { libc::killpg(pgid, signal) == 0 }
        }
        _ => false,
    }
}

/// Stops our own process group, as the terminal would have done. Returns once continued.
pub(super) fn stop_own_group() {
    // SAFETY: kill takes no pointers; 0 is the caller's own process group.
    unsafe { libc::kill(0, libc::SIGTSTP) };
}

/// Makes this process the one that orphans of its descendants are handed to.
pub(super) fn become_subreaper() -> io::Result<()> {
    // SAFETY: this prctl takes no pointers.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Undoes an inherited "ignore" of SIGCHLD, under which the kernel throws exit codes away.
pub(super) fn keep_exit_codes() {
    // SAFETY: sigaction is plain data, zeroes are a value; both calls get valid pointers and keep none. Only SIG_IGN is
    // replaced, so no handler of tokio's is lost.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        let read = libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut now);
        if read == 0 && now.sa_sigaction == libc::SIG_IGN {
            now.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(libc::SIGCHLD, &raw const now, std::ptr::null_mut());
        }
    }
}

/// The soft and the hard limit of descriptors of this process (RLIMIT_NOFILE).
pub(super) fn descriptor_limits() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writes for the call, which keeps no pointer to it.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok((limit.rlim_cur, limit.rlim_max)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the soft limit of descriptors of this process, at most to the hard one. Allocates nothing, locks nothing.
pub(super) fn limit_descriptors(soft: u64) -> io::Result<()> {
    let (_, hard) = descriptor_limits()?;
    let limit = libc::rlimit {
        rlim_cur: soft.min(hard),
        rlim_max: hard,
    };
    // SAFETY: `limit` is valid for reads for the call, which keeps no pointer to it.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has a command begin with this soft limit of descriptors.
pub(super) fn give_descriptors(command: &mut Command, soft: u64) {
    // SAFETY: between fork and exec only getrlimit and setrlimit are called, which are system calls and nothing else.
    unsafe {
        command.pre_exec(move || limit_descriptors(soft));
    }
}

/// Whether stdin is a terminal that we have in the foreground.
pub(super) fn has_terminal() -> bool {
    // SAFETY: neither call takes pointers; for what is no terminal tcgetpgrp fails with -1, which is no group.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
}

/// Gives the terminal on stdin to a process group: to `pgid`, or back to our own.
pub(super) fn give_terminal(pgid: Option<u32>) {
    let pgid = match pgid.map(i32::try_from) {
        None => unsafe { libc::getpgrp() }, // SAFETY: takes nothing, cannot fail.
        Some(Ok(pgid)) => pgid,
        Some(Err(_)) => return,
    };
    // SAFETY: the signal sets are plain data that sigemptyset initialises; all pointers are valid for the calls and not
    // kept. TTOU is blocked for this thread meanwhile: from the background tcsetpgrp would stop us.
    unsafe {
        let mut block: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut block);
        libc::sigaddset(&raw mut block, libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const block, &raw mut before);
        libc::tcsetpgrp(libc::STDIN_FILENO, pgid);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
    }
}

/// Prepares a command to lead its own group, to get TERM when the thread that starts it ends, and to have the terminal.
pub(super) fn lead_group(command: &mut Command, terminal: bool) {
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: between fork and exec only async-signal-safe calls are made (prctl, getppid, getpgrp, tcsetpgrp, the
    // signal mask), nothing allocates or locks.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have gone before the line above.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            if terminal {
                give_terminal(None);
            }
            Ok(())
        });
    }
}
