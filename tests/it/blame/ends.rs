//! Answers of an HTTP/2 upstream that says in a frame of its own that they are over (RFC 9113 section 8.1): who had all of
//! one has not left, and the upstream's stream is not reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::sync::Semaphore;

use super::all_say;
use crate::support::{collector, h2, h2_server, raw, sidecar};

#[tokio::test]
async fn who_had_all_of_an_answer_has_not_left_before_its_end() {
    // Method, status, length, content, and whether the client speaks HTTP/2.
    let rows = [
        ("GET", "200", "2", "ok", false),
        ("GET", "200", "0", "", false),
        ("HEAD", "200", "2", "", false),
        ("HEAD", "200", "2", "", true),
        ("GET", "204", "", "", false),
        ("GET", "304", "", "", false),
        ("GET", "304", "2", "", false),
    ];
    for (method, status, length, content, http2) in rows {
        let (over, resets) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (ends, reset) = (over.clone(), resets.clone());
        let app = h2_server::frames(move |mut frames, _| {
            let (ends, reset) = (ends.clone(), reset.clone());
            async move {
                let Some(head) = frames.next_of(h2::HEADERS).await else {
                    return;
                };
                let mut fields = vec![(":status", status)];
                if !length.is_empty() {
                    fields.push(("content-length", length));
                }
                let stream = head.stream;
                frames.headers(stream, h2::END_HEADERS, &fields).await;
                if !content.is_empty() {
                    frames.send(h2::DATA, 0, stream, content.as_bytes()).await;
                }
                ends.acquire().await.unwrap().forget();
                frames.try_send(h2::DATA, h2::END_STREAM, stream, b"").await;
                while let Some(frame) = frames.next().await {
                    let is_reset = frame.kind == h2::RST_STREAM;
                    reset.fetch_add(usize::from(is_reset), Ordering::Relaxed);
                }
            }
        })
        .await;
        let collector = collector::grpc();
        let hopspan = sidecar::to(app.address)
            .collector(&collector)
            .set("inbound.protocol", json!("h2"))
            .run()
            .await;
        let what = format!("{method} {status} {length}");
        if http2 {
            let client = h2::connect(hopspan.inbound).await;
            let request = client.request(method, "/").body(h2::empty()).unwrap();
            // Of which nothing else is to come.
            let head = client.begin(request).await.unwrap();
            assert_eq!(head.status().as_str(), status);
            drop(head);
        } else {
            let mut peer = raw::connect(hopspan.inbound).await;
            peer.write(format!("{method} / HTTP/1.1\r\nHost: shop\r\n\r\n"))
                .await;
            let answer = peer.response_to(method).await;
            assert_eq!(answer.status.to_string(), status, "{what}");
            assert_eq!(answer.text(), content, "{what}");
        }
        over.add_permits(1);
        let spans = collector.spans(2).await;
        all_say(&spans, "");
        assert!(spans.iter().all(|span| !span.failed()), "{what}: {spans:?}");
        // With it ends the app's connection, and what has come of it is seen.
        hopspan.stop().await;
        crate::support::eventually("the app is left", || app.open() == 0).await;
        // h2 itself takes the length of a 304 for that of a content which it lacks.
        let wrong = usize::from(status == "304" && !length.is_empty());
        assert!(resets.load(Ordering::Relaxed) <= wrong, "{what}");
    }
}
