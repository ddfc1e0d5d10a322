//! CAP_BPF and CAP_PERFMON: whether this thread has them, and giving them up (capabilities(7)).
//!
//! Capabilities are a thread's, not a process's. So the command lets one thread keep them, gives them up in the main
//! thread before any other is started, and the one gives them up when it has loaded the programs: after that nobody has
//! them. What is loaded goes on working without. A process of user 0 that is started later has them again by its user.
//!
//! Where hopspan of user 0 starts the app, they stay permitted, though not in effect: a process whose exec brings it more
//! than its parent was permitted loses its PR_SET_PDEATHSIG (the kernel's `commit_creds`), and the app must not outlive
//! a hopspan that was killed.
#![allow(unsafe_code)]

use std::io;

/// CAP_PERFMON and CAP_BPF of `linux/capability.h`.
const PERFMON: u32 = 38;
const BPF: u32 = 39;
/// CAP_SYS_ADMIN, which includes both.
const ADMIN: u32 = 21;
/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0: the calling thread.
    thread: i32,
}

/// `struct __user_cap_data_struct`: 32 capabilities of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Which of the two are missing: CAP_BPF, CAP_PERFMON.
pub(super) fn missing() -> io::Result<(bool, bool)> {
    let sets = get()?;
    let has = |capability: u32| has(&sets, capability) || has(&sets, ADMIN);
    Ok((!has(BPF), !has(PERFMON)))
}

fn has(sets: &[Sets; 2], capability: u32) -> bool {
    let [low, high] = sets;
    let word = if capability < 32 { low } else { high };
    word.effective & (1 << (capability % 32)) != 0
}

/// Gives up both, in the calling thread and in all that it starts from now on: effective, inheritable, ambient, and
/// unless `stay_permitted`, permitted.
pub(super) fn give_up(stay_permitted: bool) -> io::Result<()> {
    let mut sets = get()?;
    let both = 1 << (PERFMON % 32) | 1 << (BPF % 32);
    let [_, high] = &mut sets;
    if (high.effective | high.permitted | high.inheritable) & both == 0 {
        return Ok(());
    }
    high.effective &= !both;
    if !stay_permitted {
        high.permitted &= !both;
    }
    // The kernel takes out of the ambient set what leaves one of these two.
    high.inheritable &= !both;
    let header = Header {
        version: VERSION,
        thread: 0,
    };
    // SAFETY: capset(2) reads a header and, for version 3, two sets; both live to the end of the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn get() -> io::Result<[Sets; 2]> {
    let mut sets = [Sets::default(); 2];
    let mut header = Header {
        version: VERSION,
        thread: 0,
    };
    // SAFETY: capget(2) reads and writes the header and, for version 3, writes two sets; both are live and writable.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    if result == 0 {
        Ok(sets)
    } else {
        Err(io::Error::last_os_error())
    }
}
