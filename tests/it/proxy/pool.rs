//! Upstream connections: kept, expired, discarded, never leaked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tokio::sync::Notify;

use hopspan::config::Address;
use hopspan::proxy::body::Content;
use hopspan::proxy::connect::ConnectError;
use hopspan::proxy::pool::{Pool, PoolLimits, PoolOptions, Pooled, SendFault};
use hopspan::proxy::server::ServeLimits;
use hopspan::telemetry::metrics::Metrics;

use super::raw::{Forward, LONG, Raw, Served, eventually, upstream};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn pool(limits: PoolLimits) -> (Arc<Pool>, Arc<Metrics>) {
    let metrics = Metrics::new();
    (
        Pool::new(PoolOptions::new(limits, metrics.clone())),
        metrics,
    )
}

fn get() -> Request<Content> {
    Request::get("/")
        .header("host", "a")
        .body(Content::Empty)
        .unwrap()
}

async fn checkout(pool: &Arc<Pool>, upstream: SocketAddr) -> Pooled {
    pool.checkout(&Address::from(upstream).into())
        .await
        .unwrap()
}

/// One whole exchange.
async fn exchange(pool: &Arc<Pool>, upstream: SocketAddr) -> bool {
    let mut pooled = checkout(pool, upstream).await;
    let reused = pooled.is_reused();
    let response = pooled.send(get()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hello");
    pooled.finish(true);
    reused
}

fn open(metrics: &Metrics, count: usize) -> bool {
    let line = format!("hopspan_upstream_connections_open {count}");
    metrics.encode().lines().any(|l| l == line)
}

async fn polite(mut peer: Raw, _: usize) {
    loop {
        peer.until("\r\n\r\n").await;
        peer.send(HELLO).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_open_no_more_connections_than_there_are_clients() {
    const CLIENTS: usize = 8;
    const EACH: usize = 1250;
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let app = upstream(move |peer, number| {
        count.fetch_add(1, Ordering::SeqCst);
        polite(peer, number)
    })
    .await;
    // On a machine that halts now and then, connections of clients that wait for it would expire.
    let limits = PoolLimits {
        idle: Duration::from_secs(300),
        ..PoolLimits::app()
    };
    let (pool, metrics) = pool(limits);
    let forward = Forward::new(pool, app);
    let served = Served::start(forward.clone(), ServeLimits::default(), metrics).await;
    let address = served.address;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = Raw::connect(address).await;
            for _ in 0..EACH {
                client.send(GET).await;
                client.until("hello").await;
            }
        });
    }
    clients.join_all().await;
    let opened = accepted.load(Ordering::SeqCst);
    assert!((1..=CLIENTS).contains(&opened), "{opened} connections");
    let ends = forward.ends.lock().unwrap();
    assert_eq!(ends.len(), CLIENTS * EACH);
    assert!(ends.iter().all(|how| how == "complete"));
}

#[tokio::test]
async fn a_truncated_response_never_looks_complete() {
    let broken = [
        ("content-length: 10\r\n\r\n1234", "Truncated"),
        (
            "transfer-encoding: chunked\r\n\r\n4\r\n1234\r\n",
            "Truncated",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n4\r\n1234\r\n0\r\n",
            "Truncated",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n4\r\n1234\r\nzz\r\n",
            "Malformed",
        ),
    ];
    let mut ran = 0;
    for (rest, fault) in broken {
        let app = upstream(move |mut peer: Raw, _| async move {
            peer.until("\r\n\r\n").await;
            peer.send(format!("HTTP/1.1 200 OK\r\n{rest}")).await;
        })
        .await;
        let (pool, metrics) = pool(PoolLimits::app());
        let forward = Forward::new(pool, app);
        let served = Served::start(forward.clone(), ServeLimits::default(), metrics).await;
        let mut client = Raw::connect(served.address).await;
        client.send(GET).await;
        let answer = client.rest().await;
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
        assert!(!answer.contains("content-length: 4\r\n"), "{answer}");
        assert_eq!(*forward.ends.lock().unwrap(), [format!("failed {fault}")]);
        assert!(open(&served.metrics, 0), "its connection is closed");
        ran += 1;
    }
    assert_eq!(ran, 4);
}

#[tokio::test]
async fn an_answer_without_reading_the_upload_leaks_no_socket() {
    let closed = Arc::new(Notify::new());
    let told = closed.clone();
    let app = upstream(move |mut peer: Raw, _| {
        let told = told.clone();
        async move {
            peer.until("\r\n\r\n").await;
            peer.send("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
                .await;
            // Neither reads on nor closes, as gunicorn does until its worker is free.
            told.notified().await;
            peer.rest().await;
            told.notify_one();
        }
    })
    .await;
    let (pool, metrics) = pool(PoolLimits::app());
    let mut forward = Forward::new(pool.clone(), app);
    // A stalled upload must not be what ends it.
    forward.upload_limit = None;
    let served = Served::start(forward, ServeLimits::default(), metrics.clone()).await;
    let mut client = Raw::connect(served.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegin")
        .await;
    let head = client.until("no").await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    // The client stays and sends nothing: only the proxy can end this.
    eventually("the upstream connection is closed", || open(&metrics, 0)).await;
    assert_eq!(pool.idle_count(), 0);
    assert_eq!(client.rest().await, "", "and the client's, with it");
    closed.notify_one();
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_not_used_again() {
    let close = Arc::new(Notify::new());
    let told = close.clone();
    let app = upstream(move |mut peer: Raw, _| {
        let told = told.clone();
        async move {
            peer.until("\r\n\r\n").await;
            peer.send(HELLO).await;
            told.notified().await;
        }
    })
    .await;
    let (pool, metrics) = pool(PoolLimits::outbound());
    for _ in 0..3 {
        assert!(!exchange(&pool, app).await, "a new one each time");
        assert!(pool.idle_count() > 0, "kept, as far as anybody knows");
        // The sweep has had its first look by now: what follows is up to the checkout.
        tokio::time::sleep(Duration::from_millis(20)).await;
        close.notify_one();
        eventually("EOF is seen", || open(&metrics, 0)).await;
    }
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_discard_an_idle_connection() {
    let app = upstream(|mut peer: Raw, _| async move {
        peer.until("\r\n\r\n").await;
        peer.send(HELLO).await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
            .await;
        peer.rest().await;
    })
    .await;
    let (pool, metrics) = pool(PoolLimits::app());
    for _ in 0..2 {
        assert!(!exchange(&pool, app).await);
        eventually("the connection is discarded", || open(&metrics, 0)).await;
    }
}

#[tokio::test]
async fn an_idle_close_that_races_a_request_says_so() {
    let app = upstream(|mut peer: Raw, number| async move {
        peer.until("\r\n\r\n").await;
        peer.send(HELLO).await;
        peer.until("\r\n\r\n").await;
        if number > 0 {
            peer.send(HELLO).await;
        }
    })
    .await;
    let (pool, _) = pool(PoolLimits::app());
    assert!(!exchange(&pool, app).await);
    let mut pooled = checkout(&pool, app).await;
    assert!(pooled.is_reused());
    let failed = pooled.send(get()).await.unwrap_err();
    assert_eq!(failed.fault, SendFault::Incomplete);
    assert!(failed.may_be_idle_close());
    assert!(failed.request.is_none(), "it was written");
    drop(pooled);

    // The same on a connection never used before is the upstream's failure.
    let app = upstream(|mut peer: Raw, _| async move {
        peer.until("\r\n\r\n").await;
    })
    .await;
    let mut pooled = checkout(&pool, app).await;
    let failed = pooled.send(get()).await.unwrap_err();
    assert!(!failed.may_be_idle_close());
    assert_eq!(failed.proxy_status(), "http_response_incomplete");
}

#[tokio::test]
async fn what_is_not_a_response_is_malformed() {
    for (bytes, fault) in [
        ("nonsense\r\n\r\n", SendFault::Malformed),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            SendFault::Malformed,
        ),
        ("HTTP/1.1 200 OK\r\n", SendFault::Incomplete),
    ] {
        let app = upstream(move |mut peer: Raw, _| async move {
            peer.until("\r\n\r\n").await;
            peer.send(bytes).await;
        })
        .await;
        let (pool, _) = pool(PoolLimits::app());
        let mut pooled = checkout(&pool, app).await;
        assert_eq!(
            pooled.send(get()).await.unwrap_err().fault,
            fault,
            "{bytes}"
        );
    }
}

#[tokio::test]
async fn idle_connections_expire_and_what_on_open_gave_is_dropped_then() {
    struct Gone(Arc<Notify>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let app = upstream(polite).await;
    let (kept, _) = pool(PoolLimits::app());
    assert!(!exchange(&kept, app).await);
    assert!(exchange(&kept, app).await, "kept");
    assert_eq!(kept.idle_count(), 1);
    let metrics = Metrics::new();
    let limits = PoolLimits {
        idle: Duration::from_millis(200),
        ..PoolLimits::app()
    };
    let mut options = PoolOptions::new(limits, metrics.clone());
    let gone = Arc::new(Notify::new());
    let told = gone.clone();
    options.on_open = Some(Arc::new(move |opened| {
        assert!(opened.local.is_some() && opened.peer.is_some());
        Box::new(Gone(told.clone()))
    }));
    let pool = Pool::new(options);
    assert!(!exchange(&pool, app).await);
    tokio::time::timeout(LONG, gone.notified())
        .await
        .expect("closed when idle for too long");
    assert!(open(&metrics, 0));
    assert_eq!(pool.idle_count(), 0);
}

#[tokio::test]
async fn dropping_a_checkout_closes_its_connection() {
    let (arrived, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = (arrived.clone(), closed.clone());
    let app = upstream(move |mut peer: Raw, _| {
        let (arrived, closed) = told.clone();
        async move {
            peer.until("\r\n\r\n").await;
            arrived.notify_one();
            peer.rest().await;
            closed.notify_one();
        }
    })
    .await;
    let (pool, metrics) = pool(PoolLimits::app());
    let forward = Forward::new(pool, app);
    let served = Served::start(forward, ServeLimits::default(), metrics).await;
    let mut client = Raw::connect(served.address).await;
    client.send(GET).await;
    arrived.notified().await;
    drop(client);
    tokio::time::timeout(LONG, closed.notified())
        .await
        .expect("the app learns that the client is gone");
}

#[tokio::test]
async fn a_cap_makes_requests_wait_and_then_fail() {
    let app = upstream(polite).await;
    let (pool, _) = pool(PoolLimits {
        max_in_use: Some(1),
        max_wait: Duration::from_millis(50),
        ..PoolLimits::app()
    });
    let first = checkout(&pool, app).await;
    let refused = pool.checkout(&Address::from(app).into()).await;
    assert!(matches!(refused, Err(ConnectError::Busy)));
    drop(first);
    assert!(!exchange(&pool, app).await);
    assert!(exchange(&pool, app).await);
}

#[tokio::test]
async fn a_unix_socket_is_an_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buf = [0; 1024];
        while stream.read(&mut buf).await.unwrap() > 0 {
            stream.write_all(HELLO.as_bytes()).await.unwrap();
        }
    });
    let (pool, _) = pool(PoolLimits::app());
    let address: Address = format!("unix:{}", path.display()).parse().unwrap();
    for reused in [false, true] {
        let mut pooled = pool.checkout(&address.clone().into()).await.unwrap();
        assert_eq!(pooled.is_reused(), reused);
        let response = pooled.send(get()).await.unwrap();
        response.into_body().collect().await.unwrap();
        pooled.finish(true);
    }
}
