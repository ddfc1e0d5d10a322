//! What an app may answer: statuses, fields, bodies, interim answers and trailers.

use super::{Exchange, bare, exchange, get, reply};

pub(super) fn answers() -> Vec<Exchange> {
    let ask = || get("GET /a", "");
    let mut rows = Vec::new();
    for (name, answer) in [
        ("204", bare("204 No Content", "X-A: 1\r\n\r\n")),
        ("304", bare("304 Not Modified", "ETag: \"x\"\r\n\r\n")),
        (
            "304 with a length",
            bare(
                "304 Not Modified",
                "ETag: \"x\"\r\nContent-Length: 99\r\n\r\n",
            ),
        ),
        (
            "206",
            reply(
                "206 Partial Content",
                "Content-Range: bytes 0-3/10\r\nAccept-Ranges: bytes\r\n",
                "0123",
            ),
        ),
        (
            "206 in parts",
            reply(
                "206 Partial Content",
                "Content-Type: multipart/byteranges; boundary=x\r\n",
                "--x\r\n\r\na\r\n--x--\r\n",
            ),
        ),
        (
            "301",
            reply("301 Moved Permanently", "Location: /b?c#d\r\n", ""),
        ),
        (
            "401",
            reply(
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Bearer\r\n",
                "no",
            ),
        ),
        ("404", reply("404 Not Found", "", "nothing here")),
        (
            "500",
            reply("500 Internal Server Error", "", "<h1>Server Error</h1>"),
        ),
        (
            "503 and when to come back",
            reply("503 Service Unavailable", "Retry-After: 5\r\n", "later"),
        ),
        ("an unknown status", reply("599 Whatever", "", "?")),
        ("a reason of its own", reply("200 Fine By Me", "", "ok")),
        ("no reason", reply("200 ", "", "ok")),
        (
            "cookies are set",
            reply(
                "200 OK",
                "Set-Cookie: a=1\r\nX-A: 1\r\nSet-Cookie: b=2; Path=/; HttpOnly\r\n",
                "ok",
            ),
        ),
        (
            "names in odd case come back",
            reply(
                "200 OK",
                "x-oDD: 1\r\nCONTENT-TYPE: text/plain\r\nETag: W/\"1\"\r\n",
                "ok",
            ),
        ),
        (
            "gzip",
            reply(
                "200 OK",
                "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n",
                "\u{1f}\u{8}\u{0}",
            ),
        ),
        (
            "chunked",
            bare(
                "200 OK",
                "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ),
        ),
        (
            "chunked, with extensions",
            bare(
                "200 OK",
                "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
            ),
        ),
        (
            "caching, security and CORS",
            reply(
                "200 OK",
                "Cache-Control: max-age=60\r\nAge: 7\r\nStrict-Transport-Security: max-age=1\r\nAccess-Control-Allow-Origin: *\r\nContent-Security-Policy: default-src 'self'\r\n",
                "ok",
            ),
        ),
        (
            "Server and Via",
            reply(
                "200 OK",
                "Server: app/1.0\r\nVia: 1.1 behind\r\nServer-Timing: db;dur=5\r\n",
                "ok",
            ),
        ),
        ("a large answer", reply("200 OK", "", &"d".repeat(300_000))),
        ("an empty answer", reply("200 OK", "", "")),
    ] {
        rows.push(exchange(name, ask(), answer));
    }
    let mut events = exchange("events", ask(), "");
    let event = |text: &str| format!("{:x}\r\ndata: {text}\n\n\r\n", text.len() + 8).into_bytes();
    events.answer = vec![
        bare(
            "200 OK",
            "Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        event("one"),
        event("two"),
        b"0\r\n\r\n".to_vec(),
    ];
    rows.push(events);
    let trailers = bare(
        "200 OK",
        "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    rows.push(exchange(
        "trailers for who takes them",
        get("GET /a", "TE: trailers\r\nConnection: TE\r\n"),
        trailers.clone(),
    ));
    rows.push(exchange("trailers for who does not", ask(), trailers));
    rows.push(exchange(
        "103 before",
        ask(),
        [
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec(),
            reply("200 OK", "", "ok"),
        ]
        .concat(),
    ));
    rows.push(exchange(
        "an answer without a date",
        ask(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ));
    rows
}
