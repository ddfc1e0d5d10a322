//! Listeners and files that others left open.

use std::path::Path;
use std::time::Duration;

use crate::support::{app, client, raw, sidecar};

#[tokio::test]
async fn cve_2025_24010_and_cve_2025_23217_no_page_of_another_site_reaches_admin() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    for path in ["/config", "/correlation", "/metrics", "/reload", "/drain"] {
        for method in ["GET", "POST", "OPTIONS"] {
            let ask = || client::request(method, hopspan.admin, path);
            for (request, what) in [
                (ask().host("evil.example"), "a name that resolves here"),
                (
                    ask().host("localhost.evil.example"),
                    "a name that begins like ours",
                ),
                (ask().header("Origin", "http://evil.example"), "a page"),
                (ask().header("Origin", "null"), "a page without a site"),
            ] {
                let answer = request.send().await;
                assert_eq!(answer.status, 403, "{method} {path}: {what}");
                let shared = answer.header("access-control-allow-origin");
                assert_eq!(shared, None);
            }
        }
    }
    // Nothing of this had an effect.
    assert_eq!(
        client::get(hopspan.status, "/readyz").send().await.status,
        200
    );
    assert_eq!(hopspan.metric("hopspan_config_generation").await, 1.0);
}

#[tokio::test]
async fn envoy_quitquitquit_only_probes_and_metrics_are_for_everybody() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(
            client::get(hopspan.status, path).send().await.status,
            200,
            "{path}"
        );
    }
    for path in [
        "/config",
        "/correlation",
        "/reload",
        "/drain",
        "/",
        "/quitquitquit",
        "/debug/pprof",
        "/stats",
        "//config",
        "/metrics/../config",
    ] {
        for method in ["GET", "POST"] {
            let answer = client::request(method, hopspan.status, path).send().await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
    // GET changes nothing, also for the operator.
    for path in ["/reload", "/drain"] {
        assert_eq!(client::get(hopspan.admin, path).send().await.status, 405);
    }
    assert_eq!(
        client::get(hopspan.status, "/readyz").send().await.status,
        200
    );
}

#[tokio::test]
async fn linkerd_and_envoy_loops_a_request_to_hopspan_itself_goes_nowhere() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let port = hopspan.outbound.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
    ] {
        let url = format!("http://{host}:{port}/");
        let answer = client::get(hopspan.outbound, &url).send().await;
        assert_eq!(answer.status, 502, "{url}");
        assert_eq!(answer.proxy_error(), Some("proxy_loop_detected"), "{url}");
        let to = format!("{host}:{port}");
        let answer = client::request("CONNECT", hopspan.outbound, &to)
            .host(&to)
            .send()
            .await;
        assert_eq!(answer.status, 502, "{to}");
    }
    assert_eq!(
        hopspan
            .metric("hopspan_upstream_connections_opened_total")
            .await,
        0.0
    );
}

#[tokio::test]
async fn rustsec_2018_0005_and_cve_2026_48042_configs_that_grow_when_they_are_read() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let bombs = [
        laughs,
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        // Whole, as JSON: nothing is wrong with it but its depth.
        format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
        "- ".repeat(100_000),
        format!("service: {}", "x".repeat(4 << 20)),
        "inbound: &a\n  routes: [*a]\n".to_owned(),
        "service: \u{0}\n".to_owned(),
        // A good one, if it is taken: last, since it says nothing of the app.
        format!(
            "resource: {{{}}}",
            (0..20_000)
                .map(|n| format!("k{n}: v, "))
                .collect::<String>()
        ),
    ];
    for bomb in &bombs {
        std::fs::write(&hopspan.file, bomb).unwrap();
        // What must not happen takes for ever, and the client is patient for less.
        let answer = client::request("POST", hopspan.admin, "/reload")
            .send()
            .await;
        let start: String = bomb.chars().take(40).collect();
        assert!(
            answer.status == 422 || answer.status == 200,
            "{start}: {}",
            answer.status
        );
        // One that is taken leaves the app at its default, where nobody listens.
        let serves = client::get(hopspan.inbound, "/").send().await.status;
        assert!(serves == 200 || answer.status == 200, "{start}: {serves}");
    }
    assert_eq!(bombs.len(), 9);
}

#[test]
fn litellm_2026_the_shim_is_no_pth_file_and_loads_nothing_built() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/python");
    let mut folders = vec![folder];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let kind = path
                .extension()
                .and_then(|kind| kind.to_str())
                .unwrap_or("");
            assert!(
                !["pth", "so", "pyd", "egg", "whl"].contains(&kind),
                "{}",
                path.display()
            );
        }
    }
    assert!(files > 3, "{files}");
}

#[tokio::test]
async fn hyper_3756_connections_that_say_nothing_or_half_leave_no_descriptor() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .set("timeouts.header", serde_json::json!("300ms"))
        .set("timeouts.idle", serde_json::json!("600ms"))
        .run()
        .await;
    let mut held = Vec::new();
    for text in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n\r\nSM",
        "\x16\x03\x01",
        "GET / HTTP/1.1\r\nHost:",
    ] {
        for listener in [hopspan.inbound, hopspan.outbound] {
            for _ in 0..10 {
                let mut peer = raw::connect(listener).await;
                let _ = peer.try_write(text).await;
                held.push(peer);
            }
        }
    }
    assert_eq!(held.len(), 100);
    for peer in &mut held {
        peer.closed().await;
    }
    drop(held);
    let open = |text: &str| {
        text.lines()
            .filter(|line| {
                line.starts_with("hopspan_connections{")
                    && (line.contains("inbound") || line.contains("outbound"))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>()
    };
    crate::support::within("all connections to be gone", async {
        while open(&hopspan.metrics().await) > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
