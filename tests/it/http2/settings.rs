//! What `limits:` says of windows, resets and glitches, at its edge: what a client may still do, and what ends it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::h2::Frames;
use crate::support::{app, h2, sidecar};

const FLOW_CONTROL_ERROR: u32 = 3;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 0xb;
/// Of a SETTINGS frame (RFC 9113 section 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What hopspan's SETTINGS say; acknowledged, so that it holds.
async fn settings(frames: &mut Frames) -> BTreeMap<u16, u32> {
    let settings = frames.expect(h2::SETTINGS, "settings").await;
    frames.send(h2::SETTINGS, h2::ACK, 0, &[]).await;
    let settings = settings.payload.chunks(6).map(|setting| {
        let (name, value) = setting.split_at(2);
        let name = u16::from_be_bytes(name.try_into().unwrap());
        (name, u32::from_be_bytes(value.try_into().unwrap()))
    });
    settings.collect()
}

/// A POST whose content is one frame of `bytes`.
async fn post(frames: &mut Frames, stream: u32, bytes: usize) {
    let mut head = h2::get("/");
    head[0].1 = "POST";
    frames.headers(stream, h2::END_HEADERS, &head).await;
    let content = vec![b'x'; bytes];
    frames
        .send(h2::DATA, h2::END_STREAM, stream, &content)
        .await;
}

#[tokio::test]
async fn a_window_of_a_stream_is_as_wide_as_it_is_set() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .set("limits.http2_stream_window", json!("1KiB"))
        .run()
        .await;
    let mut frames = h2::frames(hopspan.inbound).await;
    let said = settings(&mut frames).await;
    assert_eq!(said[&INITIAL_WINDOW_SIZE], 1024);
    post(&mut frames, 1, 1024).await;
    assert_eq!(frames.expect(h2::HEADERS, "an answer").await.stream, 1);
    post(&mut frames, 3, 1025).await;
    let end = loop {
        let frame = frames.next().await.expect("a word on it");
        if matches!(frame.kind, h2::RST_STREAM | h2::GOAWAY) {
            break frame;
        }
    };
    assert_eq!(end.code(), FLOW_CONTROL_ERROR);
    assert_eq!(app.received.len(), 1);
}

#[tokio::test]
async fn what_a_connection_may_have_is_announced_as_it_is_set() {
    let app = app::service("ok").await;
    let keys = [
        "http2_streams",
        "http2_stream_window",
        "http2_head_bytes",
        "http2_window",
    ];
    for (set, announced) in [
        (None, [100, 64 << 10, 16 << 10, 1 << 20]),
        (
            Some(["7", "128KiB", "8KiB", "256KiB"]),
            [7, 128 << 10, 8 << 10, 256 << 10],
        ),
    ] {
        let values = set.iter().flat_map(|values| keys.iter().zip(values));
        let set = |builder: sidecar::Builder, (key, value): (&&str, &&str)| {
            builder.set(&format!("limits.{key}"), json!(value))
        };
        let hopspan = values.fold(sidecar::to(app.address), set).run().await;
        let mut frames = h2::frames(hopspan.inbound).await;
        let said = settings(&mut frames).await;
        let wider = frames.expect(h2::WINDOW_UPDATE, "a wider window").await;
        assert_eq!(wider.stream, 0);
        let by = u32::from_be_bytes(wider.payload.try_into().unwrap());
        let said = [
            said[&MAX_CONCURRENT_STREAMS],
            said[&INITIAL_WINDOW_SIZE],
            said[&MAX_HEADER_LIST_SIZE],
            by + 65_535,
        ];
        assert_eq!(said, announced);
    }
}

#[tokio::test]
async fn streams_beyond_their_number_are_refused() {
    let (app, held) = app::http().held("/", "at last");
    let app = app.run().await;
    let hopspan = sidecar::to(app.address)
        .set("limits.http2_streams", json!(1))
        .run()
        .await;
    let mut frames = h2::frames(hopspan.inbound).await;
    settings(&mut frames).await;
    frames.headers(1, h2::WHOLE, &h2::get("/")).await;
    held.reached().await;
    frames.headers(3, h2::WHOLE, &h2::get("/")).await;
    let refused = frames.expect(h2::RST_STREAM, "a refusal").await;
    assert_eq!((refused.stream, refused.code()), (3, REFUSED_STREAM));
    held.release();
    assert_eq!(frames.expect(h2::HEADERS, "an answer").await.stream, 1);
    assert_eq!(app.received.len(), 1);
}

/// So many requests in one write, of which none makes it.
fn spoilt(count: u32, request: impl Fn(u32) -> [Vec<u8>; 2]) -> Vec<u8> {
    let streams = (1..).step_by(2).take(count as usize);
    streams.flat_map(request).flatten().collect()
}

/// The client changes its mind.
fn reset(stream: u32) -> [Vec<u8>; 2] {
    let head = h2::hpack(&h2::get("/"));
    let head = h2::frame(h2::HEADERS, h2::WHOLE, stream, &head);
    let cancel = 8_u32.to_be_bytes();
    [head, h2::frame(h2::RST_STREAM, 0, stream, &cancel)]
}

/// More content than the head has promised: hopspan must reset the stream.
fn overlong(stream: u32) -> [Vec<u8>; 2] {
    let mut head = h2::get("/");
    head[0].1 = "POST";
    head.push(("content-length", "1"));
    let head = h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &h2::hpack(&head));
    [head, h2::frame(h2::DATA, h2::END_STREAM, stream, b"xx")]
}

/// CVE-2023-44487 and CVE-2025-8671.
#[tokio::test]
async fn resets_end_a_connection_above_their_number() {
    let app = app::service("ok").await;
    let mut ran = 0;
    for (key, allowed, bytes, held) in [
        ("http2_resets", None, spoilt(20, reset), true),
        ("http2_resets", None, spoilt(40, reset), false),
        ("http2_resets", Some(60), spoilt(40, reset), true),
        ("http2_resets", Some(3), spoilt(10, reset), false),
        ("http2_local_resets", Some(30), spoilt(20, overlong), true),
        ("http2_local_resets", Some(3), spoilt(20, overlong), false),
    ] {
        let mut hopspan = sidecar::to(app.address);
        if let Some(allowed) = allowed {
            hopspan = hopspan.set(&format!("limits.{key}"), json!(allowed));
        }
        let hopspan = hopspan.run().await;
        let mut frames = h2::frames(hopspan.inbound).await;
        settings(&mut frames).await;
        frames.peer.write(bytes).await;
        frames
            .peer
            .try_write(h2::frame(h2::PING, 0, 0, b"8 octets"))
            .await;
        let code = loop {
            match frames.next().await {
                Some(frame) if frame.kind == h2::GOAWAY => break Some(frame.code()),
                Some(frame) if frame.kind == h2::PING && frame.flags & h2::ACK != 0 => break None,
                Some(_) => {}
                None => panic!("{key} {allowed:?}: closed without a word"),
            }
        };
        let expected = (!held).then_some(ENHANCE_YOUR_CALM);
        assert_eq!(code, expected, "{key} {allowed:?}");
        ran += 1;
    }
    assert_eq!(ran, 6);
}

const GLITCHES: &str = "hopspan_client_glitches_total";

/// One request with a field; the frame that comes of it.
async fn asks(frames: &mut Frames, stream: u32, field: (&'static str, &str)) -> h2::Frame {
    let mut fields = h2::get("/");
    fields.push(field);
    frames.headers(stream, h2::WHOLE, &fields).await;
    loop {
        let frame = frames.next().await.unwrap();
        let answered = frame.kind == h2::HEADERS && frame.stream == stream;
        if answered || frame.kind == h2::GOAWAY {
            return frame;
        }
    }
}

#[tokio::test]
async fn a_client_whose_requests_are_refused_is_told_to_go_and_then_cut_off() {
    let (app, held) = app::http().held("/held", "at last");
    let app = app.any(|_| async { app::reply(404) }).run().await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut frames = h2::frames(hopspan.inbound).await;
    settings(&mut frames).await;
    frames.headers(1, h2::WHOLE, &h2::get("/held")).await;
    held.reached().await;
    let mut streams = (3..).step_by(2);
    // What the app refuses is its own business.
    for stream in streams.by_ref().take(150) {
        let answer = asks(&mut frames, stream, ("x", "y")).await;
        assert_eq!(answer.kind, h2::HEADERS);
    }
    assert_eq!(hopspan.metric(GLITCHES).await, 0.0);
    let bad = ("expect", "nothing");
    for stream in streams.by_ref().take(99) {
        let answer = asks(&mut frames, stream, bad).await;
        assert_eq!(answer.kind, h2::HEADERS);
    }
    assert_eq!(hopspan.metric(GLITCHES).await, 99.0);
    let mut frame = asks(&mut frames, streams.next().unwrap(), bad).await;
    while frame.kind != h2::GOAWAY {
        frame = frames.next().await.unwrap();
    }
    assert_eq!(frame.code(), 0, "in peace");
    assert_eq!(hopspan.metric(GLITCHES).await, 100.0);
    let counted = "hopspan_client_protocol_errors_total{reason=\"glitches\"}";
    assert_eq!(hopspan.metric(counted).await, 1.0);
    // Who is deaf to it (no answer to the ping that goes with it) gets so much more and is cut off.
    let mut more = 0;
    for stream in streams.by_ref().take(1000) {
        let mut fields = h2::get("/");
        fields.push(bad);
        let block = h2::hpack(&fields);
        let sent = frames
            .try_send(h2::HEADERS, h2::WHOLE, stream, &block)
            .await;
        if !sent || frames.next().await.is_none() {
            break;
        }
        more += 1;
    }
    assert!(more < 1000, "still there after {more}");
    hopspan
        .until("hopspan_connections{direction=\"inbound\"}", 0.0)
        .await;
}

#[tokio::test]
async fn requests_that_are_abandoned_are_counted_and_what_is_in_hand_is_still_answered() {
    let (app, held) = app::http().held("/held", "at last");
    let waits = |_| std::future::pending::<app::Reply>();
    let app = app.any(waits).run().await;
    let hopspan = sidecar::to(app.address)
        .set("limits.http2_glitches", json!(3))
        .run()
        .await;
    let mut frames = h2::frames(hopspan.inbound).await;
    settings(&mut frames).await;
    frames.headers(1, h2::WHOLE, &h2::get("/held")).await;
    held.reached().await;
    for (number, stream) in [3, 5, 7].into_iter().enumerate() {
        frames.headers(stream, h2::WHOLE, &h2::get("/")).await;
        app.received(number + 2).await;
        let cancel = 8_u32.to_be_bytes();
        frames.send(h2::RST_STREAM, 0, stream, &cancel).await;
        let counted = "hopspan_client_glitches_total{reason=\"abandoned\"}";
        hopspan.until(counted, (number + 1) as f64).await;
    }
    assert_eq!(frames.expect(h2::GOAWAY, "a farewell").await.code(), 0);
    held.release();
    let answer = frames.expect(h2::HEADERS, "the answer").await;
    assert_eq!(answer.stream, 1);
}

#[tokio::test]
async fn without_a_limit_of_glitches_nobody_goes() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .set("limits.http2_glitches", json!("off"))
        .run()
        .await;
    let client = h2::connect(hopspan.inbound).await;
    for _ in 0..250 {
        let request = client.request("GET", "/").header("expect", "nothing");
        let answer = client.send(request.body(h2::empty()).unwrap()).await;
        assert_eq!(answer.status, 417);
    }
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(hopspan.metric(GLITCHES).await, 250.0);
}
