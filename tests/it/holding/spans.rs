//! What `limits:` says of spans: what of a request is kept, and what is counted as left out.

use serde_json::json;

use crate::support::app::{self, ReplyExt};
use crate::support::{client, collector, sidecar};

const STATUS: &str = "http.response.status_code";

#[tokio::test]
async fn what_a_span_keeps_of_a_request_is_limited() {
    let app = app::service("ok").await;
    let (a, b) = ("http.request.header.x-a", "http.request.header.x-b");
    for (key, limit, kept) in [
        ("span_bytes", "64KiB", [Some(4096), Some(2000)]),
        ("attribute_bytes", "100B", [Some(100), Some(100)]),
        // There is other text besides, less than would make a difference here.
        ("span_bytes", "5KiB", [Some(4096), None]),
        ("span_bytes", "3KiB", [None, Some(2000)]),
    ] {
        let collector = collector::grpc();
        let hopspan = sidecar::to(app.address)
            .collector(&collector)
            .set("inbound.app_span", json!(false))
            .set("capture.request_headers", json!(["x-a", "x-b"]))
            .set(&format!("limits.{key}"), json!(limit))
            .run()
            .await;
        let asked = client::get(hopspan.inbound, "/")
            .header("x-a", &"a".repeat(5000))
            .header("x-b", &"b".repeat(2000));
        assert_eq!(asked.send().await.status, 200);
        let span = collector.spans(1).await.remove(0);
        let lengths = [a, b].map(|name| {
            let value = span.attributes.get(name);
            value.map(|value| value.matches(['a', 'b']).count())
        });
        assert_eq!(lengths, kept, "{key} {limit}");
        // How it ended is kept whatever came before.
        assert_eq!(span.attr(STATUS), "200", "{key} {limit}");
    }
}

/// Of what a request and its response say, so many attributes; what is beyond is counted as left out.
#[tokio::test]
async fn the_number_of_attributes_of_a_span_is_limited() {
    let names = || (0..90).map(|number| format!("x-{number}"));
    let app = app::http()
        .any(move |_| async move {
            let mut reply = app::reply(200);
            for name in names() {
                let name = name.parse::<http::HeaderName>().unwrap();
                reply.headers_mut().append(name, "v".parse().unwrap());
            }
            reply.text("ok")
        })
        .run()
        .await;
    for (limit, kept) in [(None, Some(128)), (Some(20), Some(20)), (Some(1000), None)] {
        let collector = collector::grpc();
        let captured: Vec<String> = names().collect();
        let mut hopspan = sidecar::to(app.address)
            .collector(&collector)
            .set("inbound.app_span", json!(false))
            .set("capture.request_headers", json!(captured))
            .set("capture.response_headers", json!(captured));
        if let Some(limit) = limit {
            hopspan = hopspan.set("limits.attributes", json!(limit));
        }
        let hopspan = hopspan.run().await;
        let asked = names().fold(client::get(hopspan.inbound, "/"), |asked, name| {
            asked.header(&name, "v")
        });
        assert_eq!(asked.send().await.status, 200);
        let span = collector.spans(1).await.remove(0);
        let len = span.attributes.len();
        match kept {
            Some(kept) => assert_eq!((len, span.left_out > 0), (kept, true), "{limit:?}"),
            None => assert_eq!((len > 180, span.left_out), (true, 0), "{limit:?}: {len}"),
        }
    }
}
