//! Loading reads some ten megabytes of the kernel's types, once. They shall go back to the system.
#![allow(unsafe_code)]

/// Keeps glibc from holding on to what loading frees: once a large block was freed, its allocator would keep twice as
/// much in the arena of the thread, for good.
pub(super) fn return_what_is_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers and may be called at any time, in any thread.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1024 * 1024);
    }
}
