//! The exchanges: what a client sends and an app answers, byte by byte, and what may differ in one of them alone.

mod answers;
mod requests;

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
    rows.extend(requests::requests());
    rows.extend(answers::answers());
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
