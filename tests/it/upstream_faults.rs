//! Apps and services that are down, slow, rude or wrong: each has a clear answer, a span that says why, and leaves no
//! socket behind.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::collector::{self, Collector};
use crate::support::raw::{self, Peer};
use crate::support::sidecar::{self, Sidecar};
use crate::support::{client, eventually, h2, h2_server, within};

mod uploads;

async fn before(app: SocketAddr, collector: &Collector) -> Sidecar {
    sidecar::to(app).collector(collector).run().await
}

/// What an upstream does with a connection on which a request came.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    CloseAtOnce,
    ResetAtOnce,
    CloseAfterHead,
    ResetAfterHead,
    Garbage,
    Tls,
    HalfAHead,
    BadStatusLine,
    HugeHead,
    TooManyHeaders,
    Hang,
    TwoLengths,
    BadLength,
}

impl Fault {
    async fn play(self, mut peer: Peer) {
        match self {
            Fault::CloseAtOnce => return,
            Fault::ResetAtOnce => return peer.reset(),
            _ => {}
        }
        if peer.try_head().await.is_none() {
            return;
        }
        let bytes: Vec<u8> = match self {
            Fault::ResetAfterHead => return peer.reset(),
            Fault::Hang => return peer.hang().await,
            Fault::CloseAfterHead | Fault::CloseAtOnce | Fault::ResetAtOnce => return,
            Fault::Garbage => b"\x00\x01garbage\r\n\r\n".to_vec(),
            Fault::Tls => b"\x15\x03\x03\x00\x02\x02\x46".to_vec(),
            Fault::HalfAHead => b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(),
            Fault::BadStatusLine => b"HTTP/1.1 abc OK\r\n\r\n".to_vec(),
            Fault::HugeHead => {
                let line = format!("X: {}\r\n", "x".repeat(1000));
                format!("HTTP/1.1 200 OK\r\n{}\r\n", line.repeat(2000)).into_bytes()
            }
            Fault::TooManyHeaders => {
                let lines: String = (0..5000).map(|n| format!("X-{n}: 1\r\n")).collect();
                format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes()
            }
            Fault::TwoLengths => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec()
            }
            Fault::BadLength => b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab".to_vec(),
        };
        let _ = peer.try_write(bytes).await;
    }
}

/// Fault, status, RFC 9209 errors that describe it.
const ROWS: &[(Fault, u16, &[&str])] = &[
    (
        Fault::CloseAtOnce,
        502,
        &["connection_terminated", "http_response_incomplete"],
    ),
    (Fault::ResetAtOnce, 502, &["connection_terminated"]),
    (
        Fault::CloseAfterHead,
        502,
        &["connection_terminated", "http_response_incomplete"],
    ),
    (Fault::ResetAfterHead, 502, &["connection_terminated"]),
    (Fault::Garbage, 502, &["http_protocol_error"]),
    (Fault::Tls, 502, &["http_protocol_error"]),
    (
        Fault::HalfAHead,
        502,
        &["http_response_incomplete", "connection_terminated"],
    ),
    (Fault::BadStatusLine, 502, &["http_protocol_error"]),
    (
        Fault::HugeHead,
        502,
        &["http_protocol_error", "http_response_header_section_size"],
    ),
    (
        Fault::TooManyHeaders,
        502,
        &["http_protocol_error", "http_response_header_section_size"],
    ),
    (Fault::Hang, 504, &["http_response_timeout"]),
    (Fault::TwoLengths, 502, &["http_protocol_error"]),
    (Fault::BadLength, 502, &["http_protocol_error"]),
];

/// Requests through both listeners to the same upstream.
fn both_ways(hopspan: &Sidecar, upstream: SocketAddr) -> [client::Request; 2] {
    [
        client::get(hopspan.inbound, "/x"),
        client::get(hopspan.outbound, &format!("http://{upstream}/x")),
    ]
}

#[tokio::test]
async fn faults_before_an_answer_become_502_or_504_and_a_span_says_why() {
    for (fault, status, errors) in ROWS {
        let collector = collector::grpc();
        let fault = *fault;
        let upstream = raw::server(move |peer| fault.play(peer)).await;
        // Short only where it is to run out: a busy machine must not turn another fault into this one.
        let patience = if fault == Fault::Hang { "300ms" } else { "20s" };
        let hopspan = sidecar::to(upstream.address)
            .collector(&collector)
            .set("timeouts.response", json!(patience))
            .run()
            .await;
        for request in both_ways(&hopspan, upstream.address) {
            let answer = request.send().await;
            assert_eq!(answer.status, *status, "{fault:?}: {}", answer.text());
            let error = answer.proxy_error().unwrap_or_default().to_owned();
            assert!(errors.contains(&&*error), "{fault:?}: {error}");
        }
        let spans = collector.spans(3).await;
        for span in &spans {
            assert!(span.failed(), "{fault:?}: {span:?}");
            assert_ne!(span.attr("error.type"), "", "{fault:?}: {span:?}");
        }
        eventually("no socket left", || upstream.open() == 0).await;
    }
    assert_eq!(ROWS.len(), 13);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_502_connection_refused() {
    let collector = collector::grpc();
    let nobody = raw::closed_port();
    let hopspan = before(nobody, &collector).await;
    for request in both_ways(&hopspan, nobody) {
        let answer = request.send().await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.proxy_error(), Some("connection_refused"));
    }
    // A label of more than 63 bytes is no name (RFC 1035 section 2.3.4): no server is asked, which may be slow.
    let nameless = format!("http://{}.invalid/", "a".repeat(64));
    let unknown = client::get(hopspan.outbound, &nameless);
    let unknown = unknown.send().await;
    assert_eq!(unknown.status, 502);
    assert_eq!(unknown.proxy_error(), Some("dns_error"));
    for span in collector.spans(4).await {
        assert!(span.failed(), "{span:?}");
    }
}

/// Answers whose body breaks off.
const BROKEN_BODIES: &[(&str, &str)] = &[
    (
        "short of its length",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
    ),
    (
        "without its last chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ),
    (
        "with a bad chunk size",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ),
];

#[tokio::test]
async fn a_body_that_breaks_off_is_never_passed_on_as_whole() {
    for reset in [false, true] {
        for (what, bytes) in BROKEN_BODIES {
            let collector = collector::grpc();
            let upstream = raw::server(move |mut peer| async move {
                peer.head().await;
                peer.write(bytes).await;
                if reset {
                    peer.reset();
                }
            })
            .await;
            let hopspan = before(upstream.address, &collector).await;
            for request in both_ways(&hopspan, upstream.address) {
                let mut peer = request.connect().await.unwrap();
                peer.write(request.bytes()).await;
                // A reset may overtake the head: then there is a 502, or nothing.
                let answer = request.try_answer(&mut peer).await;
                let whole = answer.is_some_and(|a| a.status == 200 && a.complete);
                assert!(!whole, "{what}, reset {reset}");
            }
            for span in collector.spans(3).await {
                assert!(span.failed(), "{what}, reset {reset}: {span:?}");
            }
            eventually("no socket left", || upstream.open() == 0).await;
        }
    }
    assert_eq!(BROKEN_BODIES.len(), 3);
}

#[tokio::test]
async fn an_answer_before_the_upload_is_passed_on_and_leaves_no_socket() {
    let collector = collector::grpc();
    let checked = CancellationToken::new();
    let reads_on = checked.clone();
    // Answers without reading the upload, and keeps the connection open.
    let upstream = raw::server(move |mut peer| {
        let reads_on = reads_on.clone();
        async move {
            peer.head().await;
            let early = "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nearly";
            peer.write(early).await;
            reads_on.cancelled().await;
            peer.closed().await;
        }
    })
    .await;
    let hopspan = before(upstream.address, &collector).await;
    let to = upstream.address;
    let url = format!("http://{to}/up");
    let ways = [(hopspan.inbound, "/up"), (hopspan.outbound, &*url)];
    for (index, (listener, target)) in ways.repeat(5).into_iter().enumerate() {
        let mut peer = raw::connect(listener).await;
        let head =
            format!("POST {target} HTTP/1.1\r\nHost: {to}\r\nContent-Length: 50000000\r\n\r\n");
        peer.write(head).await;
        peer.write(vec![b'x'; 10_000]).await;
        let answer = peer.response_to("POST").await;
        assert_eq!((answer.status, &*answer.text()), (413, "early"), "{target}");
        if index > 0 {
            // The rest of the upload can no longer be sent on: the connection ends.
            peer.closed().await;
            continue;
        }
        // In bounded time, however long the client goes on.
        within("the end of the connection", async {
            while peer.try_write(vec![b'x'; 65536]).await {}
        })
        .await;
    }
    upstream.accepted.at_least(10).await;
    hopspan
        .until("hopspan_upstream_connections_open", 0.0)
        .await;
    checked.cancel();
    eventually("no socket left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn an_app_that_closes_after_every_answer_costs_no_request() {
    let collector = collector::grpc();
    // Keep-alive is promised and not kept, as gunicorn's sync workers do at their timeout.
    let upstream = raw::server(|mut peer| async move {
        if peer.try_head().await.is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let hopspan = before(upstream.address, &collector).await;
    let mut peer = raw::connect(hopspan.inbound).await;
    for round in 0..100 {
        let answer = client::get(hopspan.inbound, "/").via(&mut peer).await;
        assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_slow_answer_arrives_as_it_comes() {
    let collector = collector::grpc();
    let upstream = raw::server(|mut peer| async move {
        peer.head().await;
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n01234567890123456789";
        peer.trickle(bytes, 1, Duration::from_millis(2)).await;
        peer.hang().await;
    })
    .await;
    let hopspan = before(upstream.address, &collector).await;
    for request in both_ways(&hopspan, upstream.address) {
        let answer = request.send().await;
        assert!(answer.complete);
        assert_eq!(answer.text(), "01234567890123456789");
    }
}

/// They end here (RFC 9110 section 15.2, RFC 8297), and the next answer on the connection is the next request's.
#[tokio::test]
async fn interim_answers_do_not_count_as_the_answer() {
    let collector = collector::grpc();
    let upstream = raw::server(|mut peer| async move {
        let mut served = 0;
        while let Some(head) = peer.try_head().await {
            served += 1;
            let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 3\r\n\r\n";
            for _ in 0..3 {
                peer.write(early).await;
            }
            let answer = format!("{} of {served}", head.target());
            let length = answer.len();
            peer.write(format!(
                "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{answer}"
            ))
            .await;
        }
    })
    .await;
    let hopspan = before(upstream.address, &collector).await;
    let ways = [
        (hopspan.inbound, String::new()),
        (hopspan.outbound, format!("http://{}", upstream.address)),
    ];
    for (way, origin) in ways {
        let kept = async {
            for number in 0.. {
                let path = format!("/{number}");
                let answer = client::get(way, &format!("{origin}{path}")).send().await;
                assert_eq!((answer.status, answer.header("link")), (200, None));
                let text = answer.text();
                let (to, served) = text.split_once(" of ").unwrap();
                assert_eq!(to, path);
                if served == "3" {
                    break;
                }
            }
        };
        within("a third answer on a connection", kept).await;
    }
}

/// The same of HTTP/2 (RFC 9113 section 8.1).
#[tokio::test]
async fn interim_answers_of_http_2_do_not_count_either() {
    let app = h2_server::frames(|mut frames, _| async move {
        while let Some(head) = frames.next_of(h2::HEADERS).await {
            let early = [(":status", "103"), ("link", "</x>")];
            for _ in 0..3 {
                frames.headers(head.stream, h2::END_HEADERS, &early).await;
            }
            let last = [(":status", "200")];
            frames.headers(head.stream, h2::END_HEADERS, &last).await;
            let content = head.stream.to_string();
            let stream = head.stream;
            frames
                .send(h2::DATA, h2::END_STREAM, stream, content.as_bytes())
                .await;
        }
    })
    .await;
    let hopspan = sidecar::to(app.address)
        .set("inbound.protocol", json!("h2"))
        .run()
        .await;
    for stream in ["1", "3", "5"] {
        let answer = client::get(hopspan.inbound, "/").send().await;
        assert_eq!((answer.status, answer.header("link")), (200, None));
        assert_eq!(answer.text(), stream);
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_request_and_its_span_says_so() {
    let collector = collector::grpc();
    let upstream = raw::server(|mut peer| async move {
        peer.head().await;
        peer.hang().await;
    })
    .await;
    let hopspan = sidecar::to(upstream.address)
        .collector(&collector)
        .run()
        .await;
    for (index, request) in both_ways(&hopspan, upstream.address).iter().enumerate() {
        let mut peer = request.connect().await.unwrap();
        peer.write(request.bytes()).await;
        upstream.accepted.at_least(index + 1).await;
        drop(peer);
        eventually("the upstream's connection to end", || upstream.open() == 0).await;
    }
    assert_eq!(collector.spans(3).await.len(), 3);
}
