//! Stopping: not ready, in-flight requests finish, the outbound side stays until they have, spans are flushed.

use std::time::Duration;

use serde_json::json;

use crate::support::app;
use crate::support::{client, collector, eventually, load, raw, sidecar, within};

#[tokio::test]
async fn a_stop_under_load_fails_no_request_and_loses_no_span() {
    let app = app::service("ok").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    let load = load::gets(8, hopspan.inbound, "/");
    load.answers.at_least(500).await;
    hopspan.stop().await;
    let tally = load.ended().await;
    tally.assert_all_good(500);
    let asked = app.received.len();
    assert_eq!(collector.spans(asked * 2).await.len(), asked * 2);
}

#[tokio::test]
async fn requests_in_flight_finish_and_the_app_may_still_call_out() {
    let service = app::service("called").await;
    let (app, held) = app::http().held("/slow", "at last");
    let app = app.run().await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    let (inbound, outbound, status) = (hopspan.inbound, hopspan.outbound, hopspan.status);
    let slow = tokio::spawn(async move { client::get(inbound, "/slow").send().await });
    held.reached().await;
    let stopping = tokio::spawn(hopspan.stop());
    within("readiness to end", async {
        while client::get(status, "/readyz").send().await.status == 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let call = client::get(outbound, &format!("http://{}/", service.address));
    assert_eq!(
        call.send().await.text(),
        "called",
        "the outbound side still serves"
    );
    assert!(!stopping.is_finished());
    held.release();
    let answer = within("the slow answer", slow).await.unwrap();
    assert_eq!(answer.text(), "at last");
    assert_eq!(answer.header("connection"), Some("close"));
    within("the stop", stopping).await.unwrap();
    // Two of the slow request, one of the call: flushed before the end.
    assert_eq!(collector.spans.len(), 3);
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_stop() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut kept = raw::connect(hopspan.inbound).await;
    client::get(hopspan.inbound, "/").via(&mut kept).await;
    let silent = raw::connect(hopspan.inbound).await;
    within("the stop", hopspan.stop()).await;
    kept.closed().await;
    drop(silent);
    eventually("the app's sockets to close", || app.open() == 0).await;
}

/// A stop of a sidecar that outlasts its app, once it is not ready any more.
async fn stopping(hopspan: sidecar::Sidecar) -> tokio::task::JoinHandle<hopspan::sidecar::Stopped> {
    let (inbound, stopping) = (hopspan.inbound, tokio::spawn(hopspan.stop()));
    let refused = async { while client::get(inbound, "/").connect().await.is_ok() {} };
    within("inbound to close", refused).await;
    stopping
}

#[tokio::test]
async fn calls_are_served_until_the_app_is_gone() {
    let (app, service) = (app::service("ok").await, app::service("called").await);
    let hopspan = sidecar::to(app.address)
        .set("outbound.outlast_app", json!(true))
        .run()
        .await;
    let outbound = hopspan.outbound;
    let call = client::get(outbound, &format!("http://{}/", service.address));
    let stopping = stopping(hopspan).await;
    assert_eq!(call.send().await.text(), "called", "on a new connection");
    let mut kept = raw::connect(outbound).await;
    assert_eq!(call.via(&mut kept).await.text(), "called");
    // It listens no more, and still has something to say.
    drop(app);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = call.via(&mut kept).await;
        assert_eq!(answer.text(), "called");
        assert_ne!(answer.header("connection"), Some("close"));
    }
    assert!(!stopping.is_finished());
    drop(kept);
    let stopped = within("the stop", stopping).await.unwrap();
    assert!(stopped.drained);
    assert!(call.connect().await.is_err());
}

#[tokio::test]
async fn an_app_that_stays_is_outlasted_for_the_drain_time_only() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .set("outbound.outlast_app", json!(true))
        .set("timeouts.drain", json!("600ms"))
        .run()
        .await;
    let begun = std::time::Instant::now();
    within("the stop", hopspan.stop()).await;
    assert!(begun.elapsed() >= Duration::from_millis(600));
    // Outside a pod nobody says that it stops, too: hopspan may be restarted beside it.
    let hopspan = sidecar::to(app.address)
        .set("timeouts.drain", json!("10m"))
        .run()
        .await;
    within("the stop, and not for the drain time", hopspan.stop()).await;
}
