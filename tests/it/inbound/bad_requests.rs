//! Requests that are not: each is refused or made harmless, the app never sees a smuggled one, and the next good
//! request is answered.

use crate::support::app;
use crate::support::client;
use crate::support::raw;
use crate::support::sidecar;

/// What follows a bad request on the same connection: nobody may ever answer it.
const SENTINEL: &str = "GET /sentinel HTTP/1.1\r\nHost: x\r\n\r\n";

/// Name, bytes, statuses that are right; 0 is a connection closed without an answer.
fn rows() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let many = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: 1\r\n")).collect() };
    let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let mut rows: Vec<(&'static str, String, &'static [u16])> = vec![
        ("no version", "GET /\r\n\r\n".into(), &[400]),
        ("no target", "GET\r\n\r\n".into(), &[400]),
        (
            "an unknown version",
            "GET / HTTP/9.9\r\nHost: x\r\n\r\n".into(),
            &[400, 505],
        ),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), &[400]),
        (
            "two Hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(),
            &[400],
        ),
        (
            "two equal Hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n".into(),
            &[400],
        ),
        (
            "a Host with a space",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(),
            &[400],
        ),
        (
            "a Host with a path",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(),
            &[400],
        ),
        (
            "a Host with userinfo",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(),
            &[400],
        ),
        ("a name with a space", head("Bad Name: 1\r\n"), &[400]),
        (
            "a space before the colon",
            head("Content-Length : 5\r\n"),
            &[400],
        ),
        ("no colon", head("nonsense\r\n"), &[400]),
        ("an empty name", head(": 1\r\n"), &[400]),
        ("a folded line", head("X: a\r\n b\r\n"), &[400]),
        ("a NUL in a value", head("X: a\0b\r\n"), &[400]),
        ("a bare CR in a value", head("X: a\rb\r\n"), &[400]),
        (
            "two lengths",
            head("Content-Length: 1\r\nContent-Length: 2\r\n"),
            &[400],
        ),
        (
            "a list of lengths",
            head("Content-Length: 1, 2\r\n"),
            &[400],
        ),
        ("a negative length", head("Content-Length: -1\r\n"), &[400]),
        ("a signed length", head("Content-Length: +1\r\n"), &[400]),
        ("a hex length", head("Content-Length: 0x1\r\n"), &[400]),
        (
            "a length beyond all",
            head("Content-Length: 99999999999999999999\r\n"),
            &[400],
        ),
        (
            "an unknown coding",
            head("Transfer-Encoding: xchunked\r\n"),
            &[400, 501],
        ),
        (
            "chunked not last",
            head("Transfer-Encoding: chunked, identity\r\n"),
            &[400, 501],
        ),
        (
            "chunked twice",
            head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            &[400, 501],
        ),
        (
            "a bad chunk size",
            head("Transfer-Encoding: chunked\r\n") + "zz\r\n",
            &[400, 0],
        ),
        (
            "a huge chunk size",
            head("Transfer-Encoding: chunked\r\n") + "fffffffffffffffff\r\n",
            &[400, 0],
        ),
        (
            "a chunk that is too long",
            head("Transfer-Encoding: chunked\r\n") + "1\r\nabc\r\n",
            &[400, 0],
        ),
        ("too many fields", head(&many(101)), &[431]),
        (
            "a field too long",
            head(&format!("X: {}\r\n", "x".repeat(40_000))),
            &[431],
        ),
        (
            "a target too long",
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000)),
            &[414, 431],
        ),
        (
            "a fragment of a URL",
            "GET a/b HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            &[400],
        ),
        (
            "a tunnel",
            "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n".into(),
            &[400, 405, 501],
        ),
        (
            "HTTP/2's preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            &[400, 505, 0],
        ),
    ];
    // A body that is announced and never used up must not be taken for the next request.
    for (_, bytes, _) in &mut rows {
        bytes.push_str(SENTINEL);
    }
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|(name, text, statuses)| (name, text.into_bytes(), statuses))
        .collect();
    rows.push((
        "TLS",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        &[400, 0],
    ));
    rows.push((
        "noise",
        (0..=255).cycle().take(5000).collect(),
        &[400, 431, 0],
    ));
    rows
}

#[tokio::test]
async fn bad_requests_are_refused_and_harmless() {
    let app = app::http().any(|_| async { app::reply(200) }).run().await;
    let hopspan = sidecar::to(app.address).run().await;
    let rows = rows();
    let mut wrong = Vec::new();
    for (name, bytes, statuses) in &rows {
        let mut peer = raw::connect(hopspan.inbound).await;
        // It may close before all is sent.
        let _ = peer.try_write(bytes).await;
        let _ = peer.half_close().await;
        let status = peer.try_response_to("POST").await.map_or(0, |a| a.status);
        // What it answers after that, if anything, belongs to this row.
        peer.closed().await;
        if !statuses.contains(&status) {
            wrong.push(format!("{name}: {status}, not {statuses:?}"));
        }
        let asked = app.received.all();
        if asked.iter().any(|asked| asked.path() == "/sentinel") {
            wrong.push(format!("{name}: the sentinel was answered"));
            app.received.clear();
        }
        let good = client::get(hopspan.inbound, "/good").send().await;
        assert_eq!(good.status, 200, "after {name}");
    }
    assert_eq!(rows.len(), 36);
    assert_eq!(hopspan.metric("hopspan_panics_total").await, 0.0);
    assert!(hopspan.metric("hopspan_client_protocol_errors_total").await > 0.0);
    assert!(wrong.is_empty(), "{wrong:#?}");
    for asked in app.received.all() {
        if asked.complete {
            assert_eq!(asked.path(), "/good", "{asked:?}");
        }
    }
}

#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let app = app::http().any(|_| async { app::reply(200) }).run().await;
    let hopspan = sidecar::to(app.address).run().await;
    let bytes = format!(
        "POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SENTINEL}"
    );
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write(bytes).await;
    let answer = peer.response().await;
    assert!([200, 400].contains(&answer.status), "{}", answer.status);
    // By RFC 9112 6.3 the connection ends after it.
    let rest = peer.rest().await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    for asked in app.received.all() {
        assert_eq!(asked.path(), "/one");
        let framings =
            asked.head.all("content-length").len() + asked.head.all("transfer-encoding").len();
        assert_eq!(framings, 1, "{:?}", asked.head);
    }
}
