//! Load balancers that pass bytes on and say whose they are: the PROXY protocol, from peers that the config lists and from
//! others.

use serde_json::json;

use crate::support::sidecar::{self, Sidecar};
use crate::support::{app, client, collector, h2, raw, tls, within};

const V1: &str = "PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

/// Version 2 from 203.0.113.7, with a value behind the addresses.
fn v2(command: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([
        command, 0x11, 0, 17, 203, 0, 113, 7, 198, 51, 100, 1, 0x9c, 0x40, 1, 0xbb,
    ]);
    bytes.extend(b"\x04\x00\x02ab");
    bytes
}

fn behind_one(app: &app::App) -> sidecar::Builder {
    sidecar::to(app.address).set("inbound.proxy_protocol", json!(["127.0.0.1"]))
}

async fn refused(hopspan: &Sidecar, reason: &str, count: f64) {
    let name = format!("hopspan_client_protocol_errors_total{{reason=\"{reason}\"}}");
    let counted = async {
        while !hopspan.metrics().await.contains(&format!("{name} {count}")) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within(&name, counted).await;
}

#[tokio::test]
async fn the_client_is_whom_the_header_names() {
    let (app, collector) = (app::service("hi").await, collector::grpc());
    let hopspan = behind_one(&app).collector(&collector).run().await;
    let headers = [V1.as_bytes().to_vec(), v2(0x21)];
    for header in &headers {
        let mut peer = raw::connect(hopspan.inbound).await;
        // Its last byte comes with the request, which is read with it.
        let (first, last) = header.split_at(header.len() - 1);
        peer.write(first).await;
        peer.write([last, GET.as_bytes()].concat()).await;
        assert_eq!(peer.response().await.text(), "hi");
        // It stands before the connection, not before each request.
        peer.write(GET).await;
        assert_eq!(peer.response().await.text(), "hi");
    }
    for asked in app.received(4).await {
        assert_eq!(asked.header("x-forwarded-for"), Some("203.0.113.7"));
    }
    let spans = collector.spans(8).await;
    for span in spans.iter().filter(|span| span.kind == "SERVER") {
        assert_eq!(span.attr("client.address"), "203.0.113.7");
        assert_eq!(span.attr("network.peer.address"), "127.0.0.1");
        assert_ne!(span.attr("network.peer.port"), "40000");
    }
}

#[tokio::test]
async fn a_health_check_is_the_balancer_s_own() {
    let app = app::service("hi").await;
    let hopspan = behind_one(&app).run().await;
    for header in [v2(0x20), b"PROXY UNKNOWN\r\n".to_vec()] {
        let asked = [&header, GET.as_bytes()].concat();
        assert_eq!(raw::exchange(hopspan.inbound, asked).await.text(), "hi");
    }
    for asked in app.received(2).await {
        assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
    }
    // By TCP alone: nothing is sent, and nothing is counted as wrong.
    let mut check = raw::connect(hopspan.inbound).await;
    check.half_close().await;
    check.closed().await;
    assert_eq!(
        hopspan.metric("hopspan_client_protocol_errors_total").await,
        0.0
    );
}

#[tokio::test]
async fn trust_is_the_client_s_and_not_the_balancer_s() {
    let app = app::service("hi").await;
    let hopspan = behind_one(&app)
        .set("inbound.trust", json!(["203.0.113.0/24"]))
        .run()
        .await;
    let asked = "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 192.0.2.9\r\n\
        Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    raw::exchange(hopspan.inbound, format!("{V1}{asked}")).await;
    raw::exchange(hopspan.inbound, format!("PROXY UNKNOWN\r\n{asked}")).await;
    let asked = app.received(2).await;
    let trace = |at: usize| asked[at].header("traceparent").unwrap()[3..35].to_owned();
    assert_eq!(trace(0), "0af7651916cd43dd8448eb211c80319c");
    assert_ne!(trace(1), trace(0), "127.0.0.1 itself is not trusted");
    // A stranger's field is replaced although the balancer's address is a private one.
    assert_eq!(asked[0].header("x-forwarded-for"), Some("203.0.113.7"));
    assert_eq!(
        asked[1].header("x-forwarded-for"),
        Some("192.0.2.9, 127.0.0.1")
    );
}

#[tokio::test]
async fn without_a_header_a_balancer_is_not_served() {
    let app = app::service("hi").await;
    let patient = behind_one(&app);
    // In a hurry only with those that are too slow: this test may be, too.
    let hasty = patient.clone().set("timeouts.header", json!("200ms"));
    let (patient, hasty) = (patient.run().await, hasty.run().await);
    let wrong = [
        GET.to_owned(),
        format!("PROXY TCP4 1 2 3 4\r\n{GET}"),
        "PROXY TCP4 1".to_owned(),
    ];
    for bytes in &wrong {
        let mut peer = raw::connect(patient.inbound).await;
        peer.write(bytes).await;
        peer.half_close().await;
        assert!(peer.rest().await.is_empty(), "{bytes}");
    }
    refused(&patient, "proxy_protocol", 3.0).await;
    // Begun, and not ended in time.
    let mut slow = raw::connect(hasty.inbound).await;
    slow.write("PROXY ").await;
    assert!(slow.rest().await.is_empty());
    let mut silent = raw::connect(hasty.inbound).await;
    assert!(silent.rest().await.is_empty());
    refused(&hasty, "slow_head", 2.0).await;
    assert_eq!(app.received.len(), 0);
}

#[tokio::test]
async fn from_others_it_is_not_a_header() {
    let app = app::service("hi").await;
    let hopspan = sidecar::to(app.address)
        .set("inbound.proxy_protocol", json!(["10.0.0.0/8"]))
        .run()
        .await;
    for header in [V1.as_bytes().to_vec(), v2(0x21)] {
        let asked = [&header, GET.as_bytes()].concat();
        assert_eq!(raw::exchange(hopspan.inbound, asked).await.status, 400);
    }
    assert_eq!(client::get(hopspan.inbound, "/").send().await.text(), "hi");
    assert_eq!(app.received(1).await.len(), 1);
}

#[tokio::test]
async fn http_2_and_tls_stand_behind_it_as_without() {
    let (app, ca) = (app::service("hi").await, tls::Authority::new());
    let files = ca.issue(&["localhost"]);
    let hopspan = behind_one(&app)
        .set("inbound.tls.cert", json!(tls::text(&files.cert)))
        .set("inbound.tls.key", json!(tls::text(&files.key)))
        .set("inbound.tls.plaintext", json!(true))
        .run()
        .await;
    let introduced = async || {
        let mut peer = raw::connect(hopspan.inbound).await;
        peer.write(v2(0x21)).await;
        peer.into_stream()
    };
    let plain = h2::over(introduced().await, "shop".to_owned(), "http").await;
    assert_eq!(plain.get("/").await.text(), "hi");
    let config = std::sync::Arc::new(ca.client(tls::H2, None));
    let name = "localhost".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = connector.connect(name, introduced().await).await.unwrap();
    let secure = h2::over(stream, "localhost".to_owned(), "https").await;
    assert_eq!(secure.get("/").await.text(), "hi");
    for (asked, scheme) in app.received(2).await.iter().zip(["http", "https"]) {
        assert_eq!(asked.header("x-forwarded-for"), Some("203.0.113.7"));
        assert_eq!(asked.header("x-forwarded-proto"), Some(scheme));
    }
}

#[tokio::test]
async fn who_is_one_changes_with_the_config() {
    let app = app::service("hi").await;
    let builder = sidecar::to(app.address);
    let hopspan = builder.clone().run().await;
    let asked = format!("{V1}{GET}");
    assert_eq!(raw::exchange(hopspan.inbound, &asked).await.status, 400);
    let listed = builder.set("inbound.proxy_protocol", json!(["127.0.0.1"]));
    std::fs::write(&hopspan.file, listed.text()).unwrap();
    client::request("POST", hopspan.admin, "/reload")
        .send()
        .await;
    // The listener is told a moment after the reload was answered.
    let taken = async { while raw::exchange(hopspan.inbound, &asked).await.status != 200 {} };
    within("the new list", taken).await;
}
