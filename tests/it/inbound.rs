//! The inbound hop: what the app sees, what the client gets back, and what is refused before the app sees it.

use serde_json::json;

use crate::support::app::{self, App, ReplyExt};
use crate::support::client;
use crate::support::collector::{self, Collector};
use crate::support::raw;
use crate::support::sidecar::{self, Sidecar};
use crate::support::spans::Trace;
use crate::support::w3c::Traceparent;

async fn before(app: &App, collector: &Collector) -> Sidecar {
    sidecar::to(app.address)
        .collector(collector)
        .set(
            "inbound.routes",
            json!([
                {"path": "orders/<int:pk>/"},
                {"path": "healthz", "trace": false},
                {"path": "status/<int:code>/"},
            ]),
        )
        .run()
        .await
}

async fn statuses() -> App {
    app::http()
        .any(|asked| async move {
            let code = asked.path().trim_matches('/').rsplit('/').next().unwrap();
            let code = code.parse().ok().filter(|code| (200..600).contains(code));
            app::reply(code.unwrap_or(200))
                .header("x-app", "yes")
                .text(asked.head.target().to_owned())
        })
        .run()
        .await
}

#[tokio::test]
async fn the_app_sees_the_request_as_it_was_sent() {
    let app = statuses().await;
    let hopspan = before(&app, &collector::grpc()).await;
    let answer = client::post(hopspan.inbound, "/a%2Fb//c;x/?q=%zz&q=1#", "body")
        .host("shop.example:8443")
        .header("Cookie", "a=1")
        .header("X-Two", "1")
        .header("X-Two", "2")
        .header("Accept-Encoding", "gzip")
        .header("Authorization", "Bearer x")
        .send()
        .await;
    assert_eq!(answer.status, 200);
    let asked = app.received(1).await.pop().unwrap();
    assert_eq!(
        asked.head.line,
        "POST /a%2Fb//c;x/?q=%zz&q=1 HTTP/1.1".replace("#", "")
    );
    assert_eq!(asked.body, "body");
    assert_eq!(asked.header("host"), Some("shop.example:8443"));
    assert_eq!(asked.header("cookie"), Some("a=1"));
    assert_eq!(asked.head.all("x-two"), ["1", "2"]);
    assert_eq!(asked.header("accept-encoding"), Some("gzip"));
    assert_eq!(asked.header("authorization"), Some("Bearer x"));
    assert_eq!(asked.header("content-length"), Some("4"));
    for name in ["via", "proxy-status", "transfer-encoding"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn hop_by_hop_fields_end_here() {
    let app = statuses().await;
    let hopspan = before(&app, &collector::grpc()).await;
    client::get(hopspan.inbound, "/")
        .header(
            "Connection",
            "close, X-Nominated, traceparent, Host, X-Forwarded-For",
        )
        .header("X-Nominated", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy-Authorization", "secret")
        .header("TE", "trailers, deflate")
        .header("Upgrade", "h2c")
        .header("X-Kept", "1")
        .send()
        .await;
    let asked = app.received(1).await.pop().unwrap();
    for name in [
        "x-nominated",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "upgrade",
    ] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    for name in ["x-kept", "host", "traceparent", "x-forwarded-for"] {
        assert!(asked.header(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn forwarded_fields_are_appended_from_proxies_and_replaced_from_others() {
    let app = statuses().await;
    let spoofed = |hopspan: &Sidecar| {
        client::get(hopspan.inbound, "/")
            .host("shop.example")
            .header("X-Forwarded-For", "203.0.113.7")
            .header("X-Forwarded-Proto", "https")
            .header("Forwarded", "for=203.0.113.7;proto=https")
    };
    let trusting = before(&app, &collector::grpc()).await;
    spoofed(&trusting).send().await;
    let asked = app.received(1).await.pop().unwrap();
    assert_eq!(
        asked.header("x-forwarded-for"),
        Some("203.0.113.7, 127.0.0.1")
    );
    assert_eq!(asked.header("x-forwarded-proto"), Some("https"));

    let wary = sidecar::to(app.address)
        .set("inbound.trusted_proxies", json!(["203.0.113.0/24"]))
        .run()
        .await;
    spoofed(&wary)
        .header("X_Forwarded_For", "1.2.3.4")
        .send()
        .await;
    let asked = app.received(2).await.pop().unwrap();
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(asked.header("x-forwarded-proto"), Some("http"));
    assert_eq!(asked.header("x_forwarded_for"), None);
    let text = String::from_utf8_lossy(&asked.head.raw).into_owned();
    assert!(!text.contains("203.0.113.7"), "{text}");
}

#[tokio::test]
async fn spans_carry_route_status_and_no_secret() {
    let app = statuses().await;
    let collector = collector::grpc();
    let hopspan = before(&app, &collector).await;
    let rows = [
        ("/orders/7/?x=1", 200, "GET orders/<int:pk>/", false),
        ("/status/404/", 404, "GET status/<int:code>/", false),
        ("/status/500/", 500, "GET status/<int:code>/", true),
        ("/unrouted/123", 200, "GET", false),
    ];
    for (index, (target, status, name, failed)) in rows.iter().enumerate() {
        assert_eq!(
            client::get(hopspan.inbound, target).send().await.status,
            *status
        );
        let spans = collector.spans((index + 1) * 2).await;
        let server = spans.iter().rfind(|span| span.kind == "SERVER").unwrap();
        assert_eq!(
            (&*server.name, server.failed()),
            (*name, *failed),
            "{server:?}"
        );
        assert_eq!(server.attr("http.response.status_code"), status.to_string());
        assert_eq!(server.attr("http.request.method"), "GET");
        assert_eq!(server.attr("url.scheme"), "http");
        assert_eq!(server.attr("url.path"), target.split('?').next().unwrap());
        assert_eq!(server.attr("client.address"), "127.0.0.1");
        let error = if *failed { "500" } else { "" };
        assert_eq!(server.attr("error.type"), error);
        let inner = spans.iter().rfind(|span| span.kind == "CLIENT").unwrap();
        assert_eq!(
            inner.failed(),
            *status >= 400,
            "4xx and 5xx fail a CLIENT span: {inner:?}"
        );
    }
    client::get(hopspan.inbound, "/orders/8/?sig=SECRET&ok=1")
        .send()
        .await;
    let spans = collector.spans(10).await;
    let query = spans.last().unwrap().attr("url.query").to_owned() + spans[8].attr("url.query");
    assert!(
        query.contains("sig=REDACTED") && query.contains("ok=1"),
        "{query}"
    );
    assert!(!format!("{spans:?}").contains("SECRET"));
}

#[tokio::test]
async fn an_untraced_route_makes_no_span_and_passes_context_untouched() {
    let app = statuses().await;
    let collector = collector::grpc();
    let hopspan = before(&app, &collector).await;
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client::get(hopspan.inbound, "/healthz")
        .header("traceparent", context)
        .send()
        .await;
    client::get(hopspan.inbound, "/healthz").send().await;
    let asked = app.received(2).await;
    assert_eq!(asked[0].header("traceparent"), Some(context));
    // One valid traceparent leaves in any case: not sampled, so that nobody below records what is not wanted here.
    assert_eq!(Traceparent::only(&asked[1].head).flags & 1, 0);
    // The next traced one is the first that is exported.
    client::get(hopspan.inbound, "/orders/1/").send().await;
    let spans = collector.spans(2).await;
    let trace = Trace::of(&spans[0].trace_id, &spans);
    trace.assert_tree("shop SERVER GET orders/<int:pk>/\n  shop CLIENT GET\n");
}

#[tokio::test]
async fn ten_thousand_requests_need_no_more_connections_than_clients() {
    let app = app::service("ok").await;
    // On a machine that halts now and then, connections of clients that wait for it would expire.
    let hopspan = sidecar::to(app.address)
        .set("timeouts.upstream_idle_app", json!("5m"))
        .run()
        .await;
    let load = crate::support::load::gets(8, hopspan.inbound, "/");
    load.answers.at_least(10_000).await;
    let tally = load.finish().await;
    tally.assert_all_good(10_000);
    assert!(
        app.connections.len() <= 8,
        "{} connections for 8 clients",
        app.connections.len()
    );
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection() {
    let app = app::http()
        .any(|asked| async move {
            let code = asked.path().trim_matches('/').parse().unwrap_or(200);
            let reply = app::reply(code);
            if asked.head.method() == "HEAD" {
                return reply.header("content-length", "1234");
            }
            reply
        })
        .run()
        .await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut peer = raw::connect(hopspan.inbound).await;
    for (method, target, status) in [
        ("HEAD", "/", 200),
        ("GET", "/204", 204),
        ("GET", "/304", 304),
        ("DELETE", "/204", 204),
        ("HEAD", "/404", 404),
        ("OPTIONS", "/", 200),
        ("PURGE", "/", 200),
    ] {
        let answer = client::request(method, hopspan.inbound, target)
            .via(&mut peer)
            .await;
        assert_eq!(answer.status, status, "{method} {target}");
        if method == "HEAD" {
            assert_eq!(answer.header("content-length"), Some("1234"));
        }
    }
    assert_eq!(
        app.connections.len(),
        1,
        "one connection to the app for all"
    );
}

#[tokio::test]
async fn set_cookie_lines_and_unknown_fields_come_back() {
    let upstream = raw::server(|mut peer| async move {
        peer.head().await;
        peer.write(
            "HTTP/1.1 299 Fine Enough\r\nSet-Cookie: a=1\r\nX-Odd: \"\t~\"\r\nSet-Cookie: b=2\r\n\
             Connection: X-Gone\r\nX-Gone: 1\r\nKeep-Alive: timeout=5\r\nServer: app\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        peer.hang().await;
    })
    .await;
    let hopspan = sidecar::to(upstream.address).run().await;
    let answer = client::get(hopspan.inbound, "/").send().await;
    assert_eq!(answer.status, 299);
    assert!(
        answer.head.line.ends_with("Fine Enough"),
        "{}",
        answer.head.line
    );
    assert_eq!(answer.head.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.header("server"), Some("app"));
    for name in ["x-gone", "keep-alive", "proxy-status", "via"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn chunked_uploads_trailers_and_expect_work() {
    let app = app::http()
        .any(|asked| async move { app::reply(200).text(asked.body) })
        .run()
        .await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nT: 1\r\n\r\n",
    )
    .await;
    let answer = peer.response().await;
    assert_eq!(answer.text(), "abcde");
    // See `smuggling/http1.txt`: trailers that end in LF alone.
    assert_eq!(answer.header("connection"), Some("close"));

    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(peer.head().await.status(), 100);
    peer.write("hi").await;
    assert_eq!(peer.response().await.text(), "hi");
}
