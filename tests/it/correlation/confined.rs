//! hopspan's binary with few privileges, as in a pod: which rungs it says it has, what it joins, what it keeps.

use std::process::Command;

use serde_json::json;

use super::thread::{allowed, rung};
use crate::joins::{callee, joined};
use crate::support::binary::{self, Serving};
use crate::support::{client, python, raw, sidecar};

/// Whether this shell may take capabilities from what it starts; says aloud if not.
fn confines() -> bool {
    let tried = Command::new("setpriv")
        .args(["--bounding-set=-all", "true"])
        .status();
    let can = tried.is_ok_and(|status| status.success());
    if !can {
        println!("SKIPPED: needs root and setpriv (util-linux)");
    }
    can
}

/// hopspan before `app`, with the thread rung alone, started by `prefix`; and what it says of that rung.
async fn confined(prefix: &[&str], app: std::net::SocketAddr) -> (Serving, String) {
    let config = sidecar::to(app)
        .set("correlation.token", json!(false))
        .set("correlation.thread", json!(true))
        .set("correlation.serial", json!(false));
    let (folder, inner) = binary::wrapping_command(&config, &[], &[]);
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(inner.get_program());
    command.args(inner.get_args());
    let serving = binary::serving(folder, command).await;
    let said = rung(serving.admin).await;
    (serving, said)
}

#[tokio::test]
async fn it_says_which_capability_is_missing() {
    if !confines() || !allowed().await {
        return;
    }
    let mut rows = 0;
    for (set, said) in [
        ("-all", "off: CAP_BPF and CAP_PERFMON are missing"),
        ("-all,+bpf", "off: CAP_PERFMON is missing"),
        ("-all,+perfmon", "off: CAP_BPF is missing"),
        ("-all,+bpf,+perfmon", "ready: "),
    ] {
        let bounding = format!("--bounding-set={set}");
        let (_hopspan, rung) = confined(&["setpriv", &bounding], raw::closed_port()).await;
        assert_eq!(rung, said, "{set}");
        rows += 1;
    }
    assert_eq!(rows, 4);
}

#[tokio::test]
async fn no_thread_keeps_the_capabilities_and_joins_go_on_without() {
    if !confines() || !allowed().await {
        return;
    }
    let (service, app) = (callee().await, raw::closed_port());
    // Inheritable and ambient as well, as file capabilities and container runtimes give them.
    let prefix = [
        "setpriv",
        "--bounding-set=-all,+bpf,+perfmon",
        "--inh-caps=-all,+bpf,+perfmon",
        "--ambient-caps=-all,+bpf,+perfmon",
    ];
    let (hopspan, rung) = confined(&prefix, app).await;
    assert_eq!(rung, "ready: ");
    let tasks = format!("/proc/{}/task", hopspan.process.pid());
    let mut threads = 0;
    for task in std::fs::read_dir(tasks).unwrap() {
        // A thread may end meanwhile.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let line = status.lines().find(|line| line.starts_with(set)).unwrap();
            assert!(line.ends_with(":\t0000000000000000"), "{line}");
        }
        threads += 1;
    }
    assert!(threads > 1);
    let _django = python::gunicorn_at(app)
        .args(["--workers", "1", "--threads", "4"])
        .proxy(hopspan.outbound)
        .run()
        .await;
    let joined = joined(hopspan.inbound, &service, 4, 40).await;
    assert_eq!(joined, service.received.len());
}

#[tokio::test]
async fn the_app_may_be_of_another_pid_namespace_and_user() {
    if !confines() || !allowed().await {
        return;
    }
    let (service, app) = (callee().await, raw::closed_port());
    let prefix = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "setpriv",
        "--bounding-set=-all,+bpf,+perfmon",
    ];
    let (hopspan, rung) = confined(&prefix, app).await;
    assert_eq!(rung, "ready: ");
    let _django = python::gunicorn_at(app)
        .args(["--workers", "2", "--threads", "3"])
        .proxy(hopspan.outbound)
        .run()
        .await;
    let joined = joined(hopspan.inbound, &service, 6, 60).await;
    let metrics = client::get(hopspan.status, "/metrics").send().await.text();
    assert_eq!(joined, service.received.len(), "{metrics}");
    assert!(metrics.contains("hopspan_joins_total{evidence=\"thread\"}"));
}
