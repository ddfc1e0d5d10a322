//! What a running sidecar tells of itself: `/correlation` and `/export` on admin, and the start line.

use serde_json::{Value, json};

use crate::support::{app, binary, client, collector, python, raw, sidecar};

async fn page(admin: std::net::SocketAddr, path: &str) -> Value {
    let answer = client::get(admin, path).send().await;
    assert_eq!(answer.status, 200, "{path}");
    serde_json::from_str(&answer.text()).unwrap()
}

#[tokio::test]
async fn correlation_counts_calls_by_what_came_of_them() {
    let service = app::http().run().await;
    let django = python::gunicorn().args(["--threads", "2"]).run().await;
    let hopspan = sidecar::to(django.address)
        .set("correlation.token", json!(true))
        .set("correlation.thread", json!(false))
        .run()
        .await;
    let url = format!("http://{}/", service.address);
    client::get(hopspan.outbound, &url).send().await;
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for _ in 0..2 {
        let call = client::get(hopspan.outbound, &url);
        call.header("traceparent", own).send().await;
    }
    let call = client::get(hopspan.outbound, &url);
    call.header("hopspan-token", "nobodys").send().await;

    let told = page(hopspan.admin, "/correlation").await;
    assert_eq!(told["calls"]["joined"], json!({ "header": 2 }));
    let unlinked = told["calls"]["unlinked"].as_object().unwrap();
    let sum: u64 = unlinked.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sum, 2, "{told}");
    assert_eq!(told["calls"]["unknown_tokens"], 1);
    let rungs: Vec<&str> = told["rungs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["rung"].as_str().unwrap())
        .collect();
    assert_eq!(rungs, ["header", "token", "thread", "serial"]);
    assert_eq!(told["rungs"][2]["code"], "HOP148");
    assert_eq!(told["server"]["kind"], "threads", "{told}");
}

#[tokio::test]
async fn export_says_where_spans_go_and_what_became_of_them() {
    let app = app::http().run().await;
    let collector = collector::http();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    client::get(hopspan.inbound, "/").send().await;
    collector.spans(2).await;
    hopspan.until("hopspan_export_spans_total", 2.0).await;
    let told = page(hopspan.admin, "/export").await;
    assert_eq!(told["failing"], false);
    assert_eq!(
        (&told["spans"]["exported"], &told["spans"]["finished"]),
        (&json!(2), &json!(2))
    );
    assert!(
        told["last_success_at"].as_u64().unwrap() > 1_700_000_000,
        "{told}"
    );
    assert!(
        told["endpoint"]
            .as_str()
            .unwrap()
            .starts_with(&collector.endpoint())
    );
}

#[tokio::test]
async fn the_start_event_says_who_answers_and_what_would_raise_the_rung() {
    let collector = collector::http();
    let django = python::uvicorn().run().await;
    let there = sidecar::to(django.address).collector(&collector);
    let serving = binary::wrapping(&there, &[]).await;
    let event: Value = serde_json::from_str(&serving.process.line("hopspan serves").await).unwrap();
    assert!(
        event["exporter"]
            .as_str()
            .unwrap()
            .ends_with(" (accepts connections)"),
        "{event}"
    );
    assert!(
        event["app"]
            .as_str()
            .unwrap()
            .ends_with("(answers; uvicorn: an event loop)"),
        "{event}"
    );
    assert_eq!(
        (&event["code"], &event["next"]),
        (
            &json!("HOP151"),
            &json!("token: correlation.token is not set")
        )
    );

    let gone = sidecar::to(raw::closed_port())
        .set("export.disabled", json!(false))
        .set(
            "export.endpoint",
            json!(format!("http://{}", raw::closed_port())),
        )
        .set("correlation.token", json!(true));
    let serving = binary::wrapping(&gone, &[]).await;
    let event: Value = serde_json::from_str(&serving.process.line("hopspan serves").await).unwrap();
    assert!(
        event["exporter"]
            .as_str()
            .unwrap()
            .contains("(does not answer: Connection refused"),
        "{event}"
    );
    assert!(
        event["app"]
            .as_str()
            .unwrap()
            .ends_with("(does not answer yet)"),
        "{event}"
    );
    assert_eq!(
        event.get("code"),
        None,
        "tokens join everything: nothing to raise"
    );
}
