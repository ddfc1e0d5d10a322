//! A collector that is down, hangs or refuses costs no request: spans wait, are dropped and counted, and flow again.

use std::time::Duration;

use serde_json::json;

use crate::support::app;
use crate::support::collector::{self, Collector, Mode};
use crate::support::sidecar::{self, Sidecar, sum};
use crate::support::{PATIENCE, client, load, within};

async fn stage(collector: &Collector, queue: usize, timeout: &str) -> (app::App, Sidecar) {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .collector(collector)
        .set("export.queue_spans", json!(queue))
        .set("export.max_batch", json!(64))
        .set("export.timeout", json!(timeout))
        .run()
        .await;
    (app, hopspan)
}

/// Spans made == delivered or dropped + waiting + being sent. Counters are read one after the other while spans move on,
/// so the sum may need a moment; it must come out exactly.
async fn assert_ledger(hopspan: &Sidecar) {
    let balanced = async {
        loop {
            let text = hopspan.metrics().await;
            let made = sum(&text, "hopspan_spans_total");
            let outcomes = sum(&text, "hopspan_export_spans_total");
            let waiting = sum(&text, "hopspan_export_queue_spans");
            let sending = sum(&text, "hopspan_export_in_flight_spans");
            if (made - outcomes - waiting - sending).abs() < 0.5 {
                return;
            }
            println!("made {made}, ended {outcomes}, waiting {waiting}, sending {sending}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the ledger to balance", balanced).await;
}

#[tokio::test]
async fn no_fault_of_the_collector_reaches_a_client() {
    for protocol in [collector::grpc, collector::http] {
        for mode in [
            Mode::Hang,
            Mode::Refuse(503),
            Mode::Refuse(400),
            Mode::Refuse(429),
            Mode::Partial(1),
        ] {
            let collector = protocol();
            let (_app, hopspan) = stage(&collector, 256, "300ms").await;
            collector.set(mode.clone());
            let load = load::gets(4, hopspan.inbound, "/");
            collector.exports.at_least(1).await;
            load.answers.at_least(1000).await;
            let tally = load.finish().await;
            tally.assert_all_good(1000);
            if matches!(mode, Mode::Hang | Mode::Refuse(_)) {
                let drops = hopspan.metric("hopspan_export_spans_total").await;
                assert!(drops > 0.0, "{mode:?}: nothing was counted");
            }
            assert_ledger(&hopspan).await;
        }
    }
}

#[tokio::test]
async fn killing_the_collector_under_load_changes_no_response() {
    let mut collector = collector::grpc();
    let (_app, hopspan) = stage(&collector, 512, "10m").await;
    let load = load::gets(4, hopspan.inbound, "/");
    collector.spans(500).await;
    collector.stop();
    let before = load.answers.len();
    load.answers.at_least(before + 3000).await;
    let delivered = collector.spans.len();
    collector.start();
    collector.spans(delivered + 100).await;
    let tally = load.finish().await;
    tally.assert_all_good(3200);
    // An export that is waited for would show as its timeout; all else is this machine's noise.
    let slowest = tally.quantile(1.0);
    assert!(slowest < PATIENCE, "{slowest:?}");
    hopspan.until("hopspan_export_queue_spans", 0.0).await;
    assert_ledger(&hopspan).await;
}

#[tokio::test]
async fn a_collector_that_is_down_at_the_start_gets_the_spans_that_wait() {
    let mut collector = collector::http();
    collector.stop();
    let (_app, hopspan) = stage(&collector, 256, "60s").await;
    for _ in 0..20 {
        assert_eq!(client::get(hopspan.inbound, "/").send().await.status, 200);
    }
    collector.start();
    assert_eq!(collector.spans(40).await.len(), 40);
    let ready = client::get(hopspan.status, "/readyz").send().await;
    assert_eq!(ready.status, 200, "a collector never decides readiness");
}
