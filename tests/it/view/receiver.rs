//! OTLP in: both protocols, their limits, and the wrong one on a port.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{Request, Response};
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use hopspan::config::Address;
use hopspan::view::{ViewOptions, Viewer};

use super::fixture::{Running, exchange, request, span};
use crate::support::within;

const PROTOBUF: &str = "application/x-protobuf";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// POSTs to the OTLP/HTTP port.
async fn post(
    viewer: &Running,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut post = Request::post(path);
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    let post = post.body(Full::new(body.into())).unwrap();
    exchange(viewer.addresses.http, post).await
}

fn text(response: &Response<Bytes>) -> String {
    String::from_utf8_lossy(response.body()).into_owned()
}

#[tokio::test]
async fn both_protocols_and_encodings_meet_in_one_trace() {
    let viewer = Running::start().await;
    viewer
        .send_grpc(request("order", vec![span(1, 1, 0).server(200)]))
        .await;
    let plain = request("payment", vec![span(1, 2, 1).server(200)]).encode_to_vec();
    let answer = post(&viewer, "/v1/traces", &[("content-type", PROTOBUF)], plain).await;
    assert_eq!(answer.status(), 200);
    let decoded = ExportTraceServiceResponse::decode(answer.into_body()).unwrap();
    assert_eq!(decoded.partial_success, None);

    let zipped = gzip(&request("stock", vec![span(1, 3, 2).server(200)]).encode_to_vec());
    let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    assert_eq!(
        post(&viewer, "/v1/traces", &headers, zipped).await.status(),
        200
    );

    let json = serde_json::to_vec(&request("mail", vec![span(1, 4, 3).server(200)])).unwrap();
    let headers = [("content-type", "application/json; charset=utf-8")];
    let answer = post(&viewer, "/v1/traces", &headers, json).await;
    assert_eq!((answer.status().as_u16(), &*text(&answer)), (200, "{}"));

    let trace = viewer.trace(1, "min_spans=4&wait=10s").await;
    assert_eq!(
        trace["services"],
        serde_json::json!(["order", "payment", "stock", "mail"])
    );
    assert_eq!(trace["rows"].as_array().unwrap().len(), 4);
    assert_eq!(
        trace["rows"][3]["attributes"]["http.response.status_code"],
        200
    );
    assert_eq!(trace["rows"][3]["depth"], 3);
    viewer.stop().await;
}

#[tokio::test]
async fn spans_without_valid_ids_are_told_apart() {
    let viewer = Running::start().await;
    let mut bad = span(1, 2, 1);
    bad.0.trace_id.clear();
    let answer = viewer
        .send_http(request("order", vec![span(1, 1, 0), bad]))
        .await;
    let decoded = ExportTraceServiceResponse::decode(answer.into_body()).unwrap();
    assert_eq!(decoded.partial_success.unwrap().rejected_spans, 1);
    let status = viewer.get("/api/status").await.unwrap();
    assert_eq!(
        (status["spans"].as_u64(), status["spans_rejected"].as_u64()),
        (Some(1), Some(1))
    );
    viewer.stop().await;
}

#[tokio::test]
async fn what_is_not_a_trace_is_refused_in_words() {
    let viewer = Running::start().await;
    let json = [("content-type", "application/json")];
    let proto = [("content-type", PROTOBUF)];
    let zipped = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    let brotli = [("content-type", PROTOBUF), ("content-encoding", "br")];
    let garbage = Bytes::from_static(b"\xff\xff\xff\xff");
    let deep = "{\"resourceSpans\":".repeat(10_000);
    for (path, headers, body, status, words) in [
        (
            "/v1/traces",
            &proto[..],
            garbage.clone(),
            400,
            "not an OTLP export request",
        ),
        (
            "/v1/traces",
            &json[..],
            Bytes::from_static(b"{"),
            400,
            "not an OTLP/JSON export request",
        ),
        (
            "/v1/traces",
            &json[..],
            deep.into(),
            400,
            "not an OTLP/JSON export request",
        ),
        ("/v1/traces", &zipped[..], garbage.clone(), 400, "not gzip"),
        (
            "/v1/traces",
            &brotli[..],
            garbage.clone(),
            415,
            "gzip or absent",
        ),
        (
            "/v1/traces",
            &[][..],
            garbage.clone(),
            415,
            "application/x-protobuf",
        ),
        (
            "/v1/metrics",
            &proto[..],
            garbage.clone(),
            404,
            "OTEL_METRICS_EXPORTER=none",
        ),
        (
            "/v1/logs",
            &json[..],
            garbage.clone(),
            404,
            "OTEL_LOGS_EXPORTER=none",
        ),
        ("/", &proto[..], garbage.clone(), 404, "/v1/traces"),
    ] {
        let answer = post(&viewer, path, headers, body).await;
        assert_eq!(answer.status(), status, "{path}: {words}");
        assert!(text(&answer).contains(words), "{}", text(&answer));
    }
    let get = Request::get("/v1/traces").body(Full::default()).unwrap();
    assert_eq!(exchange(viewer.addresses.http, get).await.status(), 405);
    assert_eq!(viewer.get("/api/status").await.unwrap()["traces"], 0);
    viewer.stop().await;
}

#[tokio::test]
async fn cve_2024_36129_and_cve_2026_48044_requests_are_bounded_unpacked_too() {
    let viewer = Running::with(ViewOptions {
        max_message_bytes: 10_000,
        ..ViewOptions::on_free_ports()
    })
    .await;
    let large = vec![b'x'; 10_001];
    let answer = post(&viewer, "/v1/traces", &[("content-type", PROTOBUF)], large).await;
    assert_eq!(answer.status(), 413);
    assert!(text(&answer).contains("10000 bytes"), "{}", text(&answer));
    let bomb = gzip(&vec![0; 5_000_000]);
    assert!(bomb.len() < 10_000, "the bomb has to come in small");
    let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    assert_eq!(
        post(&viewer, "/v1/traces", &headers, bomb).await.status(),
        413
    );

    let many = request(
        "order",
        (1..=250).map(|id| span(1, id, 0).server(200)).collect(),
    );
    assert!(many.encoded_len() > 10_000);
    let to = format!("http://{}", viewer.addresses.grpc);
    for zipped in [false, true] {
        let mut client = TraceServiceClient::connect(to.clone()).await.unwrap();
        if zipped {
            client = client.send_compressed(tonic::codec::CompressionEncoding::Gzip);
        }
        let refused = client.export(many.clone()).await.unwrap_err();
        let expected = [tonic::Code::OutOfRange, tonic::Code::ResourceExhausted];
        assert!(expected.contains(&refused.code()), "{refused:?}");
    }
    assert_eq!(viewer.get("/api/status").await.unwrap()["spans"], 0);
    viewer.stop().await;
}

#[tokio::test]
async fn the_wrong_protocol_is_told_the_right_port() {
    let viewer = Running::start().await;
    let (grpc, http, page) = (
        viewer.addresses.grpc,
        viewer.addresses.http,
        viewer.addresses.page,
    );
    for port in [http, page] {
        let mut client = TraceServiceClient::connect(format!("http://{port}"))
            .await
            .unwrap();
        let refused = client.export(request("order", vec![])).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unimplemented);
        assert!(refused.message().contains(&grpc.to_string()), "{refused:?}");
    }
    let post = Request::post("/v1/traces").body(Full::default()).unwrap();
    let answer = exchange(grpc, post).await;
    assert_eq!(answer.status(), 415);
    assert!(
        text(&answer).contains(&http.to_string()),
        "{}",
        text(&answer)
    );
    // TLS: closed at once, so that the client does not wait for a handshake.
    let mut stream = TcpStream::connect(http).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    let mut rest = Vec::new();
    // Closed with unread bytes is a reset, which is as good.
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    let status = viewer.get("/api/status").await.unwrap();
    assert_eq!(status["protocol_mistakes"], 4);
    viewer.stop().await;
}

#[tokio::test]
async fn a_taken_port_says_which_and_what_to_do() {
    let viewer = Running::start().await;
    let taken = Address::from(viewer.addresses.http);
    let refused = Viewer::bind(ViewOptions {
        http: taken.clone(),
        ..ViewOptions::on_free_ports()
    })
    .await;
    let words = refused.err().unwrap().to_string();
    for word in [&*taken.to_string(), "OTLP/HTTP", "--http", "taken"] {
        assert!(words.contains(word), "{word} is not in: {words}");
    }
    viewer.stop().await;
}

#[tokio::test]
async fn the_page_stays_on_this_machine() {
    for host in ["0.0.0.0", "::", "192.0.2.1", "example.com"] {
        let refused = Viewer::bind(ViewOptions {
            page: Address::tcp(host, 0),
            ..ViewOptions::on_free_ports()
        })
        .await;
        let words = refused.err().unwrap().to_string();
        assert!(
            words.contains("no login") && words.contains("port-forward"),
            "{words}"
        );
    }
    for host in ["localhost", "127.0.0.2"] {
        let page = Address::tcp(host, 0);
        let bound = Viewer::bind(ViewOptions {
            page,
            ..ViewOptions::on_free_ports()
        })
        .await;
        assert!(bound.is_ok(), "{host}");
    }
}

#[tokio::test]
async fn stops_though_clients_hang() {
    let viewer = Viewer::bind(ViewOptions::on_free_ports()).await.unwrap();
    let addresses = viewer.addresses();
    let stop = CancellationToken::new();
    let task = tokio::spawn(viewer.run(stop.clone()));
    let mut hanging = Vec::new();
    for (port, bytes) in [
        (addresses.http, &b""[..]),
        (addresses.http, b"PO"),
        (
            addresses.http,
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n",
        ),
        (addresses.grpc, b"PRI * HTTP/2.0\r\n"),
        (
            addresses.page,
            b"GET /api/traces/ab?wait=30s HTTP/1.1\r\nhost: localhost\r\n\r\n",
        ),
    ] {
        let mut stream = TcpStream::connect(port).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        hanging.push(stream);
    }
    stop.cancel();
    within("its drain time to be over", task).await.unwrap();
}
