//! The clocks, as Linux counts them, and a thread's sleep.
#![allow(unsafe_code)]

/// The shortest turn that Linux gives, in nanoseconds.
const TURN: u64 = 100_000;

/// CLOCK_MONOTONIC in nanoseconds.
pub(in crate::correlation) fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CLOCK_REALTIME in nanoseconds since 1970.
pub(in crate::correlation) fn realtime() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// CLOCK_BOOTTIME in nanoseconds: what process start times are counted in; goes on while suspended.
pub(in crate::correlation) fn boottime() -> u64 {
    clock(libc::CLOCK_BOOTTIME)
}

/// CPU time of the calling thread in nanoseconds.
pub(in crate::correlation) fn thread_cpu() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Asks for the calling thread's turns to be short and soon: what it does takes some tens of microseconds, and a caller
/// waits for it. Linux 6.12 takes the length of a turn from `sched_runtime`; older kernels, and those that forbid it,
/// leave all as it is.
pub(in crate::correlation) fn take_short_turns() {
    /// `struct sched_attr`, its first version.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let mut attributes = Attributes::default();
    let size = size_of::<Attributes>() as u32;
    // SAFETY: sched_getattr(2) writes at most `size` bytes to `attributes`, which has them.
    let read =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0_u32) };
    if read != 0 || attributes.policy != libc::SCHED_OTHER as u32 {
        return;
    }
    attributes.size = size;
    attributes.runtime = TURN;
    // SAFETY: sched_setattr(2) reads `size` bytes of `attributes`, which has them.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32) };
}

/// Reads a clock; those used exist on every Linux.
fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, writable timespec for the whole call.
    unsafe { libc::clock_gettime(id, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets the calling thread's sleeps end on time: by default the kernel adds up to 50 us.
pub(in crate::correlation) fn sleep_precisely() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and changes the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_u64) };
}
