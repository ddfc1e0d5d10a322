//! Parsers behind a socket: request heads and bodies, response heads and bodies, first bytes (TLS, HTTP/2, PROXY), OTLP.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use hopspan::view::{ViewOptions, Viewer};

use super::{corpus, parsers, patience, random};
use crate::smuggling::bench::{Bench, Case, Side};
use crate::smuggling::strict;
use crate::support::journal::Journal;
use crate::support::sidecar::{self, Sidecar};
use crate::support::{h2, raw, tls, within};

/// Inputs that are on their way at once.
const AT_ONCE: usize = 32;

/// Says the seeds, then changed ones until time is over, some at once. Gives how many.
async fn feed<F, R>(name: &str, seeds: &[Vec<u8>], say: F) -> usize
where
    F: Fn(Vec<u8>) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    assert!(seeds.len() >= 10, "{name}: {} seeds", seeds.len());
    let mut random = random();
    let mut inputs = seeds.to_vec();
    let (mut ran, end) = (0, Instant::now() + patience());
    loop {
        for some in inputs.chunks(AT_ONCE) {
            let mut saying: JoinSet<()> = some.iter().cloned().map(&say).collect();
            let all = async { while saying.join_next().await.is_some_and(|said| said.is_ok()) {} };
            within(&format!("the ends of {name}"), all).await;
            assert!(
                saying.is_empty(),
                "{name}: one of {:?}",
                some.iter()
                    .map(|one| super::escape(one))
                    .collect::<Vec<_>>()
            );
            ran += some.len();
        }
        if Instant::now() >= end {
            println!("{name}: {} seeds, {ran} inputs", seeds.len());
            return ran;
        }
        inputs = (0..AT_ONCE).map(|_| random.changed(seeds)).collect();
    }
}

/// hopspan still serves, has lost no handler and holds no connection.
async fn unharmed(hopspan: &Sidecar) {
    assert_eq!(hopspan.metric("hopspan_panics_total").await, 0.0);
    hopspan
        .until("hopspan_connections{direction=\"inbound\"}", 0.0)
        .await;
    hopspan
        .until("hopspan_upstream_connections_open", 0.0)
        .await;
}

/// Whatever a client says: what reaches the app are whole requests by the letter, one a connection.
#[tokio::test]
async fn requests() {
    let mut seeds = corpus(include_str!("corpus/request.txt"));
    seeds.extend(parsers::rows(include_str!("../it/smuggling/http1.txt")));
    // What is a second request on purpose may be the only one once it was changed.
    for seed in &mut seeds {
        *seed = strict::latin(seed)
            .replace("smuggled", "second")
            .chars()
            .map(|char| char as u8)
            .collect();
    }
    // Rows of many fields and long ones say nothing more here.
    seeds.retain(|seed| seed.len() < 4096);
    let mut random = random();
    let end = Instant::now() + patience();
    let mut ran = 0;
    while ran == 0 || Instant::now() < end {
        let bench = Bench::hasty().await;
        let case = |number: usize| Case {
            side: Side::Inbound,
            row: format!("fuzz-{number}"),
            bytes: random.changed(&seeds),
        };
        let cases: Vec<Case> = (0..128).map(case).collect();
        bench.run(&cases).await;
        unharmed(&bench.hopspan).await;
        ran += cases.len();
    }
    println!("request: {} seeds, {ran} inputs", seeds.len());
    assert!(seeds.len() > 150, "{}", seeds.len());
}

/// Whatever an app answers: the next request gets its own answer, or none.
#[tokio::test]
async fn responses() {
    let mut seeds = corpus(include_str!("corpus/response.txt"));
    seeds.extend(parsers::rows(include_str!("../it/responses/http1.txt")));
    seeds.retain(|seed| seed.len() < 4096);
    let answers: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let known = Arc::clone(&answers);
    let app = raw::server(move |mut peer| {
        let known = Arc::clone(&known);
        async move {
            while let Some(head) = peer.try_head().await {
                let number: Option<usize> = head.target()[1..].parse().ok();
                let bytes = number.map(|number| known.lock().unwrap()[number].clone());
                let good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
                if !peer.try_write(bytes.unwrap_or_else(|| good.into())).await {
                    return;
                }
            }
        }
    })
    .await;
    let hopspan = sidecar::to(app.address)
        .set("timeouts.body_idle", json!("100ms"))
        .set("timeouts.response", json!("100ms"))
        .run()
        .await;
    let inbound = hopspan.inbound;
    feed("response", &seeds, |input| {
        let number = {
            let mut answers = answers.lock().unwrap();
            answers.push(input);
            answers.len() - 1
        };
        ask_twice(inbound, number)
    })
    .await;
    unharmed(&hopspan).await;
}

async fn ask_twice(inbound: SocketAddr, number: usize) {
    let mut peer = raw::connect(inbound).await;
    peer.write(format!("GET /{number} HTTP/1.1\r\nHost: shop\r\n\r\n"))
        .await;
    let Some(first) = peer.try_response_to("GET").await else {
        return;
    };
    // Without an end of its own it ended with the connection.
    if !first.complete || first.status == 101 {
        return;
    }
    peer.try_write("GET /good HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        .await;
    if let Some(second) = peer.try_response_to("GET").await {
        let own = (second.status, &*second.text()) == (200, "good");
        assert!(
            own || second.status >= 500,
            "{number}: {second:?} after {first:?}"
        );
    }
}

/// An app that records, and answers every head.
async fn recorder() -> (raw::Server, Journal<Vec<u8>>) {
    let records = Journal::default();
    let journal = records.clone();
    let app = raw::server(move |mut peer| {
        let journal = journal.clone();
        async move {
            let mut bytes = Vec::new();
            while let Some(more) = peer.some().await {
                bytes.extend(more);
                peer.try_write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
            }
            journal.push(bytes);
        }
    })
    .await;
    (app, records)
}

async fn say(to: SocketAddr, bytes: Vec<u8>) {
    let mut peer = raw::connect(to).await;
    // A client that leaves early is not worth an answer: some stay until hopspan has had enough.
    let leaves = bytes.len().is_multiple_of(2);
    peer.try_write(bytes).await;
    if leaves {
        peer.half_close().await;
    }
    peer.closed().await;
}

/// First bytes of connections: what begins each protocol, and the frames of HTTP/2.
fn beginnings() -> Vec<Vec<u8>> {
    let mut seeds = corpus(include_str!("corpus/first.txt"));
    let mut http2 = h2::PREFACE.to_vec();
    http2.extend(h2::frame(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]));
    let head = h2::hpack(&h2::get("/a"));
    let post = h2::hpack(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/b"),
        (":authority", "shop"),
        ("content-length", "3"),
    ]);
    for frames in [
        h2::frame(h2::HEADERS, h2::WHOLE, 1, &head),
        [
            h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &post),
            h2::frame(h2::DATA, h2::END_STREAM, 1, b"abc"),
        ]
        .concat(),
        [
            h2::frame(h2::HEADERS, h2::END_STREAM, 1, &head[..9]),
            h2::frame(h2::CONTINUATION, h2::END_HEADERS, 1, &head[9..]),
        ]
        .concat(),
        [
            h2::frame(h2::PING, 0, 0, b"12345678"),
            h2::frame(h2::PRIORITY, 0, 3, &[0, 0, 0, 1, 9]),
            h2::frame(h2::RST_STREAM, 0, 1, &[0; 4]),
        ]
        .concat(),
        [
            h2::frame(h2::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
            h2::frame(h2::GOAWAY, 0, 0, &[0; 8]),
        ]
        .concat(),
    ] {
        seeds.push([http2.clone(), frames].concat());
    }
    seeds
}

#[tokio::test]
async fn first_bytes() {
    let (app, records) = recorder().await;
    let authority = tls::Authority::new();
    let files = authority.issue(&["localhost"]);
    let hasty = sidecar::to(app.address)
        .set("timeouts.header", json!("200ms"))
        .set("timeouts.handshake", json!("200ms"))
        .set("timeouts.idle", json!("300ms"))
        .set("timeouts.body_idle", json!("200ms"));
    let with_tls = hasty
        .clone()
        .set(
            "inbound.tls",
            json!({ "cert": files.cert, "key": files.key, "plaintext": true }),
        )
        .run()
        .await;
    let with_proxy = hasty
        .set("inbound.proxy_protocol", json!(["127.0.0.0/8"]))
        .run()
        .await;
    let seeds = beginnings();
    for (name, hopspan) in [
        ("first bytes, TLS", &with_tls),
        ("first bytes, PROXY", &with_proxy),
    ] {
        let to = hopspan.inbound;
        feed(name, &seeds, |input| say(to, input)).await;
        unharmed(hopspan).await;
    }
    crate::support::eventually("the app's connections to end", || app.open() == 0).await;
    let mut requests = 0;
    for bytes in records.all() {
        let seen = strict::requests(&bytes);
        requests += seen
            .unwrap_or_else(|flaw| panic!("{flaw}: {:?}", strict::latin(&bytes)))
            .len();
    }
    assert!(requests > 3, "{requests}");
    println!("first bytes: {requests} requests at the app");
}

/// What a tracing library, or something else, sends to the viewer.
#[tokio::test]
async fn otlp() {
    let mut seeds = corpus(include_str!("corpus/otlp.txt"));
    for number in 0..10_u8 {
        let text = |text: &str| AnyValue {
            value: Some(any_value::Value::StringValue(text.to_owned())),
        };
        let span = Span {
            trace_id: vec![number + 1; 16],
            span_id: vec![number + 1; 8],
            name: "GET /".repeat(number.into()),
            start_time_unix_nano: u64::from(number) << 56,
            end_time_unix_nano: 1 << number,
            kind: number.into(),
            attributes: vec![KeyValue {
                key: "http.route".to_owned(),
                value: Some(text("<script>")),
                ..KeyValue::default()
            }],
            ..Span::default()
        };
        let scope = ScopeSpans {
            spans: vec![span; 2],
            ..ScopeSpans::default()
        };
        let resource = ResourceSpans {
            scope_spans: vec![scope],
            ..ResourceSpans::default()
        };
        seeds.push(
            ExportTraceServiceRequest {
                resource_spans: vec![resource],
            }
            .encode_to_vec(),
        );
    }
    let viewer = Viewer::bind(ViewOptions::on_free_ports()).await.unwrap();
    let addresses = viewer.addresses();
    let stop = CancellationToken::new();
    let running = tokio::spawn(viewer.run(stop.clone()));
    let to = addresses.http;
    feed("otlp", &seeds, |input| async move {
        let mut peer = raw::connect(to).await;
        let length = input.len();
        peer.write(format!(
            "POST /v1/traces HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
        peer.try_write(input).await;
        let answer = peer.response_to("POST").await;
        assert!(matches!(answer.status, 200 | 400), "{}: {}", answer.status, answer.text());
    })
    .await;
    // What was taken can be listed.
    let page = addresses.page;
    let asked = format!("GET /api/traces HTTP/1.1\r\nHost: {page}\r\n\r\n");
    assert_eq!(raw::exchange(page, asked).await.status, 200);
    stop.cancel();
    within("the viewer's end", running).await.unwrap();
}
