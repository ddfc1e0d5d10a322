use super::*;
use crate::view::span::{Kind, Source, Status};

const ROOMY: Limits = Limits {
    bytes: 1 << 20,
    traces: 1000,
};

fn span(trace: u64, id: u64, failed: bool) -> Span {
    sized(trace, id, failed, 0)
}

/// A span whose name takes `bytes`.
fn sized(trace: u64, id: u64, failed: bool, bytes: usize) -> Span {
    Span {
        trace_id: TraceId::from(u128::from(trace)),
        span_id: SpanId::from(id),
        parent_id: None,
        source: Arc::new(Source {
            service: "order".into(),
            resource: Arc::default(),
            scope: "".into(),
            share: 0,
        }),
        name: "x".repeat(bytes).into(),
        kind: Kind::Server,
        start_unix_nanos: trace,
        end_unix_nanos: trace,
        status: if failed {
            Status::Error("".into())
        } else {
            Status::Unset
        },
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
    }
}

fn ids(store: &Store, failing: bool) -> Vec<u64> {
    let found = store.newest(failing);
    let number = |id: &TraceId| u64::try_from(u128::from_be_bytes(id.to_bytes())).unwrap();
    found.iter().map(number).collect()
}

#[test]
fn spans_of_a_trace_meet_whatever_batch_they_came_in() {
    let store = Store::new(ROOMY);
    store.add(vec![span(1, 3, false), span(2, 1, false)], 0);
    store.add(vec![span(1, 2, true), span(1, 3, false)], 1);
    assert_eq!(store.get(TraceId::from(1)).unwrap().spans.len(), 2);
    let counts = store.counts();
    assert_eq!((counts.requests, counts.spans_received), (2, 5));
    assert_eq!((counts.spans_rejected, counts.spans_duplicate), (1, 1));
    assert_eq!((counts.traces, counts.spans), (2, 3));
}

#[test]
fn lists_newest_first_by_start_and_knows_the_failing() {
    let store = Store::new(ROOMY);
    for (trace, failed) in [(5, false), (9, true), (7, false)] {
        store.add(vec![span(trace, 1, failed)], 0);
    }
    assert_eq!(ids(&store, false), [9, 7, 5]);
    assert_eq!(ids(&store, true), [9]);
    // A failure that comes later counts too, and a clock from the future does not stay on top for ever.
    store.add(vec![span(5, 2, true)], 0);
    store.add(
        vec![Span {
            start_unix_nanos: u64::MAX,
            ..span(3, 1, false)
        }],
        0,
    );
    store.add(
        vec![Span {
            start_unix_nanos: u64::MAX,
            ..span(4, 1, false)
        }],
        0,
    );
    assert_eq!(ids(&store, false), [4, 3, 9, 7, 5]);
    assert_eq!(ids(&store, true), [9, 5]);
}

#[test]
fn the_oldest_leave_first_and_the_failing_last() {
    let store = Store::new(Limits { traces: 8, ..ROOMY });
    for trace in 1..=12 {
        store.add(vec![span(trace, 1, trace <= 2)], 0);
    }
    assert_eq!(ids(&store, false), [12, 11, 10, 9, 8, 7, 2, 1]);
    let counts = store.counts();
    assert_eq!((counts.traces_evicted, counts.spans_evicted), (4, 4));
    assert!(counts.evicting_since.is_some());
}

#[test]
fn failing_traces_leave_room_for_new_ones() {
    let store = Store::new(Limits { traces: 8, ..ROOMY });
    for trace in 1..=100 {
        store.add(vec![span(trace, 1, true)], 0);
    }
    for trace in 101..=102 {
        store.add(vec![span(trace, 1, false)], 0);
    }
    assert_eq!(ids(&store, false), [102, 101, 100, 99, 98, 97, 96, 95]);
}

#[test]
fn memory_stays_below_the_limit() {
    let limits = Limits {
        bytes: 100_000,
        traces: 100_000,
    };
    let store = Store::new(limits);
    for trace in 0..2_000_u64 {
        let size = usize::try_from(trace % 7 * 400).unwrap();
        store.add(vec![sized(trace, 1, trace % 3 == 0, size)], 0);
        let counts = store.counts();
        assert!(counts.bytes <= limits.bytes, "{} bytes", counts.bytes);
        assert!(
            store.get(TraceId::from(u128::from(trace))).is_some() || trace == 0,
            "the newest is kept"
        );
    }
    let counts = store.counts();
    assert_eq!(
        counts.spans_evicted + counts.spans as u64,
        counts.spans_received - counts.spans_rejected
    );
    // The books balance: what is left is what is counted.
    let held: usize = store
        .newest(false)
        .into_iter()
        .filter_map(|id| store.get(id))
        .map(|trace| {
            TRACE_BYTES
                + trace
                    .spans
                    .iter()
                    .map(|span| weight::span(span))
                    .sum::<usize>()
        })
        .sum();
    assert_eq!(counts.bytes, held);
}

#[test]
fn one_large_trace_does_not_push_out_the_others() {
    let limits = Limits {
        bytes: 100_000,
        traces: 1000,
    };
    let store = Store::new(limits);
    store.add(vec![span(1, 1, false)], 0);
    store.add((1..1000).map(|id| sized(2, id, true, 500)).collect(), 0);
    store.add(vec![sized(3, 1, false, 200_000)], 0);
    assert!(store.get(TraceId::from(1)).is_some());
    let large = store.get(TraceId::from(2)).unwrap();
    assert_eq!(large.spans.len() as u64 + large.not_kept, 999);
    assert!(large.not_kept > 0);
    assert_eq!(store.get(TraceId::from(3)).unwrap().not_kept, 1);
    assert_eq!(store.counts().spans_not_kept, large.not_kept + 1);
}

#[test]
fn finds_by_a_prefix_that_one_trace_has() {
    let store = Store::new(ROOMY);
    let one = TraceId::from(0xab00_0000_0000_0000_0000_0000_0000_0001);
    let two = TraceId::from(0xac00_0000_0000_0000_0000_0000_0000_0002);
    for id in [one, two] {
        store.add(
            vec![Span {
                trace_id: id,
                ..span(1, 1, false)
            }],
            0,
        );
    }
    assert!(matches!(store.find("ab"), Found::One(trace) if trace.trace_id == one));
    assert!(matches!(store.find(&two.to_string()), Found::One(trace) if trace.trace_id == two));
    assert!(matches!(store.find("a"), Found::Several(2, _)));
    assert!(matches!(store.find("b"), Found::None));
    assert!(matches!(store.find("+b"), Found::None));
}

#[test]
fn the_estimate_covers_texts_and_shares() {
    let small = weight::span(&span(1, 1, false));
    assert!(weight::span(&sized(1, 1, false, 1000)) >= small + 1000);
    let mut heavy = span(1, 1, false);
    heavy
        .attributes
        .push(("k".into(), serde_json::json!({ "a": ["x".repeat(500), 1] })));
    assert!(weight::span(&heavy) > small + 500);
    let mut resourceful = span(1, 1, false);
    resourceful.source = Arc::new(Source {
        service: "order".into(),
        resource: Arc::default(),
        scope: "".into(),
        share: 700,
    });
    assert_eq!(weight::span(&resourceful), small + 700);
}
