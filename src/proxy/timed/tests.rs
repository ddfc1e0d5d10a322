//! The timer of one connection, on a paused clock.

use super::*;
use hyper::rt::Timer;

fn timer() -> (Arc<Clock>, HeadTimer) {
    let clock = Clock::new(Duration::from_secs(75), &Arc::default());
    (
        clock.clone(),
        HeadTimer::new(clock, Duration::from_secs(75), Duration::from_secs(10)),
    )
}

// `Instant::now()` is real time while the clock is paused, so waits are checked to the second.
async fn waited(sleep: Pin<Box<dyn hyper::rt::Sleep>>) -> u64 {
    let started = tokio::time::Instant::now();
    sleep.await;
    (started.elapsed().as_secs_f64()).round() as u64
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_may_wait_its_idle_limit() {
    let (clock, timer) = timer();
    assert_eq!(waited(timer.sleep(Duration::from_secs(75))).await, 75);
    assert!(!clock.head_was_late());
}

#[tokio::test(start_paused = true)]
async fn a_begun_head_has_the_head_limit() {
    let (clock, timer) = timer();
    let sleep = timer.sleep(Duration::from_secs(75));
    clock.read.fetch_add(1, Ordering::Relaxed);
    assert_eq!(waited(sleep).await, 10);
    assert!(clock.head_was_late());
}

#[tokio::test(start_paused = true)]
async fn one_timer_serves_later_waits() {
    let (clock, timer) = timer();
    let sleep = timer.sleep(Duration::from_secs(300));
    assert_eq!(waited(sleep).await, 300, "set again after it fired early");
    clock.read.fetch_add(1, Ordering::Relaxed);
    assert!(!clock.head_was_late());
}
