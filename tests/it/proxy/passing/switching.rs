//! Switching protocols: WebSockets, and what is none.

use super::super::raw::{Raw, eventually, upstream};
use super::{passing, scripted};

#[tokio::test]
async fn a_websocket_is_a_tunnel_that_is_never_pooled() {
    let app = upstream(|mut peer: Raw, _| async move {
        let head = peer.until("\r\n\r\n").await.to_lowercase();
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nearly")
            .await;
        peer.until("ping").await;
        peer.send("pong").await;
        peer.rest().await;
    })
    .await;
    let mut p = passing(app).await;
    p.client
        .send("GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: y\r\n\r\n")
        .await;
    let head = p.client.until("\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    assert!(
        head.to_lowercase().contains("\r\nupgrade: websocket\r\n"),
        "{head}"
    );
    p.client.until("early").await;
    p.client.send("ping").await;
    p.client.until("pong").await;
    assert!(p.served.metric("hopspan_upstream_connections_open 1"));
    assert!(
        p.served
            .metric("hopspan_connections{direction=\"inbound\"} 1")
    );
    drop(p.client);
    eventually("both sockets are closed", || {
        p.served.metric("hopspan_upstream_connections_open 0")
            && p.served
                .metric("hopspan_connections{direction=\"inbound\"} 0")
    })
    .await;
    assert_eq!(p.forward.told(), ["tunnel 4 9"]);
    assert_eq!(p.forward.pool.idle_count(), 0);
}

#[tokio::test]
async fn a_stop_ends_tunnels() {
    let app = scripted(&[
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ])
    .await;
    let mut p = passing(app.address).await;
    p.client
        .send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        .await;
    p.client.until("\r\n\r\n").await;
    p.forward.stop.cancel();
    assert_eq!(p.client.rest().await, "");
    assert_eq!(p.forward.told(), ["tunnel 0 0"]);
}

#[tokio::test]
async fn h2c_is_not_offered_to_the_app_and_the_connection_goes_on() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let mut app = scripted(&[OK, OK]).await;
    let mut p = passing(app.address).await;
    p.client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
        .await;
    p.client.until("ok").await;
    let head = app.heads.recv().await.unwrap().to_lowercase();
    assert!(
        !head.contains("upgrade") && !head.contains("http2-settings"),
        "{head}"
    );
    p.client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    p.client.until("ok").await;
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_502_and_closes() {
    let app = scripted(&[
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ])
    .await;
    let mut p = passing(app.address).await;
    p.client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = p.client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    eventually("the upstream connection is closed", || {
        p.served.metric("hopspan_upstream_connections_open 0")
    })
    .await;
}
