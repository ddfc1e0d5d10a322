//! The fixtures themselves: a test that trusts a broken fixture tests nothing.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::app::{self, ReplyExt};
use super::collector::{self, Mode};
use super::{client, python, raw, within};

#[tokio::test]
async fn app_remembers_heads_byte_for_byte_on_one_connection() {
    let app = app::http()
        .route(
            "/a",
            |asked| async move { app::reply(201).text(asked.body) },
        )
        .run()
        .await;
    let mut peer = raw::connect(app.address).await;
    for body in ["one", "two two"] {
        let head = format!(
            "POST /a?q=1 HTTP/1.1\r\nhOST: x\r\nX-One: 1\r\nCookie: a\r\nX-One: 2\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // In two writes, so that head and body may arrive apart.
        peer.write(&head).await;
        peer.write(body).await;
        let answer = peer.response().await;
        assert_eq!((answer.status, answer.text().as_str()), (201, body));
        let asked = app.received.all().pop().unwrap();
        assert_eq!(asked.head.raw, head.as_bytes());
        assert_eq!(asked.head.all("x-one"), ["1", "2"]);
        assert_eq!(asked.body, body);
        assert_eq!(asked.connection, 0);
    }
    assert_eq!(app.received.len(), 2);
    assert_eq!(app.connections.len(), 1);
    assert_eq!(client::get(app.address, "/none").send().await.status, 404);
}

#[tokio::test]
async fn client_reads_every_framing() {
    let rows: &[(&str, &str, bool)] = &[
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
            "hi",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhi", "hi", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\nT: 1\r\n\r\n",
            "hi",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
            "hi",
            false,
        ),
        (
            "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
            "",
            true,
        ),
    ];
    for (bytes, body, complete) in rows {
        let server = raw::server(move |mut peer| async move {
            peer.head().await;
            peer.write(bytes).await;
        })
        .await;
        let answer = client::get(server.address, "/").send().await;
        assert_eq!(answer.text(), *body, "{bytes:?}");
        assert_eq!(answer.complete, *complete, "{bytes:?}");
    }
    assert_eq!(rows.len(), 6);
}

#[tokio::test]
async fn raw_resets_and_closes() {
    let server = raw::server(|mut peer| async move {
        peer.head().await;
        match peer.number {
            0 => peer.reset(),
            _ => peer.half_close().await,
        }
    })
    .await;
    for _ in 0..2 {
        let mut peer = raw::connect(server.address).await;
        peer.write("GET / HTTP/1.1\r\n\r\n").await;
        assert!(peer.try_head().await.is_none());
    }
    server.accepted.at_least(2).await;
    let refused = tokio::net::TcpStream::connect(raw::closed_port()).await;
    assert_eq!(
        refused.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
}

fn export() -> ExportTraceServiceRequest {
    let text = |text: &str| AnyValue {
        value: Some(any_value::Value::StringValue(text.to_owned())),
    };
    let pair = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(text(value)),
        ..KeyValue::default()
    };
    let span = |id: u8, parent: &[u8], kind: i32, name: &str| Span {
        trace_id: vec![7; 16],
        span_id: vec![id; 8],
        parent_span_id: parent.to_vec(),
        kind,
        name: name.to_owned(),
        start_time_unix_nano: u64::from(id),
        end_time_unix_nano: 100,
        attributes: vec![pair("http.route", "a/<int:pk>/")],
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![pair("service.name", "order")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: vec![span(2, &[1; 8], 3, "POST"), span(1, &[], 2, "GET a")],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

#[tokio::test]
async fn collector_over_grpc_takes_refuses_hangs_and_dies() {
    let mut collector = collector::grpc();
    let mut client = TraceServiceClient::connect(collector.endpoint())
        .await
        .unwrap();
    client.export(export()).await.unwrap();
    let trace = collector.trace(&"07".repeat(16), 2).await;
    trace.assert_tree("order SERVER GET a\n  order CLIENT POST\n");
    assert_eq!(
        trace.the("order", "CLIENT").attr("http.route"),
        "a/<int:pk>/"
    );

    collector.set(Mode::Refuse(503));
    let refused = client.export(export()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    collector.set(Mode::Partial(1));
    let partial = client.export(export()).await.unwrap().into_inner();
    assert_eq!(partial.partial_success.unwrap().rejected_spans, 1);
    collector.set(Mode::Hang);
    let before = collector.exports.len();
    let request = tokio::spawn(async move { client.export(export()).await });
    collector.exports.at_least(before + 1).await;
    collector.stop();
    assert!(within("the broken call", request).await.unwrap().is_err());
    assert!(
        TraceServiceClient::connect(collector.endpoint())
            .await
            .is_err()
    );

    collector.set(Mode::Accept);
    collector.start();
    let mut client = TraceServiceClient::connect(collector.endpoint())
        .await
        .unwrap();
    client.export(export()).await.unwrap();
    assert_eq!(collector.spans.len(), 6);
}

#[tokio::test]
async fn collector_over_http_takes_and_refuses() {
    let collector = collector::http();
    let send = client::post(collector.address, "/v1/traces", export().encode_to_vec());
    assert_eq!(send.send().await.status, 200);
    assert_eq!(collector.spans(2).await[0].service, "order");
    collector.set(Mode::Refuse(429));
    assert_eq!(send.send().await.status, 429);
    assert_eq!(collector.exports.len(), 2);
    let garbage = client::post(collector.address, "/v1/traces", "garbage");
    assert_eq!(garbage.send().await.status, 400);
}

#[tokio::test]
async fn open_connections_are_counted() {
    let server = raw::server(|mut peer| async move { peer.hang().await }).await;
    let peer = raw::connect(server.address).await;
    server.accepted.at_least(1).await;
    assert_eq!(server.open(), 1);
    drop(peer);
    super::eventually("the end", || server.open() == 0).await;
    let slow = raw::server(|mut peer| async move {
        peer.trickle(b"abcdef", 1, Duration::from_millis(1)).await;
    })
    .await;
    assert_eq!(raw::connect(slow.address).await.rest().await, b"abcdef");
}

#[tokio::test]
async fn django_answers_under_gunicorn_and_uvicorn() {
    for server in [python::gunicorn(), python::uvicorn()] {
        let django = server.run().await;
        let order = client::get(django.address, "/orders/7/")
            .header("traceparent", "00-x")
            .send()
            .await;
        assert_eq!(order.status, 200);
        assert!(order.text().contains("00-x"), "{}", order.text());
    }
}
