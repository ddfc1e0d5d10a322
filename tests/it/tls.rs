//! TLS with clients: both protocols, certificates of clients, renewal without a restart, what is not TLS.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::tls::{self, Authority, Files, H1, H2};
use crate::support::{app, client, collector, h2, raw, sidecar, within};

/// A sidecar with a certificate for localhost.
fn before(app: &app::App, files: &Files) -> sidecar::Builder {
    sidecar::to(app.address)
        .set("inbound.tls.cert", json!(tls::text(&files.cert)))
        .set("inbound.tls.key", json!(tls::text(&files.key)))
}

/// A GET over a stream: the answer's bytes to the end.
async fn get(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, more: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn http_1_and_2_are_agreed_on() {
    let (app, ca) = (app::service("hello").await, Authority::new());
    let collector = collector::grpc();
    let hopspan = before(&app, &ca.issue(&["localhost"]))
        .collector(&collector)
        .run()
        .await;
    let stream = tls::connect(hopspan.inbound, &ca, H1, None).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(H1));
    let answer = get(stream, "").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let stream = tls::connect(hopspan.inbound, &ca, b"", None).await.unwrap();
    assert!(get(stream, "").await.ends_with("hello"), "without ALPN");
    let stream = tls::connect(hopspan.inbound, &ca, H2, None).await.unwrap();
    let client = h2::over(stream, "localhost".to_owned(), "https").await;
    assert_eq!(client.get("/").await.text(), "hello");
    for asked in app.received(3).await {
        assert_eq!(asked.header("x-forwarded-proto"), Some("https"));
        assert_eq!(asked.header("host"), Some("localhost"));
    }
    let spans = collector.spans(6).await;
    let mut versions = Vec::new();
    for span in spans.iter().filter(|span| span.kind == "SERVER") {
        assert_eq!(span.attr("url.scheme"), "https");
        assert_eq!(span.attr("server.port"), "443");
        assert_eq!(span.attr("tls.protocol.version"), "1.3");
        assert_eq!(span.attr("tls.client.subject"), "");
        versions.push(span.attr("network.protocol.version"));
    }
    versions.sort_unstable();
    assert_eq!(versions, ["1.1", "1.1", "2"]);
}

#[tokio::test]
async fn curl_agrees() {
    let (app, ca) = (app::service("hello").await, Authority::new());
    let hopspan = before(&app, &ca.issue(&["localhost"])).run().await;
    let port = hopspan.inbound.port();
    let (url, resolve) = (
        format!("https://localhost:{port}/"),
        format!("localhost:{port}:127.0.0.1"),
    );
    let authority = ca.file().to_string_lossy().into_owned();
    for (flag, expected) in [("--http1.1", "hello 1.1"), ("--http2", "hello 2")] {
        let arguments = [flag, "--resolve", &resolve, "--cacert", &authority, &url];
        client::curl_agrees(&arguments, expected).await;
    }
}

#[tokio::test]
async fn who_a_client_is_decides_on_trust_and_is_on_the_span() {
    let (app, ca) = (app::service("ok").await, Authority::new());
    let collector = collector::grpc();
    let hopspan = before(&app, &ca.issue(&["localhost"]))
        .set("inbound.tls.client_ca", json!(tls::text(&ca.file())))
        .set("inbound.tls.client_auth", json!("optional"))
        .set(
            "inbound.trust",
            json!(["203.0.113.0/24", "san:spiffe://shop/*"]),
        )
        .collector(&collector)
        .run()
        .await;
    let context = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let frontend = ca.issue(&["frontend", "spiffe://shop/frontend"]);
    let stranger = ca.issue(&["stranger", "spiffe://other/stranger"]);
    let mut traces = Vec::new();
    for identity in [Some(&frontend), Some(&stranger), None] {
        let stream = tls::connect(hopspan.inbound, &ca, H1, identity)
            .await
            .unwrap();
        assert!(get(stream, context).await.contains(" 200 "));
        let spans = collector.spans(2).await;
        let server = spans.iter().find(|span| span.kind == "SERVER").unwrap();
        traces.push((
            server.attr("tls.client.subject").to_owned(),
            server.attr("hopspan.tls.client.san").to_owned(),
            server.trace_id == "0af7651916cd43dd8448eb211c80319c",
        ));
        collector.spans.clear();
    }
    let names = r#"["frontend", "spiffe://shop/frontend"]"#;
    assert_eq!(traces[0].0, "CN=frontend, O=Shop");
    assert!(
        traces[0].1.contains("spiffe://shop/frontend"),
        "{} {names}",
        traces[0].1
    );
    assert_eq!(traces[1].0, "CN=stranger, O=Shop");
    assert_eq!(traces[2].0, "");
    let continued: Vec<bool> = traces.iter().map(|trace| trace.2).collect();
    assert_eq!(continued, [true, false, false]);
}

#[tokio::test]
async fn a_client_without_a_good_certificate_stays_outside_where_one_is_required() {
    let (app, ca, other) = (app::service("ok").await, Authority::new(), Authority::new());
    let hopspan = before(&app, &ca.issue(&["localhost"]))
        .set("inbound.tls.client_ca", json!(tls::text(&ca.file())))
        .run()
        .await;
    let forged = other.issue(&["frontend"]);
    for identity in [None, Some(&forged)] {
        // With TLS 1.3 the client learns of it only after its side of the handshake.
        let outcome = async {
            let mut stream = tls::connect(hopspan.inbound, &ca, H1, identity).await?;
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .await?;
            stream.read_to_end(&mut Vec::new()).await
        };
        assert!(outcome.await.is_err(), "{identity:?}");
    }
    hopspan
        .until("hopspan_client_protocol_errors_total", 2.0)
        .await;
    assert!(
        hopspan
            .metrics()
            .await
            .contains("{reason=\"tls_handshake\"} 2")
    );
    let known = ca.issue(&["frontend"]);
    let stream = tls::connect(hopspan.inbound, &ca, H1, Some(&known))
        .await
        .unwrap();
    assert!(get(stream, "").await.contains(" 200 "));
    assert_eq!(app.received.len(), 1);
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_bad_one_never() {
    let (app, ca) = (app::service("ok").await, Authority::new());
    let files = ca.issue(&["localhost"]);
    let hopspan = before(&app, &files).run().await;
    let serial = |stream: &tokio_rustls::client::TlsStream<tokio::net::TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let kept = tls::connect(hopspan.inbound, &ca, H1, None).await.unwrap();
    let first = serial(&kept);
    // A key that is not the certificate's: refused, and what serves goes on.
    std::fs::write(&files.key, std::fs::read(ca.issue(&["other"]).key).unwrap()).unwrap();
    hopspan
        .until("hopspan_config_last_reload_successful", 0.0)
        .await;
    let during = tls::connect(hopspan.inbound, &ca, H1, None).await.unwrap();
    assert_eq!(serial(&during), first);
    ca.issue_to(&["localhost"], &files);
    hopspan.until("hopspan_config_generation", 2.0).await;
    let renewed = async {
        loop {
            let stream = tls::connect(hopspan.inbound, &ca, H1, None).await.unwrap();
            if serial(&stream) != first {
                return stream;
            }
        }
    };
    let stream = within("the new certificate", renewed).await;
    assert!(get(stream, "").await.contains(" 200 "));
    assert!(
        get(kept, "").await.contains(" 200 "),
        "what is open goes on"
    );
    assert!(
        hopspan
            .metric("hopspan_tls_certificate_expiry_timestamp_seconds")
            .await
            > 4e9
    );
}

#[tokio::test]
async fn what_is_not_tls_is_told_so_unless_it_may_be() {
    let (app, ca) = (app::service("ok").await, Authority::new());
    let hopspan = before(&app, &ca.issue(&["localhost"])).run().await;
    let answer = raw::exchange(hopspan.inbound, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(
        (answer.status, &*answer.text()),
        (400, "hopspan: this port speaks TLS only.\n")
    );
    assert!(hopspan.metrics().await.contains("{reason=\"plaintext\"} 1"));
    let both = before(&app, &ca.issue(&["localhost"]))
        .set("inbound.tls.plaintext", json!(true))
        .run()
        .await;
    let answer = raw::exchange(both.inbound, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let stream = tls::connect(both.inbound, &ca, H1, None).await.unwrap();
    assert!(get(stream, "").await.contains(" 200 "));
    let schemes: Vec<_> = app
        .received
        .all()
        .iter()
        .map(|asked| asked.header("x-forwarded-proto").unwrap().to_owned())
        .collect();
    assert_eq!(schemes, ["http", "https"]);
    // And TLS where there is no certificate.
    let plain = sidecar::to(app.address).run().await;
    assert!(tls::connect(plain.inbound, &ca, H1, None).await.is_err());
    assert!(plain.metrics().await.contains("{reason=\"tls\"} 1"));
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let (app, ca) = (app::service("ok").await, Authority::new());
    let hopspan = before(&app, &ca.issue(&["localhost"]))
        .set("timeouts.handshake", json!("300ms"))
        .run()
        .await;
    let started = std::time::Instant::now();
    let mut peer = raw::connect(hopspan.inbound).await;
    // The beginning of a record of 512 bytes.
    peer.write([0x16, 3, 1, 2, 0, 1]).await;
    peer.closed().await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(
        hopspan
            .metrics()
            .await
            .contains("{reason=\"slow_handshake\"} 1")
    );
}

#[tokio::test]
async fn a_stop_lets_exchanges_over_tls_finish() {
    let (app, ca) = (app::service("ok").await, Authority::new());
    let hopspan = before(&app, &ca.issue(&["localhost"])).run().await;
    let mut idle = tls::connect(hopspan.inbound, &ca, H1, None).await.unwrap();
    let stream = tls::connect(hopspan.inbound, &ca, H2, None).await.unwrap();
    let client = h2::over(stream, "localhost".to_owned(), "https").await;
    assert_eq!(client.get("/").await.status, 200);
    assert!(within("the stop", hopspan.stop()).await.drained);
    // Closed as TLS closes: no truncation.
    assert_eq!(idle.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}
