//! A weaker rung that lies.

use std::time::Instant;

use super::*;
use crate::correlation::engine::Engine;
use crate::correlation::{Availability, Obstacle, Options};
use crate::telemetry::metrics::Metrics;

fn call() -> OutboundCall {
    OutboundCall {
        peer: "127.0.0.1:4000".parse().unwrap(),
        local: "127.0.0.1:8081".parse().unwrap(),
        accepted: Instant::now(),
        received: None,
        bytes: Err(Unlinked::StartUnknown),
    }
}

/// A correlator whose serial rung always answers the same.
fn correlator(thread: bool, serial: Result<Context, Unlinked>) -> (Arc<Correlator>, Arc<Metrics>) {
    let metrics = Metrics::new();
    let options = Options {
        thread,
        serial: false,
        ..Options::default()
    };
    let mut correlator = Correlator::new(metrics.clone(), options);
    let inside = Arc::get_mut(&mut correlator).unwrap();
    inside.engine = Some(Engine::answering(serial));
    inside.serial = true;
    (correlator, metrics)
}

fn disagreements(metrics: &Metrics, evidence: &'static str) -> u64 {
    let label = EvidenceLabel { evidence };
    metrics.disagreements.get_or_create(&label).get()
}

/// Waits for what `double_check` started.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_weaker_rung_that_lies_is_switched_off_and_counted() {
    let lie = Context::new_root();
    let (correlator, metrics) = correlator(false, Ok(lie.clone()));
    // It is believed where nobody knows better.
    let believed = correlator.parent_of(call()).await.unwrap();
    assert_eq!(believed, (lie, Evidence::Serial));
    correlator.double_check(&call(), &Context::new_root(), Evidence::Thread);
    until(|| disagreements(&metrics, "serial") == 1).await;
    assert!(correlator.audit.serial_off());
    assert_eq!(correlator.parent_of(call()).await, Err(Unlinked::Off));
    let told = correlator.describe(&[]).to_string();
    assert!(told.starts_with("serial: off: it disagreed"), "{told}");
    let exposed = metrics.encode();
    let line = "hopspan_correlation_disagreements_total{evidence=\"serial\"} 1";
    assert!(exposed.contains(line), "{exposed}");
}

#[tokio::test]
async fn a_weaker_rung_that_agrees_or_is_silent_stays() {
    let truth = Context::new_root();
    for answer in [Ok(truth.clone()), Err(Unlinked::NotParked)] {
        let (correlator, metrics) = correlator(false, answer.clone());
        correlator.double_check(&call(), &truth, Evidence::Thread);
        correlator.compare(&truth, Evidence::Thread, answer, Evidence::Serial);
        assert_eq!(disagreements(&metrics, "serial"), 0);
        assert!(!correlator.audit.serial_off());
    }
}

#[tokio::test]
async fn the_thread_rung_is_switched_off_by_a_token() {
    let (correlator, metrics) = correlator(true, Err(Unlinked::Off));
    correlator.settled().await;
    let (truth, lie) = (Context::new_root(), Context::new_root());
    correlator.compare(&truth, Evidence::Token, Ok(lie), Evidence::Thread);
    assert_eq!(disagreements(&metrics, "thread"), 1);
    let off = Availability::Off(Obstacle::Disagreed);
    assert_eq!(correlator.thread_rung(), off);
}

#[tokio::test]
async fn one_join_in_a_few_is_checked() {
    let audit = Audit::default();
    let due = (0..SHARE * 3).filter(|_| audit.is_due()).count();
    assert_eq!(due, 3);
    // Joins that nobody weaker could check are not counted.
    let (correlator, _) = correlator(false, Err(Unlinked::Off));
    correlator.double_check(&call(), &Context::new_root(), Evidence::Serial);
    correlator.double_check(&call(), &Context::new_root(), Evidence::Header);
    assert_eq!(correlator.audit.joins.load(Ordering::Relaxed), 0);
}
