//! Config changes under load: every way to change a file, broken ones between, and no request the worse for it.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::support::sidecar::{self, Builder, Sidecar};
use crate::support::spans::Trace;
use crate::support::{app, client, collector, load, within};

/// A config whose generation shows in the answer: requests go to the app of that number.
fn settings(base: &Builder, target: std::net::SocketAddr, serial: usize) -> Builder {
    base.clone()
        .set("inbound.app", json!(target.to_string()))
        .set("resource", json!({ "test.serial": serial.to_string() }))
}

async fn generation(hopspan: &Sidecar) -> f64 {
    hopspan.metric("hopspan_config_generation").await
}

/// POST /reload: whether it was taken.
async fn reload(hopspan: &Sidecar) -> bool {
    let answer = client::request("POST", hopspan.admin, "/reload")
        .send()
        .await;
    match answer.status {
        200 => true,
        _ => {
            assert!(answer.text().contains("error"), "{}", answer.text());
            false
        }
    }
}

fn replace(file: &Path, text: &str) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

#[tokio::test]
async fn two_hundred_reloads_under_load_fail_no_request() {
    let (one, two) = (app::service("one").await, app::service("two").await);
    let base = sidecar::to(one.address);
    let hopspan = base.clone().run().await;
    let load = load::gets(4, hopspan.inbound, "/");
    let mut taken = generation(&hopspan).await;
    for round in 0..200 {
        let target = if round % 2 == 0 {
            two.address
        } else {
            one.address
        };
        let text = settings(&base, target, round).text();
        match round % 4 {
            0 | 2 => replace(&hopspan.file, &text),
            1 => std::fs::write(&hopspan.file, &text).unwrap(),
            _ => {
                // A broken file between: refused, the last good one keeps serving.
                std::fs::write(&hopspan.file, "inbound: [nonsense").unwrap();
                assert!(!reload(&hopspan).await, "round {round}");
                assert_eq!(generation(&hopspan).await, taken);
                std::fs::write(&hopspan.file, &text).unwrap();
            }
        }
        assert!(reload(&hopspan).await, "round {round}");
        let now = generation(&hopspan).await;
        assert!(now > taken, "round {round}: generation {now} after {taken}");
        taken = now;
    }
    let answers = load.answers.len();
    load.answers.at_least(answers + 100).await;
    load.finish().await.assert_all_good(500);
    assert!(one.received.len() > 0 && two.received.len() > 0);
}

#[tokio::test]
async fn every_exchange_sees_one_generation() {
    let (one, two) = (app::service("one").await, app::service("two").await);
    let collector = collector::grpc();
    // Where it goes, its route's name and what is captured change together.
    let settings = |name: &str, target: std::net::SocketAddr| {
        sidecar::to(target)
            .collector(&collector)
            .set("export.queue_spans", json!(100_000))
            .set("export.queue_bytes", json!("256MiB"))
            .set(
                "inbound.routes",
                json!([{ "path": format!("<slug:{name}>") }]),
            )
            .set("capture.request_headers", json!([format!("x-{name}")]))
    };
    let hopspan = settings("one", one.address).run().await;
    let inbound = hopspan.inbound;
    let load = load::start(4, move |_, _| {
        client::get(inbound, "/item")
            .header("x-one", "1")
            .header("x-two", "1")
    });
    for round in 0..50 {
        let (name, target) = match round % 2 {
            0 => ("two", two.address),
            _ => ("one", one.address),
        };
        replace(&hopspan.file, &settings(name, target).text());
        assert!(reload(&hopspan).await);
        load.answers.at_least(load.answers.len() + 10).await;
    }
    let tally = load.finish().await;
    tally.assert_all_good(500);
    let spans = collector.spans(tally.good * 2).await;
    let mut seen = [0, 0];
    for trace in Trace::all(&spans) {
        let (server, inner) = (trace.the("shop", "SERVER"), trace.the("shop", "CLIENT"));
        let port = inner.attr("network.peer.port");
        let index = usize::from(port == two.address.port().to_string());
        let (own, other) = [("one", "two"), ("two", "one")][index];
        assert_eq!(server.attr("http.route"), format!("<slug:{own}>"));
        assert_ne!(server.attr(&format!("http.request.header.x-{own}")), "");
        assert_eq!(server.attr(&format!("http.request.header.x-{other}")), "");
        seen[index] += 1;
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[tokio::test]
async fn a_changed_file_is_noticed_by_itself_however_it_changed() {
    let (one, two) = (app::service("one").await, app::service("two").await);
    let folder = tempfile::tempdir().unwrap();
    let base = sidecar::to(one.address);
    // As Kubernetes mounts a ConfigMap: file -> ..data/file, ..data -> a folder, swapped by renaming a link.
    let version = |serial: usize, builder: &Builder| {
        let data = folder.path().join(format!("..{serial}"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("hopspan.yaml"), builder.text()).unwrap();
        let link = folder.path().join("..data_tmp");
        symlink(&data, &link).unwrap();
        std::fs::rename(link, folder.path().join("..data")).unwrap();
    };
    version(0, &base);
    let file = folder.path().join("hopspan.yaml");
    symlink("..data/hopspan.yaml", &file).unwrap();
    let hopspan = base.clone().file(&file).run().await;
    let answers = |name: &'static str| {
        let address = hopspan.inbound;
        within(name, async move {
            while client::get(address, "/").send().await.text() != name {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
    };
    answers("one").await;
    version(1, &settings(&base, two.address, 1));
    answers("two").await;
    // A bind-mounted file that is written in place, and one that vanishes and comes back.
    std::fs::write(&file, settings(&base, one.address, 2).text()).unwrap();
    answers("one").await;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, settings(&base, two.address, 3).text()).unwrap();
    answers("two").await;
}

#[tokio::test]
async fn what_needs_a_restart_is_said_and_not_done() {
    let app = app::service("one").await;
    let base = sidecar::to(app.address);
    let hopspan = base.clone().run().await;
    let moved = base.set("inbound.listen", json!("127.0.0.1:1"));
    std::fs::write(&hopspan.file, moved.text()).unwrap();
    let answer = client::request("POST", hopspan.admin, "/reload")
        .send()
        .await;
    assert!(
        answer.text().contains("inbound.listen"),
        "{}",
        answer.text()
    );
    assert_eq!(client::get(hopspan.inbound, "/").send().await.status, 200);
    assert!(hopspan.metric("hopspan_config_needs_restart").await > 0.0);
}
