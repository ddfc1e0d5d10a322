//! Bodies flow: nothing is kept back, and backpressure reaches the sender. What gibibytes of them cost: `holding::bodies`.

use bytes::Bytes;
use http_body_util::Channel;
use serde_json::json;

use crate::support::app::{self, App, ReplyExt};
use crate::support::{raw, sidecar, within};

const CHUNK: usize = 64 * 1024;
const GIB: usize = 1 << 30;

/// `/down` sends a gibibyte.
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
        .run()
        .await
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
