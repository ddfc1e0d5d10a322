//! The thread rung and the serial rung, each alone, with real Django: every call of a thread or process that serves its
//! request, none of an event loop.

use serde_json::json;

use super::thread::{self, allowed};
use crate::joins::{are_enough, callee, joined, late};
use crate::support::{python, raw, sidecar};

/// The share of calls that were joined, and why the others were not. One that was joined to another request panics.
async fn share(rung: &str, server: &[&str], unix: bool) -> (usize, usize, String) {
    let (service, app) = (callee().await, raw::closed_port());
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("app.sock").display());
    let to = if unix {
        socket.clone()
    } else {
        app.to_string()
    };
    let hopspan = sidecar::to(app)
        .set("inbound.app", json!(to))
        .set("correlation.token", json!(false))
        .set("correlation.serial", json!(rung == "serial"))
        .set("correlation.thread", json!(rung == "thread"))
        .run()
        .await;
    if rung == "thread" {
        assert_eq!(thread::rung(hopspan.admin).await, "ready: ");
    }
    let django = match server {
        ["uvicorn"] => python::uvicorn_at(app),
        arguments => python::gunicorn_at(app).args(arguments.iter().copied()),
    };
    // gunicorn listens on both; hopspan knows one.
    let django = if unix {
        django.args(["--bind", &socket])
    } else {
        django
    };
    let _django = django.proxy(hopspan.outbound).run().await;
    let joined = joined(hopspan.inbound, &service, 8, 160).await;
    let metrics = hopspan.metrics().await;
    let reasons = metrics.lines().filter(|line| line.contains("join"));
    let reasons = reasons.collect::<Vec<_>>().join("\n");
    (joined, service.received.len(), reasons)
}

#[tokio::test]
async fn calls_of_threads_that_serve_are_joined_whatever_the_server() {
    if !allowed().await {
        return;
    }
    let mut rows = 0;
    for (server, unix) in [
        (&["--workers", "3"] as &[&str], false),
        (&["--workers", "2", "--threads", "4"], false),
        (&["--workers", "2"], true),
        (&["--workers", "1", "--threads", "6"], true),
    ] {
        let (joined, calls, reasons) = share("thread", server, unix).await;
        assert!(calls >= 320, "{server:?}: {calls}");
        assert_eq!(joined, calls, "{server:?}, unix: {unix}\n{reasons}");
        assert!(reasons.contains("evidence=\"thread\""), "{reasons}");
        rows += 1;
    }
    assert_eq!(rows, 4);
}

#[tokio::test]
async fn no_call_of_an_event_loop_is_joined() {
    if !allowed().await {
        return;
    }
    let (joined, calls, reasons) = share("thread", &["uvicorn"], false).await;
    assert!(calls >= 320, "{calls}");
    assert_eq!(joined, 0, "{reasons}");
}

#[tokio::test]
async fn calls_of_workers_on_a_unix_socket_are_joined_by_the_serial_rung() {
    let (joined, calls, reasons) = share("serial", &["--workers", "3"], true).await;
    assert!(calls >= 320, "{calls}");
    // Of a unix socket the kernel does not tell when something came: on a busy machine the end of a worker's request is heard
    // of after its next call, which has two causes then (262 of 336 was the fewest seen).
    assert!(
        are_enough(joined, calls, late(&reasons), 70),
        "{joined} of {calls}\n{reasons}"
    );
    assert!(reasons.contains("evidence=\"serial\""), "{reasons}");
}
