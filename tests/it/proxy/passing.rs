//! Messages passing from a client to an app and back: what is sent, what arrives, and when.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use tokio::sync::mpsc;

use hopspan::proxy::body::ResponseBody;
use hopspan::proxy::pool::{Pool, PoolLimits, PoolOptions};
use hopspan::proxy::server::ServeLimits;
use hopspan::telemetry::metrics::Metrics;

mod switching;

use super::raw::{Forward, LONG, Raw, Served, answer, eventually, upstream};

/// A proxy before one app.
struct Passing {
    client: Raw,
    forward: Forward,
    served: Served,
}

async fn passing(app: SocketAddr) -> Passing {
    passing_with(app, LONG).await
}

async fn passing_with(app: SocketAddr, upload_limit: Duration) -> Passing {
    let metrics = Metrics::new();
    let pool = Pool::new(PoolOptions::new(PoolLimits::app(), metrics.clone()));
    let mut forward = Forward::new(pool, app);
    forward.upload_limit = Some(upload_limit);
    let served = Served::start(forward.clone(), ServeLimits::default(), metrics).await;
    Passing {
        client: Raw::connect(served.address).await,
        forward,
        served,
    }
}

/// An app that gives each request head to the test and answers with what the test says.
struct Scripted {
    heads: mpsc::UnboundedReceiver<String>,
    address: SocketAddr,
}

async fn scripted(answers: &'static [&'static str]) -> Scripted {
    let (tell, heads) = mpsc::unbounded_channel();
    let address = upstream(move |mut peer: Raw, _| {
        let tell = tell.clone();
        async move {
            for answer in answers {
                tell.send(peer.until("\r\n\r\n").await).unwrap();
                peer.send(answer).await;
            }
            peer.rest().await;
        }
    })
    .await;
    Scripted { heads, address }
}

#[tokio::test]
async fn responses_without_content_end_complete_and_keep_the_connection() {
    let app = scripted(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\netag: \"x\"\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ])
    .await;
    let mut p = passing(app.address).await;
    let rows = [
        ("HEAD", "200 OK", Some("content-length: 1234")),
        ("HEAD", "200 OK", None),
        ("GET", "204 No Content", None),
        // hyper drops the length of what is not sent; RFC 9110 section 15.4.5 does not ask for it.
        ("GET", "304 Not Modified", None),
        ("GET", "200 OK", Some("content-length: 0")),
    ];
    for (method, status, length) in rows {
        p.client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let head = p.client.until("\r\n\r\n").await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{head}"
        );
        let lines: Vec<&str> = head
            .lines()
            .filter(|l| l.starts_with("content-length"))
            .collect();
        assert_eq!(lines, length.into_iter().collect::<Vec<_>>(), "{head}");
    }
    assert_eq!(p.forward.told(), ["complete"; 5]);
    assert!(
        p.served
            .metric("hopspan_upstream_connections_opened_total 1")
    );
}

#[tokio::test]
async fn names_keep_their_case_and_repeated_fields_their_order() {
    let mut app = scripted(&[
        "HTTP/1.1 200 Very Fine\r\nX-CamelCase: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\nDate: x\r\n\r\n",
    ])
    .await;
    let mut p = passing(app.address).await;
    p.client
        .send("GET /a%20b?q={x} HTTP/1.1\r\nHost: shop:1\r\nX-MyHeader: v\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let head = p.client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 Very Fine\r\n"), "{head}");
    assert!(head.contains("\r\nX-CamelCase: 1\r\n"), "{head}");
    assert!(
        head.contains("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nDate: x\r\n"), "{head}");
    let head = app.heads.recv().await.unwrap();
    assert!(head.starts_with("GET /a%20b?q={x} HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nX-MyHeader: v\r\n"), "{head}");
    assert!(head.contains("\r\nHost: shop:1\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("connection"), "{head}");
}

#[tokio::test]
async fn bodies_stream_both_ways_without_waiting_for_their_ends() {
    let app = upstream(|mut peer: Raw, _| async move {
        peer.until("\r\n\r\n").await;
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for part in ["one", "two"] {
            peer.until(part).await;
            peer.send(format!("3\r\n{part}\r\n")).await;
        }
        peer.until("0\r\n\r\n").await;
        peer.send("0\r\n\r\n").await;
        peer.rest().await;
    })
    .await;
    let mut p = passing(app).await;
    p.client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    // Each part comes back before the next is sent.
    for part in ["one", "two"] {
        p.client.send(format!("3;ext=1\r\n{part}\r\n")).await;
        p.client.until(&format!("{part}\r\n")).await;
    }
    p.client.send("0\r\n\r\n").await;
    p.client.until("0\r\n\r\n").await;
    eventually("it is complete", || p.forward.told() == ["complete"]).await;
}

#[tokio::test]
async fn a_truncated_upload_never_looks_complete_to_the_app() {
    let heads = [
        "Content-Length: 10\r\n\r\n1234",
        "Transfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n",
    ];
    for head in heads {
        let (tell, mut told) = mpsc::unbounded_channel();
        let app = upstream(move |mut peer: Raw, _| {
            let tell = tell.clone();
            async move {
                peer.until("1234").await;
                tell.send(String::new()).unwrap();
                tell.send(peer.rest().await).unwrap();
            }
        })
        .await;
        let mut p = passing(app).await;
        p.client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"))
            .await;
        told.recv().await.unwrap();
        drop(p.client);
        let rest = told.recv().await.unwrap();
        assert!(!rest.contains("0\r\n\r\n"), "{rest}");
    }
}

#[tokio::test]
async fn a_stalled_upload_fails_and_closes_both_sides() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let app = upstream(move |mut peer: Raw, _| {
        let tell = tell.clone();
        async move {
            peer.until("1234").await;
            tell.send(peer.rest().await).unwrap();
        }
    })
    .await;
    let mut p = passing_with(app, Duration::from_millis(200)).await;
    p.client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234")
        .await;
    let answer = p.client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(told.recv().await.unwrap(), "");
    assert_eq!(p.forward.told(), ["RequestStalled"]);
}

#[tokio::test]
async fn an_early_answer_ends_the_clients_connection_too() {
    let app = scripted(&["HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"]).await;
    let mut p = passing(app.address).await;
    p.client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin")
        .await;
    p.client.until("no").await;
    // The rest of the upload must not be read as a request.
    p.client
        .send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(p.client.rest().await, "");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    const ONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none";
    const TWO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo";
    let app = scripted(&[ONE, TWO]).await;
    let mut p = passing(app.address).await;
    p.client
        .send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    p.client.until("one").await;
    p.client.until("two").await;
}

#[tokio::test]
async fn trailers_pass_to_a_client_that_takes_them_and_request_trailers_do_not() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n";
    let app = scripted(&[CHUNKED, CHUNKED]).await;
    let mut p = passing(app.address).await;
    p.client
        .send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
        .await;
    let whole = p.client.until("0\r\nx-sum: 7\r\n\r\n").await;
    assert!(whole.contains("2\r\nhi\r\n"), "{whole}");
    p.client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    p.client.until("2\r\nhi\r\n0\r\n\r\n").await;

    let app = upstream(|mut peer: Raw, _| async move {
        let upload = peer.until("0\r\n\r\n").await;
        assert!(
            !upload.to_lowercase().contains("x-forwarded-for"),
            "{upload}"
        );
        peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        peer.rest().await;
    })
    .await;
    let mut p = passing(app).await;
    p.client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-forwarded-for\r\n\r\n2\r\nhi\r\n0\r\nx-forwarded-for: forged\r\n\r\n")
        .await;
    p.client.until("204 No Content").await;
}

#[tokio::test]
async fn what_hyper_lets_through_is_refused() {
    let app = scripted(&[]).await;
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", "417"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nx",
            "400",
        ),
    ];
    let mut ran = 0;
    for (request, status) in cases {
        let mut p = passing(app.address).await;
        p.client.send(request).await;
        let answer = p.client.rest().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request} {answer}"
        );
        ran += 1;
    }
    assert_eq!(ran, 5);
}

#[tokio::test]
async fn te_and_content_length_together_are_framed_anew_and_the_connection_closed() {
    let mut app = scripted(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]).await;
    let mut p = passing(app.address).await;
    p.client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let answer = p.client.rest().await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let head = app.heads.recv().await.unwrap().to_lowercase();
    assert!(!head.contains("content-length"), "{head}");
    assert!(app.heads.try_recv().is_err(), "nothing was smuggled");
}

#[tokio::test]
async fn expect_100_is_answered_when_the_app_reads() {
    let app = upstream(|mut peer: Raw, _| async move {
        let head = peer.until("\r\n\r\n").await;
        assert!(!head.to_lowercase().contains("expect"), "{head}");
        peer.until("body").await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
        peer.rest().await;
    })
    .await;
    let mut p = passing(app).await;
    p.client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    p.client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    p.client.send("body").await;
    p.client.until("HTTP/1.1 200 OK\r\n").await;
}

#[tokio::test]
async fn an_http_1_0_client_is_served_by_an_http_1_1_app() {
    // The end of the connection is the end of it, whatever was asked for.
    for asked in ["", "Connection: keep-alive\r\n"] {
        let app = scripted(&[
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ])
        .await;
        let mut p = passing(app.address).await;
        p.client
            .send(&format!("GET / HTTP/1.0\r\nHost: a\r\n{asked}\r\n"))
            .await;
        let answer = p.client.rest().await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
        assert!(!answer.contains("chunked"), "{answer}");
        assert!(!answer.contains("keep-alive"), "{answer}");
    }
}

#[tokio::test]
async fn a_stamping_listener_gives_the_handler_the_time_its_request_arrived() {
    let stamps = Arc::new(Mutex::new(Vec::new()));
    let seen = stamps.clone();
    let handler = answer(move |_, connection| {
        seen.lock().unwrap().push(connection.received.first());
        connection.received.mark();
        async { Response::new(ResponseBody::from("ok")) }
    });
    let served = Served::start_with(handler, ServeLimits::default(), Metrics::new(), true).await;
    let mut client = Raw::connect(served.address).await;
    // The kernel needs a moment after the first socket has asked.
    let mut tried = 0;
    while !matches!(stamps.lock().unwrap().last(), Some(Some(_))) {
        assert!(tried < 100_000, "the kernel never stamps");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("ok").await;
        tried += 1;
    }
    stamps.lock().unwrap().clear();
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("ok").await;
    }
    let stamps = stamps.lock().unwrap();
    let times: Vec<u64> = stamps
        .iter()
        .map(|s| s.expect("each is stamped").realtime_ns)
        .collect();
    assert!(times.len() == 3 && times.is_sorted(), "{times:?}");
}
