//! Limits, drop order and exact accounting of the queue.

use super::*;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use prost::Message as _;

use crate::export::tests::support::{record, settings};

fn queue(change: impl FnOnce(&mut Export)) -> (Queue, Arc<Metrics>) {
    let metrics = Metrics::new();
    let mut settings = settings();
    change(&mut settings);
    (Queue::new(&settings, String::new(), &metrics), metrics)
}

/// When each span began, as a collector reads them.
fn began(taken: &Taken) -> Vec<u64> {
    let spans = ScopeSpans::decode(taken.blocks.concat().as_slice());
    let spans = spans.unwrap().spans;
    assert_eq!(spans.len(), taken.spans);
    spans.iter().map(|span| span.start_time_unix_nano).collect()
}

fn outcome(metrics: &Metrics, outcome: &'static str) -> u64 {
    metrics
        .export_spans
        .get_or_create(&Outcome { outcome })
        .get()
}

#[test]
fn the_oldest_makes_room_when_spans_are_too_many() {
    let (queue, metrics) = queue(|s| (s.queue_spans, s.max_batch) = (3, 10));
    for n in 1..=5 {
        queue.finished(record(n));
        assert!(queue.ledger().is_balanced());
    }
    let ledger = queue.ledger();
    assert_eq!(
        (ledger.finished, ledger.queued, ledger.queue_full),
        (5, 3, 2)
    );
    assert_eq!(outcome(&metrics, "queue_full"), 2);
    assert_eq!(metrics.spans.get(), 5);
    assert_eq!(metrics.export_queue_spans.get(), 3);
    let kept = began(&queue.take());
    assert_eq!(kept, [3, 4, 5]);
    assert_eq!(queue.ledger().in_flight, 3);
    queue.settle(3, 1, Dropped::Rejected);
    let ledger = queue.ledger();
    assert_eq!((ledger.exported, ledger.rejected, ledger.left()), (2, 1, 0));
    assert!(ledger.is_balanced());
    assert_eq!(metrics.export_queue_bytes.get(), 0);
}

#[test]
fn bytes_are_bounded_too() {
    let (queue, metrics) = queue(|s| s.queue_bytes = 10_000);
    let big = |n| {
        let mut record = record(n);
        record
            .attributes
            .push(("k".into(), "x".repeat(4_000).into()));
        record
    };
    for n in 1..=4 {
        queue.finished(big(n));
        assert!(metrics.export_queue_bytes.get() <= 10_000);
    }
    assert_eq!((queue.ledger().queued, queue.ledger().queue_full), (2, 2));
    // One that can never fit goes alone.
    let mut huge = record(5);
    huge.attributes
        .push(("k".into(), "x".repeat(20_000).into()));
    queue.finished(huge);
    assert_eq!((queue.ledger().queued, queue.ledger().queue_full), (2, 3));
    assert!(queue.ledger().is_balanced());
}

#[test]
fn batches_stay_below_what_collectors_take() {
    let (queue, _) = queue(|_| ());
    for n in 1..=20 {
        let mut record = record(n);
        record
            .attributes
            .push(("k".into(), "x".repeat(500_000).into()));
        queue.finished(record);
    }
    let mut batches = Vec::new();
    while queue.ledger().queued > 0 {
        batches.push(queue.take().spans);
    }
    assert_eq!(batches, [8, 8, 4]);
}

#[test]
fn what_comes_after_the_end_is_counted() {
    let (queue, _) = queue(|_| ());
    queue.finished(record(1));
    queue.finished(record(2));
    assert_eq!(queue.take().spans, 2);
    queue.finished(record(3));
    queue.close();
    queue.finished(record(4));
    assert_eq!((queue.ledger().shutdown, queue.ledger().left()), (1, 3));
    queue.abandon();
    assert_eq!((queue.ledger().shutdown, queue.ledger().left()), (4, 0));
    // The worker's late word changes nothing.
    queue.settle(2, 0, Dropped::Rejected);
    assert!(queue.ledger().is_balanced());
    assert_eq!(queue.ledger().exported, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_due_when_full_or_old() {
    let (queue, _) = queue(|s| s.max_batch = 4);
    let delay = Duration::from_secs(1);
    let began = tokio::time::Instant::now();
    queue.finished(record(1));
    queue.due(delay).await;
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "not old enough"
    );
    for n in 2..=4 {
        queue.finished(record(n));
    }
    let began = tokio::time::Instant::now();
    queue.due(delay).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "full is due at once");
}

#[test]
fn many_threads_lose_nothing() {
    let (queue, _) = queue(|s| s.queue_spans = 100);
    let queue = Arc::new(queue);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                for n in 0..500 {
                    queue.finished(record(n));
                    assert!(queue.ledger().is_balanced());
                    if n % 200 == 0 {
                        let taken = queue.take().spans as u64;
                        queue.settle(taken, 0, Dropped::Rejected);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let ledger = queue.ledger();
    assert_eq!(ledger.finished, 2_000);
    assert!(ledger.is_balanced() && ledger.exported > 0 && ledger.queue_full > 0);
}

#[test]
fn while_memory_is_short_a_quarter_of_it_is_used() {
    let (queue, metrics) = queue(|s| (s.queue_spans, s.max_batch) = (8, 8));
    for n in 1..=8 {
        queue.finished(record(n));
    }
    queue.tighten(true);
    let ledger = queue.ledger();
    assert_eq!((ledger.queued, ledger.queue_full), (2, 6));
    assert_eq!(outcome(&metrics, "queue_full"), 6);
    assert_eq!(metrics.export_queue_spans.get(), 2);
    queue.finished(record(9));
    assert_eq!(queue.ledger().queued, 2);
    queue.tighten(false);
    queue.finished(record(10));
    let kept = began(&queue.take());
    assert_eq!(kept, [8, 9, 10]);
    assert!(queue.ledger().is_balanced());
}

#[test]
fn spans_keep_their_order_whatever_their_size() {
    // Each pushes one more than it takes: every block is cut somewhere, and every size meets every other.
    let sizes = [0, 40, 4_000, 90, 17_000, 300];
    let (queue, metrics) = queue(|s| s.max_batch = 5);
    let (mut pushed, mut expected, mut bytes) = (0, 0, 0);
    let mut push = |times: usize| {
        for _ in 0..times {
            let mut record = record(pushed);
            let size = sizes[pushed as usize % sizes.len()];
            record
                .attributes
                .push(("k".into(), "x".repeat(size).into()));
            queue.finished(record);
            pushed += 1;
        }
        pushed
    };
    let mut check = || {
        let taken = queue.take();
        bytes += taken.blocks.iter().map(|block| block.len()).sum::<usize>();
        for at in began(&taken) {
            assert_eq!(at, expected);
            expected += 1;
        }
        (taken.spans, expected)
    };
    for _ in 0..200 {
        push(6);
        assert_eq!(check().0, 5);
    }
    let pushed = push(1);
    while check().1 < pushed {}
    assert_eq!(metrics.export_queue_bytes.get(), 0);
    assert!(bytes > 200 * sizes.iter().sum::<usize>());
}
