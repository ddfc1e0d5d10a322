//! Collectors that are gone, silent or slow for a while: nothing is lost that need not be, and all of it is counted.

use super::*;

#[tokio::test]
async fn a_refused_port_keeps_the_spans_and_does_not_spin() {
    for protocol in BOTH {
        let (_closed, endpoint) = support::closed();
        // The real waits: 1 s and more.
        let settings = Export {
            endpoint: Some(endpoint),
            protocol,
            schedule_delay: Duration::from_millis(20),
            ..Export::default()
        };
        let metrics = Metrics::new();
        let (queue, worker) = start(settings, Vec::new(), metrics.clone()).unwrap();
        for n in 1..=1000 {
            queue.finished(record(n));
        }
        let began = std::time::Instant::now();
        failed(&metrics, "connect", 1).await;
        let flushed = worker.flush(Duration::from_millis(300)).await;
        assert!(!flushed.complete);
        assert_eq!(flushed.ledger.left(), 1000);
        let tried = failures(&metrics, "connect");
        assert!(
            tried <= 2 + began.elapsed().as_secs(),
            "{protocol:?} {tried}"
        );
        let status = queue.status();
        assert!(status.failing);
        assert_eq!(status.code, Some(Code::CollectorUnreachable));
        assert!(status.last_error.unwrap().0.contains("refused"));
        let done = worker.shutdown(Duration::from_millis(50)).await;
        assert_eq!(
            (done.complete, done.ledger.shutdown, done.ledger.left()),
            (false, 1000, 0)
        );
        assert!(done.ledger.is_balanced());
    }
}

#[tokio::test]
async fn a_hanging_collector_times_out_and_loses_nothing() {
    for protocol in BOTH {
        let collector = collector(protocol).await.then([Answer::Hang]);
        let settings = Export {
            // For the one that hangs; the next has to be answered within it.
            timeout: Duration::from_secs(1),
            ..towards(&collector, protocol)
        };
        let (queue, worker, metrics) = exporter(settings);
        queue.finished(record(1));
        collector.got(2).await;
        assert_eq!(failures(&metrics, "timeout"), 1);
        let done = worker.shutdown(SOON).await;
        assert_eq!((done.complete, done.ledger.exported), (true, 1));
        assert_eq!(starts(&collector), [1, 1]);
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let wait = vec![("retry-after", "1".to_owned())];
    let collector = support::http().await.then([Answer::Refuse(503, wait)]);
    let (queue, worker, metrics) = exporter(towards(&collector, Protocol::HttpProtobuf));
    let began = std::time::Instant::now();
    queue.finished(record(1));
    collector.got(2).await;
    // Own waits are 75 ms here at most.
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    let done = worker.shutdown(SOON).await;
    assert_eq!(
        (done.ledger.exported, failures(&metrics, "unavailable")),
        (1, 1)
    );
}

#[tokio::test]
async fn the_waits_between_attempts_are_settings() {
    let [hour, four] = [3600, 4].map(Duration::from_secs);
    let mut rows = 0;
    for (initial, max, refusals, least) in [
        (Duration::from_millis(10), SOON, 3, Duration::ZERO),
        // The default of the one is shorter, of the other longer than all that this may take.
        (hour, four, 1, four / 2),
    ] {
        let collector = support::http()
            .await
            .then(vec![Answer::Refuse(503, vec![]); refusals]);
        let settings = Export {
            retry_initial_interval: initial,
            retry_max_interval: max,
            ..towards(&collector, Protocol::HttpProtobuf)
        };
        let (queue, worker, _) = exporter(settings);
        let began = std::time::Instant::now();
        queue.finished(record(1));
        collector.got(refusals + 1).await;
        let all = least..Duration::from_secs(15);
        assert!(all.contains(&began.elapsed()), "{:?}", began.elapsed());
        assert!(worker.shutdown(SOON).await.complete);
        rows += 1;
    }
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn a_collector_that_dies_and_returns_gets_everything() {
    // Nobody else gets the port between the two.
    let (held, _) = support::closed();
    let address = held.local_addr().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let (first, server) = support::http_on(listener).await;
    let (queue, worker, metrics) = exporter(towards(&first, Protocol::HttpProtobuf));
    for n in 1..=100 {
        queue.finished(record(n));
    }
    assert!(worker.flush(SOON).await.complete);
    server.abort();
    let _ = server.await;
    first.cut();
    for n in 101..=3000 {
        queue.finished(record(n));
        assert!(queue.ledger().is_balanced());
    }
    failed(&metrics, "connect", 2).await;
    assert!(!worker.flush(Duration::from_millis(300)).await.complete);
    let again = loop {
        // The port may be held for a moment by the sockets that were cut.
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let (second, _) = support::http_on(again).await;
    let done = worker.shutdown(SOON).await;
    assert!(done.complete, "{done:?}");
    assert_eq!((done.ledger.exported, done.ledger.dropped()), (3000, 0));
    let mut all = starts(&first);
    all.extend(starts(&second));
    assert_eq!(all, (1..=3000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_outage_drops_the_oldest_and_says_so() {
    let collector = support::http()
        .await
        .then(vec![Answer::Refuse(503, vec![]); 3]);
    let settings = Export {
        queue_spans: 50,
        max_batch: 10,
        ..towards(&collector, Protocol::HttpProtobuf)
    };
    let (queue, worker, metrics) = exporter(settings);
    for n in 1..=200 {
        queue.finished(record(n));
    }
    let done = worker.shutdown(SOON).await;
    let ledger = done.ledger;
    assert!(done.complete && ledger.is_balanced(), "{ledger:?}");
    assert_eq!((ledger.queue_full, ledger.exported), (150, 50));
    assert!(starts(&collector).ends_with(&(191..=200).collect::<Vec<_>>()));
    let text = metrics.encode();
    assert!(
        text.contains("hopspan_export_spans_total{outcome=\"queue_full\"} 150"),
        "{text}"
    );
    assert!(
        text.contains("hopspan_export_spans_total{outcome=\"exported\"} 50"),
        "{text}"
    );
}

#[tokio::test]
async fn a_batch_is_given_up_in_the_end() {
    let collector = support::http()
        .await
        .then(vec![Answer::Refuse(503, vec![]); 1000]);
    let settings = Export {
        give_up: Duration::from_millis(100),
        ..towards(&collector, Protocol::HttpProtobuf)
    };
    let (queue, worker, _) = exporter(settings);
    queue.finished(record(1));
    let flushed = worker.flush(SOON).await;
    assert_eq!((flushed.complete, flushed.ledger.failed), (true, 1));
    assert!(queue.ledger().is_balanced());
    assert!(collector.requests.borrow().len() >= 2);
}

#[tokio::test]
async fn shutdown_keeps_its_deadline() {
    let collector = support::http().await.then([Answer::Hang]);
    let (queue, worker, _) = exporter(towards(&collector, Protocol::HttpProtobuf));
    queue.finished(record(1));
    collector.got(1).await;
    queue.finished(record(2));
    let began = std::time::Instant::now();
    let done = worker.shutdown(Duration::from_millis(200)).await;
    assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
    assert_eq!(
        (done.complete, done.ledger.shutdown, done.ledger.left()),
        (false, 2, 0)
    );
    queue.finished(record(3));
    let ledger = queue.ledger();
    assert_eq!(ledger.shutdown, 3);
    assert!(ledger.is_balanced());
}
