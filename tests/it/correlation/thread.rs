//! The thread proof against real processes and the real kernel: exact where a thread serves its request, silent where
//! it does not, and never wrong. Alone: the serial rung is off.

use hopspan::correlation::{Availability, Obstacle};
use serde_json::json;

use super::harness::{App, EVERYTHING, Harness, NESTED, Tally, load};
use super::report;
use crate::support::{app, client, collector, raw, sidecar, within};

/// The harness with the thread rung alone; `None`, said aloud, where this machine does not allow it.
async fn harness() -> Option<std::sync::Arc<Harness>> {
    let harness = Harness::with(true, false).await;
    ready(&harness).then_some(harness)
}

/// Whether this machine allows the thread rung; says aloud what it lacks.
pub(crate) async fn allowed() -> bool {
    ready(&*Harness::with(true, false).await)
}

fn ready(harness: &Harness) -> bool {
    match harness.correlator.thread_rung() {
        Availability::Ready => true,
        // What the machine lacks, and nothing else, is a reason to skip.
        Availability::Off(
            why @ (Obstacle::Capability { .. }
            | Obstacle::NoBtf
            | Obstacle::NoTracepoint { .. }
            | Obstacle::Lockdown
            | Obstacle::Forbidden),
        ) => {
            let required = std::env::var_os("HOPSPAN_TEST_THREAD_RUNG").is_some();
            assert!(!required, "this machine allows it: {}", why.why());
            println!("SKIPPED thread rung: {}", why.why());
            false
        }
        other => panic!("{other}"),
    }
}

/// What a sidecar says of its thread rung on `/correlation`, once that is loaded or will not be: a start waits for it, but
/// not for as long as a busy machine may take.
pub(crate) async fn rung(admin: std::net::SocketAddr) -> String {
    let settled = async {
        loop {
            let asked = client::get(admin, "/correlation").send().await;
            let survey: serde_json::Value = serde_json::from_str(&asked.text()).unwrap();
            let rungs = survey["rungs"].as_array().unwrap();
            let thread = rungs.iter().find(|rung| rung["rung"] == "thread").unwrap();
            let text = |name: &str| thread[name].as_str().unwrap().to_owned();
            if text("state") != "waiting" {
                return format!("{}: {}", text("state"), text("why"));
            }
        }
    };
    within("the thread rung to be loaded", settled).await
}

async fn run(
    name: &str,
    flags: &[&str],
    clients: usize,
    each: usize,
    what: &[&str],
) -> Option<Tally> {
    let harness = harness().await?;
    let app = App::start(harness.outbound, 3, flags);
    let what: Vec<String> = what.iter().map(|what| (*what).to_owned()).collect();
    load(&harness, app.address, clients, each, move |number| {
        what[number % what.len()].clone()
    })
    .await;
    // A call that the app does not wait for may be on its way still.
    let calls = clients * each;
    let tally = within("the last call", harness.at_least(calls)).await;
    report(&format!("thread: {name}"), &tally, 0);
    assert!(tally.wrong.is_empty(), "{name}: {:?}", tally.wrong);
    assert_eq!(harness.correlator.lost(), 0);
    Some(tally)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_thread_that_serves_the_request_are_all_joined() {
    let mut rows = 0;
    for (flags, what) in [
        (&[] as &[&str], "burn,fresh"),
        (&["timeout"], "burn,fresh"),
        (&["threads"], "burn,fresh"),
        (&["threads"], "burn,pooled"),
        (&["threads", "timeout"], "pooled,burn,fresh"),
        (&["ipv6", "threads"], "burn,pooled"),
        (&[], "burn,pooled,burn,fresh,burn,pooled"),
        (&["threads"], "burn,split"),
        (&["threads"], "burn,upload"),
        // Sent while the request is in flight, and not waited for.
        (&["threads"], "fire"),
        (&["threads", "background"], "fresh,burn,pooled"),
    ] {
        let Some(tally) = run(&format!("{what} {flags:?}"), flags, 4, 25, &[what]).await else {
            return;
        };
        assert!(tally.missed.is_empty(), "{what} {flags:?}: {tally:?}");
        assert!(tally.right >= 100, "{what} {flags:?}: {tally:?}");
        rows += 1;
    }
    assert_eq!(rows, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_no_thread_that_serves_are_left_alone() {
    let mut rows = 0;
    for (flags, what, reason) in [
        (&["threads"] as &[&str], "thread", "other_thread"),
        (&[], "child", "other_thread"),
        (&[], "burn;after,fresh", "answer_begun"),
        (&["threads"], "burn;after,pooled", "answer_begun"),
    ] {
        let Some(tally) = run(&format!("{what} {flags:?}"), flags, 4, 10, &[what]).await else {
            return;
        };
        assert_eq!(tally.right, 0, "{what} {flags:?}: {tally:?}");
        assert!(tally.missed.contains_key(reason), "{what}: {tally:?}");
        rows += 1;
    }
    assert_eq!(rows, 4);
}

/// On one thread, so that its CPU clock counts the look-up, and what else runs while it waits.
#[tokio::test]
#[ignore = "prints what a look-up costs, which says something in a release build only"]
async fn cost() {
    let Some(tally) = run("cost", &["threads"], 2, 100, &["burn,pooled"]).await else {
        return;
    };
    let mut cpu = tally.cpu.clone();
    cpu.sort_unstable();
    let at = |share: usize| cpu[cpu.len() * share / 100] / 1000;
    println!("cpu p50 {} p90 {} us", at(50), at(90));
}

#[tokio::test]
async fn after_a_chunked_body_nobody_knows_where_the_next_call_begins() {
    if !allowed().await {
        return;
    }
    let service = app::service("called").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .set("correlation.serial", json!(false))
        .collector(&collector)
        .run()
        .await;
    assert_eq!(rung(hopspan.admin).await, "ready: ");
    let to = service.address;
    let mut peer = raw::connect(hopspan.outbound).await;
    let mut reasons = Vec::new();
    for (method, body) in [
        ("GET", "\r\n"),
        (
            "POST",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        ("GET", "\r\n"),
    ] {
        peer.write(format!(
            "{method} http://{to}/ HTTP/1.1\r\nHost: {to}\r\n{body}"
        ))
        .await;
        assert_eq!(peer.response().await.status, 200);
        let spans = collector.spans(reasons.len() + 1).await;
        let span = spans.last().unwrap();
        reasons.push(span.attr("hopspan.unlinked.reason").to_owned());
    }
    // The caller serves no request, which is known only as long as its calls can be told apart.
    assert_eq!(reasons, ["other_thread", "other_thread", "start_unknown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_parent_is_ever_wrong() {
    for flags in [
        &["shared", "background", "idle"] as &[&str],
        &["shared", "idle", "timeout", "threads"],
        &["background", "timeout", "threads"],
    ] {
        run(&format!("everything {flags:?}"), flags, 12, 40, &EVERYTHING).await;
    }
    run("nested accepts", &[], 12, 20, &NESTED).await;
}
