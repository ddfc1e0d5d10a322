//! Tunnels whose other end is gone without a word: they end by `timeouts.tunnel_idle`, or the kernel finds it out.

use std::net::SocketAddr;

use serde_json::json;

use super::{echo, websocket};
use crate::support::raw::{self, Peer};
use crate::support::{collector, eventually, sidecar};

/// Asks for a tunnel; once it is there, both sides have been heard.
async fn tunnel(address: SocketAddr, head: String, status: u16) -> Peer {
    let mut peer = raw::connect(address).await;
    peer.write(head).await;
    assert_eq!(peer.response_to("CONNECT").await.status, status);
    peer
}

fn upgrade() -> String {
    "GET /chat HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_owned()
}

#[tokio::test]
async fn silence_ends_a_tunnel_and_its_span_says_so() {
    let (app, service, collector) = (websocket().await, echo().await, collector::grpc());
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("timeouts.tunnel_idle", json!("200ms"))
        .run()
        .await;
    let to = service.address;
    let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let mut called = tunnel(hopspan.outbound, connect, 200).await;
    called.closed().await;
    let mut chat = tunnel(hopspan.inbound, upgrade(), 101).await;
    chat.closed().await;
    hopspan.until("hopspan_tunnels", 0.0).await;
    let spans = collector.spans(3).await;
    for span in &spans {
        assert!(span.failed(), "{span:?}");
        assert_eq!(span.attr("error.type"), "connection_read_timeout");
    }
    eventually("no socket left", || app.open() + service.open() == 0).await;
    let exposition = hopspan.metrics().await;
    let counted = "hopspan_proxy_errors_total{reason=\"connection_read_timeout\"} 2\n";
    assert!(exposition.contains(counted), "{exposition}");
}

#[tokio::test]
async fn without_the_limit_silence_ends_nothing() {
    let service = echo().await;
    let hopspan = sidecar::to(raw::closed_port())
        .set("timeouts.tunnel_idle", json!("off"))
        .run()
        .await;
    let to = service.address;
    let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let mut peer = tunnel(hopspan.outbound, connect, 200).await;
    peer.write("x").await;
    assert_eq!(peer.exactly(1).await, b"x");
}

/// Whether the kernel asks the other end of a connection, for which `local` is ours, whether it is there; by the timer in
/// /proc/net/tcp. `None`: there is no such connection.
fn is_asked(local: SocketAddr, remote: SocketAddr) -> Option<bool> {
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => {
            let ip = u32::from_ne_bytes(v4.ip().octets());
            format!("{ip:08X}:{:04X}", v4.port())
        }
        SocketAddr::V6(_) => unreachable!("IPv4 here"),
    };
    let (local, remote) = (hex(local), hex(remote));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_ascii_whitespace());
    let mut found = fields.map(Iterator::collect::<Vec<_>>);
    let row = found.find(|row| row.get(1..3) == Some(&[&*local, &*remote]))?;
    // 2 is the timer of keep-alive (proc_net_tcp.txt).
    Some(row[5].starts_with("02:"))
}

/// An address of this host that is not loopback, where it has one. Connecting a UDP socket sends nothing.
fn own_address() -> Option<SocketAddr> {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    probe.connect("192.0.2.1:9").ok()?;
    probe.local_addr().ok()
}

#[tokio::test]
async fn the_kernel_asks_clients_and_services_whether_they_are_there() {
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    for listener in [hopspan.inbound, hopspan.outbound] {
        let peer = raw::connect(listener).await;
        let asked = || is_asked(listener, peer.local()) == Some(true);
        eventually("a client to be asked", asked).await;
    }
    let Some(own) = own_address() else {
        return println!("SKIPPED: no address but loopback");
    };
    let service = tokio::net::TcpListener::bind((own.ip(), 0)).await.unwrap();
    let to = service.local_addr().unwrap();
    let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let _peer = tunnel(hopspan.outbound, connect, 200).await;
    let (_accepted, from) = service.accept().await.unwrap();
    let asked = || is_asked(from, to) == Some(true);
    eventually("a service to be asked", asked).await;
}
