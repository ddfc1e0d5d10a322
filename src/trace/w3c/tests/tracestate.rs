//! The cases of the W3C's own suite (`trace-context/test/test.py`) for `tracestate`, a row each.

use super::*;

/// (case of the suite, lines, what leaves)
#[test]
fn tracestate_as_the_w3c_suite_has_it() {
    let members = |range: std::ops::RangeInclusive<u8>| {
        let all: Vec<String> = range.map(|n| format!("bar{n:02}={n:02}")).collect();
        all.join(",")
    };
    let (first, second, third) = (members(1..=10), members(11..=20), members(21..=30));
    let (to_32, to_33) = (members(31..=32), members(31..=33));
    let all_32 = [&*first, &second, &third, &to_32].join(",");
    let all_keys = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let value: String = (0x20..=0x7e_u8)
        .map(char::from)
        .filter(|c| !",=".contains(*c))
        .collect();
    let (plain, vendor) = (
        format!("{all_keys}={value}"),
        format!("{all_keys}@a-z0-9_-*/={value}"),
    );
    let z256 = format!("{}=1", "z".repeat(256));
    let z257 = format!("{}=1", "z".repeat(257));
    let t241 = format!("{}@{}=1", "t".repeat(241), "v".repeat(14));
    let t242 = format!("{}@v=1", "t".repeat(242));
    let v15 = format!("t@{}=1", "v".repeat(15));
    let (foo_z256, foo_t241) = (format!("foo=1,{z256}"), format!("foo=1,{t241}"));
    let (foo_t242, foo_v15) = (format!("foo=1,{t242}"), format!("foo=1,{v15}"));
    let v256 = format!("foo={}", "v".repeat(256));
    let v257 = format!("foo={}", "v".repeat(257));

    let rows: Vec<(&str, Vec<&str>, Option<&str>)> = vec![
        ("included", vec!["foo=1,bar=2"], Some("foo=1,bar=2")),
        ("empty_header 1", vec![""], None),
        ("empty_header 2", vec!["foo=1", ""], Some("foo=1")),
        ("empty_header 3", vec!["", "foo=1"], Some("foo=1")),
        (
            "multiple_headers_different_keys",
            vec!["foo=1,bar=2", "rojo=1,congo=2", "baz=3"],
            Some("foo=1,bar=2,rojo=1,congo=2,baz=3"),
        ),
        ("duplicated_keys 1", vec!["foo=1,foo=1"], None),
        ("duplicated_keys 2", vec!["foo=1,foo=2"], None),
        ("duplicated_keys 3", vec!["foo=1", "foo=1"], None),
        ("duplicated_keys 4", vec!["foo=1", "foo=2"], None),
        ("all_allowed_characters 1", vec![&plain], Some(&plain)),
        ("all_allowed_characters 2", vec![&vendor], Some(&vendor)),
        (
            "ows_handling 1",
            vec!["foo=1 \t , \t bar=2, \t baz=3"],
            Some("foo=1 \t , \t bar=2, \t baz=3"),
        ),
        (
            "ows_handling 2",
            vec!["foo=1\t \t,\t \tbar=2,\t \tbaz=3"],
            Some("foo=1\t \t,\t \tbar=2,\t \tbaz=3"),
        ),
        ("ows_handling 3", vec![" foo=1"], Some(" foo=1")),
        ("ows_handling 4", vec!["\tfoo=1"], Some("\tfoo=1")),
        ("ows_handling 5", vec!["foo=1 "], Some("foo=1 ")),
        ("ows_handling 6", vec!["foo=1\t"], Some("foo=1\t")),
        ("ows_handling 7", vec!["\t foo=1 \t"], Some("\t foo=1 \t")),
        ("key_illegal_characters 1", vec!["foo =1"], None),
        ("key_illegal_characters 2", vec!["FOO=1"], None),
        ("key_illegal_characters 3", vec!["foo.bar=1"], None),
        ("key_illegal_vendor_format 2", vec!["@foo=1,bar=2"], None),
        (
            "member_count_limit 32",
            vec![&first, &second, &third, &to_32],
            Some(&all_32),
        ),
        (
            "member_count_limit 33",
            vec![&first, &second, &third, &to_33],
            None,
        ),
        (
            "key_length_limit 256",
            vec!["foo=1", &z256],
            Some(&foo_z256),
        ),
        ("key_length_limit 257", vec!["foo=1", &z257], None),
        (
            "key_length_limit 241 + 14",
            vec!["foo=1", &t241],
            Some(&foo_t241),
        ),
        ("value_illegal_characters 1", vec!["foo=bar=baz"], None),
        ("value_illegal_characters 2", vec!["foo=,bar=3"], None),
        // The suite refuses these five by level 1's key; level 2's grammar (3.3.1.3.1), which hopspan follows, has them.
        (
            "key_illegal_vendor_format 1",
            vec!["foo@=1,bar=2"],
            Some("foo@=1,bar=2"),
        ),
        (
            "key_illegal_vendor_format 3",
            vec!["foo@@bar=1,bar=2"],
            Some("foo@@bar=1,bar=2"),
        ),
        (
            "key_illegal_vendor_format 4",
            vec!["foo@bar@baz=1,bar=2"],
            Some("foo@bar@baz=1,bar=2"),
        ),
        (
            "key_length_limit 242",
            vec!["foo=1", &t242],
            Some(&foo_t242),
        ),
        ("key_length_limit 15", vec!["foo=1", &v15], Some(&foo_v15)),
        // beyond the suite
        (
            "empty members",
            vec!["foo=1,,bar=2,"],
            Some("foo=1,,bar=2,"),
        ),
        ("nothing but commas", vec![" , ,"], None),
        ("longest value", vec![&v256], Some(&v256)),
        ("value too long", vec![&v257], None),
        ("no equals sign", vec!["foo"], None),
        ("key starts with a digit", vec!["1foo=1"], Some("1foo=1")),
        ("tab inside a value", vec!["foo=1\t2"], None),
        ("not ASCII", vec!["foo=é"], None),
    ];
    let mut ran = 0;
    for (case, lines, want) in rows {
        let mut all = vec![("traceparent", GOOD)];
        all.extend(lines.iter().map(|line| ("tracestate", *line)));
        let mut reasons = Vec::new();
        let Extracted::Valid(context) = extract_reporting(&headers(&all), |r| reasons.push(r))
        else {
            panic!("{case}: the traceparent was not kept");
        };
        let have = context
            .tracestate
            .map(|v| String::from_utf8(v.as_bytes().to_vec()).unwrap());
        assert_eq!(have.as_deref(), want, "{case}");
        let nothing_there = lines
            .iter()
            .all(|line| line.trim_matches([',', ' ']).is_empty());
        assert_eq!(
            reasons.len(),
            usize::from(want.is_none() && !nothing_there),
            "{case}: {reasons:?}"
        );
        ran += 1;
    }
    assert_eq!(ran, 42);
}

#[test]
fn a_list_that_only_white_space_makes_long_is_dropped() {
    let long = format!("foo=1{},bar=2", " ".repeat(MAX_TRACESTATE_BYTES));
    let mut reasons = Vec::new();
    let map = headers(&[("traceparent", GOOD), ("tracestate", &long)]);
    extract_reporting(&map, |r| reasons.push(r));
    assert_eq!(reasons, ["tracestate_bytes"]);
}
