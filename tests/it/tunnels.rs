//! Upgraded connections and CONNECT: bytes pass both ways, a span covers the whole time, a stop does not wait for ever.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use serde_json::json;

mod http2_apps;
mod idle;
mod resets;

use crate::support::{collector, eventually, h2, h2_server, raw, sidecar, within};

/// A WebSocket server that says every message back.
async fn websocket() -> raw::Server {
    raw::server(|mut peer| async move {
        let head = peer.head().await;
        assert_eq!(head.one("upgrade"), Some("websocket"));
        let accept = derive_accept_key(head.one("sec-websocket-key").unwrap().as_bytes());
        peer.write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ))
        .await;
        let mut socket =
            WebSocketStream::from_raw_socket(peer.into_stream(), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                break;
            }
        }
        let _ = socket.close(None).await;
    })
    .await
}

/// Says back what it hears, byte by byte.
async fn echo() -> raw::Server {
    raw::server(|mut peer| async move {
        while let Some(bytes) = peer.some().await {
            if !peer.try_write(bytes).await {
                break;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_websocket_talks_through_the_inbound_hop() {
    let app = websocket().await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    let url = format!("ws://{}/chat?room=1", hopspan.inbound);
    let connecting = tokio_tungstenite::connect_async(url);
    let (mut socket, answer) = within("the handshake", connecting).await.unwrap();
    assert_eq!(answer.status(), 101);
    hopspan.until("hopspan_tunnels", 1.0).await;
    for round in 0..100 {
        let message = Message::text(format!("{round} {}", "x".repeat(round * 100)));
        socket.send(message.clone()).await.unwrap();
        let back = within("the message back", socket.next()).await.unwrap();
        assert_eq!(back.unwrap(), message);
    }
    assert_eq!(
        collector.spans.len(),
        0,
        "the span lasts as long as the tunnel"
    );
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    let spans = collector.spans(2).await;
    for span in &spans {
        assert_eq!(span.attr("http.response.status_code"), "101", "{span:?}");
        assert!(!span.failed(), "{span:?}");
    }
    eventually("no socket left", || app.open() == 0).await;
    hopspan.until("hopspan_tunnels", 0.0).await;
}

#[tokio::test]
async fn an_app_that_refuses_to_upgrade_is_heard() {
    let app = raw::server(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
            .await;
        peer.hang().await;
    })
    .await;
    let hopspan = sidecar::to(app.address).run().await;
    let answer = raw::exchange(
        hopspan.inbound,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    assert_eq!((answer.status, &*answer.text()), (426, "no"));
}

#[tokio::test]
async fn connect_opens_a_tunnel_with_a_span() {
    let service = echo().await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .run()
        .await;
    let to = service.address;
    let mut peer = raw::connect(hopspan.outbound).await;
    // Bytes right behind the request belong to the tunnel.
    peer.write(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\nfirst"))
        .await;
    let answer = peer.response_to("CONNECT").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(peer.exactly(5).await, b"first");
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    peer.write(&bytes).await;
    assert!(peer.exactly(bytes.len()).await == bytes);
    // One side done, the other still talks.
    peer.write("last").await;
    peer.half_close().await;
    assert_eq!(peer.rest().await, b"last");
    let span = collector.spans(1).await.remove(0);
    assert_eq!((span.kind, span.failed()), ("CLIENT", false), "{span:?}");
    assert_eq!(span.name, "CONNECT");
    assert_eq!(span.attr("server.port"), to.port().to_string());
    eventually("no socket left", || service.open() == 0).await;
}

#[tokio::test]
async fn connect_to_nobody_is_502_with_a_failed_span() {
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .run()
        .await;
    let to = raw::closed_port();
    let mut peer = raw::connect(hopspan.outbound).await;
    peer.write(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"))
        .await;
    let answer = peer.response().await;
    assert_eq!(
        (answer.status, answer.proxy_error()),
        (502, Some("connection_refused"))
    );
    assert!(collector.spans(1).await[0].failed());
}

#[tokio::test]
async fn a_tunnel_whose_peer_resets_ends_on_both_sides() {
    let service = raw::server(|mut peer| async move {
        peer.some().await;
        peer.reset();
    })
    .await;
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    let to = service.address;
    let mut peer = raw::connect(hopspan.outbound).await;
    peer.write(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"))
        .await;
    assert_eq!(peer.response_to("CONNECT").await.status, 200);
    peer.write("x").await;
    peer.closed().await;
}

#[tokio::test]
async fn a_stop_ends_tunnels_at_the_drain_deadline() {
    let service = echo().await;
    let hopspan = sidecar::to(raw::closed_port())
        .set("timeouts.drain", json!("300ms"))
        .run()
        .await;
    let to = service.address;
    let mut peer = raw::connect(hopspan.outbound).await;
    peer.write(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"))
        .await;
    assert_eq!(peer.response_to("CONNECT").await.status, 200);
    within("the stop", hopspan.stop()).await;
    peer.closed().await;
}

/// The client has seen the settings, which say that extended CONNECT is taken: they come before any answer.
async fn settled(client: &h2::Client) {
    let request = client.request("GET", "/").header("expect", "nothing");
    let answer = client.send(request.body(h2::empty()).unwrap()).await;
    assert_eq!(answer.status, 417);
}

/// An extended CONNECT for `protocol` (RFC 8441).
fn extended(client: &h2::Client, protocol: &'static str) -> http::Request<h2::Body> {
    client
        .request("CONNECT", "/chat?room=1")
        .extension(hyper::ext::Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(h2::empty())
        .unwrap()
}

#[tokio::test]
async fn websockets_talk_over_http_2_beside_requests() {
    let app = websocket().await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("timeouts.idle", json!("1s"))
        .run()
        .await;
    let client = h2::connect(hopspan.inbound).await;
    settled(&client).await;
    let other = client.send(extended(&client, "connect-udp")).await;
    assert_eq!(other.status, 501);
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut response = client.begin(extended(&client, "websocket")).await.unwrap();
        assert_eq!(response.status(), 200);
        for name in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(upgraded);
        sockets.push(WebSocketStream::from_raw_socket(io, Role::Client, None).await);
    }
    hopspan.until("hopspan_tunnels", 2.0).await;
    for round in 0..50 {
        for socket in &mut sockets {
            let message = Message::text(format!("{round} {}", "x".repeat(round * 2000)));
            socket.send(message.clone()).await.unwrap();
            let back = within("the message back", socket.next()).await.unwrap();
            assert_eq!(back.unwrap(), message);
        }
    }
    // Silent for longer than a connection may be idle: it is not idle.
    tokio::time::sleep(std::time::Duration::from_millis(2200)).await;
    assert!(!client.is_closed());
    for mut socket in sockets {
        socket.send(Message::text("still here")).await.unwrap();
        assert!(socket.next().await.unwrap().is_ok());
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    }
    hopspan.until("hopspan_tunnels", 0.0).await;
    eventually("no socket left", || app.open() == 0).await;
    // Two that were refused, a span each, and two tunnels, two spans each.
    let spans = collector.spans(6).await;
    let ended = spans
        .iter()
        .filter(|span| span.attr("http.response.status_code") == "200");
    let mut versions: Vec<_> = ended
        .filter(|span| span.kind == "SERVER")
        .map(|span| (span.attr("network.protocol.version"), span.failed()))
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, [("2", false), ("2", false)]);
}

#[tokio::test]
async fn an_app_that_does_not_switch_is_not_taken_for_one_that_did() {
    let answers = [
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            502,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            502,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 502),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
    ];
    for (answer, status) in answers {
        let app = raw::server(move |mut peer| async move {
            let head = peer.head().await;
            assert_eq!(head.line, "GET /chat?room=1 HTTP/1.1");
            assert_eq!(head.one("upgrade"), Some("websocket"));
            assert_eq!(head.one("cookie"), Some("a=1; b=2"));
            assert_eq!(head.one("sec-websocket-protocol"), Some("chat"));
            assert!(head.one("host").is_some());
            peer.write(answer).await;
            peer.closed().await;
        })
        .await;
        let hopspan = sidecar::to(app.address).run().await;
        let client = h2::connect(hopspan.inbound).await;
        settled(&client).await;
        let answered = client.send(extended(&client, "websocket")).await;
        assert_eq!(answered.status, status, "{answer}");
    }
}

/// The app speaks HTTP/2 without TLS and nothing else (RFC 9113 section 3.3): there WebSockets end with a word, not in
/// silence, and all else goes on.
#[tokio::test]
async fn a_websocket_to_an_app_that_speaks_only_http_2_is_answered() {
    let app = h2_server::run("app").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("inbound.protocol", json!("h2"))
        .run()
        .await;
    let client = h2::connect(hopspan.inbound).await;
    assert_eq!(client.get("/").await.status, 200);
    let over_http2 = client.send(extended(&client, "websocket"));
    let over_http2 = within("an answer over HTTP/2", over_http2).await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write(
        "GET /chat HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    let over_http1 = within("an answer over HTTP/1.1", peer.response()).await;
    // Its frames are no HTTP/1.1; or it hangs up before one of them was read.
    let words = [
        "http_protocol_error",
        "http_response_incomplete",
        "connection_terminated",
    ];
    let mut said = Vec::new();
    for (status, proxy_status) in [
        (over_http2.status, over_http2.header("proxy-status")),
        (over_http1.status, over_http1.header("proxy-status")),
    ] {
        assert_eq!(status, 502);
        let error = proxy_status.and_then(|said| said.strip_prefix("hopspan; error="));
        let error = error.and_then(|error| error.split(';').next()).unwrap();
        assert!(words.contains(&error), "{error}");
        said.push(error.to_owned());
    }
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(
        app.received.len(),
        2,
        "the app saw the two requests that it could"
    );
    hopspan.until("hopspan_tunnels", 0.0).await;
    let spans = collector.spans(8).await;
    let failed = spans
        .iter()
        .filter(|span| span.kind == "SERVER" && span.failed());
    let mut failed: Vec<&str> = failed.map(|span| span.attr("error.type")).collect();
    failed.sort_unstable();
    said.sort_unstable();
    assert_eq!(failed, said);
}
