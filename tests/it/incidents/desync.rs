//! Two requests on one connection that are taken for each other: upgrades, early answers, answers nobody asked for.

use std::time::Duration;

use serde_json::json;

use crate::support::journal::Journal;
use crate::support::{app, client, raw, sidecar};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An app that waits for what should not come before it answers the upgrade with `answer`.
async fn slow_to_upgrade(answer: &'static str) -> (raw::Server, Journal<String>) {
    let early = Journal::default();
    let journal = early.clone();
    let app = raw::server(move |mut peer| {
        let journal = journal.clone();
        async move {
            peer.head().await;
            let more = tokio::time::timeout(Duration::from_millis(300), peer.fill()).await;
            journal.push(match more {
                Err(_) => String::new(),
                Ok(_) => peer.unread(),
            });
            peer.write(answer).await;
            peer.hang().await;
        }
    })
    .await;
    (app, early)
}

#[tokio::test]
async fn cve_2026_2833_rustsec_2026_0033_nothing_passes_before_the_app_has_switched() {
    for (answer, status) in [
        (SWITCH, 101),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
    ] {
        let (app, early) = slow_to_upgrade(answer).await;
        let hopspan = sidecar::to(app.address).run().await;
        let mut peer = raw::connect(hopspan.inbound).await;
        peer.write(UPGRADE).await;
        peer.write("GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n")
            .await;
        let told = peer.head().await;
        assert_eq!(told.status(), status);
        assert_eq!(early.at_least(1).await, [""], "{status}");
    }
}

#[tokio::test]
async fn cve_2026_2833_rustsec_2026_0033_a_switch_that_nobody_asked_for() {
    let (app, _early) = slow_to_upgrade(SWITCH).await;
    let hopspan = sidecar::to(app.address).run().await;
    for head in [
        "GET /chat HTTP/1.1\r\nHost: shop\r\n\r\n".to_owned(),
        UPGRADE.replace("websocket\r\n", "h2c\r\n"),
        UPGRADE.replace("GET", "POST"),
        UPGRADE.replace("HTTP/1.1", "HTTP/1.0"),
        UPGRADE.replace("Connection: Upgrade\r\n", ""),
    ] {
        let mut peer = raw::connect(hopspan.inbound).await;
        peer.write(&head).await;
        let answer = peer.response().await;
        assert_eq!(answer.status, 502, "{head}");
        assert_eq!(answer.proxy_error(), Some("http_protocol_error"));
    }
    hopspan
        .until("hopspan_upstream_connections_open", 0.0)
        .await;
}

#[tokio::test]
async fn cve_2026_58055_an_upgrade_with_a_body() {
    let app = app::service("app").await;
    let hopspan = sidecar::to(app.address).run().await;
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let head = UPGRADE.replace("\r\n\r\n", "\r\n");
        let mut peer = raw::connect(hopspan.inbound).await;
        peer.write(format!("{head}{body}")).await;
        assert_eq!(peer.response().await.status, 400);
        peer.closed().await;
    }
    assert_eq!(app.received.len(), 0);
}

#[tokio::test]
async fn cve_2026_88008_h2c_is_no_tunnel() {
    let app = app::service("app").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write(
        "GET /a HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    )
    .await;
    assert_eq!(peer.response().await.status, 200);
    let asked = app.received(1).await.remove(0);
    for name in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert_eq!(hopspan.metric("hopspan_tunnels").await, 0.0);
}

#[tokio::test]
async fn cve_2025_64763_what_follows_a_connect_that_failed_is_no_request() {
    let service = app::service("service").await;
    let hopspan = sidecar::to(raw::closed_port())
        .set("outbound.deny", json!(["denied.example"]))
        .run()
        .await;
    let nobody = raw::closed_port();
    for (to, status) in [
        (nobody.to_string(), 502),
        ("denied.example:443".to_owned(), 403),
    ] {
        let mut peer = raw::connect(hopspan.outbound).await;
        let at = service.address;
        peer.write(format!(
            "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\nGET http://{at}/smuggled HTTP/1.1\r\nHost: {at}\r\n\r\n"
        ))
        .await;
        let answer = peer.response().await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (status, Some("close"))
        );
        assert!(peer.rest().await.is_empty());
    }
    assert_eq!(service.received.len(), 0);
}

#[tokio::test]
async fn traefik_2026_connect_to_the_app_is_refused() {
    let app = app::service("app").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write(format!(
        "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        app.address
    ))
    .await;
    assert_eq!(peer.response().await.status, 405);
    assert!(peer.rest().await.is_empty());
    assert_eq!(app.received.len(), 0);
}

#[tokio::test]
async fn http_1_1_must_die_2025_an_early_answer_ends_both_connections() {
    // Answers before the body, keeps the connection, and would take the body for a request.
    let heads = Journal::default();
    let journal = heads.clone();
    let app = raw::server(move |mut peer| {
        let journal = journal.clone();
        async move {
            while let Some(head) = peer.try_head().await {
                journal.push((peer.number, head.target().to_owned()));
                peer.try_write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
                    .await;
            }
        }
    })
    .await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write("POST /first HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\n")
        .await;
    assert_eq!(peer.response().await.status, 401);
    let _ = peer
        .try_write("GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n")
        .await;
    assert!(peer.rest().await.is_empty(), "no second answer");
    let next = client::get(hopspan.inbound, "/next").send().await;
    assert_eq!(next.status, 401);
    let heads = heads.all();
    let on = |target: &str| {
        heads
            .iter()
            .find(|(_, known)| known == target)
            .map(|(on, _)| *on)
    };
    assert!(
        on("/first") == Some(0) && on("/next") == Some(1),
        "{heads:?}"
    );
}

#[tokio::test]
async fn rustsec_2025_0037_a_request_answered_here_leaves_no_body_behind() {
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";
    let bodies = [
        format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
            inner.len()
        ),
    ];
    for listener in [hopspan.inbound, hopspan.outbound] {
        for body in &bodies {
            let mut peer = raw::connect(listener).await;
            // Nobody is at the app, and no service is there: hopspan answers.
            let to = raw::closed_port();
            peer.write(format!("POST /first HTTP/1.1\r\nHost: {to}\r\n{body}"))
                .await;
            peer.write(format!(
                "GET /second HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n"
            ))
            .await;
            assert_eq!(peer.response().await.status, 502);
            let rest = String::from_utf8(peer.rest().await).unwrap();
            assert!(rest.matches("HTTP/1.1 ").count() <= 1, "{rest}");
        }
    }
}

#[tokio::test]
async fn cve_2026_1642_bytes_that_nobody_asked_for_answer_nobody() {
    // Each answer is followed by another that belongs to no request.
    let app = raw::server(|mut peer| async move {
        while peer.try_head().await.is_some() {
            let good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
            let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            if !peer.try_write(format!("{good}{evil}")).await {
                return;
            }
        }
    })
    .await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut peer = raw::connect(hopspan.inbound).await;
    for _ in 0..50 {
        let answer = client::get(hopspan.inbound, "/").via(&mut peer).await;
        assert_eq!((answer.status, &*answer.text()), (200, "good"));
    }
}
