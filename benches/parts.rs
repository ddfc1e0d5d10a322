//! Micro benchmarks of the parts of a hop: one row a part. `cargo bench --bench parts`.
//!
//! Read ratios between rows of one run, not nanoseconds: machines differ. Nothing here asserts a time.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use hopspan::config::{Config, Source};
use hopspan::routing::{self, Snapshot};
use hopspan::trace::span::{End, Kind, Moment, Name, Record, Sink, Span, child_context};
use hopspan::trace::{Context, Parent, semconv, w3c};
use http::{HeaderMap, HeaderValue};

fn main() {
    divan::main();
}

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";

#[divan::bench]
fn parse_traceparent() -> bool {
    w3c::parse_traceparent(black_box(TRACEPARENT.as_bytes())).is_ok()
}

#[divan::bench]
fn extract_context(bencher: Bencher) {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("example.com"));
    headers.insert("traceparent", HeaderValue::from_static(TRACEPARENT));
    headers.insert(
        "tracestate",
        HeaderValue::from_static("vendor=abc,other=def"),
    );
    bencher.bench_local(|| w3c::extract(black_box(&headers)));
}

#[divan::bench]
fn inject_context(bencher: Bencher) {
    let context = Context::new_root();
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("example.com"));
    bencher.bench_local(|| w3c::inject(black_box(&mut headers), &context));
}

struct Discard;
impl Sink for Discard {
    fn finished(&self, record: Box<Record>) {
        black_box(record);
    }
}

/// SERVER with eight attributes and CLIENT with four: what an inbound hop makes.
#[divan::bench]
fn two_spans(bencher: Bencher) {
    let sink: Arc<dyn Sink> = Arc::new(Discard);
    let route: Arc<str> = Arc::from("orders/<int:pk>/");
    bencher.bench_local(|| {
        let started = Moment::now();
        let root = Parent::Root { unlinked: None };
        let context = child_context(&root, Context::new_root(), true);
        let name = Name {
            method: "GET",
            target: Some(route.clone()),
        };
        let mut server = Span::start(Kind::Server, name, &root, context, started, sink.clone());
        server.attribute(semconv::HTTP_REQUEST_METHOD, "GET");
        server.attribute(semconv::URL_SCHEME, "http");
        server.attribute(semconv::URL_PATH, "/orders/17/".to_owned());
        server.attribute(semconv::HTTP_ROUTE, route.clone());
        server.attribute(semconv::SERVER_ADDRESS, "shop.example".to_owned());
        server.attribute(semconv::CLIENT_ADDRESS, "10.1.2.3".to_owned());
        server.attribute(semconv::NETWORK_PROTOCOL_VERSION, "1.1");
        server.attribute(semconv::HTTP_RESPONSE_STATUS_CODE, 200_u16);
        let parent = Parent::Local(server.context().clone());
        let context = child_context(&parent, Context::new_root(), true);
        let name = Name {
            method: "GET",
            target: None,
        };
        let mut client = Span::start(Kind::Client, name, &parent, context, started, sink.clone());
        client.attribute(semconv::HTTP_REQUEST_METHOD, "GET");
        client.attribute(semconv::NETWORK_PEER_ADDRESS, "127.0.0.1".to_owned());
        client.attribute(semconv::NETWORK_PEER_PORT, 8000_u16);
        client.attribute(semconv::HTTP_RESPONSE_STATUS_CODE, 200_u16);
        client.end(End::Complete);
        server.end(End::Complete);
    });
}

fn snapshot(routes: usize) -> Snapshot {
    let mut text = String::from("inbound:\n  routes:\n");
    for at in 0..routes {
        text.push_str(&format!(
            "    - path: area{at}/orders/<int:pk>/items/<slug:item>/\n"
        ));
    }
    let (_, snapshot) = routing::load(&Source::new("bench", text), &|_: &mut Config| {}, 1)
        .expect("the config is right");
    snapshot
}

#[divan::bench(args = [10, 100, 1000])]
fn route_last_of(bencher: Bencher, routes: usize) {
    let snapshot = snapshot(routes);
    let path = format!("/area{}/orders/17/items/red-shoes/", routes - 1);
    bencher.bench_local(|| snapshot.inbound.route(black_box(&path)).trace);
}
