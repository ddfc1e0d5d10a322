//! Freed memory goes back to the system when nothing is going on, and when memory is short. glibc's allocator keeps what
//! was freed below what is still in use: after a burst some ten megabytes, for good. mimalloc (the static build) gives it
//! back by itself.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use hopspan::telemetry::Metrics;

/// Between two looks; a second without a span is quiet.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes more than after the last time for which it is worth it: it takes a millisecond or two.
const WORTH: i64 = 2 * 1024 * 1024;

/// What glibc takes from the system and gives back block by block, and what may be free at the end of its heap.
const LARGE: i32 = 1024 * 1024;

/// Batches of spans come from the heap: from the system each page of them would have to be asked for again and again.
/// glibc raises its limits by itself as long as nobody sets one; loading the kernel's types sets one
/// ([`hopspan::correlation`]).
pub(super) fn keep() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers and may be called at any time, in any thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
    }
}

/// Looks every second, for ever.
pub(super) async fn give_back(metrics: Arc<Metrics>) {
    let mut spans = 0;
    // What was left after the last time; `None` until that is known.
    let mut left = Some(0);
    loop {
        tokio::time::sleep(LOOK).await;
        let quiet = std::mem::replace(&mut spans, metrics.spans.get()) == spans;
        let short = metrics.memory_pressure.get() > 0;
        let used = metrics.memory_bytes.get();
        left = match left {
            None => Some(used),
            Some(left) if short || (quiet && used > left + WORTH) => {
                trim();
                None
            }
            Some(left) => Some(left.min(used)),
        };
    }
}

fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number and may be called at any time, in any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
