//! HTTP/2 from clients and from the app: with prior knowledge, multiplexed, mapped to HTTP/1.1 and back, stopped.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Channel};
use serde_json::json;
use tokio::sync::Notify;

use crate::support::app::{self, ReplyExt};
use crate::support::{client, collector, eventually, h2, raw, sidecar, within};

mod abuse;
mod downgrade;
mod settings;

#[tokio::test]
async fn a_request_reaches_the_app_as_http_1_and_its_span_says_2() {
    let app = app::service("hello").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("inbound.routes", json!([{ "path": "orders/<int:pk>/" }]))
        .run()
        .await;
    let client = h2::connect(hopspan.inbound).await.at("shop:8080");
    let request = client
        .request("POST", "/orders/7/?a=b")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("x-mine", "kept")
        .body(h2::full("body"))
        .unwrap();
    let answer = client.send(request).await;
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.header("connection"), None);
    let asked = app.received(1).await.remove(0);
    assert_eq!(asked.head.line, "POST /orders/7/?a=b HTTP/1.1");
    assert_eq!(asked.header("host"), Some("shop:8080"));
    assert_eq!(asked.header("cookie"), Some("a=1; b=2"));
    assert_eq!(asked.header("content-length"), Some("4"));
    assert_eq!(asked.header("transfer-encoding"), None);
    assert_eq!(asked.header("x-mine"), Some("kept"));
    assert_eq!(asked.header("x-forwarded-proto"), Some("http"));
    assert_eq!(asked.body, "body");
    let spans = collector.spans(2).await;
    let server = spans.iter().find(|span| span.kind == "SERVER").unwrap();
    assert_eq!(server.attr("network.protocol.version"), "2");
    assert_eq!(server.attr("url.scheme"), "http");
    assert_eq!(server.attr("server.address"), "shop");
    assert_eq!(server.attr("server.port"), "8080");
    assert_eq!(server.attr("http.route"), "orders/<int:pk>/");
    assert!(asked.header("traceparent").is_some());
}

#[tokio::test]
async fn requests_on_one_connection_do_not_wait_for_each_other() {
    let gate = Arc::new(Notify::new());
    let wait = Arc::clone(&gate);
    let app = app::http()
        .route("/slow", move |_| {
            let wait = Arc::clone(&wait);
            async move {
                wait.notified().await;
                app::reply(200).text("slow")
            }
        })
        .route("/quick", |_| async { app::reply(200).text("quick") })
        .run()
        .await;
    let hopspan = sidecar::to(app.address).run().await;
    let client = h2::connect(hopspan.inbound).await;
    let slow = {
        let client = client.clone();
        tokio::spawn(async move { client.get("/slow").await })
    };
    app.connections.at_least(1).await;
    for _ in 0..50 {
        assert_eq!(client.get("/quick").await.text(), "quick");
    }
    gate.notify_one();
    assert_eq!(within("the slow one", slow).await.unwrap().text(), "slow");
    assert_eq!(
        hopspan.metric("hopspan_connections").await,
        2.0,
        "one, and this question"
    );
}

#[tokio::test]
async fn bodies_flow_both_ways_and_trailers_come_back() {
    let app = app::http()
        .streaming("/echo", |request| async {
            let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
            tokio::spawn(async move {
                let mut asked = request.into_body();
                while let Some(Ok(frame)) = asked.frame().await {
                    if let Ok(data) = frame.into_data() {
                        sender.send_data(data).await.unwrap();
                    }
                }
                let mut trailers = http::HeaderMap::new();
                trailers.insert("x-checksum", "abc".parse().unwrap());
                sender.send_trailers(trailers).await.unwrap();
            });
            app::reply(200).header("trailer", "x-checksum").stream(body)
        })
        .run()
        .await;
    let hopspan = sidecar::to(app.address).run().await;
    let client = h2::connect(hopspan.inbound).await;
    // Larger than every window.
    let bytes: Vec<u8> = (0..=255).cycle().take(5_000_000).collect();
    let request = client
        .request("POST", "/echo")
        .header("te", "trailers")
        .body(h2::full(bytes.clone()))
        .unwrap();
    let answer = client.send(request).await;
    assert!(answer.body == bytes, "{} bytes", answer.body.len());
    assert_eq!(answer.trailers.get("x-checksum").unwrap(), "abc");
}

#[tokio::test]
async fn a_client_that_resets_a_stream_cancels_its_request_only() {
    let (gate, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (wait, tell) = (Arc::clone(&gate), Arc::clone(&gone));
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let app = app::http()
        .route("/slow", move |_| {
            let (wait, dropped) = (Arc::clone(&wait), Dropped(Arc::clone(&tell)));
            async move {
                wait.notified().await;
                drop(dropped);
                app::reply(200)
            }
        })
        .route("/quick", |_| async { app::reply(200).text("quick") })
        .run()
        .await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    let mut frames = h2::frames(hopspan.inbound).await;
    frames.headers(1, h2::WHOLE, &h2::get("/slow")).await;
    app.received(1).await;
    frames
        .send(h2::RST_STREAM, 0, 1, &8_u32.to_be_bytes())
        .await;
    within("the app's handler to be dropped", gone.notified()).await;
    frames.headers(3, h2::WHOLE, &h2::get("/quick")).await;
    let head = frames.expect(h2::HEADERS, "the second answer").await;
    assert_eq!(head.stream, 3);
    let spans = collector.spans(4).await;
    let cancelled = spans
        .iter()
        .filter(|span| span.attr("error.type") == "cancelled");
    assert_eq!(cancelled.count(), 2, "{spans:?}");
}

#[tokio::test]
async fn a_stop_says_goaway_and_lets_streams_finish() {
    let (app, held) = app::http().held("/slow", "at last");
    let app = app.run().await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    let client = h2::connect(hopspan.inbound).await;
    let idle = h2::connect(hopspan.inbound).await;
    let slow = {
        let client = client.clone();
        tokio::spawn(async move { client.get("/slow").await })
    };
    held.reached().await;
    let stopping = tokio::spawn(hopspan.stop());
    eventually("an idle connection to be closed", || idle.is_closed()).await;
    assert!(!stopping.is_finished());
    held.release();
    assert_eq!(within("the answer", slow).await.unwrap().text(), "at last");
    let stopped = within("the stop", stopping).await.unwrap();
    assert!(stopped.drained);
    assert_eq!(collector.spans.len(), 2);
}

#[tokio::test]
async fn a_cut_ends_streams_and_their_spans_are_told() {
    let app = app::http()
        .route("/never", |_| async {
            std::future::pending::<()>().await;
            app::reply(200)
        })
        .run()
        .await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("timeouts.drain", json!("200ms"))
        .run()
        .await;
    let mut frames = h2::frames(hopspan.inbound).await;
    frames.headers(1, h2::WHOLE, &h2::get("/never")).await;
    app.received(1).await;
    let stopped = within("the stop", hopspan.stop()).await;
    assert!(!stopped.drained && stopped.flushed);
    assert_eq!(collector.spans.len(), 2);
    frames.peer.closed().await;
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .set("timeouts.idle", json!("1500ms"))
        .run()
        .await;
    let mut frames = h2::frames(hopspan.inbound).await;
    frames.headers(1, h2::WHOLE, &h2::get("/")).await;
    frames.expect(h2::HEADERS, "an answer").await;
    let farewell = frames.expect(h2::GOAWAY, "a farewell").await;
    assert_eq!(farewell.code(), 0);
    while frames.next_of(h2::GOAWAY).await.is_some() {}
}

#[tokio::test]
async fn a_preface_may_come_in_pieces_but_not_for_ever() {
    let app = app::service("ok").await;
    let patient = sidecar::to(app.address);
    // In a hurry only with the one that is too slow: this test may be, too.
    let hasty = patient.clone().set("timeouts.header", json!("300ms"));
    let (patient, hasty) = (patient.run().await, hasty.run().await);
    let mut peer = raw::connect(patient.inbound).await;
    for piece in h2::PREFACE.chunks(5) {
        peer.write(piece).await;
        tokio::task::yield_now().await;
    }
    let mut frames = h2::Frames { peer };
    frames.send(h2::SETTINGS, 0, 0, &[]).await;
    frames.headers(1, h2::WHOLE, &h2::get("/")).await;
    frames.expect(h2::HEADERS, "an answer").await;
    let mut slow = raw::connect(hasty.inbound).await;
    slow.write("PRI * HTTP/2").await;
    slow.closed().await;
    let counted = "hopspan_client_protocol_errors_total{reason=\"slow_head\"} 1";
    assert!(hasty.metrics().await.contains(counted));
}

#[tokio::test]
async fn curl_speaks_it() {
    let app = app::service("hello").await;
    let hopspan = sidecar::to(app.address).run().await;
    let url = format!("http://{}/", hopspan.inbound);
    client::curl_agrees(&["--http2-prior-knowledge", &url], "hello 2").await;
}

#[tokio::test]
async fn the_apps_own_calls_may_be_multiplexed() {
    let service = app::service("called").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .run()
        .await;
    let client = h2::connect(hopspan.outbound)
        .await
        .at(&service.address.to_string());
    let answer = client.get("/a?b").await;
    assert_eq!((answer.status, answer.text()), (200, "called"));
    let asked = service.received(1).await.remove(0);
    assert_eq!(asked.head.line, "GET /a?b HTTP/1.1");
    assert_eq!(asked.header("host"), Some(&*service.address.to_string()));
    let span = collector.spans(1).await.remove(0);
    assert!(span.is_named_by(asked.header("traceparent").unwrap()));
    assert_eq!(
        span.attr("url.full"),
        format!("http://{}/a?b", service.address)
    );
    // Whose call this is cannot be told from its connection.
    assert_eq!(span.attr("hopspan.unlinked.reason"), "multiplexed");
}
