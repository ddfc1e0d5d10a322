//! Many at once: slow heads beside clients that are served, clients that leave in the midst of a body, more requests than
//! the app can answer, readers that read nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::long;
use crate::support::app::ReplyExt;
use crate::support::journal::Journal;
use crate::support::raw::{self, Peer};
use crate::support::sidecar::{self, sum};
use crate::support::{app, binary, client, eventually, h2, load, within};

/// One byte of a head after the other, until the other side has had enough.
async fn slow_head(to: SocketAddr, held: Journal<()>) {
    let mut peer = raw::connect(to).await;
    peer.write("GET / HTTP/1.1\r\nHost: shop\r\nX-Slow: ").await;
    held.push(());
    loop {
        // The pace of this client; the end is what it waits for.
        match tokio::time::timeout(Duration::from_millis(500), peer.fill()).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => {
                peer.try_write("v").await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_are_ended_and_hold_up_nobody() {
    let count = long(1000, 8000);
    let app = app::service("ok").await;
    let config = sidecar::to(app.address).set("timeouts.header", json!("3s"));
    let hopspan = binary::wrapping(&config, &[]).await;
    let served = load::gets(4, hopspan.inbound, "/");
    served.answers.at_least(20).await;
    let (held, begun) = (Journal::default(), Instant::now());
    let mut crowd = JoinSet::new();
    for _ in 0..count {
        crowd.spawn(slow_head(hopspan.inbound, held.clone()));
    }
    held.at_least(count).await;
    let before = served.answers.len();
    within("the end of all slow heads", async {
        while crowd.join_next().await.is_some() {}
    })
    .await;
    let gone = begun.elapsed();
    served.answers.at_least(before + 20).await;
    let tally = served.finish().await;
    tally.assert_all_good(40);
    let metrics = client::get(hopspan.status, "/metrics").send().await.text();
    let slow = "hopspan_client_protocol_errors_total{reason=\"slow_head\"}";
    assert_eq!(sum(&metrics, slow), count as f64);
    println!(
        "{count} slow heads: gone after {gone:?}, {} requests beside them, 99 % below {:?}",
        tally.good,
        tally.quantile(0.99)
    );
}

/// What is left of an exchange when its client leaves: nothing, and nothing that looks whole.
#[tokio::test]
async fn a_client_that_leaves_in_the_midst_of_a_body_is_gone_for_the_app_too() {
    const DOWN: &str = "GET /down HTTP/1.1\r\nHost: shop\r\n\r\n";
    let rows = [
        "POST /up HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\nbegun",
        "POST /up HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
        DOWN,
    ];
    let (begun, ended) = (Journal::default(), Journal::<String>::default());
    let (starts, ends) = (begun.clone(), ended.clone());
    let app = raw::server(move |mut peer| {
        let (starts, ends) = (starts.clone(), ends.clone());
        async move {
            let head = peer.head().await;
            if head.target() == "/down" {
                peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
                    .await;
            } else {
                peer.through("begun").await;
            }
            starts.push(());
            let rest = peer.rest().await;
            ends.push(String::from_utf8_lossy(&rest).into_owned());
        }
    })
    .await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut ran = 0;
    for row in rows {
        for reset in [false, true] {
            let mut peer = raw::connect(hopspan.inbound).await;
            peer.write(row).await;
            begun.at_least(ran + 1).await;
            if row == DOWN {
                peer.through("begun").await;
            }
            let left = Instant::now();
            match reset {
                true => peer.reset(),
                false => drop(peer),
            }
            let rests = ended.at_least(ran + 1).await;
            println!("{row:?}, reset {reset}: told in {:?}", left.elapsed());
            assert!(!rests[ran].contains("0\r\n\r\n"), "{row:?}: {rests:?}");
            ran += 1;
        }
    }
    assert_eq!(ran, 6);
    eventually("the app's connections to end", || app.open() == 0).await;
}

/// An app that answers `at_once` requests at a time, each after `takes`.
async fn busy_app(at_once: usize, takes: Duration) -> raw::Server {
    let workers = Arc::new(Semaphore::new(at_once));
    raw::server(move |mut peer| {
        let workers = Arc::clone(&workers);
        async move {
            while peer.try_head().await.is_some() {
                let worker = workers.acquire().await.unwrap();
                // The work, not a wait for anything.
                tokio::time::sleep(takes).await;
                drop(worker);
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if !peer.try_write(answer).await {
                    return;
                }
            }
        }
    })
    .await
}

/// Four clients for each that the app can answer, over HTTP/1.1 and HTTP/2, and connections that come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overload_is_answered_and_leaves_nothing_behind() {
    let rounds = long(1, 40);
    let app = busy_app(16, Duration::from_millis(20)).await;
    let hopspan = binary::wrapping(&sidecar::to(app.address), &[]).await;
    let to = hopspan.inbound;
    let alone = load::gets(16, to, "/");
    let begun = Instant::now();
    alone.answers.at_least(500 * rounds).await;
    let peak = 500.0 * rounds as f64 / begun.elapsed().as_secs_f64();
    alone.finish().await.assert_all_good(500 * rounds);
    let clients = load::gets(48, to, "/");
    let stop = CancellationToken::new();
    let mut others = JoinSet::new();
    others.spawn(streams(to, 16, stop.clone()));
    others.spawn(come_and_go(to, stop.clone()));
    clients.answers.at_least(100).await;
    let (before, begun) = (clients.answers.len(), Instant::now());
    clients.answers.at_least(before + 500 * rounds).await;
    let rate = 500.0 * rounds as f64 / begun.elapsed().as_secs_f64();
    stop.cancel();
    let tally = clients.finish().await;
    tally.assert_all_good(500 * rounds);
    let over_http2: usize = others.join_all().await.into_iter().sum();
    assert!(over_http2 > 0);
    println!(
        "16 clients of an app for 16: {peak:.0} requests a second; 48 and 16 streams and connections that come and go: \
         {rate:.0} of the 48 alone, 99 % below {:?}; {over_http2} over HTTP/2",
        tally.quantile(0.99)
    );
    let after = Instant::now();
    assert_eq!(client::get(to, "/").send().await.status, 200);
    println!("the next one is answered after {:?}", after.elapsed());
    eventually("the app's connections to end", || app.open() == 0).await;
    let metrics = client::get(hopspan.status, "/metrics").send().await.text();
    for name in [
        "hopspan_panics_total",
        "hopspan_proxy_errors_total",
        "hopspan_connections_refused_total",
        "hopspan_http2_streams",
        "hopspan_response_bytes_held",
    ] {
        assert_eq!(sum(&metrics, name), 0.0, "{name}");
    }
}

/// One HTTP/2 connection with so many requests at once, all of which must be answered.
async fn streams(to: SocketAddr, at_once: usize, stop: CancellationToken) -> usize {
    let client = h2::connect(to).await;
    let mut lanes = JoinSet::new();
    for _ in 0..at_once {
        let (client, stop) = (client.clone(), stop.clone());
        lanes.spawn(async move {
            let mut answered = 0;
            while !stop.is_cancelled() {
                assert_eq!(client.get("/").await.status, 200);
                answered += 1;
            }
            answered
        });
    }
    lanes.join_all().await.into_iter().sum()
}

/// Connections that say nothing, or half a head, and leave.
async fn come_and_go(to: SocketAddr, stop: CancellationToken) -> usize {
    for number in 0_usize.. {
        if stop.is_cancelled() {
            break;
        }
        let mut peer = raw::connect(to).await;
        if number.is_multiple_of(2) {
            peer.try_write("GET / HTT").await;
        }
        // One after the other is gone: faster than hopspan has a turn to see them leave, they would use up its places.
        peer.half_close().await;
        peer.closed().await;
    }
    0
}

/// Readers that read nothing at first: what is held for them is bounded over all of them, counted, and arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_for_stalled_readers_has_a_budget_and_arrives() {
    const SIZE: usize = 12 << 20;
    const BUDGET: f64 = (8 << 20) as f64;
    let whole = Bytes::from(pattern(SIZE));
    let sent = whole.clone();
    let app = app::http()
        .any(move |_| {
            let sent = sent.clone();
            async move { app::reply(200).text(sent) }
        })
        .run()
        .await;
    // They wait for each other, which takes a slow machine longer than one that takes nothing is waited for.
    let hopspan = sidecar::to(app.address)
        .set("timeouts.body_idle", json!("10m"))
        .run()
        .await;
    let plain = reader(hopspan.inbound).await;
    let mut peers = Vec::new();
    for _ in 0..20 {
        peers.push(reader(hopspan.inbound).await);
    }
    let frames = h2::connect(hopspan.inbound).await;
    let begun = frames.begin(frames.request("GET", "/").body(h2::empty()).unwrap());
    let slow = within("an answer's head", begun).await.unwrap();
    within("something to be held", async {
        while hopspan.metric("hopspan_response_bytes_held").await == 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // A piece each above the budget at most: all were begun before it was used up.
    let held = hopspan.metric("hopspan_response_bytes_held").await;
    assert!(held < BUDGET + 22.0 * 131_072.0, "{held}");
    peers.push(plain);
    for mut peer in peers {
        let answer = within("the whole answer", peer.response()).await;
        assert!(answer.body == whole, "{} bytes", answer.body.len());
    }
    drop(slow);
    hopspan.until("hopspan_response_bytes_held", 0.0).await;
}

async fn reader(to: SocketAddr) -> Peer {
    let mut peer = raw::connect(to).await;
    peer.write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    peer
}

/// Bytes that tell where they stood.
fn pattern(size: usize) -> Vec<u8> {
    (0..size as u32 / 4).flat_map(u32::to_be_bytes).collect()
}
