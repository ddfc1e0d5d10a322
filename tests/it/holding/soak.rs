//! Everything at once for a while, with a fault every moment: those who behave notice nothing, and what was taken is
//! given back.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{cost, long, world};
use crate::support::raw::Peer;
use crate::support::sidecar::sum;
use crate::support::{binary, client, collector, eventually, h2, load, raw, sidecar, within};

/// Connections of those who do, open at once: the oldest go first.
const HELD: usize = 20;

/// KiB above the beginning that a process which has been through all this may keep.
const BACK: usize = 8 * 1024;

/// Somebody who means harm, or has an accident. `number` picks which.
async fn fault(hopspan: &binary::Serving, number: u64, held: &mut Vec<Peer>) {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
    let mut peer = raw::connect(hopspan.inbound).await;
    match number % 10 {
        0 => peer.write("GET / HTTP/1.1\r\nHost: sh").await,
        1 => {
            peer.write("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\nabc")
                .await;
            return peer.reset();
        }
        2 => peer.write(get("/events")).await,
        3 => peer.write(get("/hang")).await,
        4 => {
            for path in ["/reset", "/half"] {
                let answer = raw::exchange(hopspan.inbound, get(path)).await;
                assert!(answer.status == 502 || !answer.complete, "{answer:?}");
            }
        }
        5 => {
            let mut frames = h2::frames(hopspan.inbound).await;
            for stream in 0..60_u32 {
                let head = h2::frame(
                    h2::HEADERS,
                    h2::WHOLE,
                    stream * 2 + 1,
                    &h2::hpack(&h2::get("/")),
                );
                let reset = h2::frame(h2::RST_STREAM, 0, stream * 2 + 1, &8_u32.to_be_bytes());
                frames.peer.try_write([head, reset].concat()).await;
            }
        }
        6 => {
            let mut frames = h2::frames_with(hopspan.inbound, &[(4, 0)]).await;
            frames.headers(1, h2::WHOLE, &h2::get("/")).await;
            held.push(frames.peer);
        }
        7 | 8 => {
            let good = std::fs::read_to_string(&hopspan.file).unwrap();
            if number % 10 == 8 {
                std::fs::write(&hopspan.file, "inbound: [nonsense").unwrap();
                client::request("POST", hopspan.admin, "/reload")
                    .send()
                    .await;
            }
            std::fs::write(&hopspan.file, good).unwrap();
            let answer = client::request("POST", hopspan.admin, "/reload")
                .send()
                .await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        _ => {
            peer.write(b"\x16\x03\x01 nonsense\r\n\r\n").await;
        }
    }
    held.push(peer);
}

/// Requests over HTTP/2, some at once, until `stop`. Gives how many.
async fn over_http2(to: std::net::SocketAddr, stop: CancellationToken) -> usize {
    let (client, mut count) = (h2::connect(to).await, 0);
    while !stop.is_cancelled() {
        let some: JoinSet<_> = (0..4)
            .map(|_| {
                let client = client.clone();
                async move { client.get("/").await.status }
            })
            .collect();
        let statuses = some.join_all().await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        count += 4;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soak_with_faults_leaves_nothing_behind() {
    let lasts = Duration::from_secs(long(15, 600) as u64);
    let app = world::app().await;
    let collector = collector::grpc();
    let config = sidecar::to(app.address)
        .collector(&collector)
        .set("correlation.thread", json!(false))
        .set("timeouts.header", json!("2s"))
        .set("timeouts.idle", json!("5s"));
    let hopspan = binary::wrapping(&config, &[]).await;
    let pid = hopspan.process.pid();
    for _ in 0..200 {
        client::get(hopspan.inbound, "/").send().await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = (cost::memory(pid, "VmRSS"), cost::descriptors(pid));
    let clients = world::Clients::start(hopspan.inbound, 5).await;
    let gets = load::gets(2, hopspan.inbound, "/");
    let stop = CancellationToken::new();
    let http2 = tokio::spawn(over_http2(hopspan.inbound, stop.clone()));
    let (end, mut faults, mut held) = (Instant::now() + lasts, 0, Vec::new());
    // At each fifth of the time.
    let mut memory = Vec::new();
    while Instant::now() < end {
        fault(&hopspan, faults * 7 + faults / 10, &mut held).await;
        faults += 1;
        // Some faults leave two.
        held.drain(..held.len().saturating_sub(HELD));
        if end.saturating_duration_since(Instant::now()) < lasts / 5 * (5 - memory.len() as u32) {
            memory.push(cost::memory(pid, "VmRSS"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (steps, cut) = clients.finish().await;
    let tally = gets.finish().await;
    stop.cancel();
    let multiplexed = http2.await.unwrap();
    drop(held);
    // Gauges count what is open: connections, streams, tunnels.
    let metrics = || async { client::get(hopspan.status, "/metrics").send().await.text() };
    within("all to be given back", async {
        loop {
            let text = metrics().await;
            let open = [
                "hopspan_tunnels",
                "hopspan_http2_streams",
                "hopspan_http2_head_bytes",
                "hopspan_upstream_connections_open",
            ];
            let inbound = "hopspan_connections{direction=\"inbound\"}";
            let left: f64 =
                open.iter().map(|name| sum(&text, name)).sum::<f64>() + sum(&text, inbound);
            if left == 0.0 {
                assert_eq!(sum(&text, "hopspan_panics_total"), 0.0);
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    eventually("descriptors to be given back", || {
        cost::descriptors(pid) <= before.1 + 4
    })
    .await;
    let after = (cost::memory(pid, "VmRSS"), cost::descriptors(pid));
    eventually("memory to be given back", || {
        cost::memory(pid, "VmRSS") < before.0 + BACK
    })
    .await;
    let rest = cost::memory(pid, "VmRSS");
    println!(
        "{lasts:?}: {} requests, {multiplexed} over HTTP/2, {steps} steps of 15 streams and uploads, {faults} faults: {} \
         failed, {} cut; memory {} KiB before, {memory:?} meanwhile, {} after, {rest} a little later; descriptors {} -> {}",
        tally.good,
        tally.failures.len(),
        cut.len(),
        before.0,
        after.0,
        before.1,
        after.1
    );
    assert!(cut.is_empty(), "{cut:?}");
    tally.assert_all_good(100);
    // Buffers, and spans on their way: 8,192 of about a KiB may wait, at any time. What is taken in the first half is what
    // it takes; it does not grow from there.
    let steady = memory[1].max(memory[2]);
    let more = after.0.saturating_sub(steady);
    assert!(more < long(16, 4) * 1024, "{more} KiB more");
}
