//! Requests that are harmless in HTTP/2 and would be two requests, or another one, in HTTP/1.1 (RFC 9113 section 10.3).
//! Frames by hand: the app gets exactly what was meant, or nothing.

use crate::support::{app, h2, sidecar, within};

/// The fields of a POST.
fn post<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "shop"),
        (":path", "/"),
    ];
    for field in more {
        match fields
            .iter_mut()
            .find(|(name, _)| *name == field.0 && name.starts_with(':'))
        {
            Some(known) => known.1 = field.1,
            None => fields.push(*field),
        }
    }
    fields
}

/// What, its fields, its content; `None`: the head is the whole request.
type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, Option<&'a str>);

fn rows() -> Vec<Row<'static>> {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";
    vec![
        (
            "8.1.1 a length without content",
            post(&[("content-length", "5")]),
            None,
        ),
        (
            "8.1.1 less content than the length",
            post(&[("content-length", "50")]),
            Some(smuggled),
        ),
        (
            "8.1.1 more content than the length",
            post(&[("content-length", "3")]),
            Some(smuggled),
        ),
        (
            "8.1.1 two lengths",
            post(&[("content-length", "0"), ("content-length", "38")]),
            Some(smuggled),
        ),
        (
            "8.1.1 a length of zero with content",
            post(&[("content-length", "0")]),
            Some(smuggled),
        ),
        (
            "9110 8.6 a signed length",
            post(&[("content-length", "+38")]),
            Some(smuggled),
        ),
        (
            "8.2.2 transfer-encoding",
            post(&[("transfer-encoding", "chunked")]),
            Some("0\r\n\r\n"),
        ),
        (
            "8.2.2 connection",
            post(&[("connection", "close")]),
            Some("x"),
        ),
        ("8.2.2 keep-alive", post(&[("keep-alive", "1")]), Some("x")),
        (
            "8.2.2 proxy-connection",
            post(&[("proxy-connection", "close")]),
            Some("x"),
        ),
        (
            "8.2.2 upgrade",
            post(&[("upgrade", "websocket")]),
            Some("x"),
        ),
        ("8.2.2 te", post(&[("te", "gzip")]), Some("x")),
        ("8.2.1 upper case", post(&[("X-Upper", "1")]), Some("x")),
        (
            "8.2.1 CR LF in a value",
            post(&[("x", "1\r\ny: 2")]),
            Some("x"),
        ),
        ("8.2.1 LF in a value", post(&[("x", "1\ny: 2")]), Some("x")),
        ("8.2.1 CR in a value", post(&[("x", "1\r")]), Some("x")),
        ("8.2.1 NUL in a value", post(&[("x", "1\0")]), Some("x")),
        (
            "8.2.1 CR LF in a name",
            post(&[("x: 1\r\ny", "2")]),
            Some("x"),
        ),
        ("8.2.1 a colon in a name", post(&[("x:y", "2")]), Some("x")),
        ("8.2.1 a space in a name", post(&[("x y", "2")]), Some("x")),
        ("8.2.1 an empty name", post(&[("", "2")]), Some("x")),
        (
            "8.3.1 a space in the path",
            post(&[(":path", "/ HTTP/1.1\r\nx: y")]),
            Some("x"),
        ),
        (
            "8.3.1 LF in the path",
            post(&[(":path", "/\nx")]),
            Some("x"),
        ),
        ("8.3.1 an empty path", post(&[(":path", "")]), Some("x")),
        (
            "8.3.1 a path that is none",
            post(&[(":path", "x")]),
            Some("x"),
        ),
        (
            "8.3.1 a method that is two words",
            post(&[(":method", "GET / HTTP/1.1")]),
            Some("x"),
        ),
        (
            "8.3.1 CR LF in the method",
            post(&[(":method", "GET\r\n")]),
            Some("x"),
        ),
        (
            "8.3.1 CR LF in the authority",
            post(&[(":authority", "a\r\nx: y")]),
            Some("x"),
        ),
        (
            "8.3.1 a space in the authority",
            post(&[(":authority", "a b")]),
            Some("x"),
        ),
        (
            "8.3.1 a user in the authority",
            post(&[(":authority", "u@shop")]),
            Some("x"),
        ),
        ("8.3.1 another host", post(&[("host", "other")]), Some("x")),
        (
            "8.3.1 two hosts",
            post(&[("host", "shop"), ("host", "shop")]),
            Some("x"),
        ),
        (
            "8.3.1 a scheme that is none",
            post(&[(":scheme", "ftp")]),
            Some("x"),
        ),
        (
            "8.3 an unknown pseudo-field",
            post(&[(":x", "1")]),
            Some("x"),
        ),
        (
            "8.3 a pseudo-field of answers",
            post(&[(":status", "200")]),
            Some("x"),
        ),
        (
            "9110 10.1.1 an unknown expectation",
            post(&[("expect", "200-ok")]),
            Some("x"),
        ),
        ("8.2.1 a space first", post(&[("x-a", " b")]), Some("x")),
        ("8.2.1 a space last", post(&[("x-a", "b ")]), Some("x")),
        ("8.2.1 a tab first", post(&[("x-a", "\tb")]), Some("x")),
        ("8.2.1 a tab last", post(&[("x-a", "b\t")]), Some("x")),
        ("8.2.1 a space alone", post(&[("x-a", " ")]), Some("x")),
        (
            "8.5 CONNECT to the app",
            vec![(":method", "CONNECT"), (":authority", "shop:80")],
            None,
        ),
    ]
}

#[tokio::test]
async fn cve_2026_48743_what_could_be_read_in_two_ways_never_reaches_the_app() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let rows = rows();
    assert!(rows.len() > 30);
    for (what, fields, content) in &rows {
        let mut frames = h2::frames(hopspan.inbound).await;
        let end = if content.is_none() { h2::END_STREAM } else { 0 };
        frames.headers(1, h2::END_HEADERS | end, fields).await;
        if let Some(content) = content {
            frames
                .try_send(h2::DATA, h2::END_STREAM, 1, content.as_bytes())
                .await;
        }
        // An answer of 4xx, a reset, or the end of the connection.
        let refused = async {
            while let Some(frame) = frames.next().await {
                match frame.kind {
                    h2::RST_STREAM | h2::GOAWAY => return,
                    h2::HEADERS => return assert!(is_4xx(&frame.payload), "{what}: {frame:?}"),
                    _ => {}
                }
            }
        };
        within(what, refused).await;
    }
    // The one that is as it should be still gets through, and is the only one that has.
    let mut frames = h2::frames(hopspan.inbound).await;
    frames
        .headers(1, h2::END_HEADERS, &post(&[("content-length", "1")]))
        .await;
    frames.send(h2::DATA, h2::END_STREAM, 1, b"x").await;
    frames.expect(h2::HEADERS, "an answer").await;
    let whole: Vec<String> = app
        .received
        .all()
        .iter()
        .filter(|asked| asked.complete)
        .map(|asked| format!("{} {:?}", asked.head.line, asked.body))
        .collect();
    assert_eq!(whole, ["POST / HTTP/1.1 b\"x\""]);
}

/// Whether a block begins with `:status` 400 or 404 by index, or a literal 4xx: a `4` by Huffman's code or as it is.
fn is_4xx(block: &[u8]) -> bool {
    // RFC 7541 appendix A: 12 is 400, 13 is 404.
    let first = block.first().copied().unwrap_or(0);
    let four = |byte: u8| byte >> 2 == 0b01_1010 || byte == b'4';
    matches!(first, 0x8c | 0x8d)
        || matches!(first, 0x08 | 0x18 | 0x48) && block.get(2).copied().is_some_and(four)
}

#[tokio::test]
async fn trailers_have_no_space_around_their_values() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    for (value, passes) in [("b", true), (" b", false), ("b\t", false)] {
        let mut frames = h2::frames(hopspan.inbound).await;
        frames.headers(1, h2::END_HEADERS, &post(&[])).await;
        frames.send(h2::DATA, 0, 1, b"x").await;
        frames.headers(1, h2::WHOLE, &[("x-a", value)]).await;
        let answer = frames.expect(h2::HEADERS, "an answer").await;
        assert_eq!(is_4xx(&answer.payload), !passes, "{value:?}: {answer:?}");
    }
    let whole = app.received.all().into_iter().filter(|a| a.complete);
    assert_eq!(whole.count(), 1);
}

#[tokio::test]
async fn a_host_field_alone_names_the_host() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut frames = h2::frames(hopspan.inbound).await;
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        ("host", "shop:80"),
    ];
    frames.headers(1, h2::WHOLE, &fields).await;
    frames.expect(h2::HEADERS, "an answer").await;
    let asked = app.received(1).await.remove(0);
    assert_eq!(asked.header("host"), Some("shop:80"));
}
