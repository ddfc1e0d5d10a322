//! `limits.connections_per_upstream`: who waits for a connection to the app or a service, for how long, in which order, and
//! what counts as one.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::app::{self, App, ReplyExt};
use crate::support::message::Response;
use crate::support::sidecar::{self, Builder, Sidecar};
use crate::support::{client, h2, h2_server, raw, within};

const QUEUE: &str = "hopspan_upstream_queue";
const REFUSED: &str = "hopspan_proxy_errors_total{reason=\"connection_limit_reached\"}";

/// An app that answers as many requests as it is let.
async fn gated() -> (App, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let at_app = gate.clone();
    let answer = move |_| {
        let gate = at_app.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            app::reply(200).text("at last")
        }
    };
    (app::http().any(answer).run().await, gate)
}

/// One connection per upstream, and nobody's patience ends.
fn one_at_a_time(app: std::net::SocketAddr) -> Builder {
    sidecar::to(app)
        .set("limits.connections_per_upstream", json!(1))
        .set("timeouts.upstream_queue", json!("60s"))
}

fn asking(hopspan: &Sidecar, target: &str) -> JoinHandle<Response> {
    let request = client::get(hopspan.inbound, target);
    tokio::spawn(async move { request.send().await })
}

#[tokio::test]
async fn without_a_limit_nobody_waits() {
    let (app, gate) = gated().await;
    let hopspan = sidecar::to(app.address).run().await;
    let asked: Vec<_> = (0..50).map(|_| asking(&hopspan, "/")).collect();
    within("all of them at the app", app.received(50)).await;
    gate.add_permits(50);
    for asked in asked {
        assert_eq!(asked.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn who_is_beyond_the_limit_waits_in_turn_and_who_is_beyond_the_queue_is_told() {
    let (app, gate) = gated().await;
    let other = app::service("other").await;
    let hopspan = one_at_a_time(app.address)
        .set("limits.queue_per_upstream", json!(2))
        .run()
        .await;
    let mut asked = vec![asking(&hopspan, "/0")];
    app.received(1).await;
    for (number, target) in ["/1", "/2"].iter().enumerate() {
        asked.push(asking(&hopspan, target));
        hopspan.until(QUEUE, (number + 1) as f64).await;
    }
    let told = client::get(hopspan.inbound, "/3").send().await;
    assert_eq!(told.status, 503);
    assert_eq!(told.proxy_error(), Some("connection_limit_reached"));
    assert_eq!(told.header("retry-after"), Some("1"));
    assert_eq!(hopspan.metric(REFUSED).await, 1.0);
    assert_eq!(app.received.len(), 1);
    // Another upstream is not concerned.
    let url = format!("http://{}/", other.address);
    let call = client::get(hopspan.outbound, &url).send().await;
    assert_eq!((call.status, &*call.text()), (200, "other"));
    gate.add_permits(3);
    for asked in asked {
        assert_eq!(asked.await.unwrap().status, 200);
    }
    let order: Vec<_> = app.received(3).await;
    let order: Vec<_> = order.iter().map(|asked| asked.path()).collect();
    assert_eq!(order, ["/0", "/1", "/2"]);
    assert_eq!(hopspan.metric(QUEUE).await, 0.0);
}

#[tokio::test]
async fn a_wait_has_an_end() {
    let (app, gate) = gated().await;
    let hopspan = one_at_a_time(app.address)
        .set("timeouts.upstream_queue", json!("100ms"))
        .run()
        .await;
    let first = asking(&hopspan, "/");
    app.received(1).await;
    let told = client::get(hopspan.inbound, "/").send().await;
    assert_eq!(told.status, 503);
    assert_eq!(told.header("retry-after"), Some("1"));
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test]
async fn who_leaves_gives_up_turn_and_place() {
    let (app, gate) = gated().await;
    let hopspan = one_at_a_time(app.address).run().await;
    let get = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    let mut first = raw::connect(hopspan.inbound).await;
    first.write(get).await;
    app.received(1).await;
    let mut second = raw::connect(hopspan.inbound).await;
    second.write(get).await;
    hopspan.until(QUEUE, 1.0).await;
    drop(second);
    hopspan.until(QUEUE, 0.0).await;
    let third = asking(&hopspan, "/third");
    hopspan.until(QUEUE, 1.0).await;
    drop(first);
    app.received(2).await;
    gate.add_permits(2);
    assert_eq!(third.await.unwrap().status, 200);
    assert_eq!(app.received(2).await[1].path(), "/third");
}

#[tokio::test]
async fn a_limit_that_a_reload_changes_holds_for_who_comes_then() {
    let (app, gate) = gated().await;
    let base = sidecar::to(app.address);
    let hopspan = base.clone().run().await;
    let set = |value: &str| {
        let key = "limits.connections_per_upstream";
        let text = base.clone().set(key, json!(value)).text();
        let file = hopspan.file.clone();
        let admin = hopspan.admin;
        async move {
            std::fs::write(file, text).unwrap();
            let reload = client::request("POST", admin, "/reload").send().await;
            assert_eq!(reload.status, 200, "{}", reload.text());
        }
    };
    set("1").await;
    let mut asked = Vec::new();
    // The pools learn of it a moment later than the reload says.
    within("somebody to wait", async {
        while hopspan.metric(QUEUE).await < 1.0 {
            asked.push(asking(&hopspan, "/"));
        }
    })
    .await;
    let before = app.received.len();
    set("off").await;
    within("somebody to pass", async {
        while app.received.len() == before {
            asked.push(asking(&hopspan, "/"));
            hopspan.metrics().await;
        }
    })
    .await;
    gate.add_permits(10_000);
    for asked in asked {
        // Those who still waited when the limit fell wait for their turn.
        assert_eq!(asked.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_tunnel_is_a_connection() {
    let switching = raw::server(|mut peer| async move {
        let head = peer.head().await;
        let answer = match head.one("upgrade") {
            Some(_) => "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            None => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        peer.write(answer).await;
        peer.skip().await;
    })
    .await;
    let hopspan = one_at_a_time(switching.address).run().await;
    let mut websocket = raw::connect(hopspan.inbound).await;
    let ask = "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    websocket.write(ask).await;
    assert_eq!(
        websocket.head().await.line,
        "HTTP/1.1 101 Switching Protocols"
    );
    let next = asking(&hopspan, "/");
    hopspan.until(QUEUE, 1.0).await;
    drop(websocket);
    assert_eq!(next.await.unwrap().status, 200);

    let service = raw::server(|mut peer| async move {
        peer.skip().await;
    })
    .await;
    let ask = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", service.address);
    let mut first = raw::connect(hopspan.outbound).await;
    first.write(&ask).await;
    assert_eq!(first.response_to("CONNECT").await.status, 200);
    let mut second = raw::connect(hopspan.outbound).await;
    second.write(&ask).await;
    hopspan.until(QUEUE, 1.0).await;
    assert_eq!(service.accepted.len(), 1);
    drop(first);
    assert_eq!(second.response_to("CONNECT").await.status, 200);
}

#[tokio::test]
async fn a_stream_of_http2_is_counted_as_a_connection() {
    let app = h2_server::run("app").await;
    let hopspan = one_at_a_time(app.address)
        .set("inbound.protocol", json!("h2"))
        .run()
        .await;
    let client = h2::connect(hopspan.inbound).await;
    let ask = |client: &h2::Client| {
        let client = client.clone();
        tokio::spawn(async move { client.get("/gate").await.status })
    };
    let first = ask(&client);
    app.received.at_least(1).await;
    let second = ask(&client);
    hopspan.until(QUEUE, 1.0).await;
    assert_eq!(app.received.len(), 1);
    app.open_gate(2);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (200, 200));
}
