//! Bodies of gibibytes each way, over both listeners: hopspan, a process of its own, passes them on from buffers that do
//! not grow with them. At its long size they are of 2 GiB.

use std::time::Instant;

use super::{cost, long};
use crate::support::{binary, collector, raw, sidecar};

const CHUNK: usize = 64 * 1024;
/// KiB that hopspan may take more at its peak than it had after the first requests, whatever passes through.
const MORE: usize = 16 * 1024;

/// An app that sends `size` bytes for `/down`, and counts those of `/up`.
async fn app(size: usize) -> raw::Server {
    raw::server(move |mut peer| async move {
        while let Some(head) = peer.try_head().await {
            if head.target() == "/down" {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
                peer.try_write(head).await;
                let chunk = vec![b'd'; CHUNK];
                for _ in 0..size / CHUNK {
                    if !peer.try_write(&chunk).await {
                        return;
                    }
                }
                continue;
            }
            let mut left: usize = head.one("content-length").unwrap().parse().unwrap();
            let mut whole = 0;
            while left > 0 {
                let Some(bytes) = peer.some().await else {
                    return;
                };
                left -= bytes.len();
                whole += bytes.len();
            }
            let whole = whole.to_string();
            let length = whole.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{whole}");
            peer.try_write(answer).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_gibibytes_keep_memory_flat() {
    let size = long(1, 2) << 30;
    let app = app(size).await;
    let collector = collector::grpc();
    let hopspan = binary::wrapping(&sidecar::to(app.address).collector(&collector), &[]).await;
    let pid = hopspan.process.pid();
    let target = |outbound: bool, path: &str| match outbound {
        true => format!("http://{}{path}", app.address),
        false => path.to_owned(),
    };
    // Small ones first, so that everything that is made once is made.
    for (listener, outbound) in [(hopspan.inbound, false), (hopspan.outbound, true)] {
        let of = target(outbound, "/up");
        let head = format!("POST {of} HTTP/1.1\r\nHost: {}\r\n", app.address);
        let answer = raw::exchange(listener, format!("{head}Content-Length: 2\r\n\r\nhi")).await;
        assert_eq!(answer.text(), "2");
    }
    // The peak begins anew: proc_pid_clear_refs(5).
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = cost::memory(pid, "VmHWM");
    let begun = Instant::now();
    for (listener, outbound) in [(hopspan.inbound, false), (hopspan.outbound, true)] {
        let mut down = raw::connect(listener).await;
        let of = target(outbound, "/down");
        let rest = format!("Host: {}\r\nConnection: close\r\n\r\n", app.address);
        down.write(format!("GET {of} HTTP/1.1\r\n{rest}")).await;
        let head = down.head().await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.one("content-length"), Some(&*size.to_string()));
        assert_eq!(down.skip().await, size);

        let mut up = raw::connect(listener).await;
        let of = target(outbound, "/up");
        up.write(format!(
            "POST {of} HTTP/1.1\r\nContent-Length: {size}\r\n{rest}"
        ))
        .await;
        let chunk = vec![b'u'; CHUNK];
        for _ in 0..size / CHUNK {
            up.write(&chunk).await;
        }
        assert_eq!(up.response().await.text(), size.to_string());
    }
    let grown = cost::memory(pid, "VmHWM").saturating_sub(before);
    println!(
        "{} GiB down and up, inbound and outbound, in {:.1?}: memory {before} KiB before, {grown} KiB more at the peak",
        size >> 30,
        begun.elapsed()
    );
    assert!(grown < MORE, "{grown} KiB more");
    for span in collector.spans(9).await {
        assert!(!span.failed(), "{span:?}");
    }
}
