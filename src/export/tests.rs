//! The exporter against collectors that take, refuse, hang, die and return.

mod outages;
pub(crate) mod support;

use super::*;
use crate::config::Protocol;
use crate::telemetry::Code;
use crate::telemetry::metrics::Reason;
use crate::trace::span::Sink as _;
use support::{Answer, Collector, record, towards, typical};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(60);
const BOTH: [Protocol; 2] = [Protocol::HttpProtobuf, Protocol::Grpc];

fn exporter(settings: Export) -> (Arc<Queue>, Worker, Arc<Metrics>) {
    let metrics = Metrics::new();
    let resource = vec![("service.name".to_owned(), "order".to_owned())];
    let (queue, worker) = start(settings, resource, metrics.clone()).unwrap();
    (queue, worker, metrics)
}

async fn collector(protocol: Protocol) -> Collector {
    match protocol {
        Protocol::HttpProtobuf => support::http().await,
        Protocol::Grpc => support::grpc().await,
    }
}

/// Waits for so many failures of a kind.
async fn failed(metrics: &Metrics, reason: &'static str, count: u64) {
    let counted = async {
        while failures(metrics, reason) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let counted = tokio::time::timeout(SOON, counted).await;
    assert!(counted.is_ok(), "not {count} failures by {reason}");
}

fn failures(metrics: &Metrics, reason: &'static str) -> u64 {
    metrics
        .export_failures
        .get_or_create(&Reason { reason })
        .get()
}

/// Start times of the spans a collector got.
fn starts(collector: &Collector) -> Vec<u64> {
    collector
        .spans()
        .iter()
        .map(|span| span.start_time_unix_nano)
        .collect()
}

#[tokio::test]
async fn spans_arrive_whole_over_both_protocols() {
    let mut ran = 0;
    for protocol in BOTH {
        for compression in [false, true] {
            let collector = collector(protocol).await;
            let settings = Export {
                headers: vec![("authorization".to_owned(), "Basic abc".to_owned())],
                compression,
                ..towards(&collector, protocol)
            };
            let (queue, worker, _) = exporter(settings);
            let mut sent = typical(1_700_000_000_000_000_000);
            sent.context.tracestate = Some("a=1".parse().unwrap());
            queue.finished(sent.clone());
            let (headers, request) = collector.got(1).await.remove(0);
            assert_eq!(headers["authorization"], "Basic abc");
            if protocol == Protocol::HttpProtobuf {
                assert_eq!(headers["content-type"], "application/x-protobuf");
                assert_eq!(headers["test-path"], "/v1/traces");
                assert_eq!(headers["host"], collector.address.to_string());
            }
            assert!(
                headers["user-agent"]
                    .to_str()
                    .unwrap()
                    .starts_with("hopspan/")
            );
            let scope = &request.resource_spans[0].scope_spans[0];
            let span = &scope.spans[0];
            assert_eq!(span.trace_id, sent.context.trace_id.to_bytes());
            assert_eq!(span.span_id, sent.context.span_id.to_bytes());
            assert_eq!(
                (&*span.name, &*span.trace_state),
                ("GET orders/<int:pk>/", "a=1")
            );
            assert_eq!(span.attributes.len(), 12);
            let done = worker.shutdown(SOON).await;
            assert!(done.complete && done.ledger.exported == 1, "{done:?}");
            ran += 1;
        }
    }
    assert_eq!(ran, 4);
}

#[tokio::test]
async fn one_connection_serves_all_batches_and_a_closed_one_is_replaced() {
    let collector = support::http().await;
    let (queue, worker, metrics) = exporter(towards(&collector, Protocol::HttpProtobuf));
    for n in 1..=3 {
        queue.finished(record(n));
        assert!(worker.flush(SOON).await.complete);
    }
    assert_eq!(collector.connections(), 1);
    collector.cut();
    queue.finished(record(4));
    assert!(worker.flush(SOON).await.complete);
    assert_eq!(starts(&collector), [1, 2, 3, 4]);
    assert_eq!(
        metrics
            .export_failures
            .get_or_create(&Reason {
                reason: "transport"
            })
            .get(),
        0
    );
}

#[tokio::test]
async fn batches_are_full_when_there_is_enough() {
    let collector = support::http().await;
    let settings = Export {
        schedule_delay: Duration::from_secs(3600),
        max_batch: 100,
        ..towards(&collector, Protocol::HttpProtobuf)
    };
    let (queue, worker, metrics) = exporter(settings);
    for n in 1..=250 {
        queue.finished(record(n));
    }
    collector.got(2).await;
    assert!(worker.flush(SOON).await.complete);
    let sizes: Vec<usize> = (collector.got(3).await.iter())
        .map(|(_, r)| r.resource_spans[0].scope_spans[0].spans.len())
        .collect();
    assert_eq!(sizes, [100, 100, 50]);
    assert_eq!(starts(&collector), (1..=250).collect::<Vec<_>>());
    let ledger = queue.ledger();
    assert_eq!(
        (ledger.finished, ledger.exported, ledger.left()),
        (250, 250, 0)
    );
    assert_eq!(metrics.spans.get(), 250);
}

/// (protocol, status or code, tried again?)
#[tokio::test]
async fn refusals_are_final_or_not_by_the_specification() {
    let rows = [
        (Protocol::HttpProtobuf, 400, false),
        (Protocol::HttpProtobuf, 401, false),
        (Protocol::HttpProtobuf, 302, false),
        (Protocol::HttpProtobuf, 500, false),
        (Protocol::HttpProtobuf, 429, true),
        (Protocol::HttpProtobuf, 502, true),
        (Protocol::Grpc, 3, false),
        (Protocol::Grpc, 16, false),
        (Protocol::Grpc, 8, false),
        (Protocol::Grpc, 14, true),
        (Protocol::Grpc, 4, true),
    ];
    let mut ran = 0;
    for (protocol, status, again) in rows {
        let collector = collector(protocol)
            .await
            .then([Answer::Refuse(status, vec![])]);
        let (queue, worker, metrics) = exporter(towards(&collector, protocol));
        queue.finished(record(1));
        assert!(worker.flush(SOON).await.complete);
        queue.finished(record(2));
        let done = worker.shutdown(SOON).await;
        let want: &[u64] = if again { &[1, 1, 2] } else { &[1, 2] };
        assert_eq!(starts(&collector), want, "{protocol:?} {status}");
        let lost = u64::from(!again);
        assert_eq!(
            (done.ledger.exported, done.ledger.rejected),
            (2 - lost, lost)
        );
        assert_eq!(failures(&metrics, "rejected"), lost);
        let (error, _) = queue.status().last_error.unwrap();
        assert!(error.contains("go away"), "{error}");
        assert_eq!(queue.status().code, Some(Code::CollectorRejects));
        ran += 1;
    }
    assert_eq!(ran, 11);
}

#[tokio::test]
async fn partial_success_is_counted_and_not_sent_again() {
    for protocol in BOTH {
        let collector = collector(protocol).await.then([Answer::Partial(2)]);
        let (queue, worker, metrics) = exporter(towards(&collector, protocol));
        for n in 1..=5 {
            queue.finished(record(n));
        }
        let done = worker.shutdown(SOON).await;
        assert_eq!((done.ledger.exported, done.ledger.rejected), (3, 2));
        assert_eq!(failures(&metrics, "partial"), 1);
        assert_eq!(collector.got(1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_collector_that_talks_without_end_is_not_listened_to() {
    let collector = support::http().await.then([Answer::Flood(50_000_000)]);
    let (queue, worker, _) = exporter(towards(&collector, Protocol::HttpProtobuf));
    queue.finished(record(1));
    assert!(worker.flush(SOON).await.complete);
    queue.finished(record(2));
    let done = worker.shutdown(SOON).await;
    assert_eq!(done.ledger.exported, 2);
    assert_eq!(
        collector.connections(),
        2,
        "the flooded connection was left"
    );
}

#[tokio::test]
async fn tls_is_spoken_to_those_who_are_trusted() {
    let folder = tempfile::tempdir().unwrap();
    for (protocol, alpn) in BOTH.into_iter().zip([&b"http/1.1"[..], b"h2"]) {
        let collector = collector(protocol).await;
        let (port, pem) = support::tls(&collector, alpn).await;
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, pem).unwrap();
        let strange = Export {
            endpoint: Some(format!("https://localhost:{port}")),
            ..towards(&collector, protocol)
        };
        let known = Export {
            certificate: Some(file),
            ..strange.clone()
        };
        let (queue, worker, _) = exporter(known);
        queue.finished(record(1));
        let done = worker.shutdown(SOON).await;
        assert!(done.complete, "{:?}", queue.status());
        let (queue, worker, metrics) = exporter(strange);
        queue.finished(record(2));
        failed(&metrics, "connect", 1).await;
        let done = worker.shutdown(Duration::from_millis(50)).await;
        assert!(!done.complete);
        let (error, _) = queue.status().last_error.unwrap();
        assert!(error.contains("certificate"), "{error}");
        assert_eq!(starts(&collector), [1]);
    }
}

#[tokio::test]
async fn disabled_counts_and_sends_nothing() {
    let settings = Export {
        disabled: true,
        endpoint: Some("not an endpoint".to_owned()),
        ..support::settings()
    };
    let (queue, worker, _) = exporter(settings);
    queue.finished(record(1));
    let done = worker.shutdown(SOON).await;
    assert_eq!(
        (done.complete, done.ledger.disabled, done.ledger.left()),
        (true, 1, 0)
    );
}

#[tokio::test]
async fn wrong_settings_are_errors_at_the_start_and_hide_secrets() {
    let wrong = [
        Export {
            endpoint: Some("collector:4318".to_owned()),
            ..Export::default()
        },
        Export {
            headers: vec![("a b".to_owned(), "secret".to_owned())],
            ..Export::default()
        },
        Export {
            endpoint: Some("https://c".to_owned()),
            certificate: Some("/nowhere/ca.pem".into()),
            ..Export::default()
        },
        Export {
            endpoint: Some("https://c".to_owned()),
            client_key: Some("/nowhere/key.pem".into()),
            ..Export::default()
        },
    ];
    for settings in wrong {
        let result = start(settings, Vec::new(), Metrics::new());
        let error = result.map(drop).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
