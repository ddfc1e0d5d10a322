//! What is said of a trace: where it broke, and nothing where it went well.

use std::sync::Arc;

use super::*;
use crate::view::fixture::spans;
use crate::view::span::Span;
use crate::view::waterfall::{Waterfall, lay_out};
use failing::FAILING;
use own::OWN;

mod failing;
mod own;

fn laid_out(spans: &[Arc<Span>]) -> Waterfall {
    lay_out(spans, 0).unwrap()
}

#[test]
fn says_where_it_broke() {
    for (name, tree, case, service, failures, sentence) in FAILING.iter().chain(OWN) {
        let waterfall = laid_out(&spans(tree));
        let verdict = waterfall
            .verdict
            .unwrap_or_else(|| panic!("{name}: nothing said"));
        assert_eq!(verdict.sentence, *sentence, "{name}");
        assert_eq!(verdict.case, *case, "{name}");
        assert_eq!(verdict.service.as_deref(), *service, "{name}");
        assert_eq!(waterfall.failures, *failures, "{name}");
        let failed = !matches!(case, Case::Recovered | Case::Swallowed | Case::Incomplete);
        assert_eq!(waterfall.failed, failed, "{name}");
        let origins = waterfall.rows.iter().filter(|row| row.origin).count();
        assert_eq!(origins, usize::from(failed), "{name}");
    }
}

#[test]
fn says_nothing_of_a_trace_that_went_well() {
    let waterfall = laid_out(&spans(
        "
order server GET /o 404 0..57
  order app GET 404 1..56
    order client GET http://payment/ 200 1..50
",
    ));
    assert_eq!(waterfall.verdict, None);
    assert_eq!((waterfall.failed, waterfall.failures), (false, 0));
}

#[test]
fn the_order_of_arrival_changes_nothing() {
    for (name, tree, ..) in FAILING {
        let mut spans = spans(tree);
        let expected = laid_out(&spans);
        for _ in 0..spans.len() {
            spans.rotate_left(1);
            assert_eq!(laid_out(&spans), expected, "{name}");
        }
        spans.reverse();
        assert_eq!(laid_out(&spans), expected, "{name}");
    }
}

#[test]
fn a_successful_call_more_does_not_change_the_culprit() {
    for (name, tree, _, service, ..) in FAILING.iter().filter(|row| row.3.is_some()) {
        let before = spans(tree);
        for place in 0..before.len() {
            let (parent, ok) = (&before[place], Arc::clone(&before[place]));
            let sibling = Span {
                trace_id: ok.trace_id,
                span_id: opentelemetry::SpanId::from(0xfeed_u64),
                parent_id: Some(parent.span_id),
                source: Arc::clone(&ok.source),
                name: "GET".into(),
                kind: Kind::Client,
                start_unix_nanos: ok.end_unix_nanos,
                end_unix_nanos: ok.end_unix_nanos + 5,
                status: crate::view::span::Status::Unset,
                attributes: vec![(crate::view::span::EVIDENCE.into(), "serial".into())],
                events: Vec::new(),
                links: Vec::new(),
            };
            let mut after = before.clone();
            after.push(Arc::new(sibling));
            let verdict = laid_out(&after).verdict.unwrap();
            assert_eq!(
                verdict.service.as_deref(),
                *service,
                "{name}, below {place}"
            );
        }
    }
}

#[test]
fn with_spans_missing_it_says_so_and_blames_only_who_is_here() {
    let mut checked = 0;
    for (name, tree, ..) in FAILING {
        let all = spans(tree);
        for absent in 0..all.len() {
            let mut some = all.clone();
            some.remove(absent);
            let Some(waterfall) = lay_out(&some, 0) else {
                continue;
            };
            let Some(verdict) = waterfall.verdict else {
                continue;
            };
            checked += 1;
            if let Some(service) = &verdict.service {
                assert!(
                    waterfall.services.contains(service),
                    "{name}: {service} is not here"
                );
            }
            let says_so = verdict.sentence.contains("not here (yet)");
            assert!(
                says_so || waterfall.missing == 0,
                "{name}: {}",
                verdict.sentence
            );
        }
    }
    assert!(checked > 20, "only {checked} cases");
}

#[test]
fn long_names_are_cut() {
    let path = format!("/{}", "é".repeat(200));
    let tree = format!("gateway server GET {path} 500 0..41");
    let sentence = laid_out(&spans(&tree)).verdict.unwrap().sentence;
    assert!(sentence.chars().count() < 200, "{sentence}");
    assert!(sentence.contains('…'));
}
