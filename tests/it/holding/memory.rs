//! `limits.memory`: what is given back, who is still served and who is not when hopspan is near it. The limits here are
//! far from what this process has: it runs other tests beside.

use serde_json::json;

use crate::support::sidecar::{self, Builder, Sidecar};
use crate::support::{app, client, eventually, h2, h2_server, raw, within};

const PRESSURE: &str = "hopspan_memory_pressure";
const REFUSED: &str = "hopspan_connections_refused_total{reason=\"memory\"}";

/// As many as are let in whatever happens.
const FEW: usize = 8;

async fn reload(hopspan: &Sidecar, settings: &Builder) {
    std::fs::write(&hopspan.file, settings.text()).unwrap();
    let reload = client::request("POST", hopspan.admin, "/reload");
    assert_eq!(reload.send().await.status, 200);
}

fn limited(base: &Builder, limit: &str) -> Builder {
    base.clone().set("limits.memory", json!(limit))
}

#[tokio::test]
async fn near_the_limit_idle_connections_go_and_who_is_here_is_served() {
    let (app, held) = app::http().held("/held", "at last");
    let app = app.run().await;
    let base = sidecar::to(app.address).set("timeouts.upstream_idle_app", json!("10m"));
    let hopspan = limited(&base, "off").run().await;
    let inbound = hopspan.inbound;
    let here = tokio::spawn(async move { client::get(inbound, "/held").send().await });
    held.reached().await;
    let mut idle = raw::connect(inbound).await;
    assert_eq!(client::get(inbound, "/").via(&mut idle).await.status, 404);
    assert_eq!(app.open(), 2, "one in use, one idle");
    assert_eq!(hopspan.metric(PRESSURE).await, 0.0);

    reload(&hopspan, &limited(&base, "1MiB")).await;
    hopspan.until(PRESSURE, 2.0).await;
    eventually("the idle one to be closed", || app.open() == 1).await;
    assert!(!idle.fill().await, "a client's idle connection is closed");
    held.release();
    assert_eq!(within("an answer", here).await.unwrap().text(), "at last");
    let used = hopspan.metric("hopspan_memory_bytes").await;
    assert!(used > 1048576.0, "{used}");
    assert_eq!(
        hopspan.metric("hopspan_memory_limit_bytes").await,
        1048576.0
    );
    // One at a time is few: no limit that is too low shuts the door for good.
    assert_eq!(client::get(inbound, "/").send().await.status, 404);

    reload(&hopspan, &limited(&base, "off")).await;
    hopspan.until(PRESSURE, 0.0).await;
    assert_eq!(client::get(inbound, "/").send().await.status, 404);
}

#[tokio::test]
async fn near_the_limit_new_requests_are_told_and_new_connections_refused() {
    let app = h2_server::run("app").await;
    let hopspan = limited(&sidecar::to(app.address), "1MiB")
        .set("inbound.protocol", json!("h2"))
        .run()
        .await;
    hopspan.until(PRESSURE, 2.0).await;
    let client = h2::connect(hopspan.inbound).await;
    let mut asked = Vec::new();
    for _ in 0..FEW {
        let client = client.clone();
        asked.push(tokio::spawn(
            async move { client.get("/gate").await.status },
        ));
    }
    app.received.at_least(FEW).await;
    let told = client.get("/").await;
    assert_eq!(told.status, 503);
    assert_eq!(told.header("retry-after"), Some("1"));
    let why = told.header("proxy-status").unwrap();
    assert!(why.contains("proxy_internal_error"), "{why}");
    assert_eq!(app.received.len(), FEW);
    app.open_gate(FEW);
    for asked in asked {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!(client.get("/").await.status, 200, "there is room again");

    let mut silent = Vec::new();
    within("a connection to be refused", async {
        while hopspan.metric(REFUSED).await < 1.0 {
            silent.push(raw::connect(hopspan.inbound).await);
        }
    })
    .await;
    assert!(silent.len() >= FEW, "{}", silent.len());
    // Probes are answered whatever happens.
    let ready = client::get(hopspan.status, "/readyz").send().await;
    assert_eq!(ready.status, 200);
}
