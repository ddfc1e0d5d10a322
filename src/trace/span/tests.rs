use super::*;
use std::sync::Mutex;

#[derive(Default)]
struct Kept(Mutex<Vec<Record>>);
impl Sink for Kept {
    fn finished(&self, record: Box<Record>) {
        self.0.lock().unwrap().push(*record);
    }
}

fn span(sink: &Arc<Kept>, parent: &Parent, sampled: bool) -> Span {
    let context = child_context(parent, Context::new_root(), sampled);
    let name = Name {
        method: "GET",
        target: None,
    };
    Span::start(
        Kind::Server,
        name,
        parent,
        context,
        Moment::now(),
        sink.clone(),
    )
}

#[test]
fn a_dropped_span_ends_as_cancelled_once() {
    let sink = Arc::new(Kept::default());
    drop(span(&sink, &Parent::Root { unlinked: None }, true));
    span(&sink, &Parent::Root { unlinked: None }, true).end(End::Complete);
    let kept = sink.0.lock().unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].error.as_deref(), Some("cancelled"));
    assert_eq!(kept[1].error, None);
}

#[test]
fn unsampled_spans_record_nothing_and_keep_the_callers_span() {
    let sink = Arc::new(Kept::default());
    let caller = Context::new_root();
    let parent = Parent::Remote(caller.clone());
    let span = span(&sink, &parent, false);
    assert_eq!(span.context().span_id, caller.span_id);
    assert!(!span.context().flags.is_sampled() && span.context().flags.is_random());
    drop(span);
    assert!(sink.0.lock().unwrap().is_empty());
}

#[test]
fn limits_hold_and_are_counted() {
    let sink = Arc::new(Kept::default());
    let mut span = span(&sink, &Parent::Root { unlinked: None }, true);
    for i in 0..MAX_ATTRIBUTES + 3 {
        span.attribute(
            Key::Shared(format!("k{i}").into()),
            "é".repeat(MAX_VALUE_BYTES),
        );
    }
    span.end(End::Complete);
    let kept = sink.0.lock().unwrap();
    assert_eq!(kept[0].attributes.len(), MAX_ATTRIBUTES);
    assert_eq!(kept[0].dropped_attributes, 3);
    assert!(matches!(&kept[0].attributes[0].1, Value::Text(t) if t.len() <= MAX_VALUE_BYTES));
}
