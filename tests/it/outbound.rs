//! The outbound hop: a forward proxy for `HTTP_PROXY`, a base URL for apps that use one, routes by host.

use serde_json::json;

use crate::support::app::{self, ReplyExt};
use crate::support::collector;
use crate::support::w3c::Traceparent;
use crate::support::{client, raw, sidecar};

#[tokio::test]
async fn a_proxy_request_reaches_the_service_in_origin_form() {
    let service = app::service("paid").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .run()
        .await;
    let url = format!("http://{}/pay?card=1", service.address);
    let answer = client::post(hopspan.outbound, &url, "amount=1")
        .header("Proxy-Connection", "keep-alive")
        .header("User-Agent", "python-requests/2")
        .send()
        .await;
    assert_eq!(answer.text(), "paid");
    let asked = service.received(1).await.pop().unwrap();
    assert_eq!(asked.head.line, "POST /pay?card=1 HTTP/1.1");
    assert_eq!(asked.header("host"), Some(&*service.address.to_string()));
    assert_eq!(asked.header("proxy-connection"), None);
    // What the service is not to know about: the app's network.
    for name in ["x-forwarded-for", "forwarded", "via"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    let span = collector.spans(1).await.remove(0);
    assert_eq!((span.kind, &*span.name), ("CLIENT", "POST"));
    assert_eq!(span.attr("server.address"), "127.0.0.1");
    assert_eq!(span.attr("server.port"), service.address.port().to_string());
    assert_eq!(span.attr("url.full"), url);
    assert!(span.is_named_by(asked.header("traceparent").unwrap()));
}

#[tokio::test]
async fn the_host_field_decides_for_apps_with_a_base_url() {
    let service = app::service("by host").await;
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    let answer = client::get(hopspan.outbound, "/items")
        .host(&service.address.to_string())
        .send()
        .await;
    assert_eq!(answer.text(), "by host");
}

#[tokio::test]
async fn the_target_wins_over_a_host_field_that_differs() {
    let (one, other) = (app::service("one").await, app::service("other").await);
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    let answer = client::get(hopspan.outbound, &format!("http://{}/", one.address))
        .host(&other.address.to_string())
        .send()
        .await;
    // RFC 9112 3.2.2: the Host field is to be ignored; refusing the request is right too.
    match answer.status {
        200 => {
            let asked = one.received(1).await.pop().unwrap();
            assert_eq!(asked.header("host"), Some(&*one.address.to_string()));
        }
        status => assert_eq!(status, 400),
    }
    assert_eq!(other.received.len(), 0);
}

#[tokio::test]
async fn routes_send_names_where_they_say_and_keep_the_name() {
    let payment = app::service("payment").await;
    let other = app::service("other").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .set(
            "outbound.routes",
            json!([
                {"host": "payment-service", "to": format!("http://{}", payment.address)},
                {"host": "*.internal", "to": format!("http://{}", other.address)},
                {"host": "quiet.example", "to": format!("http://{}", other.address), "trace": false},
            ]),
        )
        .run()
        .await;
    for (url, name) in [
        ("http://payment-service/pay", "payment"),
        ("http://PAYMENT-SERVICE/pay", "payment"),
        ("http://a.b.internal/x", "other"),
        ("http://quiet.example/x", "other"),
    ] {
        let answer = client::get(hopspan.outbound, url).send().await;
        assert_eq!(answer.text(), name, "{url}");
    }
    let asked = payment.received(1).await.remove(0);
    assert_eq!(asked.header("host"), Some("payment-service"));
    let quiet = other.received(2).await.pop().unwrap();
    assert_eq!(Traceparent::only(&quiet.head).flags & 1, 0);
    let spans = collector.spans(3).await;
    let addresses: Vec<&str> = spans
        .iter()
        .map(|span| span.attr("server.address"))
        .collect();
    assert!(!addresses.contains(&"quiet.example"), "{addresses:?}");
}

#[tokio::test]
async fn the_apps_own_context_wins() {
    let service = app::service("ok").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .run()
        .await;
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client::get(hopspan.outbound, &format!("http://{}/", service.address))
        .header("traceparent", own)
        .header("tracestate", "app=1")
        .send()
        .await;
    let asked = service.received(1).await.pop().unwrap();
    let sent = Traceparent::only(&asked.head);
    assert_eq!(sent.trace_id, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(asked.header("tracestate"), Some("app=1"));
    let span = collector.spans(1).await.remove(0);
    assert_eq!(span.parent, "b7ad6b7169203331");
    assert_eq!(span.attr("hopspan.parent.evidence"), "header");
}

#[tokio::test]
async fn a_loop_is_refused_before_a_byte_is_sent() {
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    for own in [hopspan.outbound, hopspan.inbound] {
        let answer = client::get(hopspan.outbound, &format!("http://{own}/x"))
            .send()
            .await;
        if own == hopspan.outbound {
            assert!([502, 508].contains(&answer.status), "{}", answer.status);
            assert_eq!(answer.proxy_error(), Some("proxy_loop_detected"));
        }
    }
    let to_itself = format!("http://localhost:{}/x", hopspan.outbound.port());
    let answer = client::get(hopspan.outbound, &to_itself).send().await;
    assert_eq!(answer.proxy_error(), Some("proxy_loop_detected"));
}

#[tokio::test]
async fn what_is_no_call_is_refused_with_a_reason() {
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    for (what, bytes) in [
        (
            "https in plain text",
            "GET https://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
        ),
        (
            "ftp",
            "GET ftp://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
        ),
        (
            "userinfo",
            "GET http://u:p@example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        (
            "port 0",
            "GET http://127.0.0.1:0/ HTTP/1.1\r\nHost: 127.0.0.1:0\r\n\r\n",
        ),
        (
            "a bad port",
            "GET http://127.0.0.1:99999/ HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        (
            "connect without a port",
            "CONNECT example.com HTTP/1.1\r\nHost: example.com\r\n\r\n",
        ),
    ] {
        let answer = raw::exchange(hopspan.outbound, bytes).await;
        assert!(
            (400..600).contains(&answer.status),
            "{what}: {}",
            answer.status
        );
        assert_ne!(answer.status, 500, "{what}");
    }
}

#[tokio::test]
async fn a_slow_service_is_waited_for_unless_a_route_says_otherwise() {
    let slow = raw::server(|mut peer| async move {
        peer.head().await;
        peer.hang().await;
    })
    .await;
    let hopspan = sidecar::to(raw::closed_port())
        .set(
            "outbound.routes",
            json!([{"host": "slow", "to": format!("http://{}", slow.address), "timeout": "50ms"}]),
        )
        .run()
        .await;
    let answer = client::get(hopspan.outbound, "http://slow/").send().await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.proxy_error(), Some("http_response_timeout"));
    let body = answer.text();
    assert!(!body.is_empty() && body.len() < 1000, "{body}");
}

#[tokio::test]
async fn redirects_errors_and_cookies_are_the_apps_business() {
    let service = app::http()
        .any(|_| async {
            app::reply(302)
                .header("location", "/next")
                .header("set-cookie", "a=1")
        })
        .run()
        .await;
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    let url = format!("http://{}/", service.address);
    let answer = client::get(hopspan.outbound, &url).send().await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("/next"))
    );
    assert_eq!(answer.header("set-cookie"), Some("a=1"));
}
