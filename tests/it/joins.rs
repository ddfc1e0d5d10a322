//! Joins with real Django under gunicorn: every outbound call finds the request that caused it, or none; never another.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::support::app::{self, App, ReplyExt};
use crate::support::binary;
use crate::support::collector::{self, Collector};
use crate::support::w3c::Traceparent;
use crate::support::{client, load, python, raw, sidecar};

/// The service that is called: its requests carry the number of the request that caused them, in the path.
pub(crate) async fn callee() -> App {
    app::http()
        .any(|_| async {
            app::reply(200)
                .header("content-type", "application/json")
                .text("{}")
        })
        .run()
        .await
}

/// The trace that request `number` belongs to.
fn trace_of(number: usize) -> String {
    format!("{:032x}", number + 1)
}

/// `count` requests by several clients at once, each of which makes the app call the service twice. Returns how many
/// calls were joined; panics if one was joined to another request.
pub(crate) async fn joined(
    inbound: SocketAddr,
    service: &App,
    clients: usize,
    count: usize,
) -> usize {
    let to = service.address;
    let load = load::start(clients, move |client, serial| {
        let number = client * 1_000_000 + serial;
        let context = format!("00-{}-00000000000000aa-01", trace_of(number));
        let kind = ["requests", "session", "urllib"][serial % 3];
        let target = format!("/call/?n=2&client={kind}&url=http://{to}/{number}");
        client::get(inbound, &target)
            .header("traceparent", &context)
            .header("tracestate", &format!("n={number}"))
            .header("baggage", &format!("number={number}"))
    });
    load.answers.at_least(count).await;
    load.finish().await.assert_all_good(count);
    let mut joined = 0;
    for asked in service.received.all() {
        let number: usize = asked.path().trim_start_matches('/').parse().unwrap();
        let sent = Traceparent::only(&asked.head);
        if sent.trace_id == trace_of(number) {
            joined += 1;
            // The whole context is restored, though the app dropped it.
            assert_eq!(asked.header("tracestate"), Some(&*format!("n={number}")));
            assert_eq!(asked.header("baggage"), Some(&*format!("number={number}")));
        } else {
            // A trace of its own: random, so not one of ours.
            let high = u128::from_str_radix(&sent.trace_id, 16).unwrap() >> 64;
            assert_ne!(
                high, 0,
                "call of request {number} went into trace {}",
                sent.trace_id
            );
            assert!(asked.head.all("baggage").is_empty());
        }
    }
    joined
}

/// Reasons for which a call has no parent that say nothing of the proof: a machine that leaves no thread its turn loses
/// joins to the clock.
pub(crate) const LATE: [&str; 3] = ["timed_out", "not_parked", "stale"];

/// Whether so many percent of the calls were joined, but for those that were [`LATE`]. Where a fifth of all were, the
/// machine was so busy that more are lost to the clock under other names (a request whose end hopspan has not heard of yet
/// is a second one of its worker): as many again, at most.
pub(crate) fn are_enough(joined: usize, calls: usize, late: usize, percent: usize) -> bool {
    let lost = if late * 5 >= calls { 2 * late } else { late };
    joined > 0 && joined * 100 >= calls.saturating_sub(lost) * percent
}

/// [`LATE`] calls, by hopspan's metrics.
pub(crate) fn late(metrics: &str) -> usize {
    let late = LATE.map(|reason| {
        let series = format!("hopspan_joins_abstained_total{{reason=\"{reason}\"}}");
        sidecar::sum(metrics, &series) as usize
    });
    late.iter().sum()
}

/// Every call has a CLIENT span of its own trace or of its cause; joined ones lie below the hop to the app.
async fn assert_trees(collector: &Collector, calls: usize, least: usize) {
    let requests = calls / 2;
    let spans = collector.spans(requests * 2 + calls).await;
    let by_id: HashMap<&str, _> = spans.iter().map(|span| (&*span.span_id, span)).collect();
    let outbound = spans.iter().filter(|span| {
        let joined = !span.attr("hopspan.parent.evidence").is_empty();
        span.kind == "CLIENT" && (joined || !span.attr("hopspan.unlinked.reason").is_empty())
    });
    assert_eq!(outbound.clone().count(), calls);
    let mut below = 0;
    for span in outbound {
        let evidence = span.attr("hopspan.parent.evidence");
        if evidence.is_empty() {
            assert_ne!(span.attr("hopspan.unlinked.reason"), "", "{span:?}");
            continue;
        }
        below += 1;
        let parent = by_id.get(&*span.parent);
        let parent = parent.unwrap_or_else(|| panic!("its parent is not here: {span:?}"));
        assert_eq!(
            (parent.kind, &*parent.trace_id),
            ("CLIENT", &*span.trace_id)
        );
        assert!(parent.start <= span.start, "{parent:?}\n{span:?}");
    }
    assert!(below >= least, "{below} of {calls} spans have a parent");
}

#[tokio::test]
async fn calls_of_wrapped_gunicorn_find_their_requests() {
    // The share of all calls on an idle machine is the demo's to show.
    wrapped(&["--no-shim"], &["--workers", "4"], 80).await;
}

#[tokio::test]
async fn calls_of_wrapped_threads_find_their_requests_by_the_shims_token() {
    wrapped(&[], &["--threads", "4"], 99).await;
}

/// gunicorn as hopspan's child: at least `percent` of its calls are joined, but for [`LATE`], and lie below the request
/// that caused them.
async fn wrapped(flags: &[&str], settings: &[&str], percent: usize) {
    let (service, collector) = (callee().await, collector::grpc());
    let app = raw::closed_port();
    let bind = app.to_string();
    let server = python::gunicorn_command();
    let mut command: Vec<&str> = server.iter().map(String::as_str).collect();
    command.extend(["--bind", &bind]);
    command.extend(settings);
    let config = sidecar::to(app).collector(&collector);
    let hopspan = binary::wrapping_with(&config, flags, &command).await;
    let joined = joined(hopspan.inbound, &service, 8, 400).await;
    let calls = service.received.len();
    let status = client::get(hopspan.status, "/metrics").send().await.text();
    let reasons: Vec<&str> = status.lines().filter(|l| l.contains("join")).collect();
    assert!(
        are_enough(joined, calls, late(&status), percent),
        "{joined} of {calls} were joined\n{}",
        reasons.join("\n")
    );
    assert_trees(&collector, calls, joined).await;
}

#[tokio::test]
async fn calls_of_gunicorn_that_runs_beside_find_their_requests() {
    let (service, collector) = (callee().await, collector::http());
    let app = raw::closed_port();
    let hopspan = sidecar::to(app).collector(&collector).run().await;
    // This process is gunicorn's parent, so it may look at it even where Yama restricts that to ancestors.
    let _django = python::gunicorn_at(app)
        .args(["--workers", "3"])
        .proxy(hopspan.outbound)
        .run()
        .await;
    let joined = joined(hopspan.inbound, &service, 6, 200).await;
    let calls = service.received.len();
    let metrics = hopspan.metrics().await;
    assert!(
        are_enough(joined, calls, late(&metrics), 80),
        "{joined} of {calls} were joined\n{metrics}"
    );
    assert_trees(&collector, calls, joined).await;
}

#[tokio::test]
async fn no_call_of_threads_or_of_an_event_loop_is_joined_to_another_request() {
    for threads in [true, false] {
        let service = callee().await;
        let app = raw::closed_port();
        let hopspan = sidecar::to(app).run().await;
        let server = match threads {
            true => python::gunicorn_at(app).args(["--threads", "4"]),
            false => python::uvicorn_at(app),
        };
        let _django = server.proxy(hopspan.outbound).run().await;
        // What counts is in `joined`: it panics at the first wrong one.
        joined(hopspan.inbound, &service, 6, 100).await;
    }
}

#[tokio::test]
async fn a_call_that_no_request_caused_is_not_joined() {
    let (service, collector) = (callee().await, collector::grpc());
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .run()
        .await;
    let url = format!("http://{}/1", service.address);
    client::get(hopspan.outbound, &url).send().await;
    let span = collector.spans(1).await.remove(0);
    assert_eq!(span.parent, "");
    let reason = span.attr("hopspan.unlinked.reason");
    assert_ne!(reason, "");
    // The page that `hopspan explain` prints for the code is about this reason.
    let code = hopspan::doctor::explain::find(span.attr("hopspan.unlinked.code")).unwrap();
    assert_eq!(Some(code), hopspan::doctor::explain::find(reason));
    assert!(hopspan.metric("hopspan_joins_abstained_total").await >= 1.0);
}
