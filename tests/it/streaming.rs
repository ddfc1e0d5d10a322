//! Bodies flow: nothing is kept back, backpressure reaches the sender, and a gigabyte each way costs no memory.

use bytes::Bytes;
use http_body_util::{BodyExt, Channel};
use serde_json::json;

use crate::support::app::{self, App, ReplyExt};
use crate::support::collector;
use crate::support::{raw, sidecar, within};

const CHUNK: usize = 64 * 1024;
const GIB: usize = 1 << 30;

/// `/down` sends a gibibyte, `/up` counts what it gets.
async fn heavy() -> App {
    app::http()
        .streaming("/down", |_| async {
            let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(4);
            tokio::spawn(async move {
                let chunk = Bytes::from(vec![b'd'; CHUNK]);
                for _ in 0..GIB / CHUNK {
                    if sender.send_data(chunk.clone()).await.is_err() {
                        return;
                    }
                }
            });
            app::reply(200).stream(body)
        })
        .streaming("/up", |request| async {
            let mut body = request.into_body();
            let mut count = 0;
            while let Some(frame) = body.frame().await {
                count += frame.unwrap().data_ref().map_or(0, Bytes::len);
            }
            app::reply(200).text(count.to_string())
        })
        .run()
        .await
}

/// The peak of this process's resident memory since the last reset, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_ascii_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() * 1024
}

/// In a process of its own, since the peak is the process's.
#[test]
fn a_gibibyte_each_way_keeps_memory_flat() {
    let inner = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "streaming::heavy_bodies",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout).into_owned();
    let errors = String::from_utf8_lossy(&inner.stderr).into_owned();
    assert!(inner.status.success(), "{said}\n{errors}");
    assert!(said.contains("1 passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other side of the test above, which starts it"]
async fn heavy_bodies() {
    let app = heavy().await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    // Once small, so that everything that is made once is made.
    raw::exchange(
        hopspan.inbound,
        "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
    )
    .await;
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    for listener in [hopspan.inbound, hopspan.outbound] {
        let of = if listener == hopspan.inbound {
            String::new()
        } else {
            format!("http://{}", app.address)
        };
        let mut down = raw::connect(listener).await;
        down.write(format!(
            "GET {of}/down HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            app.address
        ))
        .await;
        assert_eq!(down.head().await.status(), 200);
        assert!(down.skip().await >= GIB);

        let mut up = raw::connect(listener).await;
        up.write(format!(
            "POST {of}/up HTTP/1.1\r\nHost: {}\r\nContent-Length: {GIB}\r\n\r\n",
            app.address
        ))
        .await;
        let chunk = vec![b'u'; CHUNK];
        for _ in 0..GIB / CHUNK {
            up.write(&chunk).await;
        }
        assert_eq!(up.response().await.text(), GIB.to_string());
    }
    let grown = peak().saturating_sub(before);
    println!("peak grew by {} KiB", grown / 1024);
    assert!(grown < 16 << 20, "peak grew by {grown} bytes");
    for span in collector.spans(8).await {
        assert!(!span.failed(), "{span:?}");
    }
}

#[tokio::test]
async fn chunks_pass_one_by_one_in_both_directions() {
    let echo = raw::server(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for word in ["one", "two", "three"] {
            peer.through(&format!("{word}\r\n")).await;
            peer.write(format!("{:x}\r\n{word}\r\n", word.len())).await;
        }
        peer.through("0\r\n\r\n").await;
        peer.write("0\r\n\r\n").await;
        peer.hang().await;
    })
    .await;
    let hopspan = sidecar::to(echo.address).run().await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let mut answered = false;
    for word in ["one", "two", "three"] {
        peer.write(format!("{:x}\r\n{word}\r\n", word.len())).await;
        if !answered {
            assert_eq!(peer.head().await.status(), 200);
            answered = true;
        }
        // It comes back before the next one is sent: nothing waits for more.
        peer.through(&format!("{word}\r\n")).await;
    }
    peer.write("0\r\n\r\n").await;
    peer.through("0\r\n\r\n").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_sender() {
    let app = heavy().await;
    let hopspan = sidecar::to(app.address)
        .set("timeouts.body_idle", json!("1s"))
        .run()
        .await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write("GET /down HTTP/1.1\r\nHost: x\r\n\r\n").await;
    peer.head().await;
    // Nothing more is read: the stalled exchange ends at `timeouts.body_idle`, and the app's connection with it.
    within("the app's connection to end", async {
        while app.open() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}
