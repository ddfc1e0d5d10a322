use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn tokens() -> Arc<Tokens> {
    Arc::new(Tokens::default())
}

fn context() -> Context {
    Context {
        tracestate: Some(HeaderValue::from_static("a=1")),
        baggage: Some(HeaderValue::from_static("b=2")),
        ..Context::new_root()
    }
}

fn bare(context: &Context) -> Context {
    Context {
        tracestate: None,
        baggage: None,
        ..context.clone()
    }
}

fn with(value: &HeaderValue, more: &str) -> HeaderValue {
    HeaderValue::from_bytes(&[value.as_bytes(), more.as_bytes()].concat()).unwrap()
}

#[test]
fn a_token_is_short_and_safe_in_a_header() {
    let held = tokens().enter(context()).unwrap();
    let value = held.value().unwrap();
    assert_eq!(value.len(), 22);
    assert!(
        value
            .as_bytes()
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    );
    assert!(value.is_sensitive());
}

#[test]
fn tokens_are_random_in_every_place() {
    let seen: Vec<Token> = (0..2000).map(|_| random().unwrap()).collect();
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len());
    for place in 0..LENGTH {
        let letters: HashSet<u8> = seen.iter().map(|token| token[place]).collect();
        // 2,000 draws of 64: one missing has a chance of 1e-12.
        assert_eq!(letters.len(), 64, "place {place}");
    }
}

#[test]
fn it_joins_while_in_flight_and_links_afterwards() {
    let (tokens, context) = (tokens(), context());
    let held = tokens.enter(context.clone()).unwrap();
    let value = held.value().unwrap();
    assert_eq!(
        tokens.by_token(&value),
        TokenAnswer::Joined(context.clone())
    );
    drop(held);
    assert_eq!(tokens.by_token(&value), TokenAnswer::Dead(bare(&context)));
}

#[test]
fn a_call_that_the_app_made_after_its_answer_is_not_joined() {
    let (tokens, context) = (tokens(), context());
    let held = tokens.enter(context.clone()).unwrap();
    let over = with(&held.value().unwrap(), ";ended");
    assert_eq!(tokens.by_token(&over), TokenAnswer::Dead(bare(&context)));
    drop(held);
    assert_eq!(tokens.by_token(&over), TokenAnswer::Dead(bare(&context)));
}

#[test]
fn whatever_else_comes_is_unknown() {
    let tokens = tokens();
    let held = tokens.enter(context()).unwrap();
    let value = held.value().unwrap();
    let text = value.to_str().unwrap();
    let swapped: String = text.chars().rev().collect();
    let rows = [
        String::new(),
        text[..21].to_owned(),
        format!("{text}x"),
        format!("{text} "),
        format!("{text},{text}"),
        format!("{text};ENDED"),
        format!("{text};ended;ended"),
        swapped,
        "A".repeat(22),
        "A".repeat(8000),
    ];
    for row in rows {
        let value = HeaderValue::from_str(&row).unwrap();
        assert_eq!(tokens.by_token(&value), TokenAnswer::Unknown, "{row}");
    }
}

#[test]
fn memory_is_bounded_and_the_newest_dead_are_kept() {
    let tokens = tokens();
    let values: Vec<HeaderValue> = (0..REMEMBERED + 10)
        .map(|_| tokens.enter(context()).unwrap().value().unwrap())
        .collect();
    assert_eq!(tokens.size(), (0, REMEMBERED));
    let known = |value: &HeaderValue| tokens.by_token(value) != TokenAnswer::Unknown;
    assert!(!values[..10].iter().any(known));
    assert!(values[10..].iter().all(known));
}

#[test]
fn the_hash_spreads() {
    use std::hash::BuildHasher;
    let hasher = BuildHasherDefault::<FirstBytes>::default();
    let hash = |token: &Token| hasher.hash_one(token);
    let hashes: Vec<u64> = (0..4096).map(|_| hash(&random().unwrap())).collect();
    // hashbrown takes buckets from the low bits and tags from the top seven.
    for (shift, bits) in [(0, 8), (57, 7)] {
        let mut filled = vec![0; 1 << bits];
        for hash in &hashes {
            filled[(hash >> shift) as usize & ((1 << bits) - 1)] += 1;
        }
        let fair = hashes.len() / filled.len();
        assert!(filled.iter().all(|n| *n > 0 && *n < fair * 4), "{filled:?}");
    }
}

#[test]
fn every_spelling_is_taken_off() {
    type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
    let rows: &[Row<'_>] = &[
        (&[], None),
        (&[("hopspan-token", "a")], Some("a")),
        (&[("Hopspan-Token", "a"), ("x", "y")], Some("a")),
        (&[("hopspan-token", "a"), ("hopspan-token", "b")], None),
        (&[("hopspan_token", "a")], None),
        (&[("hopspan.token", "a"), ("hopspan-token", "b")], Some("b")),
        (&[("hopspan_token", "a"), ("hopspan.token", "b")], None),
    ];
    for (headers, expected) in rows {
        let mut map = HeaderMap::new();
        for (name, value) in *headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_static(value),
            );
        }
        let taken = strip(&mut map);
        assert_eq!(taken.as_ref().map(|v| v.to_str().unwrap()), *expected);
        assert!(!map.keys().any(|name| name.as_str().starts_with("hopspan")));
        assert_eq!(
            map.contains_key("x"),
            headers.iter().any(|(n, _)| *n == "x")
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter,
    Leave(prop::sample::Index),
    Ask(prop::sample::Index, bool),
    AskNonsense(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Enter),
        3 => any::<prop::sample::Index>().prop_map(Step::Leave),
        6 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, over)| Step::Ask(at, over)),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::AskNonsense),
    ]
}

proptest! {
    /// Against a model: joined exactly while held and never to another, dead afterwards, nothing kept beyond the bound.
    #[test]
    fn joined_only_while_in_flight(steps in prop::collection::vec(step(), 1..300)) {
        let tokens = tokens();
        let mut all: Vec<(HeaderValue, Context, Option<Held>)> = Vec::new();
        for step in steps {
            match step {
                Step::Enter => {
                    let context = context();
                    let held = tokens.enter(context.clone()).unwrap();
                    all.push((held.value().unwrap(), context, Some(held)));
                }
                Step::Leave(at) if !all.is_empty() => {
                    let at = at.index(all.len());
                    all[at].2 = None;
                }
                Step::Ask(at, over) if !all.is_empty() => {
                    let (value, context, held) = &all[at.index(all.len())];
                    let answer = match over {
                        true => tokens.by_token(&with(value, ";ended")),
                        false => tokens.by_token(value),
                    };
                    let expected = match held {
                        Some(_) if !over => TokenAnswer::Joined(context.clone()),
                        _ => TokenAnswer::Dead(bare(context)),
                    };
                    prop_assert_eq!(answer, expected);
                }
                Step::AskNonsense(bytes) => {
                    if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                        prop_assert_eq!(tokens.by_token(&value), TokenAnswer::Unknown);
                    }
                }
                _ => {}
            }
            let in_flight = all.iter().filter(|(.., held)| held.is_some()).count();
            prop_assert_eq!(tokens.size(), (in_flight, all.len() - in_flight));
        }
    }
}

/// `cargo test --release --lib token::tests::cost -- --ignored --nocapture`
#[test]
#[ignore = "prints what a token costs"]
fn cost() {
    let tokens = tokens();
    let time = |what: &str, work: &mut dyn FnMut()| {
        let rounds = 200_000;
        let started = std::time::Instant::now();
        for _ in 0..rounds {
            work();
        }
        let each = started.elapsed().as_nanos() / rounds;
        println!("{what}: {each} ns");
    };
    let held = tokens.enter(context()).unwrap();
    let value = held.value().unwrap();
    time("random", &mut || {
        std::hint::black_box(random());
    });
    time("enter, value, leave", &mut || {
        let held = tokens.enter(context()).unwrap();
        std::hint::black_box(held.value());
    });
    time("context alone", &mut || {
        drop(std::hint::black_box(context()));
    });
    time("by_token", &mut || {
        drop(std::hint::black_box(tokens.by_token(&value)));
    });
    let mut headers = HeaderMap::new();
    for name in [
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "connection",
        "x-request-id",
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
    }
    time("strip of six headers", &mut || {
        drop(std::hint::black_box(strip(&mut headers)));
    });
}
