//! Settings whose value shows only in what hopspan does after a while, or with several connections at once: each test has
//! another value than the default, and fails with that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::collector::{self, Mode};
use crate::support::journal::Journal;
use crate::support::tls::{self, Authority};
use crate::support::{app, client, eventually, raw, sidecar, within};

/// Below what a default would come to, and above what a busy machine takes.
const SOON: Duration = Duration::from_secs(20);

/// Answers each request, and keeps the connection for as long as hopspan does.
async fn keeping() -> raw::Server {
    raw::server(|mut peer| async move {
        while peer.try_head().await.is_some() {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
            if !peer.try_write(answer).await {
                return;
            }
        }
    })
    .await
}

/// As [`keeping`], once two have asked.
async fn in_pairs() -> raw::Server {
    let asked = Journal::default();
    raw::server(move |mut peer| {
        let asked = asked.clone();
        async move {
            peer.head().await;
            asked.push(());
            asked.at_least(2).await;
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                .await;
            peer.closed().await;
        }
    })
    .await
}

#[tokio::test]
async fn idle_per_upstream_is_how_many_stay() {
    let app = in_pairs().await;
    let hopspan = sidecar::to(app.address)
        .set("limits.idle_per_upstream", json!(1))
        .set("timeouts.upstream_idle_app", json!("10m"))
        .run()
        .await;
    let ask = async || client::get(hopspan.inbound, "/").send().await;
    let (one, other) = tokio::join!(ask(), ask());
    assert_eq!((one.status, other.status), (200, 200));
    assert_eq!(app.accepted.len(), 2);
    eventually("the one beyond is closed", || app.open() == 1).await;
}

#[tokio::test]
async fn upstream_idle_is_how_long_a_connection_to_a_service_stays() {
    let service = keeping().await;
    let hopspan = sidecar::to(raw::closed_port())
        .set("timeouts.upstream_idle", json!("50ms"))
        .set("timeouts.upstream_idle_app", json!("10m"))
        .run()
        .await;
    let began = Instant::now();
    let url = format!("http://{}/", service.address);
    assert_eq!(client::get(hopspan.outbound, &url).send().await.status, 200);
    eventually("it is closed", || service.open() == 0).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn upstream_idle_app_is_how_long_a_connection_to_the_app_stays() {
    const KEPT: Duration = Duration::from_secs(3);
    let app = keeping().await;
    let hopspan = sidecar::to(app.address)
        .set("timeouts.upstream_idle", json!("10m"))
        .set("timeouts.upstream_idle_app", json!("3s"))
        .run()
        .await;
    let began = Instant::now();
    assert_eq!(client::get(hopspan.inbound, "/").send().await.status, 200);
    eventually("it is closed", || app.open() == 0).await;
    assert!(
        (KEPT..SOON).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}

/// A listener that has no room: who connects waits.
fn full() -> (Socket, SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let waiting = (0..8).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address.into());
        socket
    });
    let waiting = waiting.collect();
    (listener, address, waiting)
}

#[tokio::test]
async fn connect_app_is_how_long_connecting_to_the_app_may_take() {
    const LIMIT: Duration = Duration::from_secs(2);
    let (_listener, address, waiting) = full();
    let taken = |socket: &Socket| socket.peer_addr().is_ok();
    eventually("the queue is full", || waiting.iter().any(taken)).await;
    let hopspan = sidecar::to(address)
        .set("timeouts.connect_app", json!("2s"))
        .set("timeouts.connect", json!("10m"))
        .run()
        .await;
    let began = Instant::now();
    let answer = client::get(hopspan.inbound, "/").send().await;
    assert_eq!(
        (answer.status, answer.proxy_error()),
        (504, Some("connection_timeout"))
    );
    assert!(
        (LIMIT..SOON).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn flush_is_how_long_a_stop_waits_for_the_last_spans() {
    const LIMIT: Duration = Duration::from_secs(4);
    let app = app::http().run().await;
    let collector = collector::http();
    collector.set(Mode::Hang);
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("timeouts.flush", json!("4s"))
        .run()
        .await;
    client::get(hopspan.inbound, "/").send().await;
    let began = Instant::now();
    let stopped = within("the stop", hopspan.stop()).await;
    assert!(stopped.drained && !stopped.flushed);
    assert!(
        (LIMIT..SOON).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}

/// The waits here are longer than the defaults, so that who ignores them is too early, however busy the machine is.
#[tokio::test]
async fn who_is_slow_has_as_long_as_the_settings_say() {
    const HEAD: Duration = Duration::from_secs(12);
    const CONNECT: Duration = Duration::from_secs(7);
    let (app, held) = app::http().held("/held", "at last");
    let app = app.run().await;
    let (_listener, address, waiting) = full();
    let taken = |socket: &Socket| socket.peer_addr().is_ok();
    eventually("the queue is full", || waiting.iter().any(taken)).await;
    let ca = Authority::new();
    let files = ca.issue(&["localhost"]);
    let hopspan = sidecar::to(app.address)
        .set("inbound.tls.cert", json!(tls::text(&files.cert)))
        .set("inbound.tls.key", json!(tls::text(&files.key)))
        .set("inbound.tls.plaintext", json!(true))
        .set("timeouts.header", json!("12s"))
        .set("timeouts.handshake", json!("12s"))
        .set("timeouts.connect", json!("7s"))
        .set("timeouts.upstream_queue", json!("7s"))
        .set("limits.connections_per_upstream", json!(1))
        .run()
        .await;
    let began = Instant::now();
    let cut_off = async |bytes: &[u8]| {
        let mut peer = raw::connect(hopspan.inbound).await;
        peer.write(bytes).await;
        within("the end", peer.rest()).await;
        began.elapsed()
    };
    let unconnected = async {
        let url = format!("http://{address}/");
        let answer = client::get(hopspan.outbound, &url).send().await;
        assert_eq!(answer.proxy_error(), Some("connection_timeout"));
        began.elapsed()
    };
    let queued = async {
        let first = client::get(hopspan.inbound, "/held");
        let first = tokio::spawn(async move { first.send().await });
        held.reached().await;
        let since = Instant::now();
        let answer = client::get(hopspan.inbound, "/").send().await;
        assert_eq!(answer.proxy_error(), Some("connection_limit_reached"));
        held.release();
        assert_eq!(within("the first", first).await.unwrap().status, 200);
        since.elapsed()
    };
    let (head, handshake, unconnected, queued) = tokio::join!(
        cut_off(b"GET / HTTP/1.1\r\nHost: shop\r\n"),
        cut_off(b"\x16\x03\x01\x00\xff"),
        unconnected,
        queued
    );
    assert!(head >= HEAD && handshake >= HEAD, "{head:?} {handshake:?}");
    assert!(
        unconnected >= CONNECT && queued >= CONNECT,
        "{unconnected:?} {queued:?}"
    );
}

#[tokio::test]
async fn drain_is_how_long_a_stop_waits_for_requests_in_flight() {
    const LIMIT: Duration = Duration::from_millis(500);
    let (app, held) = app::http().held("/held", "never");
    let app = app.run().await;
    let hopspan = sidecar::to(app.address)
        .set("timeouts.drain", json!("500ms"))
        .run()
        .await;
    let mut client = raw::connect(hopspan.inbound).await;
    client
        .write("GET /held HTTP/1.1\r\nHost: shop\r\n\r\n")
        .await;
    held.reached().await;
    let began = Instant::now();
    let stopped = within("the stop", hopspan.stop()).await;
    assert!(!stopped.drained);
    assert!(
        (LIMIT..SOON).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}
