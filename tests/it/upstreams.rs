//! What is spoken to the app and to services: TLS, HTTP/2, what becomes of connections that are told to go, fail-over.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::support::tls::{self, Authority, H1, H2};
use crate::support::{app, client, collector, h2, h2_server, raw, sidecar, within};

#[tokio::test]
async fn an_app_with_tls_is_believed_by_its_certificate_only() {
    let (app, ca) = (app::service("secret").await, Authority::new());
    let files = ca.issue(&["app.internal"]);
    let front = tls::front(&files, &[H1], app.address).await;
    let collector = collector::grpc();
    let to = |server_name: Option<&str>, ca: Option<&Authority>| {
        let mut builder = sidecar::to(front)
            .set("inbound.app", json!(format!("https://{front}")))
            .set("inbound.app_tls.server_name", json!(server_name));
        if let Some(ca) = ca {
            builder = builder.set("inbound.app_tls.ca", json!(tls::text(&ca.file())));
        }
        builder.collector(&collector)
    };
    let hopspan = to(Some("app.internal"), Some(&ca)).run().await;
    for _ in 0..2 {
        let answer = client::get(hopspan.inbound, "/a").send().await;
        assert_eq!((answer.status, &*answer.text()), (200, "secret"));
    }
    let spans = collector.spans(4).await;
    let calls: Vec<_> = spans.iter().filter(|span| span.kind == "CLIENT").collect();
    assert_eq!(calls[0].attr("url.full"), format!("https://{front}/a"));
    assert!(!calls[0].attr("hopspan.connection.tls_ns").is_empty());
    assert_eq!(calls[1].attr("hopspan.connection.tls_ns"), "", "kept open");
    collector.spans.clear();
    let rows = [
        (None, Some(&ca), "the name is an address it has not"),
        (Some("other"), Some(&ca), "another name"),
        (Some("app.internal"), None, "an unknown root"),
    ];
    for (name, ca, what) in rows {
        let hopspan = to(name, ca).run().await;
        let answer = client::get(hopspan.inbound, "/a").send().await;
        assert_eq!(
            (answer.status, answer.proxy_error()),
            (502, Some("tls_certificate_error")),
            "{what}"
        );
    }
    assert_eq!(app.received.len(), 2);
    // What does not speak TLS at all.
    let plain = sidecar::to(app.address)
        .set("inbound.app", json!(format!("https://{}", app.address)))
        .run()
        .await;
    let answer = client::get(plain.inbound, "/").send().await;
    assert_eq!(answer.proxy_error(), Some("tls_protocol_error"));
}

#[tokio::test]
async fn hopspan_shows_its_own_certificate_where_one_is_asked_for() {
    let (app, ca) = (app::service("in").await, Authority::new());
    let inner = sidecar::to(app.address);
    let files = ca.issue(&["localhost"]);
    let asking = inner
        .set("inbound.tls.cert", json!(tls::text(&files.cert)))
        .set("inbound.tls.key", json!(tls::text(&files.key)))
        .set("inbound.tls.client_ca", json!(tls::text(&ca.file())))
        .run()
        .await;
    let ours = ca.issue(&["hopspan"]);
    let to = format!("https://localhost:{}", asking.inbound.port());
    let with = sidecar::to(raw::closed_port())
        .set("inbound.app", json!(to))
        .set("inbound.app_tls.ca", json!(tls::text(&ca.file())));
    let without = with.clone().run().await;
    let with = with
        .set("inbound.app_tls.cert", json!(tls::text(&ours.cert)))
        .set("inbound.app_tls.key", json!(tls::text(&ours.key)))
        .run()
        .await;
    let answer = client::get(with.inbound, "/").send().await;
    assert_eq!((answer.status, &*answer.text()), (200, "in"));
    assert_eq!(client::get(without.inbound, "/").send().await.status, 502);
}

#[tokio::test]
async fn a_route_has_tls_of_its_own() {
    let (service, ca) = (app::service("ledger").await, Authority::new());
    let (files, ours) = (ca.issue(&["ledger.internal"]), ca.issue(&["hopspan"]));
    // It asks for a certificate, and has one of another name than it is called by.
    let asking = sidecar::to(service.address)
        .set("inbound.tls.cert", json!(tls::text(&files.cert)))
        .set("inbound.tls.key", json!(tls::text(&files.key)))
        .set("inbound.tls.client_ca", json!(tls::text(&ca.file())))
        .run()
        .await;
    let all = json!({
        "ca": tls::text(&ca.file()),
        "server_name": "ledger.internal",
        "cert": tls::text(&ours.cert),
        "key": tls::text(&ours.key),
    });
    let without = |keys: &[&str]| {
        let mut tls = all.clone();
        for key in keys {
            tls.as_object_mut().unwrap().remove(*key);
        }
        tls
    };
    let mut rows = 0;
    for (tls, error) in [
        (all.clone(), None),
        (without(&["ca"]), Some("tls_certificate_error")),
        (without(&["server_name"]), Some("tls_certificate_error")),
        // In TLS 1.3 this is found out when the request is on its way.
        (without(&["cert", "key"]), Some("tls_alert_received")),
    ] {
        let to = format!("https://localhost:{}", asking.inbound.port());
        let hopspan = sidecar::to(raw::closed_port())
            .set(
                "outbound.routes",
                json!([{ "host": "ledger", "to": to, "tls": tls }]),
            )
            .run()
            .await;
        let answer = client::get(hopspan.outbound, "http://ledger/").send().await;
        assert_eq!(answer.proxy_error(), error, "{tls}: {}", answer.text());
        assert_eq!(answer.status, error.map_or(200, |_| 502), "{tls}");
        rows += 1;
    }
    assert_eq!(rows, 4);
    assert_eq!(service.received.len(), 1);
}

#[tokio::test]
async fn tls_to_a_service_is_hopspans_so_the_header_gets_there() {
    let (service, ca) = (app::service("paid").await, Authority::new());
    let files = ca.issue(&["localhost"]);
    let front = tls::front(&files, &[H1], service.address).await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .set(
            "outbound.routes",
            json!([
                {
                    "host": "payment",
                    "to": format!("https://localhost:{}/v1", front.port()),
                    "tls": { "ca": tls::text(&ca.file()) },
                },
                {
                    "host": "*",
                    "to": format!("https://localhost:{}", front.port()),
                    "tls": { "ca": tls::text(&ca.file()) },
                    "rewrite_host": true,
                },
            ]),
        )
        .run()
        .await;
    let answer = client::get(hopspan.outbound, "http://payment/orders?a=b")
        .send()
        .await;
    assert_eq!((answer.status, &*answer.text()), (200, "paid"));
    let by_base_url = client::get(hopspan.outbound, "/orders").send().await;
    assert_eq!(by_base_url.status, 200);
    let asked = service.received(2).await;
    assert_eq!(asked[0].head.line, "GET /v1/orders?a=b HTTP/1.1");
    assert_eq!(asked[0].header("host"), Some("payment"));
    assert_eq!(
        asked[1].header("host"),
        Some(&*format!("localhost:{}", front.port()))
    );
    let spans = collector.spans(2).await;
    let named = asked[0].header("traceparent").unwrap();
    let span = spans.iter().find(|span| span.is_named_by(named)).unwrap();
    // What was called, and where that went.
    assert_eq!(span.attr("url.full"), "http://payment/orders?a=b");
    assert_eq!(span.attr("server.port"), "80");
    let to = format!("https://localhost:{}/v1", front.port());
    assert_eq!(span.attr("hopspan.route.to"), to);
    assert_eq!(span.attr("server.address"), "payment");
}

#[tokio::test]
async fn a_service_with_tls_gets_http_2_where_it_agrees_to_it() {
    let (service, ca) = (h2_server::run("two").await, Authority::new());
    let files = ca.issue(&["localhost"]);
    let front = tls::front(&files, &[H2, H1], service.address).await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .set(
            "outbound.routes",
            json!([{
                "host": "payment",
                "to": format!("https://localhost:{}", front.port()),
                "tls": { "ca": tls::text(&ca.file()) },
            }]),
        )
        .run()
        .await;
    let outbound = hopspan.outbound;
    let calls = (0..20).map(|_| {
        tokio::spawn(async move { client::get(outbound, "http://payment/gate").send().await })
    });
    let calls: Vec<_> = calls.collect();
    service.received.at_least(20).await;
    service.open_gate(20);
    for call in calls {
        assert_eq!(within("an answer", call).await.unwrap().text(), "two");
    }
    assert_eq!(service.accepted.load(Ordering::SeqCst), 1, "one connection");
    let asked = service.received.all().remove(0);
    assert_eq!(asked.uri, "https://payment/gate");
    assert_eq!(asked.header("connection"), None);
    for span in collector.spans(20).await {
        assert_eq!(span.attr("network.protocol.version"), "2");
    }
}

/// A sidecar before an app that speaks HTTP/2 without TLS.
fn before_h2(app: std::net::SocketAddr) -> sidecar::Builder {
    sidecar::to(app).set("inbound.protocol", json!("h2"))
}

#[tokio::test]
async fn an_app_may_speak_http_2_by_prior_knowledge() {
    let app = h2_server::run("app").await;
    let collector = collector::grpc();
    let hopspan = before_h2(app.address).collector(&collector).run().await;
    // From HTTP/1.1 ...
    let answer = client::get(hopspan.inbound, "/orders/7/").send().await;
    assert_eq!((answer.status, &*answer.text()), (200, "app"));
    // ... and from HTTP/2: body and trailers both ways.
    let client = h2::connect(hopspan.inbound).await.at("shop");
    let (mut sender, body) = http_body_util::Channel::<bytes::Bytes, std::io::Error>::new(4);
    let request = client
        .request("POST", "/echo")
        .header("te", "trailers")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(http_body_util::BodyExt::boxed_unsync(body))
        .unwrap();
    let sending = async move {
        for _ in 0..100 {
            sender.send_data(vec![b'x'; 10_000].into()).await.unwrap();
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-checksum", "abc".parse().unwrap());
        sender.send_trailers(trailers).await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.send(request), sending);
    assert_eq!((answer.status, answer.body.len()), (200, 1_000_000));
    assert_eq!(answer.trailers.get("x-checksum").unwrap(), "abc");
    let asked = app.received.at_least(2).await;
    assert!(
        asked[0].uri.starts_with("http://127.0.0.1:"),
        "{}",
        asked[0].uri
    );
    assert_eq!(asked[0].header("host"), None, "the authority is enough");
    assert_eq!(asked[1].uri, "http://shop/echo");
    assert_eq!(asked[1].header("te"), Some("trailers"));
    assert_eq!(asked[1].header("cookie"), Some("a=1; b=2"));
    assert_eq!(asked[1].header("x-forwarded-host"), Some("shop"));
    assert_eq!(app.accepted.load(Ordering::SeqCst), 1);
    let spans = collector.spans(4).await;
    for span in spans.iter().filter(|span| span.kind == "CLIENT") {
        assert_eq!(span.attr("network.protocol.version"), "2", "{span:?}");
        assert_eq!(
            asked
                .iter()
                .filter(|a| span.is_named_by(a.header("traceparent").unwrap()))
                .count(),
            1
        );
    }
}

/// Connections are told to go every few requests: none of these is lost, and none is sent twice.
#[tokio::test]
async fn a_connection_that_is_told_to_go_loses_no_request() {
    let app = h2_server::retiring("app", 20).await;
    let hopspan = before_h2(app.address).run().await;
    let inbound = hopspan.inbound;
    let clients = (0..8).map(|_| {
        tokio::spawn(async move {
            let mut peer = raw::connect(inbound).await;
            for round in 0..50 {
                let method = if round % 2 == 0 { "GET" } else { "POST" };
                let request = client::request(method, inbound, "/");
                let answer = request.via(&mut peer).await;
                assert_eq!((answer.status, &*answer.text()), (200, "app"), "{round}");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within("a client to be done", client).await.unwrap();
    }
    assert_eq!(app.received.len(), 400);
    let accepted = app.accepted.load(Ordering::SeqCst);
    assert!((15..=60).contains(&accepted), "{accepted}");
}

/// An answer's head: `:status: 204` by index.
const NO_CONTENT: &[u8] = &[0x89];

#[tokio::test]
async fn a_stream_that_is_refused_unseen_is_sent_again_where_it_can_be() {
    for (method, body, status) in [
        ("GET", None, 204),
        // Nothing was done for it, so sending it again cannot do it twice.
        ("POST", None, 204),
        // Its body is gone.
        ("POST", Some("body"), 502),
    ] {
        let app = h2_server::frames(|mut frames, number| async move {
            let mut first = number == 0;
            while let Some(head) = frames.next_of(h2::HEADERS).await {
                let (kind, flags, payload) = match std::mem::take(&mut first) {
                    // REFUSED_STREAM
                    true => (h2::RST_STREAM, 0, &[0, 0, 0, 7][..]),
                    false => (h2::HEADERS, h2::WHOLE, NO_CONTENT),
                };
                frames.send(kind, flags, head.stream, payload).await;
            }
        })
        .await;
        let hopspan = before_h2(app.address).run().await;
        let mut request = client::request(method, hopspan.inbound, "/");
        if let Some(body) = body {
            request = request.body(body);
        }
        assert_eq!(request.send().await.status, status, "{method} {body:?}");
    }
}

#[tokio::test]
async fn an_exchange_that_the_upstream_gives_up_is_not_repeated() {
    let app = h2_server::frames(|mut frames, _| async move {
        while let Some(head) = frames.next_of(h2::HEADERS).await {
            // INTERNAL_ERROR: it may have done something.
            frames
                .send(h2::RST_STREAM, 0, head.stream, &[0, 0, 0, 2])
                .await;
        }
    })
    .await;
    let hopspan = before_h2(app.address).run().await;
    let answer = client::get(hopspan.inbound, "/").send().await;
    assert_eq!(
        (answer.status, answer.proxy_error()),
        (502, Some("http_response_incomplete"))
    );
    assert_eq!(hopspan.metric("hopspan_upstream_retries_total").await, 0.0);
    assert_eq!(app.accepted.len(), 1);
}

#[tokio::test]
async fn an_app_that_speaks_no_http_2_is_a_bad_gateway() {
    let app = app::service("one").await;
    let hopspan = before_h2(app.address).run().await;
    let answer = client::get(hopspan.inbound, "/").send().await;
    assert_eq!(answer.status, 502);
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_does_not_take_the_connection() {
    let (app, ca) = (app::service("second").await, Authority::new());
    // One that listens and speaks no TLS, one where nobody listens, one that is there.
    let mute = raw::server(|mut peer| async move { drop(peer.some().await) }).await;
    let files = ca.issue(&["127.0.0.1"]);
    let front = tls::front(&files, &[H1], app.address).await;
    let hopspan = sidecar::to(app.address)
        .set(
            "inbound.app",
            json!([
                raw::closed_port().to_string(),
                format!("https://{}", mute.address),
                format!("https://{front}"),
            ]),
        )
        .set("inbound.app_tls.ca", json!(tls::text(&ca.file())))
        .run()
        .await;
    for _ in 0..3 {
        let answer = client::get(hopspan.inbound, "/").send().await;
        assert_eq!((answer.status, &*answer.text()), (200, "second"));
    }
}

#[tokio::test]
async fn what_a_grpc_call_came_to_is_told_by_its_own_status() {
    let app = h2_server::run("app").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("inbound.protocol", json!("h2"))
        .set(
            "outbound.routes",
            json!([{ "host": "127.0.0.1", "protocol": "h2" }]),
        )
        .run()
        .await;
    let (inbound, outbound) = (
        h2::connect(hopspan.inbound).await,
        h2::connect(hopspan.outbound)
            .await
            .at(&app.address.to_string()),
    );
    let call = async |client: &h2::Client, kind: &str, path: &str, status: &'static str| {
        let (mut sender, body) = http_body_util::Channel::<bytes::Bytes, std::io::Error>::new(1);
        let body = http_body_util::BodyExt::boxed_unsync(body);
        let request = client.request("POST", path).header("content-type", kind);
        let answer = client.send(request.body(body).unwrap());
        let trailers = async {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static(status));
            let _ = sender.send_trailers(trailers).await;
            drop(sender);
        };
        let (answer, ()) = tokio::join!(answer, trailers);
        assert_eq!(answer.status, 200, "{kind} {path}: {answer:?}");
    };
    let grpc = "application/grpc+proto";
    // Content type, path, status sent; status told, and whether it fails SERVER and CLIENT spans.
    let rows = [
        (grpc, "/echo", "0", "OK", false, false),
        (grpc, "/echo", "5", "NOT_FOUND", false, true),
        (grpc, "/echo", "13", "INTERNAL", true, true),
        (grpc, "/refuse", "", "UNIMPLEMENTED", true, true),
        ("text/plain", "/echo", "13", "", false, false),
    ];
    for (kind, path, sent, told, server, client) in rows {
        call(&inbound, kind, path, sent).await;
        call(&outbound, kind, path, sent).await;
        let spans = collector.spans(3).await;
        assert_eq!(spans.len(), 3);
        for span in &spans {
            assert_eq!(span.attr("rpc.response.status_code"), told, "{span:?}");
            let failed = if span.kind == "SERVER" {
                server
            } else {
                client
            };
            assert_eq!(span.failed(), failed, "{told}: {span:?}");
            let error = if failed { told } else { "" };
            assert_eq!(span.attr("error.type"), error, "{span:?}");
        }
        collector.spans.clear();
    }
    let metrics = hopspan.metrics().await;
    let failed = |line: &&str| line.contains("error_type=\"NOT_FOUND\"") && line.contains("_count");
    let lines: Vec<&str> = metrics.lines().filter(failed).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("http_client_request_duration_seconds_count"));
}
