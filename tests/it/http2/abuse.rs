//! What HTTP/2 connections can hold: budgets over all of them, and no answer that waits for ever. Floods that were
//! incidents of others: `incidents/http2.rs`.

use bytes::Bytes;
use http_body_util::Channel;
use serde_json::json;

use crate::support::app::{self, ReplyExt};
use crate::support::{h2, sidecar};

#[tokio::test]
async fn heads_of_all_connections_share_one_budget() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .set("limits.http2_heads", json!("2KiB"))
        .run()
        .await;
    let client = h2::connect(hopspan.inbound).await;
    let large = client.request("GET", "/").header("x", "y".repeat(3000));
    let answer = client.send(large.body(h2::empty()).unwrap()).await;
    assert_eq!(answer.status, 503);
    assert_eq!(client.get("/").await.status, 200);
    let metrics = hopspan.metrics().await;
    assert!(metrics.contains("hopspan_client_protocol_errors_total{reason=\"head_budget\"} 1"));
    assert!(metrics.contains("hopspan_http2_head_bytes 0"), "{metrics}");
}

#[tokio::test]
async fn streams_of_all_connections_have_a_number() {
    let (app, held) = app::http().held("/held", "at last");
    let app = app.run().await;
    let hopspan = sidecar::to(app.address)
        .set("limits.http2_requests", json!(1))
        .run()
        .await;
    let client = h2::connect(hopspan.inbound).await;
    let first = tokio::spawn(async move { client.get("/held").await.status });
    held.reached().await;
    // Without a window for content: it is told, and nothing waits.
    let mut frames = h2::frames_with(hopspan.inbound, &[(4, 0)]).await;
    frames.headers(1, h2::WHOLE, &h2::get("/")).await;
    let head = frames.expect(h2::HEADERS, "an answer").await;
    assert_eq!(head.flags & h2::END_STREAM, h2::END_STREAM);
    let metrics = hopspan.metrics().await;
    assert!(metrics.contains("hopspan_client_protocol_errors_total{reason=\"stream_budget\"} 1"));
    assert!(metrics.contains("hopspan_http2_streams 1"), "{metrics}");
    held.release();
    assert_eq!(first.await.unwrap(), 200);
    hopspan.until("hopspan_http2_streams", 0.0).await;
    let client = h2::connect(hopspan.inbound).await;
    assert_eq!(client.get("/other").await.status, 404, "by the app");
}

/// A client that opens no window holds neither the answer nor the app for ever.
#[tokio::test]
async fn a_stream_that_takes_no_data_is_reset() {
    let app = app::http()
        .streaming("/large", |_| async { app::endless() })
        .streaming("/silent", |_| async {
            let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
            tokio::spawn(async move {
                sender.send_data(Bytes::from("now")).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(900)).await;
                sender.send_data(Bytes::from("then")).await.unwrap();
            });
            app::reply(200)
                .header("content-type", "text/event-stream")
                .stream(body)
        })
        .run()
        .await;
    // With little memory nothing more is read of a response while a piece of it waits: nor is that the app's stall.
    for (memory, pressure) in [("off", 0.0), ("1MiB", 2.0)] {
        let hopspan = sidecar::to(app.address)
            .set("timeouts.body_idle", json!("300ms"))
            .set("limits.memory", json!(memory))
            .run()
            .await;
        hopspan.until("hopspan_memory_pressure", pressure).await;
        // INITIAL_WINDOW_SIZE 10: the first window is used up by the answer's beginning.
        let mut frames = h2::frames_with(hopspan.inbound, &[(4, 10)]).await;
        frames.headers(1, h2::WHOLE, &h2::get("/large")).await;
        let reset = frames.expect(h2::RST_STREAM, "a reset").await;
        assert_eq!(reset.stream, 1);
        let counted = "hopspan_client_protocol_errors_total{reason=\"stalled_stream\"} 1";
        assert!(hopspan.metrics().await.contains(counted), "{memory}");
        // An app that is silent for longer than that is nobody's stall.
        let client = h2::connect(hopspan.inbound).await;
        assert_eq!(client.get("/silent").await.text(), "nowthen");
    }
}
