//! Large heads that grow together: each is within `limits.head_bytes`, all of them are more than there is. They find an
//! eighth of `limits.memory` and no more, so that who has a small head is served beside them.

use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::time::Duration;

use serde_json::json;

use super::super::long;
use super::{Limited, connect, refused};
use crate::support::h2::{self, frame};
use crate::support::{app, client, load, raw, sidecar, within};

/// Of a head without an end.
const LARGE: usize = 28 * 1024;

struct Row {
    name: &'static str,
    count: [usize; 2],
    open: fn(SocketAddr) -> Option<TcpStream>,
    /// What one more comes to.
    told: fn(SocketAddr) -> Pin<Box<dyn Future<Output = ()>>>,
}

fn begun() -> Vec<u8> {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: shop\r\nCookie: ".to_vec();
    bytes.resize(LARGE, b'x');
    bytes
}

/// A head of HTTP/2 in two frames, neither of which is the last: pseudo-header fields, and these.
fn block(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut bytes = h2::PREFACE.to_vec();
    bytes.extend(frame(h2::SETTINGS, 0, 0, &[]));
    let begun = [&h2::hpack(&h2::get("/")), first].concat();
    bytes.extend(frame(h2::HEADERS, h2::END_STREAM, 1, &begun));
    bytes.extend(frame(h2::CONTINUATION, 0, 1, second));
    bytes
}

/// A field that is in the table from then on, and a byte each for as many as a head may have.
fn indexed() -> Vec<u8> {
    let table = [0x40, 1, b'x', 0];
    block(&[&table[..], &[0xbe; 200]].concat(), &[0xbe; 270])
}

fn literal() -> Vec<u8> {
    let cookie = h2::hpack(&[("cookie", &"x".repeat(7 * 1024))]);
    block(&cookie, &cookie)
}

/// hopspan's own answer.
async fn answered(to: SocketAddr) {
    let mut peer = raw::connect(to).await;
    peer.try_write(&begun()).await;
    let answer = peer.response().await;
    assert_eq!(answer.status, 503);
    let error = "hopspan; error=proxy_internal_error";
    assert_eq!(answer.header("proxy-status"), Some(error));
}

/// GOAWAY, before anything was taken.
async fn calmed(to: SocketAddr) {
    let mut frames = h2::Frames {
        peer: raw::connect(to).await,
    };
    frames.peer.try_write(indexed()).await;
    let goaway = frames.expect(h2::GOAWAY, "GOAWAY").await;
    assert_eq!(goaway.payload[..4], [0; 4]);
    assert_eq!(goaway.code(), 0xb, "ENHANCE_YOUR_CALM");
}

fn rows() -> [Row; 3] {
    let row = |name, count, open, told| Row {
        name,
        count,
        open,
        told,
    };
    [
        row(
            "large heads",
            [300, 8000],
            |to| connect(to, &begun()),
            |to| Box::pin(answered(to)),
        ),
        row(
            "heads of HTTP/2 without an end",
            [300, 8000],
            |to| connect(to, &literal()),
            |to| Box::pin(calmed(to)),
        ),
        row(
            "such heads, of the table",
            [300, 8000],
            |to| connect(to, &indexed()),
            |to| Box::pin(calmed(to)),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_heads_that_grow_together_leave_room_for_small_ones() {
    let mut ran = 0;
    for row in rows() {
        flood(&row).await;
        ran += 1;
    }
    assert_eq!(ran, rows().len());
}

async fn flood(row: &Row) {
    let app = app::service("ok").await;
    // They stay as they are until they leave; in a long run as long as they may.
    let config = sidecar::to(app.address)
        .set("timeouts.header", json!(format!("{}s", long(300, 10))))
        // A thousand at once find the app busy.
        .set("timeouts.connect_app", json!("30s"));
    let limited = Limited::new(config).await;
    let (to, status) = (limited.hopspan.inbound, limited.hopspan.status);
    let others = load::gets(long(8, 1000), to, "/");
    others.answers.at_least(long(8, 1000)).await;
    let (open, count) = (row.open, row.count[long(0, 1)]);
    let held = tokio::task::spawn_blocking(move || {
        (0..count).filter_map(|_| open(to)).collect::<Vec<_>>()
    });
    let held = within("a flood", held).await.unwrap();
    within("the rest to be told", async {
        while refused(status).await == 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    if long(1, 0) == 1 {
        (row.told)(to).await;
    }
    // A long run sees what it comes to.
    tokio::time::sleep(Duration::from_secs(long(0, 3) as u64)).await;
    let before = others.answers.len();
    others.answers.at_least(before + long(20, 2000)).await;
    let tally = others.finish().await;
    let came = format!(
        "{} of {count}, {} requests beside them, 99 % below {:?}",
        held.len(),
        tally.good,
        tally.quantile(0.99)
    );
    limited.assert_held(row.name, &came).await;
    tally.assert_all_good(20);
    drop(held);
    limited.answers_again().await;
}

/// Cookies as they are: fifty clients at a time, with heads as large as those of the flood.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_with_large_heads_are_all_answered() {
    let app = app::service("ok").await;
    let limited = Limited::new(sidecar::to(app.address)).await;
    let cookie = "x".repeat(LARGE / 4);
    let to = limited.hopspan.inbound;
    let clients = load::start(50, move |_, _| {
        let fields = 0..4;
        fields.fold(client::get(to, "/"), |request, _| {
            request.header("Cookie", &cookie)
        })
    });
    clients.answers.at_least(long(500, 20_000)).await;
    clients.finish().await.assert_all_good(500);
    limited
        .assert_held("clients with large heads", "50 at a time")
        .await;
    assert_eq!(refused(limited.hopspan.status).await, 0.0);
}
