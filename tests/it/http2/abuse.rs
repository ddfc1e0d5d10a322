//! What HTTP/2 connections can hold: budgets over all of them, and no answer that waits for ever. Floods that were
//! incidents of others: `incidents/http2.rs`.

use bytes::Bytes;
use http_body_util::Channel;
use serde_json::json;

use crate::support::app::{self, ReplyExt};
use crate::support::h2::{self, Frames};
use crate::support::sidecar;

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

const REFUSED_STREAM: u32 = 7;

/// Sends 20 requests at once, without a window for their answers unless each is opened.
async fn without_a_window(frames: &mut Frames, opened: Option<u32>) {
    let block = h2::hpack(&h2::get("/held"));
    let mut bytes = Vec::new();
    for stream in (1..).step_by(2).take(20) {
        bytes.extend(h2::frame(h2::HEADERS, h2::WHOLE, stream, &block));
        if let Some(window) = opened {
            let window = window.to_be_bytes();
            bytes.extend(h2::frame(h2::WINDOW_UPDATE, 0, stream, &window));
        }
    }
    frames.peer.write(bytes).await;
}

#[tokio::test]
async fn a_client_that_opens_no_window_has_few_requests_at_once() {
    let app = app::http()
        .route("/held", |_| std::future::pending::<app::Reply>())
        .any(|_| async { app::reply(200).text("ok") })
        .run()
        .await;
    let hopspan = sidecar::to(app.address).run().await;
    let off = sidecar::to(app.address)
        .set("limits.http2_unopened", json!("off"))
        .run()
        .await;
    let counted = "hopspan_client_protocol_errors_total{reason=\"unopened\"}";
    let (mut kept, mut taken, mut refused) = (Vec::new(), 0, 0);
    for (to, window, opened, few) in [
        (&hopspan, 0, None, true),
        (&hopspan, 1023, None, true),
        (&hopspan, 0, Some(1), true),
        (&hopspan, 0, Some(1024), false),
        (&hopspan, 1024, None, false),
        (&hopspan, 65_535, None, false),
        (&off, 0, None, false),
    ] {
        let mut frames = h2::frames_with(to.inbound, &[(4, window)]).await;
        without_a_window(&mut frames, opened).await;
        let at_once = if few { 4 } else { 20 };
        for stream in (1..).step_by(2).take(20).skip(at_once) {
            let refusal = frames.expect(h2::RST_STREAM, "a refusal").await;
            assert_eq!((refusal.stream, refusal.code()), (stream, REFUSED_STREAM));
        }
        taken += at_once;
        refused += 20 - at_once;
        app.received(taken).await;
        kept.push(frames);
    }
    assert_eq!(hopspan.metric(counted).await, refused as f64);
    assert_eq!(off.metric(counted).await, 0.0);
    assert_eq!(kept.len(), 7);
    // It is served as soon as it takes answers.
    let frames = &mut kept[0];
    frames
        .send(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])
        .await;
    for stream in (41..).step_by(2).take(20) {
        frames.headers(stream, h2::WHOLE, &h2::get("/")).await;
    }
    for _ in 0..20 {
        let end = frames.expect(h2::DATA, "an answer").await;
        assert_eq!(end.flags & h2::END_STREAM, h2::END_STREAM);
    }
    assert_eq!(hopspan.metric(counted).await, refused as f64);
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
