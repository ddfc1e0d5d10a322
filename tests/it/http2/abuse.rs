//! What one HTTP/2 connection can cost: every flood ends, is counted, and does not reach the app.

use bytes::Bytes;
use http_body_util::Channel;
use serde_json::json;

use crate::support::app::{self, ReplyExt};
use crate::support::{h2, sidecar, within};

/// CVE-2023-44487.
#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut frames = h2::frames(hopspan.inbound).await;
    let block = h2::hpack(&h2::get("/"));
    let mut flood = Vec::new();
    for number in 0..20_000_u32 {
        let stream = number * 2 + 1;
        flood.extend(h2::frame(h2::HEADERS, h2::WHOLE, stream, &block));
        flood.extend(h2::frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    frames.peer.try_write(flood).await;
    let farewell = frames.expect(h2::GOAWAY, "a farewell").await;
    assert_eq!(farewell.code(), 0xb, "ENHANCE_YOUR_CALM");
    assert!(app.received.len() < 200, "{}", app.received.len());
    let counted = "hopspan_client_protocol_errors_total{reason=\"http2_abuse\"} 1";
    within("the count", async {
        while !hopspan.metrics().await.contains(counted) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// RUSTSEC-2024-0332.
#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut frames = h2::frames(hopspan.inbound).await;
    frames.headers(1, h2::END_STREAM, &h2::get("/")).await;
    let field = h2::hpack(&[("x-fill", &"y".repeat(16_000))]);
    // Twice what a head may be, so that the end of the connection is not waited for.
    for _ in 0..10 {
        frames.try_send(h2::CONTINUATION, 0, 1, &field).await;
    }
    assert_ne!(frames.expect(h2::GOAWAY, "a farewell").await.code(), 0);
    frames.peer.closed().await;
    assert_eq!(app.received.len(), 0);
}

/// CVE-2025-8671: frames by which a client makes the server reset streams.
#[tokio::test]
async fn streams_that_are_made_to_fail_end_the_connection() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut frames = h2::frames(hopspan.inbound).await;
    let block = h2::hpack(&h2::get("/"));
    let mut flood = Vec::new();
    for number in 0..5_000_u32 {
        let stream = number * 2 + 1;
        // A field block whose stream depends on itself would do as well; content after the end is the plainest.
        flood.extend(h2::frame(h2::HEADERS, h2::WHOLE, stream, &block));
        flood.extend(h2::frame(h2::DATA, h2::END_STREAM, stream, b"x"));
    }
    frames.peer.try_write(flood).await;
    let farewell = frames.expect(h2::GOAWAY, "a farewell").await;
    assert_ne!(farewell.code(), 0);
    assert!(app.received.len() <= 300, "{}", app.received.len());
}

#[tokio::test]
async fn empty_frames_without_end_end_the_connection() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut frames = h2::frames(hopspan.inbound).await;
    frames.headers(1, h2::END_HEADERS, &h2::get("/")).await;
    let flood = h2::frame(h2::DATA, 0, 1, b"").repeat(100_000);
    frames.peer.try_write(&flood).await;
    let farewell = frames.expect(h2::GOAWAY, "a farewell").await;
    assert_eq!(farewell.code(), 0xb, "ENHANCE_YOUR_CALM");
}

#[tokio::test]
async fn heads_have_a_size_a_count_and_a_budget() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let client = h2::connect(hopspan.inbound).await;
    let mut many = client.request("GET", "/");
    for number in 0..101 {
        many = many.header(format!("x-{number}"), "y");
    }
    let answer = client.send(many.body(h2::empty()).unwrap()).await;
    assert_eq!(answer.status, 431);
    let counted = "hopspan_client_protocol_errors_total{reason=\"too_large\"} 1";
    assert!(hopspan.metrics().await.contains(counted));
    let mut large = client.request("GET", "/");
    for number in 0..5 {
        large = large.header(format!("x-{number}"), "y".repeat(4_000));
    }
    let answer = client.send(large.body(h2::empty()).unwrap()).await;
    assert_eq!(answer.status, 431);
    assert_eq!(client.get("/").await.status, 200, "the connection lives on");
    assert_eq!(app.received.len(), 1);
}

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
