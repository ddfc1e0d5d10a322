//! A connection of HTTP/1.x between requests: hyper's buffers go after a while, and nothing else changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

use hopspan::proxy::body::ResponseBody;
use hopspan::proxy::pool::{Pool, PoolLimits, PoolOptions};
use hopspan::proxy::server::{Handler, ServeLimits};
use hopspan::telemetry::metrics::Metrics;

use super::raw::{Forward, Raw, Served, answer, eventually, upstream};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers with what it was sent.
fn echo() -> impl Handler {
    answer(|request: http::Request<hyper::body::Incoming>, _| async {
        let target = request.uri().to_string();
        let content = request.into_body().collect().await.unwrap().to_bytes();
        let content = String::from_utf8(content.to_vec()).unwrap();
        Response::new(ResponseBody::from(format!("<{target} {content}>")))
    })
}

async fn served(limits: ServeLimits) -> Served {
    Served::start(echo(), limits, Metrics::new()).await
}

async fn resting(served: &Served, count: usize) {
    let line = format!("hopspan_connections_resting {count}");
    eventually(&line, || served.metric(&line)).await;
}

/// A connection that had a request, and rests.
async fn rested(served: &Served) -> Raw {
    let mut client = Raw::connect(served.address).await;
    client.send(GET).await;
    client.until("</ >").await;
    resting(served, 1).await;
    client
}

#[tokio::test]
async fn what_comes_after_a_rest_is_answered_as_before() {
    let served = served(ServeLimits::default()).await;
    let mut client = rested(&served).await;
    let large = format!("x: {}\r\n", "y".repeat(6000));
    let rows: [(&[&str], &[&str]); 8] = [
        (&[GET], &["</ >"]),
        (
            &["G", "ET /a HTTP/1.1\r\nHost: a", "\r\n\r", "\n"],
            &["</a >"],
        ),
        (
            &["\r\n\r\n", "GET /b HTTP/1.1\nHost: a\n", "\n"],
            &["</b >"],
        ),
        (
            &[
                "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HT",
                "TP/1.1\r\nHost: a\r\n\r\n",
            ],
            &["</1 >", "</2 >"],
        ),
        (
            &[
                "POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n",
                "\r\n1234",
                "5678",
            ],
            &["</c 12345678>"],
        ),
        (
            &[
                "POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234",
                "\r\n0\r\n\r\n",
            ],
            &["</d 1234>"],
        ),
        (
            &["GET /e HTTP/1.1\r\nHost: a\r\n", &large, "\r\n"],
            &["</e >"],
        ),
        (
            &["GET /f HTTP/1.0\r\nConnection: keep-alive\r\n", "\r\n"],
            &["</f >"],
        ),
    ];
    let mut ran = 0;
    for (pieces, answers) in rows {
        resting(&served, 1).await;
        for piece in pieces {
            client.send(piece).await;
        }
        for answer in answers {
            client.until(answer).await;
            ran += 1;
        }
    }
    assert_eq!(ran, 9);
    assert!(served.metric("hopspan_connections{direction=\"inbound\"} 1"));
}

#[tokio::test]
async fn what_has_come_of_the_next_head_outlasts_a_rest() {
    let served = served(ServeLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    client.send(format!("{GET}GET /next HT")).await;
    client.until("</ >").await;
    resting(&served, 1).await;
    client.send("TP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("</next >").await;
}

#[tokio::test]
async fn a_head_has_its_time_from_its_first_byte_rest_or_not() {
    let limits = ServeLimits {
        header_timeout: Duration::from_secs(3),
        ..ServeLimits::default()
    };
    let served = served(limits).await;
    let begun = Instant::now();
    // One rests with a part of a head that hyper had read, the other begins when it rests.
    let mut early = Raw::connect(served.address).await;
    early.send(format!("{GET}GET /next HT")).await;
    early.until("</ >").await;
    resting(&served, 1).await;
    let mut late = Raw::connect(served.address).await;
    late.send(GET).await;
    late.until("</ >").await;
    resting(&served, 2).await;
    late.send("G").await;
    let answer = early.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{answer}"
    );
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert!(late.rest().await.starts_with("HTTP/1.1 408 "));
    assert!(served.metric("hopspan_client_protocol_errors_total{reason=\"slow_head\"} 2"));
    resting(&served, 0).await;
}

#[tokio::test]
async fn who_rests_is_closed_at_the_idle_limit_or_a_stop_without_a_word() {
    let limits = ServeLimits {
        idle_timeout: Duration::from_secs(2),
        ..ServeLimits::default()
    };
    let idle = served(limits).await;
    assert_eq!(rested(&idle).await.rest().await, "");
    assert!(
        !idle
            .metrics
            .encode()
            .contains("client_protocol_errors_total{")
    );
    let stopped = served(ServeLimits::default()).await;
    let mut client = rested(&stopped).await;
    stopped.stop.cancel();
    assert_eq!(client.rest().await, "");
    stopped.tracker.close();
    stopped.tracker.wait().await;
    resting(&stopped, 0).await;
}

#[tokio::test]
async fn a_request_that_crosses_a_stop_is_answered() {
    let served = served(ServeLimits::default()).await;
    let mut rests = rested(&served).await;
    // This one hyper still has.
    let mut kept = Raw::connect(served.address).await;
    kept.send(GET).await;
    kept.until("</ >").await;
    served.stop.cancel();
    for client in [&mut rests, &mut kept] {
        client.send(GET).await;
    }
    for client in [&mut rests, &mut kept] {
        let answer = client.rest().await;
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.ends_with("</ >"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_after_an_answer_that_a_stop_came_into_is_answered() {
    let go = Arc::new(Notify::new());
    let upstream = upstream({
        let go = go.clone();
        move |mut peer: Raw, _| {
            let go = go.clone();
            async move {
                for _ in 0..2 {
                    peer.until("\r\n\r\n").await;
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nbegun")
                        .await;
                    go.notified().await;
                    peer.send("end").await;
                }
            }
        }
    })
    .await;
    let metrics = Metrics::new();
    let pool = Pool::new(PoolOptions::new(PoolLimits::app(), metrics.clone()));
    let forward = Forward::new(pool, upstream);
    let served = Served::start(forward, ServeLimits::default(), metrics).await;
    let mut client = Raw::connect(served.address).await;
    client.send(GET).await;
    let head = client.until("begun").await;
    assert!(!head.contains("connection: close"), "{head}");
    served.stop.cancel();
    go.notify_one();
    client.until("end").await;
    client.send(GET).await;
    go.notify_one();
    let answer = client.rest().await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("begunend"), "{answer}");
}

#[tokio::test]
async fn a_head_that_has_begun_when_a_stop_comes_is_answered() {
    let served = served(ServeLimits::default()).await;
    let mut client = rested(&served).await;
    client.send("GET /last HTTP/1.1\r\n").await;
    served.stop.cancel();
    client.send("Host: a\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("</last >"), "{answer}");
}

#[tokio::test]
async fn what_is_no_request_is_refused_after_a_rest_as_before() {
    let served = served(ServeLimits::default()).await;
    for nonsense in [
        "GET nonsense\r\n\r\n",
        "G\0",
        "GET / HTTP/1.1\r\nBad Name: x\r\n",
    ] {
        let mut client = rested(&served).await;
        client.send(nonsense).await;
        let answer = client.rest().await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
    }
    let line = "hopspan_client_protocol_errors_total{reason=\"malformed\"} 3";
    eventually(line, || served.metric(line)).await;
}

#[tokio::test]
async fn an_answer_on_its_way_keeps_a_connection_from_rest() {
    let size = 16 << 20;
    let handler = answer(move |request, _| async move {
        let size = if request.uri().path() == "/large" {
            size
        } else {
            0
        };
        Response::new(ResponseBody::from("x".repeat(size) + "</ >"))
    });
    let served = Served::start(handler, ServeLimits::default(), Metrics::new()).await;
    let mut large = Raw::connect(served.address).await;
    large.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = large.until("\r\n\r\n").await;
    assert!(
        head.contains(&format!("content-length: {}\r\n", size + 4)),
        "{head}"
    );
    // Another that came later rests: this one would have, too.
    let other = rested(&served).await;
    let mut body = vec![0; size + 4 - large.seen.len()];
    large.seen.clear();
    large.stream.read_exact(&mut body).await.unwrap();
    assert!(body.ends_with(b"x</ >"));
    resting(&served, 2).await;
    large.send(GET).await;
    large.until("</ >").await;
    drop(other);
}
