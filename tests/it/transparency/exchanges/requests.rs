//! What a client may say: targets, fields, bodies.

use super::{Exchange, exchange, get, reply};

pub(super) fn requests() -> Vec<Exchange> {
    let ok = || reply("200 OK", "", "ok");
    let mut rows = Vec::new();
    for (name, line) in [
        ("escapes stay", "GET /a%2Fb%20c?x=%zz&y=%E2%82%AC"),
        ("dots and slashes stay", "GET //a/./b/../c//"),
        ("an empty query", "GET /a?"),
        ("characters that should be escaped", "GET /a|b{c}?d=[e]^f"),
        ("a long target", "GET /LONG"),
    ] {
        let line = line.replace("LONG", &"l".repeat(4000));
        rows.push(exchange(name, get(&line, ""), ok()));
    }
    for (name, fields) in [
        ("names in odd case", "X-oDD-CaSe: 1\r\nACCEPT: */*\r\n"),
        ("a name twice", "X-Two: 1\r\nX-Other: 2\r\nX-Two: 3\r\n"),
        ("an empty value", "X-Empty:\r\n"),
        ("a value in Latin-1", "X-Latin: caf\u{e9}\r\n"),
        ("quotes and commas", "X-Quoted: \"a, b\"; c=\"d\\\"e\"\r\n"),
        ("a large field", "X-Large: LARGE\r\n"),
        ("many fields", "MANY"),
        ("cookies", "Cookie: a=1; b=\"two words\"; c=\r\n"),
        ("credentials", "Authorization: Basic YTpi\r\n"),
        (
            "conditions",
            "If-None-Match: W/\"x\", \"y\"\r\nIf-Modified-Since: Sun, 22 Nov 2026 22:00:00 GMT\r\n",
        ),
        ("a range", "Range: bytes=0-3,-5\r\nIf-Range: \"x\"\r\n"),
        (
            "what is accepted",
            "Accept-Encoding: gzip, br;q=0.5\r\nAccept-Language: de, en;q=0.7\r\n",
        ),
        (
            "CORS",
            "Origin: https://other.example\r\nAccess-Control-Request-Method: PUT\r\n",
        ),
        (
            "a trace and baggage",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=1\r\nbaggage: k=v;p=1\r\n",
        ),
        (
            "other tracers' fields",
            "X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7\r\nX-Amzn-Trace-Id: Root=1-2\r\n",
        ),
        (
            "Via, and a proxy before",
            "Via: 1.1 front\r\nX-Forwarded-For: 203.0.113.7\r\n",
        ),
    ] {
        let many: String = (0..80).map(|n| format!("X-Many-{n}: {n}\r\n")).collect();
        let fields = fields
            .replace("LARGE", &"v".repeat(7000))
            .replace("MANY", &many);
        rows.push(exchange(name, get("GET /a", &fields), ok()));
    }
    let chunked = |fields: &str, body: &str| {
        format!(
            "POST /a HTTP/1.1\r\nHost: shop.example\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{body}"
        )
    };
    rows.push(exchange(
        "a chunked upload",
        chunked("", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        ok(),
    ));
    rows.push(exchange(
        "an empty chunked upload",
        chunked("", "0\r\n\r\n"),
        ok(),
    ));
    rows.push(exchange(
        "a chunk extension",
        chunked("", "3;a=b\r\nabc\r\n0\r\n\r\n"),
        ok(),
    ));
    rows.push(exchange("a gzipped upload", "POST /a HTTP/1.1\r\nHost: shop.example\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x08\x00", ok()));
    rows.push(exchange(
        "trailers of a request",
        chunked("Trailer: X-Sum\r\n", "3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n"),
        ok(),
    ));
    let large = "u".repeat(300_000);
    rows.push(exchange(
        "a large upload",
        format!("POST /a HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 300000\r\n\r\n{large}"),
        ok(),
    ));
    rows.push(exchange(
        "an absolute target",
        "GET http://shop.example/a?b HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        ok(),
    ));
    rows
}
