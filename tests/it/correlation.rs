//! The serial proof against real processes: the truth rides in the URL, and no claim may differ from it.

mod confined;
mod django;
mod harness;
mod thread;

use crate::support::within;
use harness::{App, EVERYTHING, Harness, NESTED, Tally, load};

/// Workers must be older than a connection to be known for its maker: wait until they are.
async fn settled() {
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
}

fn report(name: &str, tally: &Tally, cpu: u64) {
    let mut micros = tally.micros.clone();
    micros.sort_unstable();
    let at = |share: usize| micros.get(micros.len() * share / 100).copied().unwrap_or(0);
    println!(
        "{name}: {} calls, {:.2} % joined, {} wrong, missed {:?}, rightly none {}, latency p50 {} p95 {} us, cpu {} us/call",
        micros.len(),
        tally.rate(),
        tally.wrong.len(),
        tally.missed,
        tally.rightly_none,
        at(50),
        at(95),
        cpu / 1000 / micros.len().max(1) as u64,
    );
}

/// Runs a load, prints and returns what came of it. Nothing may be wrong.
async fn run(name: &str, flags: &[&str], clients: usize, each: usize, what: &[&str]) -> Tally {
    let harness = Harness::start().await;
    let app = App::start(harness.outbound, 4, flags);
    settled().await;
    let what: Vec<String> = what.iter().map(|what| (*what).to_owned()).collect();
    load(&harness, app.address, clients, each, move |number| {
        what[number % what.len()].clone()
    })
    .await;
    let tally = harness.tally();
    report(name, &tally, harness.correlator.cpu_nanos());
    assert!(tally.wrong.is_empty(), "{name}: {:?}", tally.wrong);
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_looked_up_for_an_app_that_makes_no_calls() {
    let harness = Harness::start().await;
    let app = App::start(harness.outbound, 2, &[]);
    settled().await;
    load(&harness, app.address, 4, 25, |_| "burn".to_owned()).await;
    assert_eq!(harness.correlator.questions(), 0, "after 100 requests");
    // One that waits too long for its turn is answered without a look, which on a busy machine may be many in a row.
    let asked = async {
        while harness.correlator.questions() == 0 {
            load(&harness, app.address, 1, 1, |_| "burn,fresh".to_owned()).await;
        }
    };
    within("a call to be looked up", asked).await;
}

/// Percent of the judged calls that must be joined. A machine that leaves no thread its turn loses joins to the clock,
/// and those say nothing of the proof: they are not judged.
const FLOOR: usize = 80;

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_sync_workers_are_joined() {
    let mut rows = 0;
    for (flags, what) in [
        (&[] as &[&str], "burn,fresh"),
        (&["timeout"], "burn,fresh"),
        (&[], "burn,pooled"),
        (&["timeout"], "burn,pooled"),
        (&["ipv6"], "burn,pooled"),
        (&[], "burn,pooled,burn,fresh,burn,pooled"),
        (&[], "burn,split"),
        (&[], "burn,upload"),
    ] {
        let tally = run(&format!("{what} {flags:?}"), flags, 4, 25, &[what]).await;
        assert!(tally.are_enough(FLOOR), "{what} {flags:?}: {tally:?}");
        rows += 1;
    }
    assert_eq!(rows, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_nothing_shows_are_left_alone() {
    let mut rows = 0;
    for (flags, what) in [
        // Threads: the main thread only accepts.
        (&["threads"] as &[&str], "burn,fresh"),
        // A thread of the worker makes the call; the main thread waits for it.
        (&[], "thread"),
        // Made before the fork, and held by all.
        (&["shared"], "shared"),
        (&[], "fire"),
    ] {
        let tally = run(&format!("{what} {flags:?}"), flags, 4, 10, &[what]).await;
        assert_eq!(tally.right, 0, "{what} {flags:?}: {tally:?}");
        assert!(!tally.missed.is_empty(), "{what} {flags:?} made no call");
        rows += 1;
    }
    assert_eq!(rows, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_parent_is_ever_wrong() {
    for flags in [
        &["shared", "background", "idle"] as &[&str],
        &["shared", "idle", "timeout"],
        &["background", "timeout"],
    ] {
        run(&format!("everything {flags:?}"), flags, 12, 40, &EVERYTHING).await;
    }
    // A worker that was seen to do this is never believed again, so it has a run of its own.
    run("nested accepts", &[], 12, 20, &NESTED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_are_never_wrong() {
    let harness = Harness::start().await;
    let app = App::start(harness.outbound, 4, &["keepalive", "shared", "idle"]);
    settled().await;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (harness, address) = (harness.clone(), app.address);
            tokio::spawn(async move {
                for _ in 0..5 {
                    let what = [
                        "burn,fresh",
                        "fresh;after,pooled",
                        "leave",
                        "collect,pooled",
                        "burn",
                    ];
                    harness.keepalive(address, &what).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let tally = harness.tally();
    report("kept connections", &tally, harness.correlator.cpu_nanos());
    assert!(tally.wrong.is_empty(), "{:?}", tally.wrong);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_elsewhere_are_refused_at_once() {
    use hopspan::correlation::{Correlator, Options, OutboundCall, Unlinked};
    let options = Options {
        thread: false,
        ..Options::default()
    };
    let metrics = hopspan::telemetry::metrics::Metrics::new();
    let correlator = Correlator::new(metrics, options);
    let call = OutboundCall {
        peer: "192.0.2.7:4000".parse().unwrap(),
        local: "192.0.2.1:8081".parse().unwrap(),
        accepted: std::time::Instant::now(),
        received: None,
        bytes: Err(Unlinked::StartUnknown),
    };
    assert_eq!(
        correlator.parent_of(call).await.unwrap_err(),
        Unlinked::RemotePeer
    );
    let here = OutboundCall {
        peer: "127.0.0.1:4000".parse().unwrap(),
        ..call
    };
    // One that waits too long for its turn is answered without a look.
    let looked = async {
        loop {
            match correlator.parent_of(here).await.unwrap_err() {
                Unlinked::TimedOut => {}
                other => return other,
            }
        }
    };
    assert_eq!(
        within("a look", looked).await,
        Unlinked::NoTimestamp,
        "the serial rung counts no bytes, and is asked"
    );
    let shared = OutboundCall {
        bytes: Err(Unlinked::Multiplexed),
        ..here
    };
    assert_eq!(
        correlator.parent_of(shared).await.unwrap_err(),
        Unlinked::Multiplexed,
        "no rung knows one call of many from another"
    );
}
