//! What of a body is read ahead at most (`limits.body_buffer`), seen by the chunks that a body in one chunk leaves in:
//! hopspan sends each piece on as it was read. And what is held of requests that an app does not read.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::journal::Journal;
use crate::support::raw::{self, Peer};
use crate::support::{sidecar, within};

const BODY: usize = 1 << 20;
const HELD: &str = "hopspan_request_bytes_held";
const HEAD: &str = "Transfer-Encoding: chunked\r\n\r\n";

/// Sends a body in one chunk.
async fn send(peer: &mut Peer, line: &str) {
    let chunk = "x".repeat(BODY);
    let sent = format!("{line}{HEAD}{BODY:x}\r\n{chunk}\r\n0\r\n\r\n");
    peer.write(sent).await;
}

/// Reads it, and gives its largest chunk.
async fn largest(peer: &mut Peer) -> usize {
    let (mut whole, mut largest) = (0, 0);
    loop {
        let line = peer.through("\r\n").await;
        let line = String::from_utf8(line).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        peer.exactly(size + 2).await;
        whole += size;
        largest = largest.max(size);
        if size == 0 {
            break;
        }
    }
    assert_eq!(whole, BODY);
    largest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_read_ahead_by_as_much_as_is_set() {
    // Answers with the largest chunk it got, and a body of its own.
    let app = raw::server(|mut peer| async move {
        while peer.try_head().await.is_some() {
            let largest = largest(&mut peer).await;
            send(
                &mut peer,
                &format!("HTTP/1.1 200 OK\r\nLargest: {largest}\r\n"),
            )
            .await;
        }
    })
    .await;
    for (set, buffer, more_than) in [
        (None, 64 << 10, 16 << 10),
        (Some(("8KiB", "8KiB")), 8 << 10, 0),
        // A head must have room.
        (Some(("8KiB", "16KiB")), 16 << 10, 0),
    ] {
        let mut hopspan = sidecar::to(app.address);
        if let Some((buffer, head)) = set {
            hopspan = hopspan
                .set("limits.body_buffer", json!(buffer))
                .set("limits.head_bytes", json!(head));
        }
        let hopspan = hopspan.run().await;
        let mut peer = raw::connect(hopspan.inbound).await;
        send(&mut peer, "POST / HTTP/1.1\r\nHost: shop\r\n").await;
        let head = peer.head().await;
        let up: usize = head.one("largest").unwrap().parse().unwrap();
        let down = largest(&mut peer).await;
        println!("{set:?}: up {up}, down {down}");
        for chunk in [up, down] {
            // The buffer grows by doubling.
            let kept = more_than < chunk && chunk < 2 * buffer;
            assert!(kept, "{set:?}: {chunk}");
        }
    }
}

/// Requests that an app does not read at first: of each two pieces are held at most, counted, and arrive. What all may hold
/// together is `proxy::held`'s own to test: so many would fill the kernel's buffers first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_of_requests_that_stall_is_two_pieces_of_each_and_arrives() {
    // More than the kernel takes on the way to the app (4 MB), so that each stalls in hopspan.
    const SIZE: usize = 8 << 20;
    const COUNT: usize = 10;
    // One on its way, and one that was read meanwhile.
    const PIECES: usize = 2 * (64 << 10);
    let whole: Arc<Vec<u8>> = Arc::new((0..SIZE as u32 / 4).flat_map(u32::to_be_bytes).collect());
    let (read, begun) = (CancellationToken::new(), Journal::default());
    let (reads, begins, expected) = (read.clone(), begun.clone(), whole.clone());
    let app = raw::server(move |mut peer| {
        let (reads, begins, expected) = (reads.clone(), begins.clone(), expected.clone());
        async move {
            peer.head().await;
            begins.push(());
            reads.cancelled().await;
            let same = peer.exactly(SIZE).await == *expected;
            let status = if same { "200 OK" } else { "500 Not the same" };
            peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
                .await;
        }
    })
    .await;
    let hopspan = sidecar::to(app.address).run().await;
    let to = hopspan.inbound;
    let mut clients = JoinSet::new();
    for _ in 0..COUNT {
        let whole = whole.clone();
        clients.spawn(async move {
            let mut peer = raw::connect(to).await;
            let head = format!("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: {SIZE}\r\n\r\n");
            peer.write(head).await;
            peer.write(&whole[..]).await;
            peer.response().await.status
        });
    }
    begun.at_least(COUNT).await;
    let mut held = 0.0;
    let stalled = async {
        // Until it has been the same for a while: a machine that stands still so long makes it less of a test.
        let mut same = 0;
        while same < 40 || held == 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = hopspan.metric(HELD).await;
            same = if now == held { same + 1 } else { 0 };
            held = now;
        }
    };
    within("all to stall", stalled).await;
    assert!(held <= (COUNT * PIECES) as f64, "{held}");
    read.cancel();
    let statuses = within("the answers", clients.join_all()).await;
    assert_eq!(statuses, [200; COUNT]);
    hopspan.until(HELD, 0.0).await;
}
