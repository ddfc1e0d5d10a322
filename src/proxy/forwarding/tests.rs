//! Heads in, heads out.

use super::*;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_two_lists_of_hop_by_hop_fields_agree() {
    for (at, name) in HOP_BY_HOP.iter().enumerate() {
        assert_eq!(hop_by_hop(name), Some(at), "{name}");
    }
    assert_eq!(hop_by_hop(&header::HOST), None);
}

#[test]
fn hop_by_hop_fields_go_and_others_stay() {
    let mut headers = headers(&[
        ("host", "a"),
        ("connection", "Keep-Alive, X-Secret"),
        ("connection", "x-other,, "),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic abc"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("expect", "100-continue"),
        ("x-secret", "1"),
        ("x-other", "2"),
        ("trailer", "x-checksum"),
        ("authorization", "Bearer t"),
    ]);
    strip_hop_by_hop(&mut headers, &[]);
    assert_eq!(names(&headers), ["authorization", "host", "trailer"]);
}

#[test]
fn connection_cannot_remove_what_is_protected() {
    let mut headers = headers(&[
        (
            "connection",
            "traceparent, TraceState, baggage, host, x-forwarded-for, X-Forwarded-Proto, forwarded, content-length, x-mine, b3",
        ),
        ("traceparent", "00"),
        ("tracestate", "a=b"),
        ("baggage", "c=d"),
        ("b3", "0"),
        ("host", "a"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=1.2.3.4"),
        ("content-length", "3"),
        ("x-mine", "kept"),
    ]);
    let before = headers.len();
    strip_hop_by_hop(&mut headers, &[HeaderName::from_static("x-mine")]);
    assert_eq!(headers.len(), before - 1, "only Connection itself");
}

#[test]
fn te_trailers_stays_and_is_named() {
    let mut headers = headers(&[("te", "gzip;q=0.5, trailers"), ("connection", "te, close")]);
    strip_hop_by_hop(&mut headers, &[]);
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers["connection"], "te");
}

#[test]
fn only_websocket_is_an_upgrade() {
    let rows = [
        (Some("websocket"), Some("Upgrade"), true),
        (Some("WebSocket"), Some("keep-alive, upgrade"), true),
        (
            Some("h2c, websocket"),
            Some("upgrade, http2-settings"),
            true,
        ),
        (Some("websocket"), None, false),
        (Some("websocket"), Some("keep-alive"), false),
        (Some("h2c"), Some("Upgrade"), false),
        (Some("websockets"), Some("Upgrade"), false),
        (None, Some("Upgrade"), false),
    ];
    let mut ran = 0;
    for (upgrade, connection, is) in rows {
        let mut headers = HeaderMap::new();
        for (name, value) in [("upgrade", upgrade), ("connection", connection)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        assert_eq!(
            upgrade_of(&headers).is_some(),
            is,
            "{upgrade:?} {connection:?}"
        );
        ran += 1;
    }
    assert_eq!(ran, 8);
}

#[test]
fn a_request_becomes_origin_form_with_the_authoritys_host() {
    let mut request = Request::get("http://payment:8080/pay?x=1")
        .header("host", "other")
        .header("connection", "close")
        .header("trailer", "x-forwarded-for")
        .body(())
        .unwrap();
    assert_eq!(clean_request(&mut request, &[]), None);
    assert_eq!(request.uri(), "/pay?x=1");
    assert_eq!(request.headers()["host"], "payment:8080");
    assert_eq!(names(request.headers()), ["host"]);

    let mut request = Request::get("http://payment").body(()).unwrap();
    clean_request(&mut request, &[]);
    assert_eq!(request.uri(), "/");
}

#[test]
fn http_1_0_becomes_1_1_where_it_has_a_host() {
    for (host, version) in [(true, Version::HTTP_11), (false, Version::HTTP_10)] {
        let mut request = Request::get("/")
            .version(Version::HTTP_10)
            .body(())
            .unwrap();
        if host {
            let headers = request.headers_mut();
            headers.insert("host", HeaderValue::from_static("a"));
        }
        clean_request(&mut request, &[]);
        assert_eq!(request.version(), version);
    }
}

#[test]
fn a_websocket_request_keeps_its_fields_and_no_other_method_does() {
    for (method, upgrade) in [
        (Method::GET, Some(Upgrade::WebSocket)),
        (Method::POST, None),
    ] {
        let mut request = Request::builder()
            .method(method)
            .uri("/chat")
            .header("host", "a")
            .header("upgrade", "websocket")
            .header("connection", "keep-alive, Upgrade")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        assert_eq!(clean_request(&mut request, &[]), upgrade);
        let kept = upgrade.is_some();
        assert_eq!(request.headers().contains_key("upgrade"), kept);
        assert_eq!(request.headers().contains_key("connection"), kept);
        assert!(request.headers().contains_key("sec-websocket-key"));
    }
}

fn response(status: u16, lines: &[(&'static str, &'static str)]) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    *response.headers_mut() = headers(lines);
    *response.version_mut() = Version::HTTP_10;
    response
}

#[test]
fn responses_that_read_two_ways_are_refused() {
    let refused: [(u16, &[(&str, &str)]); 7] = [
        (
            200,
            &[("transfer-encoding", "chunked"), ("content-length", "3")],
        ),
        (200, &[("transfer-encoding", "gzip, chunked")]),
        (
            200,
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
        ),
        (200, &[("transfer-encoding", "identity")]),
        (200, &[("content-length", "2"), ("content-length", "3")]),
        (101, &[("upgrade", "websocket"), ("connection", "upgrade")]),
        (101, &[]),
    ];
    let mut ran = 0;
    for (status, lines) in refused {
        assert!(
            clean_response(&mut response(status, lines), None).is_err(),
            "{lines:?}"
        );
        ran += 1;
    }
    assert_eq!(ran, 7);
    let mut h2c = response(101, &[("upgrade", "h2c"), ("connection", "upgrade")]);
    assert!(clean_response(&mut h2c, Some(Upgrade::WebSocket)).is_err());
}

#[test]
fn responses_are_cleaned() {
    let mut chunked = response(
        200,
        &[("transfer-encoding", "Chunked"), ("connection", "close")],
    );
    clean_response(&mut chunked, None).unwrap();
    assert!(chunked.headers().is_empty());
    assert_eq!(chunked.version(), Version::HTTP_11);

    let mut empty = response(204, &[("content-length", "0"), ("set-cookie", "a=b")]);
    clean_response(&mut empty, None).unwrap();
    assert_eq!(names(empty.headers()), ["set-cookie"]);

    let mut double = response(200, &[("content-length", "5"), ("content-length", "5")]);
    clean_response(&mut double, None).unwrap();
    assert_eq!(double.headers().get_all("content-length").iter().count(), 1);

    let mut switching = response(101, &[("upgrade", "websocket"), ("connection", "Upgrade")]);
    clean_response(&mut switching, Some(Upgrade::WebSocket)).unwrap();
    assert_eq!(switching.headers()["upgrade"], "websocket");
    assert_eq!(switching.headers()["connection"], "Upgrade");
}

#[test]
fn an_answer_by_http_2_has_no_space_around_its_values() {
    for (version, value, passes) in [
        (Version::HTTP_2, "a b", true),
        (Version::HTTP_2, "", true),
        (Version::HTTP_2, " a", false),
        (Version::HTTP_2, "a\t", false),
        // There it does not count.
        (Version::HTTP_11, "a ", true),
    ] {
        let mut response = Response::new(());
        *response.version_mut() = version;
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert("x-a", value.clone());
        let cleaned = clean_response(&mut response, None);
        assert_eq!(cleaned.is_ok(), passes, "{version:?} {value:?}");
    }
}
