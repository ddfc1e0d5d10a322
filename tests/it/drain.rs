//! Stopping: not ready, in-flight requests finish, the outbound side stays until they have, spans are flushed.

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
