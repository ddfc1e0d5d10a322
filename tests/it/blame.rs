//! Who is to blame for an exchange that failed, as spans and hopspan's own answers tell it: not who was still there, and no
//! place that nobody called.

mod ends;
mod requests;

use http_body_util::{BodyExt, Channel};
use serde_json::json;

use crate::support::spans::Span;
use crate::support::{app, client, collector, h2, raw, sidecar};

fn all_say(spans: &[Span], error: &str) {
    for span in spans {
        assert_eq!(span.attr("error.type"), error, "{span:?}");
    }
}

#[tokio::test]
async fn an_app_that_goes_no_further_is_told_from_one_that_hangs_up() {
    let app = raw::server(|mut peer| async move {
        let head = peer.head().await;
        if head.target() != "/garbles" {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
                .await;
        }
        match head.target() {
            "/stalls" => peer.hang().await,
            "/garbles" => {
                peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
                    .await;
                peer.hang().await;
            }
            _ => {}
        }
    })
    .await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("timeouts.body_idle", json!("300ms"))
        .run()
        .await;
    for (path, error) in [
        ("/stalls", "connection_read_timeout"),
        ("/hangs-up", "http_response_incomplete"),
        ("/garbles", "http_response_transfer_coding"),
    ] {
        let mut peer = raw::connect(hopspan.inbound).await;
        peer.write(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n"))
            .await;
        peer.closed().await;
        let spans = collector.spans(2).await;
        all_say(&spans, error);
        assert_eq!(spans.len(), 2);
        collector.spans.clear();
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_more_is_told_from_one_that_leaves() {
    // Answers that end with the connection, and in chunks.
    let plain = raw::server(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\n\r\n").await;
        while peer.try_write([b'x'; 65536]).await {}
    })
    .await;
    let chunked = app::http()
        .streaming("/large", |_| async { app::endless() })
        .run()
        .await;
    for app in [plain.address, chunked.address] {
        let collector = collector::grpc();
        let hopspan = sidecar::to(app)
            .collector(&collector)
            .set("timeouts.body_idle", json!("400ms"))
            .run()
            .await;
        for (reads, stays) in [(true, true), (false, true), (true, false)] {
            let mut peer = raw::connect(hopspan.inbound).await;
            peer.write("GET /large HTTP/1.1\r\nHost: shop\r\n\r\n")
                .await;
            if reads {
                peer.head().await;
            }
            let kept = match stays {
                true => Some(peer),
                false => {
                    peer.reset();
                    None
                }
            };
            let spans = collector.spans(2).await;
            match stays {
                true => all_say(&spans, "connection_write_timeout"),
                false => all_say(&spans, "cancelled"),
            }
            collector.spans.clear();
            drop(kept);
        }
        // Of HTTP/2 a stream without a window, and a connection that is read no more.
        for (window, all) in [(10, 0), (0x7fff_ffff, 0x7000_0000_u32)] {
            let mut frames = h2::frames_with(hopspan.inbound, &[(4, window)]).await;
            if all > 0 {
                frames.send(8, 0, 0, &all.to_be_bytes()).await;
            }
            frames.headers(1, h2::WHOLE, &h2::get("/large")).await;
            let spans = collector.spans(2).await;
            all_say(&spans, "connection_write_timeout");
            collector.spans.clear();
        }
    }
}

#[tokio::test]
async fn a_call_by_a_route_is_told_as_called_and_as_sent() {
    let nobody = raw::closed_port();
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .set(
            "outbound.routes",
            json!([
                { "host": "pay", "to": format!("http://{nobody}/v1") },
                { "host": "safe", "to": format!("https://{nobody}") },
            ]),
        )
        .run()
        .await;
    for (host, to) in [
        ("pay", format!("http://{nobody}/v1")),
        ("safe", format!("https://{nobody}")),
    ] {
        let url = format!("http://{host}/z");
        let answer = client::get(hopspan.outbound, &url).send().await;
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains(&nobody.to_string()));
        let span = collector.spans(1).await.remove(0);
        assert_eq!(span.attr("url.full"), url);
        assert_eq!(span.attr("server.address"), host);
        assert_eq!(span.attr("server.port"), "80");
        assert_eq!(span.attr("hopspan.route.to"), to);
        collector.spans.clear();
    }
}

/// gRPC's clients read no status but its own.
#[tokio::test]
async fn a_grpc_call_that_fails_here_is_answered_as_grpc_does() {
    let nobody = raw::closed_port();
    let collector = collector::grpc();
    let hopspan = sidecar::to(nobody)
        .collector(&collector)
        .set("outbound.deny", json!(["denied.example"]))
        .run()
        .await;
    let inbound = h2::connect(hopspan.inbound).await;
    let outbound = h2::connect(hopspan.outbound).await;
    let rows = [
        (
            inbound.clone().at("shop"),
            "14",
            "UNAVAILABLE",
            "connection_refused",
            2,
        ),
        (
            outbound.clone().at(&nobody.to_string()),
            "14",
            "UNAVAILABLE",
            "connection_refused",
            1,
        ),
        (
            outbound.at("denied.example:80"),
            "7",
            "PERMISSION_DENIED",
            "http_request_denied",
            1,
        ),
    ];
    for (client, number, name, error, count) in rows {
        let request = client
            .request("POST", "/pay.Pay/Take")
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers");
        let answer = client
            .send(request.body(h2::full("\0\0\0\0\0")).unwrap())
            .await;
        assert_eq!((answer.status, answer.text()), (200, ""), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(answer.header("grpc-status"), Some(number), "{answer:?}");
        let message = answer.header("grpc-message").unwrap();
        assert!(
            message.starts_with("hopspan: ") && message.contains("%0Atrace "),
            "{message}"
        );
        assert!(answer.header("proxy-status").unwrap().contains(error));
        let spans = collector.spans(count).await;
        for span in &spans {
            assert_eq!(span.attr("rpc.response.status_code"), name, "{span:?}");
            assert_eq!(span.attr("error.type"), error, "{span:?}");
            assert!(span.failed());
        }
        collector.spans.clear();
    }
    // Others are told as ever.
    let other = inbound
        .request("POST", "/")
        .header("content-type", "application/json");
    let answer = inbound.send(other.body(h2::full("{}")).unwrap()).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (502, None));
}

#[tokio::test]
async fn a_body_that_is_malformed_is_told_from_one_that_ends_early() {
    let app = raw::server(|mut peer| async move {
        peer.rest().await;
    })
    .await;
    let hopspan = sidecar::to(app.address).run().await;
    for chunks in [
        "0x5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "5;\nhello\r\n",
        "f0000000000000003\r\nabc\r\n",
    ] {
        let mut peer = raw::connect(hopspan.inbound).await;
        peer.write("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        peer.write(chunks).await;
        let answer = peer.response().await;
        assert_eq!(answer.status, 400);
        assert!(
            answer
                .text()
                .contains("the request body is not valid chunks"),
            "{}",
            answer.text()
        );
    }
}

/// Content of any method whose length is not known, by HTTP/1.1 and by HTTP/2.
#[tokio::test]
async fn content_without_a_length_reaches_the_app_whatever_the_method() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let client = h2::connect(hopspan.inbound).await;
    let mut peer = raw::connect(hopspan.inbound).await;
    for method in ["GET", "POST", "DELETE", "OPTIONS", "QUERY"] {
        peer.write(format!(
            "{method} /_search HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ))
        .await;
        assert_eq!(peer.response().await.status, 200, "{method}");
        let (mut sender, body) = Channel::<bytes::Bytes, std::io::Error>::new(1);
        let request = client.request(method, "/_search");
        let request = request.body(body.boxed_unsync()).unwrap();
        let sending = async {
            let _ = sender.send_data(bytes::Bytes::from("hello")).await;
            drop(sender);
        };
        let (answer, ()) = tokio::join!(client.send(request), sending);
        assert_eq!(answer.status, 200, "{method}");
        for asked in app.received(2).await {
            assert_eq!(asked.body, "hello", "{method}: {:?}", asked.head);
        }
        app.received.clear();
    }
}

/// As for Nginx, a client that closes its half is gone: see `tests/real/README.md`.
#[tokio::test]
async fn a_client_that_half_closes_is_answered_no_more() {
    let (app, held) = app::http().held("/held", "at last");
    let app = app.run().await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write("GET /held HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    held.reached().await;
    peer.half_close().await;
    assert!(peer.rest().await.is_empty());
    let spans = collector.spans(2).await;
    assert!(
        spans
            .iter()
            .all(|span| span.attr("error.type") == "cancelled"),
        "{spans:?}"
    );
    held.release();
}

/// What the app asked for and hopspan refused is no answer of the service.
#[tokio::test]
async fn a_call_that_hopspan_refuses_says_why() {
    let collector = collector::grpc();
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .run()
        .await;
    let rows = [
        (
            "a:70000",
            "400",
            "http_request_error",
            "the port is not one",
        ),
        ("a:+80", "400", "http_request_error", "the port is not one"),
        (
            "169.254.169.254",
            "403",
            "destination_ip_prohibited",
            "169.254.169.254:80 is not allowed as a destination: cloud metadata",
        ),
    ];
    for (host, status, kind, why) in rows {
        let mut peer = raw::connect(hopspan.outbound).await;
        peer.write(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        let answer = peer.response().await;
        assert_eq!(answer.status.to_string(), status, "{host}");
        assert_eq!(answer.proxy_error(), Some(kind), "{host}");
        let span = collector.spans(1).await.remove(0);
        // Of an answer that was received.
        assert_eq!(span.attr("http.response.status_code"), "", "{host}");
        assert_eq!(span.attr("error.type"), kind, "{host}");
        assert!(span.message.starts_with(why), "{span:?}");
        collector.spans.clear();
    }
}

/// Who looks for what is wrong should not look for a server that refuses.
#[tokio::test]
async fn a_socket_of_the_app_that_is_not_there_is_told_as_such() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), collector::grpc());
    let path = folder.path().join("app.sock");
    let hopspan = sidecar::to(raw::closed_port())
        .collector(&collector)
        .set("inbound.app", json!(format!("unix:{}", path.display())))
        .run()
        .await;
    let told = |what: &str| format!("unix:{}{what}", path.display());
    let answer = client::get(hopspan.inbound, "/").send().await;
    assert_eq!(
        (answer.status, answer.proxy_error()),
        (503, Some("destination_unavailable"))
    );
    let why = format!(
        "could not connect to {}",
        told(": the socket does not exist")
    );
    assert!(answer.text().contains(&why), "{}", answer.text());
    for span in collector.spans(2).await {
        assert_eq!(span.attr("error.type"), "destination_unavailable");
        assert_eq!(span.message, why);
    }
    // There, and nobody listens on it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let answer = client::get(hopspan.inbound, "/").send().await;
    assert_eq!(
        (answer.status, answer.proxy_error()),
        (502, Some("connection_refused"))
    );
}
