//! WebSockets to an app that speaks HTTP/2 without TLS: by extended CONNECT (RFC 8441) where its settings say that it
//! takes them, else by HTTP/1.1.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{extended, settled};
use crate::support::message::Head;
use crate::support::sidecar::Sidecar;
use crate::support::spans::Span;
use crate::support::{collector, eventually, h2, h2_server, python, raw, sidecar, within};

const UPGRADE: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn before(app: &h2_server::Server) -> Sidecar {
    let base = sidecar::to(app.address).set("inbound.protocol", json!("h2"));
    base.run().await
}

/// The app's end of the next tunnel.
async fn next(app: &mut h2_server::Server) -> TokioIo<Upgraded> {
    let tunnel = within("a tunnel at the app", app.tunnels.recv()).await;
    TokioIo::new(tunnel.unwrap())
}

/// A client's end over HTTP/1.1, after the switch.
async fn upgraded(hopspan: &Sidecar) -> raw::Peer {
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write(UPGRADE).await;
    assert_eq!(
        within("the switch", peer.head()).await.line,
        "HTTP/1.1 101 Switching Protocols"
    );
    peer
}

/// Messages of all sizes there and back; both ends close by the protocol.
async fn talk<C, A>(mut client: WebSocketStream<C>, app: A)
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut app = WebSocketStream::from_raw_socket(app, Role::Server, None).await;
    let echo = tokio::spawn(async move {
        while let Some(Ok(message)) = app.next().await {
            if message.is_close() || app.send(message).await.is_err() {
                break;
            }
        }
        let _ = app.close(None).await;
        // Dropped without it, a stream is reset.
        let _ = app.get_mut().shutdown().await;
        app
    });
    for round in 0..50 {
        let message = Message::text(format!("{round} {}", "x".repeat(round * 2000)));
        client.send(message.clone()).await.unwrap();
        let back = within("the message back", client.next()).await.unwrap();
        assert_eq!(back.unwrap(), message);
    }
    client.close(None).await.unwrap();
    while let Some(Ok(_)) = within("the close", client.next()).await {}
    client.get_mut().shutdown().await.unwrap();
    let mut app = within("the end", echo).await.unwrap();
    let mut rest = Vec::new();
    let read = within("the client's end", app.get_mut().read_to_end(&mut rest));
    assert_eq!(read.await.unwrap(), 0);
}

#[tokio::test]
async fn websockets_go_by_http_2_to_an_app_that_takes_them_so() {
    let mut app = h2_server::sockets("app").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("inbound.protocol", json!("h2"))
        .run()
        .await;

    let url = format!("ws://{}/chat?room=1", hopspan.inbound);
    let mut request = url.into_client_request().unwrap();
    let offered = http::HeaderValue::from_static("chat");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", offered);
    // It refuses an answer whose Sec-WebSocket-Accept is not that of its key.
    let connecting = tokio_tungstenite::connect_async(request);
    let (socket, answer) = within("the handshake", connecting).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    hopspan.until("hopspan_tunnels", 1.0).await;
    talk(socket, next(&mut app).await).await;

    let client = h2::connect(hopspan.inbound).await;
    settled(&client).await;
    let mut response = client.begin(extended(&client, "websocket")).await.unwrap();
    assert_eq!(response.status(), 200);
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    let io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    talk(socket, next(&mut app).await).await;

    hopspan.until("hopspan_tunnels", 0.0).await;
    assert_eq!(client.get("/").await.text(), "app", "and all else goes on");
    for asked in &app.received.at_least(2).await[..2] {
        assert_eq!(
            (asked.method.as_str(), asked.protocol.as_deref()),
            ("CONNECT", Some("websocket"))
        );
        assert!(
            asked.uri.starts_with("http://") && asked.uri.ends_with("/chat?room=1"),
            "{}",
            asked.uri
        );
        assert_eq!(asked.header("sec-websocket-version"), Some("13"));
        assert_eq!(asked.header("sec-websocket-protocol"), Some("chat"));
        assert!(asked.header("traceparent").is_some());
        for name in ["sec-websocket-key", "upgrade", "connection", "host"] {
            assert!(!asked.headers.contains_key(name), "{name}");
        }
    }
    let asked = app.received.at_least(3).await;
    let connections: HashSet<usize> = asked.iter().map(|asked| asked.connection).collect();
    assert_eq!(connections.len(), 3, "a tunnel shares with nobody");
    // One of them is of who was refused until the settings were there.
    let spans = collector.spans(7).await;
    let to_app = |status| {
        let of = move |span: &&Span| {
            span.kind == "CLIENT" && span.attr("http.response.status_code") == status
        };
        spans.iter().find(of).unwrap()
    };
    for status in ["101", "200"] {
        let span = to_app(status);
        assert!(!span.failed());
        assert_eq!(span.attr("network.protocol.version"), "2");
    }
    assert!(
        to_app("101")
            .attr("hopspan.tunnel.sent_bytes")
            .parse::<u64>()
            .unwrap()
            > 1_000_000
    );
}

#[tokio::test]
async fn an_end_of_either_half_goes_through_and_a_reset_ends_both() {
    let mut app = h2_server::sockets("app").await;
    let hopspan = before(&app).await;
    // The client ends first.
    let (mut client, mut server) = (upgraded(&hopspan).await, next(&mut app).await);
    client.write("question").await;
    client.half_close().await;
    let mut asked = Vec::new();
    within("the end of the question", server.read_to_end(&mut asked))
        .await
        .unwrap();
    assert_eq!(asked, b"question");
    server.write_all(b"the answer").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(within("the answer", client.rest()).await, b"the answer");
    // The app ends first.
    let (mut client, mut server) = (upgraded(&hopspan).await, next(&mut app).await);
    server.write_all(b"first").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(within("the first", client.rest()).await, b"first");
    client.write("last").await;
    client.half_close().await;
    let mut last = Vec::new();
    within("the last", server.read_to_end(&mut last))
        .await
        .unwrap();
    assert_eq!(last, b"last");
    hopspan.until("hopspan_tunnels", 0.0).await;
    // The client is gone.
    let (client, mut server) = (upgraded(&hopspan).await, next(&mut app).await);
    drop(client);
    let mut nothing = Vec::new();
    let _ = within("the end", server.read_to_end(&mut nothing)).await;
    drop(server);
    hopspan.until("hopspan_tunnels", 0.0).await;
    // The app is gone from a tunnel, and others stay.
    let (mut client, server) = (upgraded(&hopspan).await, next(&mut app).await);
    let (mut other, mut stays) = (upgraded(&hopspan).await, next(&mut app).await);
    drop(server);
    within("the end", client.closed()).await;
    other.write("still").await;
    let mut heard = [0; 5];
    within("what is said", stays.read_exact(&mut heard))
        .await
        .unwrap();
    assert_eq!(&heard, b"still");
}

/// Who does not read holds up who writes, and nothing is lost.
#[tokio::test]
async fn an_app_that_does_not_read_holds_its_client_up() {
    const ALL: usize = 48 << 20;
    let mut app = h2_server::sockets("app").await;
    let hopspan = before(&app).await;
    let (client, mut server) = (upgraded(&hopspan).await, next(&mut app).await);
    let (mut read, mut write) = client.into_stream().into_split();
    let piece = vec![b'x'; 64 << 10];
    let mut written = 0;
    // A machine that stands still for so long makes it less of a test.
    while let Ok(done) = tokio::time::timeout(Duration::from_millis(700), write.write(&piece)).await
    {
        written += done.unwrap();
        assert!(written < ALL, "nobody reads, and all of it was taken");
    }
    let writer = tokio::spawn(async move {
        while written < ALL {
            let end = piece.len().min(ALL - written);
            written += write.write(&piece[..end]).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut piece = vec![0; 64 << 10];
    let mut came = 0;
    loop {
        match within("more", server.read(&mut piece)).await.unwrap() {
            0 => break,
            count => came += count,
        }
    }
    assert_eq!(came, ALL);
    writer.await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(within("the end", read.read(&mut piece)).await.unwrap(), 0);
}

/// A tunnel is no idle connection, and one of the upstream's places.
#[tokio::test]
async fn a_tunnel_keeps_its_connection_and_its_place() {
    let mut app = h2_server::sockets("app").await;
    let hopspan = sidecar::to(app.address)
        .set("inbound.protocol", json!("h2"))
        .set("timeouts.upstream_idle_app", json!("100ms"))
        .set("timeouts.upstream_queue", json!("50ms"))
        .set("limits.connections_per_upstream", json!(1))
        .run()
        .await;
    let (mut client, mut server) = (upgraded(&hopspan).await, next(&mut app).await);
    let refused = raw::exchange(hopspan.inbound, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert_eq!(refused.status, 503);
    // Longer than an idle connection is kept, and than one may take to close.
    tokio::time::sleep(Duration::from_millis(1600)).await;
    for _ in 0..2 {
        client.write("ping").await;
        let mut heard = [0; 4];
        within("what is said", server.read_exact(&mut heard))
            .await
            .unwrap();
        server.write_all(b"pong").await.unwrap();
        assert_eq!(within("an answer", client.exactly(4)).await, b"pong");
    }
    drop((client, server));
    hopspan.until("hopspan_tunnels", 0.0).await;
    let served = async || {
        let answer = raw::exchange(hopspan.inbound, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        answer.status == 200
    };
    while !within("a place", served()).await {}
}

#[tokio::test]
async fn a_refusal_is_the_apps_own() {
    let app = h2_server::sockets("no entry").await;
    let hopspan = before(&app).await;
    let asked = UPGRADE.replace("/chat?room=1", "/forbidden");
    let answer = raw::exchange(hopspan.inbound, asked).await;
    assert_eq!((answer.status, answer.text().as_str()), (403, "no entry"));
    let client = h2::connect(hopspan.inbound).await;
    settled(&client).await;
    let mut request = extended(&client, "websocket");
    *request.uri_mut() = format!("http://{}/forbidden", hopspan.inbound)
        .parse()
        .unwrap();
    let answer = client.send(request).await;
    assert_eq!((answer.status, answer.text()), (403, "no entry"));
    assert_eq!(client.get("/").await.status, 200);
}

/// A WebSocket by HTTP/1.1, as far as to its first word.
async fn greets(mut peer: raw::Peer, head: &Head) {
    let accept = derive_accept_key(head.one("sec-websocket-key").unwrap().as_bytes());
    peer.write(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\nhello"
    ))
    .await;
    peer.closed().await;
}

/// Its settings do not say that it takes extended CONNECT, and it speaks HTTP/1.1 as well.
#[tokio::test]
async fn an_app_that_does_not_take_them_so_gets_them_by_http_1() {
    let app = raw::server(|mut peer| async move {
        let head = peer.head().await;
        if head.line.starts_with("PRI ") {
            peer.exactly(6).await; // SM
            let mut frames = h2::Frames { peer };
            frames.send(h2::SETTINGS, 0, 0, &[]).await;
            frames.peer.closed().await;
            return;
        }
        greets(peer, &head).await;
    })
    .await;
    let hopspan = sidecar::to(app.address)
        .set("inbound.protocol", json!("h2"))
        .run()
        .await;
    let mut peer = upgraded(&hopspan).await;
    assert_eq!(within("what the app says", peer.exactly(5)).await, b"hello");
    drop(peer);
    eventually("no tunnel is left", || app.open() <= 1).await;
}

/// What is said to HTTP/2's preface by who speaks only HTTP/1.1; `stays`: and keeps the connection.
async fn http1_only(said: &'static str, stays: bool) -> raw::Server {
    raw::server(move |mut peer| async move {
        let head = peer.head().await;
        if head.line.starts_with("PRI ") {
            peer.write(said).await;
            if stays {
                peer.closed().await;
            }
            return;
        }
        greets(peer, &head).await;
    })
    .await
}

/// Longer than any test waits.
const FOREVER: &str = "10m";

/// Nobody waits for settings that cannot come.
#[tokio::test]
async fn an_app_that_speaks_only_http_1_gets_them_at_once() {
    const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    let mut rows = 0;
    for (said, stays) in [(REFUSED, false), (REFUSED, true), ("", false)] {
        let app = http1_only(said, stays).await;
        let hopspan = sidecar::to(app.address)
            .set("inbound.protocol", json!("h2"))
            .set("timeouts.connect_app", json!(FOREVER))
            .run()
            .await;
        let mut peer = upgraded(&hopspan).await;
        assert_eq!(within("what the app says", peer.exactly(5)).await, b"hello");
        rows += 1;
    }
    assert_eq!(rows, 3);
}

#[tokio::test]
async fn gunicorn_answers_a_websocket_itself_at_once() {
    let app = raw::closed_port();
    let _django = python::gunicorn_at(app).run().await;
    let hopspan = sidecar::to(app)
        .set("inbound.protocol", json!("h2"))
        .set("timeouts.connect_app", json!(FOREVER))
        .run()
        .await;
    let asked = UPGRADE.replace("/chat?room=1", "/healthz");
    let answer = within("an answer", raw::exchange(hopspan.inbound, asked)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
