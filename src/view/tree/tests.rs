use std::collections::HashSet;
use std::time::Duration;

use opentelemetry::TraceId;
use proptest::prelude::*;

use super::*;
use crate::view::span::{Kind, Source, Status};
use crate::view::waterfall::lay_out;

fn span(id: u64, parent: Option<u64>, start: u64) -> Arc<Span> {
    Arc::new(Span {
        trace_id: TraceId::from(1),
        span_id: SpanId::from(id),
        parent_id: parent.map(SpanId::from),
        source: Arc::new(Source {
            service: "order".into(),
            resource: Arc::default(),
            scope: "".into(),
            share: 0,
        }),
        name: "x".into(),
        kind: Kind::Internal,
        start_unix_nanos: start,
        end_unix_nanos: start + 1,
        status: if start.is_multiple_of(3) {
            Status::Error("".into())
        } else {
            Status::Unset
        },
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
    })
}

/// ID, depth and why at the top, in the order drawn.
fn drawn(spans: &[Arc<Span>]) -> Vec<(u64, usize, Option<Top>)> {
    let tree = Tree::grow(spans);
    tree.walk()
        .into_iter()
        .map(|(place, depth)| {
            let node = tree.node(place).unwrap();
            (
                u64::from_be_bytes(node.span.span_id.to_bytes()),
                depth,
                node.top,
            )
        })
        .collect()
}

#[test]
fn children_hang_below_their_parents_by_start() {
    let spans = [
        span(3, Some(1), 5),
        span(1, None, 0),
        span(2, Some(1), 9),
        span(4, Some(3), 6),
    ];
    assert_eq!(
        drawn(&spans),
        [
            (1, 0, Some(Top::Root)),
            (3, 1, None),
            (4, 2, None),
            (2, 1, None)
        ]
    );
}

#[test]
fn orphans_and_several_roots_stand_at_the_top() {
    let spans = [
        span(1, None, 4),
        span(2, None, 2),
        span(3, Some(77), 3),
        span(4, Some(3), 1),
        span(5, Some(77), 9),
    ];
    assert_eq!(
        drawn(&spans),
        [
            (2, 0, Some(Top::Root)),
            (3, 0, Some(Top::Orphan)),
            (4, 1, None),
            (1, 0, Some(Top::Root)),
            (5, 0, Some(Top::Orphan)),
        ]
    );
    assert_eq!(
        Tree::grow(&spans).missing(),
        1,
        "two orphans of one parent miss one span"
    );
}

#[test]
fn a_circle_is_cut_at_its_earliest_span() {
    let spans = [
        span(1, Some(3), 5),
        span(2, Some(1), 4),
        span(3, Some(2), 6),
        span(4, Some(2), 1),
        span(5, Some(5), 9),
    ];
    assert_eq!(
        drawn(&spans),
        [
            (2, 0, Some(Top::Cycle)),
            (4, 1, None),
            (3, 1, None),
            (1, 2, None),
            (5, 0, Some(Top::Cycle))
        ]
    );
}

/// Time that this thread was on a CPU: the first number of `schedstat`. None where the kernel does not count it.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

#[test]
fn a_hundred_thousand_deep_is_no_trouble() {
    let before = on_cpu();
    let chain: Vec<_> = (1..=100_000)
        .map(|id| span(id, (id > 1).then(|| id - 1), id))
        .collect();
    let waterfall = lay_out(&chain, 0).unwrap();
    assert_eq!(waterfall.rows.last().unwrap().depth, 99_999);
    let circle: Vec<_> = (1..=100_000)
        .map(|id| span(id, Some(id % 100_000 + 1), id))
        .collect();
    assert_eq!(lay_out(&circle, 0).unwrap().rows.len(), 100_000);
    // Quadratic work would take minutes; the limit leaves room for slow machines, and for those that stand still.
    let took = on_cpu() - before;
    assert!(took < Duration::from_secs(20), "{took:?}");
}

proptest! {
    /// Whatever parents the spans name: one row each, parents above, and the order of arrival does not matter.
    #[test]
    fn every_span_is_drawn_once(
        parents in prop::collection::vec((0_u64..30, 0_u64..10), 1..25),
        turn in 0_usize..25,
    ) {
        let mut spans: Vec<Arc<Span>> = parents
            .iter()
            .zip(1..)
            .map(|((parent, start), id)| span(id, (*parent > 0).then_some(*parent), *start))
            .collect();
        let waterfall = lay_out(&spans, 0).unwrap();
        prop_assert_eq!(waterfall.rows.len(), spans.len());
        let mut seen = HashSet::new();
        for row in &waterfall.rows {
            prop_assert!(seen.insert(row.span_id.clone()));
            if row.depth > 0 {
                prop_assert!(seen.contains(row.parent_id.as_ref().unwrap()));
            }
            prop_assert_eq!(row.orphan, row.depth == 0 && row.parent_id.is_some() && !row.cycle);
        }
        let length = spans.len();
        spans.rotate_left(turn % length);
        prop_assert_eq!(&lay_out(&spans, 0).unwrap(), &waterfall);
        spans.reverse();
        prop_assert_eq!(&lay_out(&spans, 0).unwrap(), &waterfall);
    }
}
