//! `hopspan run -- COMMAND` as a user runs it: the compiled binary, real gunicorn, real signals.

use std::time::Duration;

use serde_json::json;

use super::{gone, told};
use crate::support::binary::{self, Serving};
use crate::support::process::stat;
use crate::support::python;
use crate::support::{client, load, raw, sidecar, within};

/// gunicorn on a port that was free a moment ago, wrapped.
async fn gunicorn(before: &str) -> (Serving, std::net::SocketAddr) {
    let app = raw::closed_port();
    let script = format!("{before} exec \"$0\" --bind {app} \"$@\"");
    let server = python::gunicorn_command();
    let mut command = vec!["sh", "-c", &script];
    command.extend(server.iter().map(String::as_str));
    let hopspan = binary::wrapping(&sidecar::to(app), &command).await;
    (hopspan, app)
}

async fn answers(hopspan: &Serving) {
    let answer = client::get(hopspan.inbound, "/healthz").send().await;
    assert_eq!((answer.status, &*answer.text()), (200, "ok\n"));
}

#[tokio::test]
async fn requests_wait_until_the_app_listens() {
    let (hopspan, _) = gunicorn("sleep 1;").await;
    answers(&hopspan).await;
}

#[tokio::test]
async fn the_code_of_the_command_is_hopspans() {
    for (script, code) in [("exit 7", 7), ("kill -KILL $$", 137), ("exit 0", 0)] {
        let nobody = sidecar::to(raw::closed_port());
        let hopspan = binary::wrapping(&nobody, &["sh", "-c", script]).await;
        assert_eq!(hopspan.process.exit().await, code, "{script}");
    }
    let nobody = [
        "run",
        "--inbound",
        "127.0.0.1:0",
        "--outbound",
        "127.0.0.1:0",
    ];
    let nobody = nobody
        .iter()
        .chain(&["--status", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--"]);
    let unknown = binary::run(nobody.copied().chain(["hopspan-no-such-program"])).await;
    assert_eq!(unknown.code, 127);
    assert!(
        unknown.stderr.contains("in no directory of PATH"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn a_proxy_that_is_set_is_named_with_the_way_out() {
    let config = sidecar::to(raw::closed_port());
    let mut command = binary::wrapping_command(&config, &[], &["true"]);
    command.1.env("HTTP_PROXY", "http://corp:3128");
    let outcome = binary::outcome(command.1).await;
    assert_eq!(outcome.code, 2);
    for part in ["HTTP_PROXY", "corp:3128", "--keep-proxy"] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
}

#[tokio::test]
async fn term_drains_stops_the_app_and_returns_its_code() {
    let (hopspan, app) = gunicorn("").await;
    answers(&hopspan).await;
    let load = load::gets(4, hopspan.inbound, "/slow/?ms=20");
    load.answers.at_least(20).await;
    hopspan.process.signal(libc::SIGTERM);
    let tally = load.ended().await;
    tally.assert_all_good(20);
    // gunicorn returns 0 after TERM.
    assert_eq!(
        hopspan.process.exit().await,
        0,
        "{}",
        hopspan.process.output()
    );
    assert!(tokio::net::TcpStream::connect(app).await.is_err());
}

#[tokio::test]
async fn the_second_term_means_now() {
    let script = "trap '' TERM; echo ready=$$; while :; do sleep 1; done";
    let nobody = sidecar::to(raw::closed_port());
    let hopspan = binary::wrapping(&nobody, &["sh", "-c", script]).await;
    let child = told(&hopspan.process, "ready").await;
    hopspan.process.signal(libc::SIGTERM);
    // The drain lasts 25 s, the child stays: until it is told again.
    hopspan.process.line("stopping").await;
    let still = tokio::time::timeout(Duration::from_millis(200), hopspan.process.exit());
    assert!(still.await.is_err());
    hopspan.process.signal(libc::SIGTERM);
    assert_ne!(hopspan.process.exit().await, 0);
    gone("the child's end", child).await;
}

#[tokio::test]
async fn a_killed_hopspan_takes_gunicorn_and_its_workers_with_it() {
    let (hopspan, app) = gunicorn("echo ready=$$;").await;
    answers(&hopspan).await;
    let arbiter = told(&hopspan.process, "ready").await;
    hopspan.process.signal(libc::SIGKILL);
    hopspan.process.exit().await;
    gone("gunicorn's end", arbiter).await;
    within("the port to close", async {
        while tokio::net::TcpStream::connect(app).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn hangup_reloads_hopspan_and_is_not_the_childs() {
    let script = "trap 'echo hung up' HUP; echo ready=$$; while :; do sleep 0.05; done";
    let config = sidecar::to(raw::closed_port());
    let hopspan = binary::wrapping(&config, &["sh", "-c", script]).await;
    let child = told(&hopspan.process, "ready").await;
    let changed = config.set("sampling.ratio", json!(0.5));
    std::fs::write(&hopspan.file, changed.text()).unwrap();
    hopspan.process.signal(libc::SIGHUP);
    within("the new generation", async {
        let metrics = client::get(hopspan.status, "/metrics");
        while sidecar::sum(&metrics.send().await.text(), "hopspan_config_generation") < 2.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // Whoever asks again is told that nothing came of it.
    hopspan.process.signal(libc::SIGHUP);
    hopspan
        .process
        .line("the config file has not changed")
        .await;
    assert!(stat(child).is_some());
    assert!(!hopspan.process.output().contains("hung up"));
}
