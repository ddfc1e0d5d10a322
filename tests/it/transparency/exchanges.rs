//! The exchanges: what a client sends and an app answers, byte by byte, and what may differ in one of them alone.

/// What may differ in one exchange alone, and by which clause.
fn own(name: &str) -> &'static [(&'static str, &'static str)] {
    const PER_HOP: (&str, &str) = (
        "open",
        "RFC 9112 9.3: a connection goes on or ends by itself on each hop",
    );
    match name {
        "HEAD, chunked" => &[(
            "client - transfer-encoding",
            "RFC 9110 9.3.2: what only content decides may be left out",
        )],
        "304 with a length" => &[(
            "client - content-length",
            "RFC 9110 15.4.5: not among the fields of a 304",
        )],
        "trailers of a request" => &[
            ("app - trailer", "RFC 9110 6.6.2: there are none"),
            (
                "app trailer - x-sum",
                "RFC 9110 6.5.1, CVE-2026-88004: no trailers to an app of HTTP/1.1",
            ),
            (
                "client + connection",
                "RFC 9112 9.6: it closes after them, see tests/real/README.md",
            ),
            PER_HOP,
        ],
        "an absolute target" => &[(
            "app line",
            "RFC 9112 3.2.1: origin-form to an origin server",
        )],
        "trailers for who takes them" => &[
            ("app ~ connection", "RFC 9110 7.6.1: options have no case"),
            ("client trailer - x-sum", "RFC 9110 5.1: names have no case"),
            ("client trailer + x-sum", "RFC 9110 5.1: names have no case"),
        ],
        "trailers for who does not" => &[(
            "client trailer - x-sum",
            "RFC 9110 6.5.1: only to who says TE: trailers",
        )],
        "an answer without a date" => {
            &[("client + date", "RFC 9110 6.6.1: who passes it on adds one")]
        }
        "the app closes" | "an early refusal" => &[PER_HOP],
        "the end of the connection ends it" => &[
            (
                "client + transfer-encoding",
                "RFC 9112 6.3: a client that is kept needs to be told the end",
            ),
            PER_HOP,
        ],
        "HTTP/1.0" => &[
            ("app line", "RFC 9110 6.2: each sends its own version"),
            ("client line", "RFC 9110 6.2: each sends its own version"),
        ],
        "HTTP/1.0 that keeps" => &[
            ("app line", "RFC 9110 6.2: each sends its own version"),
            ("client line", "RFC 9110 6.2: each sends its own version"),
        ],
        "an app of HTTP/1.0" => &[
            ("client line", "RFC 9110 6.2: each sends its own version"),
            PER_HOP,
        ],
        "fields for the next hop" => &[
            ("app - x-hop", "RFC 9110 7.6.1: named by Connection"),
            ("client - x-back", "RFC 9110 7.6.1: named by Connection"),
        ],
        "an upgrade that the app has not" => {
            &[("app - upgrade", "RFC 9110 7.8: only WebSocket is passed on")]
        }
        _ => &[],
    }
}

/// One exchange.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) name: &'static str,
    pub(super) request: String,
    /// Written one after the other.
    pub(super) answer: Vec<Vec<u8>>,
    /// The app closes after its answer.
    pub(super) closes: bool,
    /// Says back what it hears after its answer.
    pub(super) upgrades: bool,
    /// As [`ALLOWED`](super::ALLOWED), for this one.
    pub(super) allowed: &'static [(&'static str, &'static str)],
}

fn exchange(
    name: &'static str,
    request: impl Into<String>,
    answer: impl Into<Vec<u8>>,
) -> Exchange {
    Exchange {
        name,
        request: request.into(),
        answer: vec![answer.into()],
        closes: false,
        upgrades: false,
        allowed: own(name),
    }
}

impl Exchange {
    fn closes(mut self) -> Exchange {
        self.closes = true;
        self
    }
}

/// A request without a body, with these lines of fields.
fn get(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n")
}

/// An answer with these lines of fields, and a body of its length.
fn reply(status: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nDate: Sun, 22 Nov 2026 22:00:00 GMT\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An answer as it is, with a date.
fn bare(status: &str, rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nDate: Sun, 22 Nov 2026 22:00:00 GMT\r\n{rest}").into_bytes()
}

pub(super) fn exchanges() -> Vec<Exchange> {
    let mut rows = methods();
    rows.extend(requests());
    rows.extend(answers());
    rows.extend(connections());
    rows
}

fn methods() -> Vec<Exchange> {
    let ok = || reply("200 OK", "Content-Type: text/plain\r\n", "ok");
    let mut rows = Vec::new();
    for (name, line) in [
        ("GET", "GET /a?b=c"),
        ("DELETE", "DELETE /a"),
        ("OPTIONS", "OPTIONS /a"),
        ("OPTIONS *", "OPTIONS *"),
        ("TRACE", "TRACE /a"),
        ("an unknown method", "PURGE /a"),
        ("a method in lower case", "get /a"),
        ("PROPFIND", "PROPFIND /dav/"),
    ] {
        rows.push(exchange(name, get(line, ""), ok()));
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let name = match method {
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            _ => "DELETE with a body",
        };
        let request = format!(
            "{method} /a HTTP/1.1\r\nHost: shop.example\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
        );
        rows.push(exchange(name, request, ok()));
    }
    rows.push(exchange(
        "HEAD with a length",
        get("HEAD /a", ""),
        bare("200 OK", "Content-Length: 1234\r\n\r\n"),
    ));
    rows.push(exchange(
        "HEAD without one",
        get("HEAD /a", ""),
        bare("200 OK", "X-A: 1\r\n\r\n"),
    ));
    rows.push(exchange(
        "HEAD, chunked",
        get("HEAD /a", ""),
        bare("200 OK", "Transfer-Encoding: chunked\r\n\r\n"),
    ));
    rows.push(exchange(
        "POST without content",
        get("POST /a", "Content-Length: 0\r\n"),
        ok(),
    ));
    rows
}

fn requests() -> Vec<Exchange> {
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

fn answers() -> Vec<Exchange> {
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

fn connections() -> Vec<Exchange> {
    let ok = || reply("200 OK", "", "ok");
    let mut websocket = exchange(
        "a WebSocket",
        get(
            "GET /ws",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
        ),
        bare(
            "101 Switching Protocols",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        ),
    );
    websocket.upgrades = true;
    vec![
        websocket,
        exchange(
            "the client closes",
            get("GET /a", "Connection: close\r\n"),
            reply("200 OK", "Connection: close\r\n", "ok"),
        )
        .closes(),
        exchange(
            "the client keeps",
            get(
                "GET /a",
                "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n",
            ),
            ok(),
        ),
        exchange(
            "the app closes",
            get("GET /a", ""),
            reply("200 OK", "Connection: close\r\n", "ok"),
        )
        .closes(),
        exchange(
            "the app says how long it keeps",
            get("GET /a", ""),
            reply(
                "200 OK",
                "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n",
                "ok",
            ),
        ),
        exchange(
            "the end of the connection ends it",
            get("GET /a", ""),
            bare("200 OK", "\r\nuntil the end"),
        )
        .closes(),
        exchange(
            "it breaks off",
            get("GET /a", ""),
            bare("200 OK", "Content-Length: 10\r\n\r\nhalf"),
        )
        .closes(),
        exchange(
            "HTTP/1.0",
            "GET /a HTTP/1.0\r\nHost: shop.example\r\n\r\n",
            bare("200 OK", "Connection: close\r\nContent-Length: 2\r\n\r\nok"),
        )
        .closes(),
        exchange(
            "HTTP/1.0 that keeps",
            "GET /a HTTP/1.0\r\nHost: shop.example\r\nConnection: keep-alive\r\n\r\n",
            bare(
                "200 OK",
                "Connection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            ),
        ),
        exchange(
            "an app of HTTP/1.0",
            get("GET /a", ""),
            "HTTP/1.0 200 OK\r\nDate: Sun, 22 Nov 2026 22:00:00 GMT\r\nContent-Length: 2\r\n\r\nok",
        )
        .closes(),
        exchange(
            "fields for the next hop",
            get("GET /a", "Connection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n"),
            reply("200 OK", "Connection: X-Back\r\nX-Back: 1\r\n", "ok"),
        ),
        exchange(
            "an upgrade that the app has not",
            get("GET /a", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
            ok(),
        ),
        exchange(
            "an early refusal",
            "POST /a HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3\r\n\r\nabc",
            reply(
                "413 Content Too Large",
                "Connection: close\r\n",
                "too large",
            ),
        )
        .closes(),
    ]
}

/// Requests to the probe of `tests/django`.
pub(super) fn to_django() -> Vec<Exchange> {
    let mut rows = Vec::new();
    for (name, line, fields) in [
        ("echo", "GET /echo/?a=b&a=c", "Accept: */*\r\n"),
        ("echo of a path", "GET /echo/a%2Fb/c%20d/", ""),
        (
            "echo of fields",
            "GET /echo/",
            "X-Two: 1\r\nX-Two: 2\r\nCookie: a=1; b=2\r\nAccept-Encoding: gzip\r\n",
        ),
        ("an order", "GET /healthz", ""),
        ("a redirect without a slash", "GET /echo", ""),
        ("200", "GET /status/200/", ""),
        ("204", "GET /status/204/", ""),
        ("301", "GET /status/301/", ""),
        ("304", "GET /status/304/", ""),
        ("404 by the app", "GET /status/404/", ""),
        ("404 by Django", "GET /nowhere/", ""),
        ("500", "GET /status/500/", ""),
        ("a crash", "GET /error/", ""),
        ("HEAD", "HEAD /echo/", ""),
        ("HEAD of bytes", "HEAD /bytes/1000/", ""),
        ("OPTIONS", "OPTIONS /echo/", ""),
        ("bytes", "GET /bytes/100000/", ""),
        ("chunked bytes", "GET /bytes/100000/?chunked=1", ""),
        ("a stream", "GET /stream/?n=3&ms=1", ""),
        ("cookies", "GET /cookies/", "Cookie: x=y\r\n"),
        ("close", "GET /healthz", "Connection: close\r\n"),
    ] {
        rows.push(exchange(name, get(line, fields), ""));
    }
    for (name, path) in [("a form", "/echo/"), ("an upload", "/upload/")] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\na=1&b=2"
        );
        rows.push(exchange(name, request, ""));
    }
    let chunked = "POST /upload/ HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    rows.push(exchange("a chunked upload", chunked, ""));
    rows
}
