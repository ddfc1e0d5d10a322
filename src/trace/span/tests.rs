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
        let value = "é".repeat(if i == 0 { MAX_VALUE_BYTES } else { 1 });
        span.attribute(Key::Shared(format!("k{i}").into()), value);
    }
    span.end(End::Complete);
    let kept = sink.0.lock().unwrap();
    assert_eq!(kept[0].attributes.len(), MAX_ATTRIBUTES);
    assert_eq!(kept[0].dropped_attributes, 3);
    assert!(matches!(&kept[0].attributes[0].1, Value::Text(t) if t.len() <= MAX_VALUE_BYTES));
}

#[test]
fn the_text_of_all_attributes_has_a_limit() {
    let sink = Arc::new(Kept::default());
    let mut span = span(&sink, &Parent::Root { unlinked: None }, true).limited(Limits {
        bytes: 100,
        ..Limits::default()
    });
    span.attribute("first", "x".repeat(60));
    span.attribute("second", "x".repeat(41));
    span.attribute("list", Value::List(vec!["x".repeat(21), "x".repeat(20)]));
    span.attribute("third", "x".repeat(40));
    span.attribute("fourth", "x".to_owned());
    // What is known of the outcome is always kept.
    span.attribute("status", 200_i64);
    span.attribute("first", "x".repeat(61));
    span.attribute("third", String::new());
    span.attribute("fifth", "x".repeat(40));
    span.fail("timeout", None);
    span.end(End::Complete);
    let kept = sink.0.lock().unwrap();
    let keys: Vec<_> = kept[0]
        .attributes
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(keys, ["first", "third", "status", "fifth", "error.type"]);
    assert_eq!(kept[0].dropped_attributes, 4);
}
