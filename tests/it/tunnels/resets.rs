//! A side of a tunnel that resets its connection (RFC 9293 section 3.5.2): the other learns that what it has is not all
//! there is, and only a service that does so is told as a failure.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::raw::{self, Peer};
use crate::support::{collector, eventually, sidecar, within};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// How a connection ends, and what came before.
type Ended = (Vec<u8>, Result<(), ErrorKind>);

async fn end_of(mut stream: TcpStream) -> Ended {
    let mut heard = Vec::new();
    let read = stream.read_to_end(&mut heard).await;
    (heard, read.map(drop).map_err(|error| error.kind()))
}

/// Who is asked to `break` says half of something and resets; else it says how its connection ended.
async fn service(switches: bool) -> (raw::Server, mpsc::UnboundedReceiver<Ended>) {
    let (tell, told) = mpsc::unbounded_channel();
    let server = raw::server(move |mut peer| {
        let tell = tell.clone();
        async move {
            if switches {
                peer.head().await;
                peer.write(SWITCHED).await;
            }
            match &*peer.exactly(5).await {
                b"break" => {
                    peer.write("half").await;
                    // It has taken it, or it could be lost with the reset.
                    peer.exactly(4).await;
                    peer.reset();
                }
                _ => {
                    peer.write("heard").await;
                    let _ = tell.send(end_of(peer.into_stream()).await);
                }
            }
        }
    })
    .await;
    (server, told)
}

/// A tunnel in which `word` was said.
async fn tunnel(to: SocketAddr, head: &str, status: u16, word: &str) -> Peer {
    let mut peer = raw::connect(to).await;
    peer.write(head).await;
    assert_eq!(peer.response_to("CONNECT").await.status, status);
    peer.write(word).await;
    peer
}

#[tokio::test]
async fn a_reset_reaches_the_other_side_as_one_and_a_client_s_is_no_failure() {
    let (app, mut app_saw) = service(true).await;
    let (other, mut service_saw) = service(false).await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    let to = other.address;
    let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let rows = [
        (hopspan.outbound, &*connect, 200, &mut service_saw),
        (hopspan.inbound, UPGRADE, 101, &mut app_saw),
    ];
    for (listener, head, status, saw) in rows {
        let mut peer = tunnel(listener, head, status, "break").await;
        assert_eq!(peer.exactly(4).await, b"half", "{status}");
        peer.write("took").await;
        let ended = within("the reset", end_of(peer.into_stream())).await;
        assert_eq!(ended, (Vec::new(), Err(ErrorKind::ConnectionReset)));
        let mut peer = tunnel(listener, head, status, "leave").await;
        assert_eq!(peer.exactly(5).await, b"heard", "{status}");
        peer.reset();
        let ended = within("the reset", saw.recv()).await.unwrap();
        assert_eq!(ended, (Vec::new(), Err(ErrorKind::ConnectionReset)));
    }
    hopspan.until("hopspan_tunnels", 0.0).await;
    // Of the calls; and of the requests, those to the app.
    let mut told = Vec::new();
    for span in collector.spans(6).await {
        assert!(
            !span.failed() || span.attr("error.type") == "connection_terminated",
            "{span:?}"
        );
        told.push((span.name.clone(), span.kind, span.failed()));
    }
    let failed = told.iter().filter(|(.., failed)| *failed).count();
    assert_eq!(failed, 3, "{told:?}");
}

/// Waits until what this socket wrote was taken by the other side's kernel: `tx_queue` of /proc/net/tcp (proc(5)).
async fn taken(stream: &TcpStream) {
    let hex = |address: SocketAddr| format!(":{:04X}", address.port());
    let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    eventually("the bytes are taken", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.len() > 4
                && fields[1].ends_with(&hex(local))
                && fields[2].ends_with(&hex(remote))
                && fields[4].starts_with("00000000:")
        })
    })
    .await;
}

#[tokio::test]
async fn who_reads_late_loses_nothing_by_a_reset_behind_it() {
    const SIZE: usize = 600_000;
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = raw::server(move |mut peer| {
        let tell = tell.clone();
        async move {
            peer.exactly(5).await;
            peer.write(vec![b'x'; SIZE]).await;
            let stream = peer.into_stream();
            taken(&stream).await;
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(stream);
            let _ = tell.send(());
        }
    })
    .await;
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    let to = service.address;
    let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let peer = tunnel(hopspan.outbound, &connect, 200, "serve").await;
    within("the service's reset", told.recv()).await.unwrap();
    let (heard, ended) = within("the end", end_of(peer.into_stream())).await;
    assert_eq!(
        (heard.len(), ended),
        (SIZE, Err(ErrorKind::ConnectionReset))
    );
}

#[tokio::test]
async fn what_a_stop_cuts_off_is_not_taken_for_whole() {
    let (service, mut saw) = service(false).await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .set("timeouts.drain", json!("100ms"))
        .run()
        .await;
    let to = service.address;
    let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let mut peer = tunnel(hopspan.outbound, &connect, 200, "leave").await;
    assert_eq!(peer.exactly(5).await, b"heard");
    within("the stop", hopspan.stop()).await;
    let reset = (Vec::new(), Err(ErrorKind::ConnectionReset));
    let ended = within("the reset", end_of(peer.into_stream())).await;
    assert_eq!(ended, reset);
    assert_eq!(within("the reset", saw.recv()).await.unwrap(), reset);
    let span = collector.spans(1).await.remove(0);
    assert_eq!(
        (span.attr("error.type"), &*span.message),
        ("cancelled", "hopspan stopped")
    );
}
