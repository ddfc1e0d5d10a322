//! An exchange that breaks off after each of its bytes, either way, by FIN and by RST; connections that close just as
//! they are used again. At their long size messages are of 2 KiB, and it is 100,000 requests that meet a closing connection.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::support::journal::Journal;
use crate::support::{client, long, raw, sidecar};

/// A message that begins like this, by Content-Length and by chunks. Both have some fields and some body, or a KiB of each.
fn messages(line: &str) -> [String; 2] {
    let (field, half) = ("z".repeat(long(1, 1000)), "0".repeat(long(5, 500)));
    let head = format!("{line}\r\nHost: shop\r\nX-Y: {field}\r\n");
    let size = half.len();
    [
        format!("{head}Content-Length: {}\r\n\r\n{half}{half}", 2 * size),
        format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{half}\r\n{size:x}\r\n{half}\r\n0\r\n\r\n"
        ),
    ]
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_any_byte_is_never_complete() {
    let (mut ran, answers) = (0, messages("HTTP/1.1 200 OK"));
    for answer in &answers {
        // The path says how much is sent, and how it ends.
        let sent = answer.clone();
        let upstream = raw::server(move |mut peer| {
            let sent = sent.clone();
            async move {
                let Some(head) = peer.try_head().await else {
                    return;
                };
                let (count, end) = head.target()[1..].split_once('/').unwrap();
                let count: usize = count.parse().unwrap();
                peer.try_write(&sent[..count]).await;
                if end == "rst" {
                    peer.reset();
                }
            }
        })
        .await;
        let hopspan = sidecar::to(upstream.address).run().await;
        for count in 0..=answer.len() {
            for end in ["fin", "rst"] {
                let path = format!("/{count}/{end}");
                let url = format!("http://{}{path}", upstream.address);
                for (listener, target) in [(hopspan.inbound, &path), (hopspan.outbound, &url)] {
                    let request = client::get(listener, target);
                    let mut peer = request.connect().await.unwrap();
                    peer.write(request.bytes()).await;
                    let got = request.try_answer(&mut peer).await;
                    let whole = got
                        .as_ref()
                        .is_some_and(|got| got.status == 200 && got.complete);
                    let refused = got.as_ref().is_some_and(|got| got.status == 502);
                    let broken = got.as_ref().is_none_or(|got| !got.complete);
                    // A reset may take what was sent before it.
                    match (count == answer.len(), end) {
                        (true, "fin") => assert!(whole, "{path}: {got:?}"),
                        (true, _) => assert!(whole || refused || broken, "{path}: {got:?}"),
                        (false, _) => assert!(!whole && (refused || broken), "{path}: {got:?}"),
                    }
                    ran += 1;
                }
            }
        }
    }
    println!("{ran} exchanges");
    assert_eq!(ran, (answers[0].len() + answers[1].len() + 2) * 4);
    assert!(ran > long(400, 16_000));
}

#[tokio::test]
async fn an_upload_that_breaks_off_after_any_byte_is_never_complete_at_the_app() {
    let mut ran = 0;
    for request in &messages("POST /a HTTP/1.1") {
        for reset in [false, true] {
            let seen = Journal::default();
            let journal: Journal<Vec<u8>> = seen.clone();
            let app = raw::server(move |mut peer| {
                let journal = journal.clone();
                async move { journal.push(peer.rest().await) }
            })
            .await;
            let hopspan = sidecar::to(app.address).run().await;
            for count in 1..request.len() {
                let mut peer = raw::connect(hopspan.inbound).await;
                peer.write(&request[..count]).await;
                match reset {
                    true => peer.reset(),
                    false => drop(peer),
                }
                ran += 1;
            }
            crate::support::eventually("the app's connections to end", || app.open() == 0).await;
            hopspan.until("hopspan_connections", 1.0).await;
            for bytes in seen.all() {
                let requests = crate::smuggling::strict::requests(&bytes).unwrap();
                assert!(
                    requests.iter().all(|request| !request.complete),
                    "{requests:?}"
                );
            }
        }
    }
    println!("{ran} uploads");
    assert!(ran > long(200, 8000));
}

/// An app that takes a second request on a connection only to close on it.
async fn closes_on_reuse(executed: Journal<String>, reset: bool) -> raw::Server {
    raw::server(move |mut peer| {
        let executed = executed.clone();
        async move {
            let Some(head) = peer.try_head().await else {
                return;
            };
            if let Some(length) = head.one("content-length") {
                peer.exactly(length.parse().unwrap()).await;
            }
            executed.push(head.target().to_owned());
            peer.try_write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
            // The next one comes, is not read, and the connection closes: as an idle limit does that has just passed.
            peer.fill().await;
            if reset {
                peer.reset();
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_that_closes_as_it_is_used_again_costs_no_get_and_doubles_no_post() {
    let rounds = long(315, 6250);
    for reset in [false, true] {
        let executed = Journal::default();
        let app = closes_on_reuse(executed.clone(), reset).await;
        let hopspan = sidecar::to(app.address).run().await;
        let inbound = hopspan.inbound;
        let mut clients = JoinSet::new();
        for number in 0..8 {
            clients.spawn(async move {
                let mut failed = 0;
                let mut peer = raw::connect(inbound).await;
                for round in 0..rounds {
                    let path = format!("/{number}/{round}");
                    let request = match round % 3 {
                        0 => client::post(inbound, &path, "pay"),
                        1 => client::request("PUT", inbound, &path).body("put"),
                        _ => client::get(inbound, &path),
                    };
                    let answer = request.via(&mut peer).await;
                    match round % 3 {
                        2 => assert_eq!(answer.status, 200, "{path}: {}", answer.text()),
                        // Whether it was executed is not known: it may not be sent again, so the client is told.
                        _ => {
                            assert!(
                                matches!(answer.status, 200 | 502),
                                "{path}: {}",
                                answer.status
                            );
                            failed += usize::from(answer.status == 502);
                        }
                    }
                }
                failed
            });
        }
        let failed: usize = clients.join_all().await.into_iter().sum();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for path in executed.all() {
            *counts.entry(path).or_default() += 1;
        }
        let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(doubled.is_empty(), "executed twice: {doubled:?}");
        println!(
            "reset {reset}: {} executed, {failed} told 502",
            counts.len()
        );
        assert!(failed > 0, "the race did not happen");
        assert!(hopspan.metric("hopspan_upstream_retries_total").await > 0.0);
    }
}

#[tokio::test]
async fn an_upstream_that_ends_its_half_is_still_sent_the_rest_of_the_upload() {
    let taken = Journal::default();
    let journal = taken.clone();
    let app = raw::server(move |mut peer| {
        let journal = journal.clone();
        async move {
            peer.head().await;
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly")
                .await;
            peer.half_close().await;
            journal.push(peer.skip().await);
        }
    })
    .await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\n01234")
        .await;
    let answer = peer.response_to("POST").await;
    assert_eq!((answer.status, &*answer.text()), (200, "early"));
    drop(peer);
    assert!(taken.at_least(1).await[0] <= 10);
    let shared: Arc<[usize]> = taken.all().into();
    assert_eq!(shared.len(), 1, "one connection, one request");
}
