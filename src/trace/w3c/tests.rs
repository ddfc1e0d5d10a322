//! The cases of the W3C's own suite (`trace-context/test/test.py`), a row each; what level 2 adds; properties.

mod cost;
mod tracestate;

use super::*;
use proptest::prelude::*;

const ID: &str = "12345678901234567890123456789012";
const GOOD: &str = "00-12345678901234567890123456789012-1234567890123456-01";

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

/// (case of the suite, lines, whether the trace goes on)
#[test]
fn traceparent_as_the_w3c_suite_has_it() {
    let rows: &[(&str, &[&str], bool)] = &[
        ("included", &[GOOD], true),
        (
            "duplicated",
            &[
                "00-12345678901234567890123456789011-1234567890123456-01",
                GOOD,
            ],
            false,
        ),
        (
            "version_0x00 trailing dot",
            &["00-12345678901234567890123456789012-1234567890123456-01."],
            false,
        ),
        (
            "version_0x00 future",
            &[
                "00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
            ],
            false,
        ),
        (
            "version_0xcc",
            &["cc-12345678901234567890123456789012-1234567890123456-01"],
            true,
        ),
        (
            "version_0xcc future",
            &[
                "cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
            ],
            true,
        ),
        (
            "version_0xcc not the future",
            &[
                "cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like",
            ],
            false,
        ),
        (
            "version_0xff",
            &["ff-12345678901234567890123456789012-1234567890123456-01"],
            false,
        ),
        (
            "version_illegal_characters 1",
            &[".0-12345678901234567890123456789012-1234567890123456-01"],
            false,
        ),
        (
            "version_illegal_characters 2",
            &["0.-12345678901234567890123456789012-1234567890123456-01"],
            false,
        ),
        (
            "version_too_long 3",
            &["000-12345678901234567890123456789012-1234567890123456-01"],
            false,
        ),
        (
            "version_too_long 4",
            &["0000-12345678901234567890123456789012-1234567890123456-01"],
            false,
        ),
        (
            "version_too_short",
            &["0-12345678901234567890123456789012-1234567890123456-01"],
            false,
        ),
        (
            "trace_id_all_zero",
            &["00-00000000000000000000000000000000-1234567890123456-01"],
            false,
        ),
        (
            "trace_id_illegal_characters 1",
            &["00-.2345678901234567890123456789012-1234567890123456-01"],
            false,
        ),
        (
            "trace_id_illegal_characters 2",
            &["00-1234567890123456789012345678901.-1234567890123456-01"],
            false,
        ),
        (
            "trace_id_too_long",
            &["00-123456789012345678901234567890123-1234567890123456-01"],
            false,
        ),
        (
            "trace_id_too_short",
            &["00-1234567890123456789012345678901-1234567890123456-01"],
            false,
        ),
        (
            "parent_id_all_zero",
            &["00-12345678901234567890123456789012-0000000000000000-01"],
            false,
        ),
        (
            "parent_id_illegal_characters 1",
            &["00-12345678901234567890123456789012-.234567890123456-01"],
            false,
        ),
        (
            "parent_id_illegal_characters 2",
            &["00-12345678901234567890123456789012-123456789012345.-01"],
            false,
        ),
        (
            "parent_id_too_long",
            &["00-12345678901234567890123456789012-12345678901234567-01"],
            false,
        ),
        (
            "parent_id_too_short",
            &["00-12345678901234567890123456789012-123456789012345-01"],
            false,
        ),
        (
            "trace_flags_illegal_characters 1",
            &["00-12345678901234567890123456789012-1234567890123456-.0"],
            false,
        ),
        (
            "trace_flags_illegal_characters 2",
            &["00-12345678901234567890123456789012-1234567890123456-0."],
            false,
        ),
        (
            "trace_flags_too_long",
            &["00-12345678901234567890123456789012-1234567890123456-001"],
            false,
        ),
        (
            "trace_flags_too_short",
            &["00-12345678901234567890123456789012-1234567890123456-1"],
            false,
        ),
        (
            "ows_handling 1",
            &[" 00-12345678901234567890123456789012-1234567890123456-01"],
            true,
        ),
        (
            "ows_handling 2",
            &["\t00-12345678901234567890123456789012-1234567890123456-01"],
            true,
        ),
        (
            "ows_handling 3",
            &["00-12345678901234567890123456789012-1234567890123456-01 "],
            true,
        ),
        (
            "ows_handling 4",
            &["00-12345678901234567890123456789012-1234567890123456-01\t"],
            true,
        ),
        (
            "ows_handling 5",
            &["\t 00-12345678901234567890123456789012-1234567890123456-01 \t"],
            true,
        ),
        // beyond the suite
        (
            "upper-case hex",
            &["00-ABCDEF78901234567890123456789012-1234567890123456-01"],
            false,
        ),
        (
            "upper-case version",
            &["CC-12345678901234567890123456789012-1234567890123456-01"],
            false,
        ),
        ("from_str_radix takes these", &["00-+1-+1-+1"], false),
        ("short fields", &["0-1-1-1"], false),
        ("empty", &[""], false),
        (
            "comma list",
            &[
                "00-12345678901234567890123456789012-1234567890123456-01,00-12345678901234567890123456789012-1234567890123456-01",
            ],
            false,
        ),
        (
            "comma list of a later version",
            &[
                "cc-12345678901234567890123456789012-1234567890123456-01-x,cc-12345678901234567890123456789012-1234567890123456-01",
            ],
            false,
        ),
        ("the same twice", &[GOOD, GOOD], false),
        (
            "later version, dash at the end",
            &["01-12345678901234567890123456789012-1234567890123456-01-"],
            true,
        ),
        (
            "dash at the end",
            &["00-12345678901234567890123456789012-1234567890123456-01-"],
            false,
        ),
        (
            "other separators",
            &["00_12345678901234567890123456789012_1234567890123456_01"],
            false,
        ),
    ];
    let mut ran = 0;
    for (case, lines, good) in rows {
        let lines: Vec<(&str, &str)> = lines.iter().map(|line| ("traceparent", *line)).collect();
        let mut map = headers(&lines);
        map.insert(TRACESTATE, HeaderValue::from_static("foo=1"));
        match extract(&map) {
            Extracted::Valid(context) => {
                assert!(good, "{case} was taken");
                assert_eq!(context.trace_id.to_string(), ID, "{case}");
                assert_eq!(context.span_id.to_string(), "1234567890123456", "{case}");
                assert!(context.flags.is_sampled(), "{case}");
                assert_eq!(context.tracestate.unwrap(), "foo=1", "{case}");
            }
            Extracted::Malformed(_) => assert!(!good, "{case} was refused"),
            Extracted::Absent => panic!("{case} was not seen"),
        }
        ran += 1;
    }
    assert_eq!(ran, 43);
}

#[test]
fn header_names_as_the_w3c_suite_has_them() {
    let rows: &[(&str, bool)] = &[
        ("trace-parent", false),
        ("trace.parent", false),
        ("TraceParent", true),
        ("TrAcEpArEnT", true),
        ("TRACEPARENT", true),
    ];
    for (name, known) in rows {
        let found = extract(&headers(&[(name, GOOD)]));
        assert_eq!(matches!(found, Extracted::Valid(_)), *known, "{name}");
    }
    assert_eq!(extract(&HeaderMap::new()), Extracted::Absent);
    // tracestate_included_traceparent_missing
    assert_eq!(
        extract(&headers(&[("tracestate", "foo=1")])),
        Extracted::Absent
    );
    for (name, known) in [
        ("trace-state", false),
        ("trace.state", false),
        ("TRACESTATE", true),
    ] {
        let Extracted::Valid(context) =
            extract(&headers(&[("traceparent", GOOD), (name, "foo=1")]))
        else {
            panic!("{name}");
        };
        assert_eq!(context.tracestate.is_some(), known, "{name}");
    }
}

#[test]
fn the_random_flag_stays_and_unknown_bits_go() {
    for (sent, kept) in [
        ("00", 0),
        ("01", 1),
        ("02", 2),
        ("03", 3),
        ("ff", 3),
        ("fc", 0),
    ] {
        let line = format!("00-{ID}-1234567890123456-{sent}");
        let (_, _, flags) = parse_traceparent(line.as_bytes()).unwrap();
        assert_eq!(flags.bits(), kept, "{sent}");
    }
}

#[test]
fn exactly_one_context_leaves_whatever_came() {
    let mut context = Context::new_root();
    context.tracestate = Some(HeaderValue::from_static("a=1"));
    let dirty = [
        ("traceparent", "garbage"),
        ("traceparent", GOOD),
        ("tracestate", "x=1"),
        ("tracestate", "y=1"),
        ("baggage", "k=v"),
        ("trace_parent", "mine"),
    ];
    let mut map = headers(&dirty);
    inject_without_baggage(&mut map, &context);
    assert_eq!(map.get_all("traceparent").iter().count(), 1);
    assert_eq!(
        map.get_all("tracestate").iter().collect::<Vec<_>>(),
        ["a=1"]
    );
    assert_eq!(map.get("baggage").unwrap(), "k=v");

    let mut map = headers(&dirty);
    context.tracestate = None;
    context.baggage = Some(HeaderValue::from_static("own=1"));
    inject(&mut map, &context);
    assert_eq!(extract(&map), Extracted::Valid(context.clone()));
    assert!(map.get("tracestate").is_none());
    assert_eq!(map.get("trace_parent").unwrap(), "mine");

    let mut map = headers(&dirty);
    context.baggage = None;
    inject(&mut map, &context);
    assert!(map.get("baggage").is_none());
    strip(&mut map);
    assert_eq!(map.len(), 1, "{map:?}");
}

proptest! {
    #[test]
    fn no_input_makes_the_parser_panic(line in prop::collection::vec(any::<u8>(), 0..80), state in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_traceparent(&line);
        let _ = check_tracestate(&state);
    }

    #[test]
    fn nearly_valid_input_is_judged_like_the_grammar(at in 0_usize..55, byte in any::<u8>()) {
        let mut line = GOOD.as_bytes().to_vec();
        line[at] = byte;
        let text = String::from_utf8_lossy(&line).trim_matches([' ', '\t']).to_owned();
        let parts: Vec<&str> = text.split('-').collect();
        let hex = |s: &str, n| s.len() == n && s.bytes().all(|b| b"0123456789abcdef".contains(&b));
        let want = text.len() == 55 && matches!(&parts[..], [v, t, p, f] if hex(v, 2) && *v != "ff" && hex(t, 32) && hex(p, 16) && hex(f, 2));
        prop_assert_eq!(parse_traceparent(&line).is_ok(), want, "{}", text);
    }

    #[test]
    fn what_is_printed_is_parsed_again(trace in 1_u128.., span in 1_u64.., bits in any::<u8>()) {
        let context = Context {
            trace_id: TraceId::from_bytes(trace.to_be_bytes()),
            span_id: SpanId::from_bytes(span.to_be_bytes()),
            flags: Flags::from_bits(bits),
            tracestate: None,
            baggage: None,
        };
        let text = print_traceparent(&context);
        let (trace_id, span_id, flags) = parse_traceparent(text.as_bytes()).unwrap();
        prop_assert_eq!((trace_id, span_id, flags), (context.trace_id, context.span_id, context.flags));
    }

    #[test]
    fn tracestate_that_is_kept_is_kept_again(list in "([a-z0-9@=, \t]{0,12},){0,6}") {
        let map = headers(&[("traceparent", GOOD), ("tracestate", &list)]);
        let Extracted::Valid(context) = extract(&map) else { panic!() };
        let mut out = HeaderMap::new();
        inject(&mut out, &context);
        prop_assert_eq!(extract(&out), Extracted::Valid(context));
    }
}
