//! `timeouts.response` is the app's time: not the client's, who is still sending.

use std::time::Duration;

use serde_json::json;

use crate::support::{raw, sidecar};

const HEAD: &str = "POST /in HTTP/1.1\r\nHost: shop\r\nContent-Length: 8\r\n\r\n";

#[tokio::test]
async fn a_slow_upload_is_not_the_apps_delay() {
    let app = raw::server(|mut peer| async move {
        peer.head().await;
        assert_eq!(peer.exactly(8).await, b"halfhalf");
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")
            .await;
    })
    .await;
    let patience = Duration::from_secs(3);
    let hopspan = sidecar::to(app.address)
        .set("timeouts.response", json!("3s"))
        .run()
        .await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write(format!("{HEAD}half")).await;
    // No sync: it is this wait that must not count.
    tokio::time::sleep(patience + patience / 4).await;
    peer.write("half").await;
    let answer = peer.response().await;
    assert_eq!((answer.status, &*answer.text()), (200, "whole"));
}

#[tokio::test]
async fn an_app_that_has_it_all_and_does_not_answer_is_late() {
    let app = raw::server(|mut peer| async move {
        peer.head().await;
        peer.exactly(8).await;
        peer.hang().await;
    })
    .await;
    let hopspan = sidecar::to(app.address)
        .set("timeouts.response", json!("300ms"))
        .run()
        .await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write(format!("{HEAD}halfhalf")).await;
    let answer = peer.response().await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.proxy_error(), Some("http_response_timeout"));
    assert_eq!(answer.header("connection"), None);
}

/// More than sockets take.
const MUCH: usize = 64 << 20;

#[tokio::test]
async fn an_app_that_takes_nothing_more_is_late_and_the_connection_ends() {
    let app = raw::server(|mut peer| async move {
        peer.head().await;
        // Reads nothing, until the client has its answer.
        std::future::pending::<()>().await;
    })
    .await;
    let hopspan = sidecar::to(app.address)
        .set("timeouts.response", json!("100ms"))
        .set("timeouts.body_idle", json!("300ms"))
        .run()
        .await;
    let mut peer = raw::connect(hopspan.inbound).await;
    let head = format!("POST /in HTTP/1.1\r\nHost: shop\r\nContent-Length: {MUCH}\r\n\r\n");
    peer.write(head).await;
    // Refused at some point.
    let _ = peer.try_write(vec![b'x'; MUCH]).await;
    let answer = peer.response().await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(answer.proxy_error(), Some("http_response_timeout"));
    assert_eq!(answer.header("connection"), Some("close"));
    peer.closed().await;
}
