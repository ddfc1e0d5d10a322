//! A listener, a client, and the kernel's times.

use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

#[tokio::test]
async fn the_first_read_after_a_mark_is_stamped_and_later_ones_are_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    enable(&listener).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let received = Arc::new(Received::default());
    let mut server = Stamped::new(server, received.clone());
    assert_eq!(received.first(), None);
    let mut buf = [0; 3];
    let mut warm_up = 0;
    while received.first().is_none() {
        assert!(warm_up < 100_000, "the kernel never stamps");
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut buf[..1]).await.unwrap();
        warm_up += 1;
        if received.first().is_none() {
            received.mark();
        }
    }
    received.mark();

    let before = SystemTime::now();
    client.write_all(b"abc").await.unwrap();
    server.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"abc");
    let after = SystemTime::now();
    let first = received.first().expect("a kernel time");
    let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(first.realtime_ns);
    assert!(before <= at && at <= after, "{before:?} {at:?} {after:?}");
    assert_eq!(first.bytes, 3);
    assert!(first.monotonic_ns > 0);

    client.write_all(b"de").await.unwrap();
    server.read_exact(&mut buf[..2]).await.unwrap();
    assert_eq!(received.first(), Some(first), "still the first");
    assert_eq!(received.total(), warm_up + 5);

    received.mark();
    assert_eq!(received.first(), None);
    client.write_all(b"f").await.unwrap();
    server.read_exact(&mut buf[..1]).await.unwrap();
    assert!(received.first().unwrap().realtime_ns >= first.realtime_ns);

    drop(client);
    assert_eq!(server.read(&mut buf).await.unwrap(), 0, "EOF");
}

#[tokio::test]
async fn bytes_that_come_before_the_answer_have_no_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    enable(&listener).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    client.set_nodelay(true).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let received = Arc::new(Received::default());
    let mut server = Stamped::new(server, received.clone()).answering();
    let mut buf = [0; 8];
    // One exchange: a byte is asked, an answer given, with a byte of the next request in between or not.
    let mut exchange = async |early: &[u8]| {
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut buf[..1]).await.unwrap();
        let stamped = received.first().is_some();
        if !early.is_empty() {
            client.write_all(early).await.unwrap();
            server.stream.readable().await.unwrap();
        }
        server.write_all(b"answer").await.unwrap();
        received.mark();
        client.read_exact(&mut [0; 6]).await.unwrap();
        // What is left of the early bytes is read with the next request's, whose time the kernel gives for both.
        if !early.is_empty() {
            client.write_all(b"yz").await.unwrap();
            server
                .read_exact(&mut buf[..early.len() + 2])
                .await
                .unwrap();
            assert_eq!(received.first(), None);
            received.mark();
        }
        stamped
    };
    let mut rows = 0;
    while !exchange(b"").await {
        rows += 1;
        assert!(rows < 100_000, "the kernel never stamps");
    }
    for early in [b"" as &[u8], b"e", b"", b"ea"] {
        assert!(
            exchange(early).await,
            "a request after the answer has its time"
        );
    }
}
