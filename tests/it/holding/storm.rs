//! Changes of config and stops while everything is in use: no request fails, no stream is cut.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{cost, long, world};
use crate::support::PATIENCE;
use crate::support::sidecar::sum;
use crate::support::{app, binary, client, load, sidecar};

/// As Kubernetes changes a ConfigMap: a new folder, and `..data` leads to it by the renaming of a link.
fn swap(file: &Path, text: &str, round: usize) {
    let folder = file.parent().unwrap();
    let name = file.file_name().unwrap();
    let data = folder.join(format!("..{round}"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join(name), text).unwrap();
    symlink(&data, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    if !file.is_symlink() {
        symlink(Path::new("..data").join(name), folder.join("file_tmp")).unwrap();
        std::fs::rename(folder.join("file_tmp"), file).unwrap();
    }
    if round > 0 {
        let _ = std::fs::remove_dir_all(folder.join(format!("..{}", round - 1)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_fail_no_request_and_cut_no_stream() {
    // A third are of a broken file, and refused.
    let rounds = long(50, 1500);
    let apps = [world::app().await, world::app().await];
    let config = |round: usize| {
        sidecar::to(apps[round % 2].address)
            .set("correlation.thread", json!(false))
            .set("resource", json!({ "round": round.to_string() }))
            .text()
    };
    let base = sidecar::to(apps[0].address).set("correlation.thread", json!(false));
    let hopspan = binary::wrapping(&base, &[]).await;
    let pid = hopspan.process.pid();
    let clients = world::Clients::start(hopspan.inbound, 20).await;
    let gets = load::gets(2, hopspan.inbound, "/");
    let (mut taken, mut refused) = (0, 0);
    // After each fifth.
    let mut memory = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let broken = round % 3 == 2;
        swap(
            &hopspan.file,
            if broken { "inbound: [nonsense" } else { "" },
            2 * round,
        );
        if !broken {
            swap(&hopspan.file, &config(round), 2 * round + 1);
        }
        let begun = Instant::now();
        let answer = client::request("POST", hopspan.admin, "/reload")
            .send()
            .await;
        slowest = slowest.max(begun.elapsed());
        assert_eq!(
            answer.status == 200,
            !broken,
            "round {round}: {}",
            answer.text()
        );
        if broken {
            refused += 1;
        } else {
            taken += 1;
        }
        // Some requests on each.
        let before = gets.answers.len();
        gets.answers.at_least(before + 5).await;
        if (round + 1) % (rounds / 5) == 0 {
            memory.push(cost::memory(pid, "VmRSS"));
        }
    }
    let grown = memory[4].saturating_sub(memory[0]);
    let (steps, cut) = clients.finish().await;
    let tally = gets.finish().await;
    println!(
        "{taken} reloads, {refused} refused, under {} requests and {steps} steps of 20 WebSockets, 20 event streams, 20 \
         uploads: {} failed, {} cut; slowest {slowest:?}; memory after each fifth {memory:?} KiB",
        tally.good,
        tally.failures.len(),
        cut.len()
    );
    assert!(cut.is_empty(), "{cut:?}");
    tally.assert_all_good(rounds * 5);
    // Less than 1 KiB each, and what an allocator keeps of one more stream or less.
    assert!(grown < rounds + 4096, "{grown} KiB");
    assert!(slowest < PATIENCE, "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_any_instant_fails_no_request_and_resets_no_connection() {
    let rounds = long(50, 300);
    let app = app::service("ok").await;
    let (mut good, mut slowest) = (0, Duration::ZERO);
    for round in 0..rounds {
        let config = sidecar::to(app.address)
            .set("correlation.thread", json!(false))
            .set("correlation.serial", json!(false))
            // A stop that waits for anything else than its clients waits for longer than anybody here does.
            .set("timeouts.drain", json!("10m"));
        let hopspan = binary::wrapping(&config, &[]).await;
        let load = load::gets(4, hopspan.inbound, "/");
        // Instants that no round shares with the next.
        load.answers.at_least(1 + round * 7 % 97).await;
        tokio::time::sleep(Duration::from_micros((round * 613 % 5000) as u64)).await;
        let begun = Instant::now();
        hopspan.process.signal(15);
        let tally = load.ended().await;
        assert_eq!(
            hopspan.process.exit().await,
            0,
            "{}",
            hopspan.process.output()
        );
        slowest = slowest.max(begun.elapsed());
        // Clients come back all the time: what the kernel has taken is answered, what it has not is refused.
        tally.assert_all_good(1);
        good += tally.good;
    }
    println!("{rounds} stops: {good} requests, 0 failed; slowest {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_take_little_memory() {
    let count = long(1000, 10_000);
    let app = app::service("ok").await;
    // Above what is opened: near the limit some are closed.
    let config = sidecar::to(app.address)
        .set("limits.connections", json!(12_000))
        .set("timeouts.idle", json!("10m"));
    let hopspan = binary::wrapping(&config, &[]).await;
    let pid = hopspan.process.pid();
    let mut held = Vec::new();
    for _ in 0..50 {
        client::get(hopspan.inbound, "/").send().await;
    }
    let before = cost::memory(pid, "VmRSS");
    for _ in 0..count {
        let mut peer = crate::support::raw::connect(hopspan.inbound).await;
        peer.write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        assert_eq!(peer.response().await.status, 200);
        held.push(peer.into_stream());
    }
    let metrics = client::get(hopspan.status, "/metrics").send().await.text();
    assert!(sum(&metrics, "hopspan_connections") >= count as f64);
    let each = cost::memory(pid, "VmRSS").saturating_sub(before) as f64 / count as f64;
    println!("{count} connections, idle after one request each: {each:.1} KiB of memory each");
    assert!(each < 24.0, "{each}");
}
