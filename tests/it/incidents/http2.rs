//! Floods of frames and of fields, and content that is taken for requests: HTTP/2. Requests that HTTP/1.1 would read in
//! another way (CVE-2026-48743): `http2/downgrade.rs`.

use serde_json::json;

use crate::support::{app, binary, client, cost, h2, h2_server, raw, sidecar, within};

#[tokio::test]
async fn cve_2023_44487_and_rustsec_2023_0034_rapid_reset_ends_the_connection() {
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

#[tokio::test]
async fn rustsec_2024_0332_a_flood_of_continuations_ends_the_connection() {
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

/// "MadeYouReset": each way in which a client makes the server reset a stream, or the connection, after its request.
#[tokio::test]
async fn cve_2025_8671_and_rustsec_2025_0070_streams_that_are_made_to_fail_end_the_connection() {
    let zero = 0_u32.to_be_bytes();
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let block = h2::hpack(&h2::get("/"));
    let ways: [(&str, u8, u8, &[u8]); 6] = [
        ("content after the end", h2::DATA, h2::END_STREAM, b"x"),
        ("a head after the end", h2::HEADERS, h2::WHOLE, &block),
        (
            "a window that grows by nothing",
            h2::WINDOW_UPDATE,
            0,
            &zero,
        ),
        ("a window that overflows", h2::WINDOW_UPDATE, 0, &most),
        ("a priority of a wrong length", h2::PRIORITY, 0, b"four"),
        (
            "more content than its length",
            h2::DATA,
            h2::END_STREAM,
            b"xxxxx",
        ),
    ];
    for (what, kind, flags, payload) in ways {
        let app = app::service("ok").await;
        let hopspan = sidecar::to(app.address).run().await;
        let mut frames = h2::frames(hopspan.inbound).await;
        let mut fields = h2::get("/");
        let open = what.starts_with("more content");
        if open {
            fields.push(("content-length", "1"));
        }
        let block = h2::hpack(&fields);
        let head = if open { h2::END_HEADERS } else { h2::WHOLE };
        let mut flood = Vec::new();
        for number in 0..5_000_u32 {
            let stream = number * 2 + 1;
            flood.extend(h2::frame(h2::HEADERS, head, stream, &block));
            flood.extend(h2::frame(kind, flags, stream, payload));
        }
        frames.peer.try_write(flood).await;
        let farewell = frames.expect(h2::GOAWAY, what).await;
        assert_ne!(farewell.code(), 0, "{what}");
        assert!(app.received.len() <= 300, "{what}: {}", app.received.len());
    }
}

/// "Priority" of a stream on itself: no request, and an error for each.
#[tokio::test]
async fn cve_2025_8671_streams_that_depend_on_themselves_end_the_connection() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut frames = h2::frames(hopspan.inbound).await;
    let block = h2::hpack(&h2::get("/"));
    let mut flood = Vec::new();
    for number in 0..5_000_u32 {
        let stream = number * 2 + 1;
        let mut itself = stream.to_be_bytes().to_vec();
        itself.push(16);
        flood.extend(h2::frame(h2::HEADERS, h2::WHOLE, stream, &block));
        flood.extend(h2::frame(h2::PRIORITY, 0, stream, &itself));
    }
    frames.peer.try_write(flood).await;
    assert_ne!(frames.expect(h2::GOAWAY, "a farewell").await.code(), 0);
    assert!(app.received.len() <= 300, "{}", app.received.len());
}

/// Malformed requests of a client that takes no answer: the resets of each must not pile up.
#[tokio::test]
async fn rustsec_2024_0003_resets_that_nobody_reads_end_the_connection() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut frames = h2::frames_with(hopspan.inbound, &[(4, 0)]).await;
    let mut fields = h2::get("/");
    fields.push(("connection", "close"));
    let block = h2::hpack(&fields);
    let mut flood = Vec::new();
    for number in 0..100_000_u32 {
        flood.extend(h2::frame(h2::HEADERS, h2::WHOLE, number * 2 + 1, &block));
    }
    // Nothing is read meanwhile.
    frames.peer.try_write(flood).await;
    let counted = "hopspan_client_protocol_errors_total{reason=\"http2_abuse\"} 1";
    within("the count", async {
        while !hopspan.metrics().await.contains(counted) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    frames.peer.closed().await;
    assert_eq!(app.received.len(), 0);
}

#[tokio::test]
async fn rustsec_2026_0258_empty_frames_without_end_end_the_connection() {
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
async fn cve_2024_24549_heads_have_a_size_and_a_count() {
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

/// A cookie in crumbs is one field for the app, and as many as there are crumbs for the limit.
#[tokio::test]
async fn cve_2026_47774_crumbs_of_cookies_are_counted() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let client = h2::connect(hopspan.inbound).await;
    let crumbs = |count: usize| {
        let mut request = client.request("GET", "/");
        for _ in 0..count {
            request = request.header("cookie", "a");
        }
        request.body(h2::empty()).unwrap()
    };
    assert_eq!(client.send(crumbs(101)).await.status, 431);
    assert_eq!(app.received.len(), 0);
    assert_eq!(client.send(crumbs(90)).await.status, 200);
    let asked = app.received(1).await.remove(0);
    assert_eq!(asked.header("cookie"), Some(&*["a"; 90].join("; ")));
    // By their bytes, too: 40 octets each in RFC 9113's way of counting.
    let mut frames = h2::frames(hopspan.inbound).await;
    let mut fields = h2::get("/");
    fields.extend([("cookie", "")].repeat(1_200));
    frames.headers(1, h2::WHOLE, &fields).await;
    let answer = frames.expect(h2::HEADERS, "an answer").await;
    assert_eq!(
        answer.payload.first().map(|byte| byte & 0x80),
        Some(0),
        "no indexed status: {answer:?}"
    );
    assert_eq!(app.received.len(), 1);
    hopspan.until("hopspan_http2_head_bytes", 0.0).await;
}

#[tokio::test]
async fn cve_2026_73550_copies_of_the_host_are_no_request() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    for copies in [2, 10, 90, 1_000] {
        let mut frames = h2::frames(hopspan.inbound).await;
        let mut fields = h2::get("/");
        fields.extend([("host", "shop")].repeat(copies));
        frames.headers(1, h2::WHOLE, &fields).await;
        let told = within("an answer", async {
            while let Some(frame) = frames.next().await {
                if matches!(frame.kind, h2::HEADERS | h2::RST_STREAM | h2::GOAWAY) {
                    return Some(frame);
                }
            }
            None
        })
        .await;
        // RFC 7541 appendix A: 8 is 200.
        let taken = told
            .as_ref()
            .is_some_and(|frame| frame.kind == h2::HEADERS && frame.payload.first() == Some(&0x88));
        assert!(!taken, "{copies}: {told:?}");
    }
    assert_eq!(app.received.len(), 0);
    hopspan.until("hopspan_http2_head_bytes", 0.0).await;
}

/// A field that is sent once and named 16,000 times in a block, by streams whose answers nobody takes.
#[tokio::test]
async fn cve_2026_49975_fields_that_hpack_makes_large_are_no_request() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut frames = h2::frames_with(hopspan.inbound, &[(4, 0)]).await;
    // Literal with incremental indexing (RFC 7541 section 6.2.1): entry 62 from then on.
    let mut first = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    first.extend([b'y'; 4_000]);
    let pseudo = h2::hpack(&h2::get("/"));
    for number in 0..50_u32 {
        let mut block = pseudo.clone();
        if number == 0 {
            block.extend(&first);
        }
        block.extend(vec![0xbe; 16_000 - block.len()]);
        if !frames
            .try_send(h2::HEADERS, h2::WHOLE, number * 2 + 1, &block)
            .await
        {
            break;
        }
    }
    let answer = within("an answer", async {
        loop {
            let frame = frames.next().await?;
            if matches!(frame.kind, h2::HEADERS | h2::RST_STREAM | h2::GOAWAY) {
                return Some(frame);
            }
        }
    })
    .await
    .unwrap();
    assert!(
        answer.kind != h2::HEADERS || answer.payload.first() != Some(&0x88),
        "{answer:?}"
    );
    hopspan.until("hopspan_http2_head_bytes", 0.0).await;
    assert_eq!(app.received.len(), 0);
    let client = h2::connect(hopspan.inbound).await;
    assert_eq!(client.get("/").await.status, 200);
}

/// 64 connections with 100 streams each, whose heads are an entry of the table told again and again, crumbs of cookies, and a
/// second host for every tenth; none opens a window, so no answer can be sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2026_49975_bombs_stay_small_and_others_are_answered_beside_them() {
    let app = app::service("ok").await;
    let config = sidecar::to(app.address).set("timeouts.body_idle", json!("3s"));
    let hopspan = binary::warm(config).await;
    let pid = hopspan.process.pid();
    let before = cost::memory(pid, "VmHWM");
    let mut bomb = Vec::new();
    for number in 0..100_u32 {
        let mut fields = h2::get("/");
        if number % 10 == 9 {
            fields.extend([("host", "shop")].repeat(20));
        }
        fields.extend([("cookie", "a=b")].repeat(20));
        let mut block = h2::hpack(&fields);
        if number == 0 {
            // As above, with 3,900 bytes: four of them are nearly all that a head may be.
            block.extend([0x40, 1, b'x', 0x7f, 0xbd, 0x1d]);
            block.extend([b'y'; 3_900]);
        }
        block.extend([0xbe; 3]);
        bomb.extend(h2::frame(h2::HEADERS, h2::WHOLE, number * 2 + 1, &block));
    }
    let mut clients = Vec::new();
    for _ in 0..64 {
        let mut frames = h2::frames_with(hopspan.inbound, &[(4, 0)]).await;
        frames.peer.try_write(&bomb).await;
        frames.expect(h2::RST_STREAM, "a refusal").await;
        clients.push(frames);
    }
    for _ in 0..20 {
        let answer = client::get(hopspan.inbound, "/").send().await;
        assert_eq!(answer.status, 200);
    }
    let other = h2::connect(hopspan.inbound).await;
    assert_eq!(other.get("/").await.status, 200);
    // Their clients are still there, and open nothing.
    sidecar::until(hopspan.status, "hopspan_http2_streams", 0.0).await;
    sidecar::until(hopspan.status, "hopspan_http2_head_bytes", 0.0).await;
    let metrics = client::get(hopspan.status, "/metrics").send().await.text();
    for reason in ["unopened", "stalled_stream"] {
        let counted = format!("hopspan_client_protocol_errors_total{{reason=\"{reason}\"}}");
        assert!(sidecar::sum(&metrics, &counted) > 0.0, "{reason}");
    }
    let peak = cost::memory(pid, "VmHWM") - before;
    // The budget of their heads and 8 MiB.
    assert!(peak <= 24 * 1024, "{peak} KiB");
    drop(clients);
    assert_eq!(client::get(hopspan.inbound, "/").send().await.status, 200);
}

/// What an HTTP/1.1 client sends as content stays that: to an app that speaks HTTP/2 it is no frame and no request.
#[tokio::test]
async fn cve_2026_42926_content_is_no_request_to_an_http_2_app() {
    let app = h2_server::run("app").await;
    let hopspan = sidecar::to(app.address)
        .set("inbound.protocol", json!("h2"))
        .run()
        .await;
    let mut inner = h2::PREFACE.to_vec();
    inner.extend(h2::frame(h2::SETTINGS, 0, 0, b""));
    let block = h2::hpack(&h2::get("/smuggled"));
    for stream in [1, 3, 5] {
        inner.extend(h2::frame(h2::HEADERS, h2::WHOLE, stream, &block));
    }
    inner.extend(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n");
    let length = inner.len();
    let mut chunked = format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n").into_bytes();
    chunked.extend(&inner);
    chunked.extend(b"\r\n0\r\n\r\n");
    let mut plain = format!("Content-Length: {length}\r\n\r\n").into_bytes();
    plain.extend(&inner);
    let mut peer = raw::connect(hopspan.inbound).await;
    for method in ["POST", "GET"] {
        for content in [&chunked, &plain] {
            let head = format!("{method} /echo HTTP/1.1\r\nHost: shop\r\n");
            peer.write([head.as_bytes(), content].concat()).await;
            let answer = peer.response().await;
            assert_eq!((answer.status, &*answer.body), (200, &*inner), "{method}");
        }
    }
    let paths: Vec<String> = app
        .received
        .all()
        .into_iter()
        .map(|asked| asked.uri)
        .collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    assert!(
        paths.iter().all(|path| path.ends_with("/echo")),
        "{paths:?}"
    );
}
