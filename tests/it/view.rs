//! `hopspan view` over real sockets: OTLP in, API and client out.

mod fixture;

use fixture::{Running, request, span};
use hopspan::view::client::{self, TraceArgs, Which};
use hopspan::view::terminal::ColorWhen;

#[tokio::test]
async fn takes_spans_over_grpc_and_http_into_one_trace() {
    let viewer = Running::start().await;
    viewer
        .send_grpc(request("order", vec![span(1, 1, 0).server(200)]))
        .await;
    let answer = viewer
        .send_http(request("payment", vec![span(1, 2, 1).server(200)]))
        .await;
    assert_eq!(answer.status(), 200);
    let trace = viewer.trace(1, "min_spans=2&wait=10s").await;
    assert_eq!(trace["services"], serde_json::json!(["order", "payment"]));
    assert_eq!(trace["rows"].as_array().unwrap().len(), 2);
    assert_eq!(
        trace["rows"][1]["attributes"]["http.response.status_code"],
        200
    );
    viewer.stop().await;
}

#[tokio::test]
async fn the_client_prints_json() {
    let viewer = Running::start().await;
    viewer
        .send_grpc(request("order", vec![span(1, 1, 0).server(500)]))
        .await;
    for which in [Which::Last, Which::Errors, Which::Id("0000".to_owned())] {
        let mut out = Vec::new();
        let args = TraceArgs {
            which,
            viewer: viewer.addresses.page.into(),
            json: true,
            ascii: false,
            color: ColorWhen::Never,
        };
        client::run_trace(args, &mut out).await.unwrap();
        let trace: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(trace["rows"][0]["service"], "order");
    }
    viewer.stop().await;
}
