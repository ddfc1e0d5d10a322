//! What clients and collectors could do to hopspan by what it records and sends.

use serde_json::json;

use crate::support::journal::Journal;
use crate::support::{app, binary, client, collector, cost, long, raw, sidecar};

#[tokio::test]
async fn cve_2023_45142_methods_hosts_and_paths_make_no_series() {
    let app = app::service("ok").await;
    let config = sidecar::to(app.address)
        // Why a call has no parent is a label, too, and may be that a look took too long.
        .set("correlation.thread", json!(false))
        .set("correlation.serial", json!(false))
        .set("inbound.routes", json!([{"path": "items/<int:pk>/"}]));
    let hopspan = binary::wrapping(&config, &[]).await;
    let metrics = || async { client::get(hopspan.status, "/metrics").send().await.text() };
    let memory = || cost::memory(hopspan.process.pid(), "VmRSS");
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let (mut after_a_few, mut taken) = (0, 0);
    let (mut inbound, mut outbound) = (
        raw::connect(hopspan.inbound).await,
        raw::connect(hopspan.outbound).await,
    );
    let rounds = long(2000, 100_000);
    for round in 0..rounds {
        let method = format!("METHOD{round}");
        let path = format!("/items/{round}/?q={round}");
        let asked = client::request(&method, hopspan.inbound, &path)
            .host(&format!("host{round}.example"))
            .header("User-Agent", &format!("agent/{round}"));
        assert_eq!(asked.via(&mut inbound).await.status, 200);
        let url = format!("http://{}/{round}", app.address);
        assert_eq!(
            client::request(&method, hopspan.outbound, &url)
                .via(&mut outbound)
                .await
                .status,
            200
        );
        if round == 20 {
            after_a_few = series(&metrics().await);
        }
        if round == rounds / 5 {
            taken = memory();
        }
    }
    let grown = memory().saturating_sub(taken);
    let metrics = metrics().await;
    println!("{rounds} methods, hosts, paths: {after_a_few} series, memory +{grown} KiB");
    assert_eq!(series(&metrics), after_a_few, "{metrics}");
    assert!(grown < 8 * 1024, "{grown} KiB");
    assert!(metrics.contains("http_request_method=\"_OTHER\""));
}

#[tokio::test]
async fn cve_2026_39882_a_collector_that_answers_without_end() {
    let taken = Journal::default();
    let journal = taken.clone();
    // Says a gigabyte in answer to an export, and counts how much of it anybody took.
    let endless = raw::server(move |mut peer| {
        let journal = journal.clone();
        async move {
            peer.head().await;
            peer.try_write("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
                .await;
            let mut bytes = 0;
            while bytes < 1 << 30 && peer.try_write(vec![b'x'; 65536]).await {
                bytes += 65536;
            }
            journal.push(bytes);
        }
    })
    .await;
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .set("export.disabled", json!(false))
        .set(
            "export.endpoint",
            json!(format!("http://{}", endless.address)),
        )
        .set("export.schedule_delay", json!("10ms"))
        .run()
        .await;
    assert_eq!(client::get(hopspan.inbound, "/").send().await.status, 200);
    let took = taken.at_least(1).await[0];
    // What fits into the sockets' buffers is gone either way.
    assert!(took < 16 << 20, "{took} bytes were taken");
    assert_eq!(client::get(hopspan.inbound, "/").send().await.status, 200);
}

#[tokio::test]
async fn rustsec_2025_0055_what_peers_say_cannot_forge_log_lines() {
    let listeners = [raw::closed_port(), raw::closed_port()];
    let config = sidecar::to(raw::closed_port())
        .set("inbound.listen", json!(listeners[0].to_string()))
        .set("outbound.listen", json!(listeners[1].to_string()));
    for format in ["json", "text"] {
        let (folder, mut command) = binary::wrapping_command(&config, &[], &[]);
        command
            .env("HOPSPAN_LOG", "trace")
            .env("HOPSPAN_LOG_FORMAT", format);
        let process = crate::support::process::Process::start(command);
        process.line("hopspan serves").await;
        for address in &listeners {
            let mut peer = raw::connect(*address).await;
            // ESC, CSI, U+0085, U+2028 in the target, a host, a field.
            let sly = "\u{1b}[31m\u{9b}31m\u{2028}\u{85}{\"level\":\"ERROR\"}";
            for text in [
                format!("GET /{sly} HTTP/1.1\r\nHost: a\r\n\r\n"),
                format!("GET / HTTP/1.1\r\nHost: {sly}\r\n\r\n"),
                format!("GET http://name-\u{e9}{sly}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
                "GET /\u{2028}%0a%1b[31m HTTP/1.1\r\nHost: a.invalid\r\n\r\n".to_owned(),
            ] {
                let _ = peer.try_write(text).await;
                let _ = peer.try_response_to("GET").await;
                peer = raw::connect(*address).await;
            }
        }
        process.signal(libc::SIGTERM);
        process.exit().await;
        let log = process.stderr();
        assert!(log.lines().count() > 3, "{log}");
        for line in log.lines() {
            let raw_controls = line.chars().any(|c| c.is_control() && c != '\t');
            assert!(!raw_controls, "{format}: {line:?}");
            let parsed = serde_json::from_str::<serde_json::Value>(line).is_ok();
            assert!(parsed || format == "text", "{line:?}");
        }
        drop(folder);
    }
}

#[tokio::test]
async fn vector_2026_the_collectors_credentials_go_nowhere_else() {
    const CANARY: &str = "canary-5f0c6b";
    let collector = collector::http();
    let service = app::service("called").await;
    let hopspan = sidecar::to(service.address)
        .collector(&collector)
        .set(
            "export.headers",
            json!({"authorization": format!("Bearer {CANARY}")}),
        )
        .run()
        .await;
    client::get(hopspan.inbound, "/").send().await;
    client::get(hopspan.outbound, &format!("http://{}/", service.address))
        .send()
        .await;
    let export = collector.exports.at_least(1).await.remove(0);
    let sent = export
        .headers
        .iter()
        .any(|(_, value)| value.contains(CANARY));
    assert!(sent, "the collector gets it: {export:?}");
    for asked in service.received(2).await {
        assert!(!String::from_utf8_lossy(&asked.head.raw).contains(CANARY));
    }
    for (address, path) in [
        (hopspan.admin, "/config"),
        (hopspan.admin, "/correlation"),
        (hopspan.status, "/metrics"),
    ] {
        let answer = client::get(address, path).send().await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains(CANARY), "{path}");
    }
    for span in collector.spans(3).await {
        assert!(!format!("{span:?}").contains(CANARY));
    }
}
