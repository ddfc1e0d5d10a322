//! One client connection: heads, deadlines, panics, stops, caps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use tokio::sync::Notify;

use hopspan::config::Address;
use hopspan::proxy::body::{BodyEnd, ResponseBody, Watch, Watched};
use hopspan::proxy::listener;
use hopspan::proxy::server::{Handler, ServeLimits};
use hopspan::telemetry::metrics::Metrics;

use super::raw::{Raw, Served, answer, eventually};

fn hello() -> impl Handler {
    answer(|_, _| async { Response::new(ResponseBody::from("hello")) })
}

async fn served(handler: impl Handler, limits: ServeLimits) -> Served {
    Served::start(handler, limits, Metrics::new()).await
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn answers_several_requests_on_one_connection() {
    let served = served(hello(), ServeLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    for _ in 0..3 {
        client.send(GET).await;
        let answer = client.until("hello").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-length: 5\r\n"), "{answer}");
    }
    assert!(served.metric("hopspan_connections{direction=\"inbound\"} 1"));
    drop(client);
    eventually("the gauge is back at zero", || {
        served.metric("hopspan_connections{direction=\"inbound\"} 0")
    })
    .await;
}

#[tokio::test]
async fn a_slow_head_is_cut_with_408_while_an_idle_connection_stays() {
    let limits = ServeLimits {
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_secs(60),
        ..ServeLimits::default()
    };
    let served = served(hello(), limits).await;
    let mut idle = Raw::connect(served.address).await;
    let mut kept = Raw::connect(served.address).await;
    kept.send(GET).await;
    kept.until("hello").await;

    let mut slow = Raw::connect(served.address).await;
    let started = Instant::now();
    slow.send("GET / HTTP/1.1\r\nHost:").await;
    let answer = slow.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{answer}"
    );
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(served.metric("hopspan_client_protocol_errors_total{reason=\"slow_head\"} 1"));

    // Longer idle than a head may take.
    for client in [&mut idle, &mut kept] {
        client.send(GET).await;
        client.until("hello").await;
    }
    // A slow second head is cut as well.
    kept.send("G").await;
    assert!(kept.rest().await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let limits = ServeLimits {
        idle_timeout: Duration::from_secs(1),
        ..ServeLimits::default()
    };
    let served = served(hello(), limits).await;
    let mut client = Raw::connect(served.address).await;
    client.send(GET).await;
    client.until("hello").await;
    assert_eq!(client.rest().await, "");
    assert!(
        !served
            .metrics
            .encode()
            .contains("client_protocol_errors_total{")
    );
}

#[tokio::test]
async fn what_is_not_http_is_answered_and_counted() {
    let served = served(hello(), ServeLimits::default()).await;
    let big = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n",
        "y".repeat(40_000)
    );
    let huge = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "y".repeat(70_000));
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "x: y\r\n".repeat(100)
    );
    let cases = [
        ("GET nonsense\r\n\r\n", "400", "malformed", 1),
        (
            "GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
            "400",
            "malformed",
            2,
        ),
        (
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400",
            "malformed",
            3,
        ),
        (&big, "431", "too_large", 1),
        (&huge, "431", "too_large", 2),
        (&many, "431", "too_large", 3),
    ];
    let mut ran = 0;
    for (request, status, reason, count) in cases {
        let mut client = Raw::connect(served.address).await;
        client.send(request).await;
        let answer = client.rest().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{status}: {answer}"
        );
        let line = format!("hopspan_client_protocol_errors_total{{reason=\"{reason}\"}} {count}");
        eventually(&line, || served.metric(&line)).await;
        ran += 1;
    }
    assert_eq!(ran, 6);
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_next_request_is_served() {
    let handler = answer(
        |request: http::Request<hyper::body::Incoming>, _| async move {
            assert!(request.uri().path() != "/boom", "boom");
            Response::new(ResponseBody::from("hello"))
        },
    );
    let served = served(handler, ServeLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    client.send("GET /boom HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(
        answer.contains("proxy-status: hopspan; error=proxy_internal_error\r\n"),
        "{answer}"
    );
    assert!(served.metric("hopspan_panics_total 1"));
    let mut client = Raw::connect(served.address).await;
    client.send(GET).await;
    client.until("hello").await;
}

#[tokio::test]
async fn a_panic_where_a_body_ends_loses_that_connection_only() {
    struct Boom;
    impl Watch for Boom {
        fn end(self: Box<Self>, _: BodyEnd<'_>) {
            panic!("boom");
        }
    }
    let handler = answer(
        |request: http::Request<hyper::body::Incoming>, _| async move {
            let body = Watched::new(request.into_body(), Box::new(Boom));
            Response::new(body.into())
        },
    );
    let served = served(handler, ServeLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    client.send(GET).await;
    client.rest().await;
    eventually("it is counted", || served.metric("hopspan_panics_total 1")).await;
    assert!(served.metric("hopspan_connections{direction=\"inbound\"} 0"));
    assert!(!served.accepting.is_finished());
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_lets_the_exchange_in_flight_finish() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (arrived, go) = (arrived.clone(), go.clone());
        answer(move |_, _| {
            let (arrived, go) = (arrived.clone(), go.clone());
            async move {
                arrived.notify_one();
                go.notified().await;
                Response::new(ResponseBody::from("late"))
            }
        })
    };
    let served = served(handler, ServeLimits::default()).await;
    let mut idle = Raw::connect(served.address).await;
    let mut busy = Raw::connect(served.address).await;
    busy.send(GET).await;
    arrived.notified().await;
    eventually("both accepted", || {
        served.metric("hopspan_connections{direction=\"inbound\"} 2")
    })
    .await;

    served.stop.cancel();
    served.tracker.close();
    assert_eq!(idle.rest().await, "");
    served.accepting.await.unwrap();
    assert!(
        tokio::net::TcpStream::connect(served.address)
            .await
            .is_err()
    );
    go.notify_one();
    let answer = busy.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("late"), "{answer}");
    served.tracker.wait().await;
}

#[tokio::test]
async fn the_drain_deadline_cuts_what_is_left() {
    let arrived = Arc::new(Notify::new());
    let handler = {
        let arrived = arrived.clone();
        answer(move |_, _| {
            let arrived = arrived.clone();
            async move {
                arrived.notify_one();
                std::future::pending::<()>().await;
                Response::default()
            }
        })
    };
    let served = served(handler, ServeLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    client.send(GET).await;
    arrived.notified().await;
    served.stop.cancel();
    served.tracker.close();
    served.cut.cancel();
    served.tracker.wait().await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_client_that_goes_away_drops_the_handler() {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (arrived, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (arrived, dropped) = (arrived.clone(), dropped.clone());
        answer(move |_, _| {
            let (arrived, dropped) = (arrived.clone(), Dropped(dropped.clone()));
            async move {
                let _dropped = dropped;
                arrived.notify_one();
                std::future::pending::<()>().await;
                Response::default()
            }
        })
    };
    let served = served(handler, ServeLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    client.send(GET).await;
    arrived.notified().await;
    drop(client);
    tokio::time::timeout(super::raw::LONG, dropped.notified())
        .await
        .expect("the handler is dropped");
}

#[tokio::test]
async fn connections_above_the_cap_are_refused_and_counted() {
    let limits = ServeLimits {
        max_connections: 1,
        ..ServeLimits::default()
    };
    let served = served(hello(), limits).await;
    let mut first = Raw::connect(served.address).await;
    first.send(GET).await;
    first.until("hello").await;
    let mut second = Raw::connect(served.address).await;
    assert_eq!(second.rest().await, "");
    assert!(served.metric("hopspan_connections_refused_total{reason=\"limit\"} 1"));
    first.send(GET).await;
    first.until("hello").await;
}

#[tokio::test]
async fn a_stalled_reader_is_cut_off() {
    let limits = ServeLimits {
        write_timeout: Some(Duration::from_millis(200)),
        ..ServeLimits::default()
    };
    let handler =
        answer(|_, _| async { Response::new(ResponseBody::from("x".repeat(64 * 1024 * 1024))) });
    let served = served(handler, limits).await;
    let mut client = Raw::connect(served.address).await;
    client.send(GET).await;
    eventually("the connection is dropped", || {
        served.metric("hopspan_connections{direction=\"inbound\"} 0")
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_names_its_holder() {
    let first = listener::bind_tcp(&Address::tcp("127.0.0.1", 0))
        .await
        .unwrap();
    let port = first.tcp_address().unwrap().port();
    let error = listener::bind_tcp(&Address::tcp("127.0.0.1", port))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!(
            "cannot listen on 127.0.0.1:{port}: the port is taken by pid {} (",
            std::process::id()
        )),
        "{text}"
    );
}
