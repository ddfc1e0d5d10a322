//! One row per way to say something twice.

use super::*;

/// Target, version, fields, and the status it is answered with.
type Row = (
    &'static str,
    Version,
    &'static [(&'static str, &'static str)],
    u16,
);

fn request(target: &str, version: Version, lines: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().uri(target).version(version);
    for (name, value) in lines {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

#[test]
fn what_is_refused_and_what_is_not() {
    const OK: u16 = 200;
    let (v11, v2) = (Version::HTTP_11, Version::HTTP_2);
    let rows: &[Row] = &[
        ("/", v11, &[("host", "a")], OK),
        ("/", v11, &[("host", "")], OK),
        ("/", v11, &[("host", "a:8080")], OK),
        ("/", v11, &[("host", "[::1]:8080")], OK),
        ("/", v11, &[("host", "my_service")], OK),
        ("/", Version::HTTP_10, &[], OK),
        ("*", v11, &[("host", "a")], 400),
        ("a", v11, &[("host", "a")], 400),
        ("a:80", v11, &[("host", "a")], 400),
        ("http://b/", v11, &[("host", "a")], OK),
        ("http://b/", v2, &[], OK),
        ("http://b/", v2, &[("host", "B")], OK),
        ("http://b/", v2, &[("host", "a")], 400),
        ("http://b/", v2, &[("host", "b"), ("host", "b")], 400),
        ("/", v2, &[("host", "a")], OK),
        ("/", v2, &[], 400),
        ("/", v11, &[], 400),
        ("http://b/", v11, &[], 400),
        ("/", v11, &[("host", "a"), ("host", "a")], 400),
        ("/", v11, &[("host", "a"), ("host", "b")], 400),
        ("/", v11, &[("host", "a b")], 400),
        ("/", v11, &[("host", "a, b")], 400),
        ("/", v11, &[("host", "a/b")], 400),
        ("/", v11, &[("host", "u@a")], 400),
        ("/", v11, &[("host", "a:b")], 400),
        ("/", v11, &[("host", "a:1:2")], 400),
        ("/", v11, &[("host", "a:99999")], 400),
        ("/", v11, &[("host", ":80")], 400),
        ("/", v11, &[("host", "[::1")], 400),
        ("/", v11, &[("host", "[x]")], 400),
        ("/", v11, &[("host", "a\\b")], 400),
        ("/", v11, &[("host", "a?b")], 400),
        ("http://u:p@b/", v11, &[("host", "a")], 400),
        ("ftp://b/", v11, &[("host", "b")], 400),
        (
            "/",
            v11,
            &[("host", "a"), ("transfer-encoding", "chunked")],
            OK,
        ),
        (
            "/",
            v11,
            &[("host", "a"), ("transfer-encoding", "Chunked")],
            OK,
        ),
        (
            "/",
            v11,
            &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
            400,
        ),
        (
            "/",
            v11,
            &[("host", "a"), ("transfer-encoding", "chunked, chunked")],
            400,
        ),
        (
            "/",
            v11,
            &[
                ("host", "a"),
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            400,
        ),
        (
            "/",
            v11,
            &[
                ("host", "a"),
                ("transfer-encoding", "chunked"),
                ("content-length", "3"),
            ],
            400,
        ),
        (
            "/",
            Version::HTTP_10,
            &[("transfer-encoding", "chunked")],
            400,
        ),
        ("/", v11, &[("host", "a"), ("content-length", "3")], OK),
        (
            "/",
            v11,
            &[
                ("host", "a"),
                ("content-length", "3"),
                ("content-length", "3"),
            ],
            400,
        ),
        ("/", v11, &[("host", "a"), ("content-length", "3, 3")], 400),
        ("/", v11, &[("host", "a"), ("content-length", "+3")], 400),
        ("/", v11, &[("host", "a"), ("content-length", "")], 400),
        (
            "/",
            v11,
            &[("host", "a"), ("content-length", "99999999999999999999")],
            400,
        ),
        ("/", v11, &[("host", "a"), ("expect", "100-Continue")], OK),
        ("/", v11, &[("host", "a"), ("expect", "tea")], 417),
        (
            "/",
            v11,
            &[("host", "a"), ("expect", "100-continue, tea")],
            417,
        ),
        (
            "/",
            v11,
            &[
                ("host", "a"),
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
            ],
            OK,
        ),
        (
            "/",
            v11,
            &[
                ("host", "a"),
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("content-length", "0"),
            ],
            OK,
        ),
        (
            "/",
            v11,
            &[
                ("host", "a"),
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("content-length", "1"),
            ],
            400,
        ),
        (
            "/",
            v11,
            &[
                ("host", "a"),
                ("upgrade", "h2c"),
                ("connection", "upgrade"),
                ("content-length", "1"),
            ],
            OK,
        ),
    ];
    let mut ran = 0;
    for (target, version, lines, expected) in rows {
        let got = match validate(&request(target, *version, lines)) {
            Ok(()) => OK,
            Err(error) => error.status.as_u16(),
        };
        assert_eq!(got, *expected, "{target} {lines:?}");
        ran += 1;
    }
    assert_eq!(ran, 54);
}

#[test]
fn targets() {
    let rows = [
        ("GET", "/x?y", "a", Some((false, "a", 80, "/x?y"))),
        ("GET", "/", "[::1]:8080", Some((false, "::1", 8080, "/"))),
        ("GET", "/", "a:", Some((false, "a", 80, "/"))),
        ("OPTIONS", "*", "a", Some((false, "a", 80, "*"))),
        ("GET", "http://b:81/x", "a", Some((false, "b", 81, "/x"))),
        ("GET", "https://b", "a", Some((true, "b", 443, "/"))),
        ("CONNECT", "b:443", "b:443", Some((false, "b", 443, ""))),
        ("CONNECT", "b", "b", None),
        ("GET", "/", "", None),
    ];
    let mut ran = 0;
    for (method, uri, host, expected) in rows {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", host)
            .body(())
            .unwrap();
        let got = target(&request, false)
            .ok()
            .map(|t| (t.https, t.host, t.port, t.path_and_query));
        assert_eq!(got, expected, "{method} {uri} {host}");
        ran += 1;
    }
    assert_eq!(ran, 9);
}

#[test]
fn what_is_plain_at_a_glance_is_a_host() {
    let mut plain = 0;
    for host in [
        "",
        "a",
        "my_service",
        "10.0.0.1",
        "a.b-c",
        "[::1]",
        "a b",
        "u@a",
        "%41",
    ] {
        for port in [
            "", ":", ":0", ":80", ":65535", ":65536", ":99999", ":123456", ":8a", ":1:2", ":+80",
        ] {
            let authority = format!("{host}{port}");
            let known = is_plain_authority(authority.as_bytes());
            if known {
                plain += 1;
                assert!(
                    check_any_authority(authority.as_bytes(), false).is_ok(),
                    "{authority}"
                );
            }
        }
    }
    assert_eq!(plain, 4 * 5);
}

#[test]
fn a_port_is_digits() {
    for (authority, ok) in [
        ("a:80", true),
        ("a:080", true),
        ("a:+80", false),
        ("[::1]:+80", false),
        ("a:-1", false),
    ] {
        assert_eq!(
            check_any_authority(authority.as_bytes(), false).is_ok(),
            ok,
            "{authority}"
        );
    }
}
