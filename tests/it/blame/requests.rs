//! Requests that are refused or break off: the app has answered none of them, and no span says that it has.

use serde_json::json;

use crate::support::spans::Span;
use crate::support::{collector, raw, sidecar};

const STATUS: &str = "http.response.status_code";

/// The span of the listener, and that of the call to the app.
fn both(spans: &[Span]) -> (&Span, &Span) {
    let of = |kind| spans.iter().find(|span| span.kind == kind).unwrap();
    assert_eq!(spans.len(), 2, "{spans:?}");
    (of("SERVER"), of("CLIENT"))
}

#[tokio::test]
async fn a_request_that_breaks_off_is_no_answer_of_the_app() {
    let app = raw::server(|mut peer| async move {
        peer.rest().await;
    })
    .await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("timeouts.body_idle", json!("300ms"))
        .run()
        .await;
    for (framing, content, ends, status, why) in [
        (
            "Content-Length: 9",
            "half",
            false,
            "408",
            "the request body did not arrive in time",
        ),
        (
            "Content-Length: 9",
            "half",
            true,
            "400",
            "the request body ended early",
        ),
        (
            "Transfer-Encoding: chunked",
            "-1\r\n",
            false,
            "400",
            "the request body is not valid chunks",
        ),
    ] {
        let mut peer = raw::connect(hopspan.inbound).await;
        peer.write(format!(
            "POST / HTTP/1.1\r\nHost: shop\r\n{framing}\r\n\r\n{content}"
        ))
        .await;
        if ends {
            peer.half_close().await;
        }
        let spans = collector.spans(2).await;
        let (server, call) = both(&spans);
        assert_eq!(server.attr(STATUS), status, "{server:?}");
        assert!(!server.failed(), "{server:?}");
        assert_eq!(call.attr(STATUS), "", "{call:?}");
        assert_eq!(call.attr("error.type"), "http_request_error", "{call:?}");
        assert_eq!(call.message, why, "{call:?}");
        collector.spans.clear();
    }
}

#[tokio::test]
async fn a_request_that_is_refused_is_no_call_to_the_app() {
    let app = raw::server(|mut peer| async move {
        peer.rest().await;
    })
    .await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    let long = "x".repeat(9000);
    let rows = [
        ("GET /".to_owned(), "Host: a b", "400"),
        (format!("GET /{long}"), "Host: shop", "414"),
        ("GET /".to_owned(), "Host: shop\r\nExpect: more", "417"),
        ("CONNECT shop:80".to_owned(), "Host: shop:80", "405"),
    ];
    for (line, fields, status) in &rows {
        let mut peer = raw::connect(hopspan.inbound).await;
        peer.write(format!("{line} HTTP/1.1\r\n{fields}\r\n\r\n"))
            .await;
        assert_eq!(peer.response().await.status.to_string(), *status);
    }
    // All that is told comes before it has stopped.
    hopspan.stop().await;
    let spans = collector.spans.all();
    assert_eq!(spans.len(), rows.len(), "{spans:?}");
    for (span, (.., status)) in spans.iter().zip(&rows) {
        assert_eq!((span.kind, span.attr(STATUS)), ("SERVER", *status));
    }
    assert!(app.accepted.all().is_empty());
}

#[tokio::test]
async fn an_answer_of_hopspan_is_not_the_app_s() {
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .run()
        .await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert_eq!(peer.response().await.status, 502);
    let spans = collector.spans(2).await;
    let (server, call) = both(&spans);
    assert_eq!((server.attr(STATUS), call.attr(STATUS)), ("502", ""));
    for span in [server, call] {
        assert_eq!(span.attr("error.type"), "connection_refused", "{span:?}");
    }
}
