//! The API: lists, waiting, refusals, and who may ask.

use std::time::{Duration, Instant};

use http::{Method, Request};
use http_body_util::Full;

use super::fixture::{Running, exchange, request, span};

/// Three traces: 1 went well, 2 fails in payment, 3 fails there, which order swallows.
async fn filled() -> Running {
    let viewer = Running::start().await;
    viewer
        .send_grpc(request(
            "order",
            vec![
                span(1, 1, 0).server(200),
                span(2, 2, 0).server(500),
                span(3, 4, 0).server(200),
            ],
        ))
        .await;
    viewer
        .send_grpc(request(
            "payment",
            vec![span(2, 3, 2).server(500), span(3, 5, 4).server(503)],
        ))
        .await;
    viewer
}

fn ids(list: &serde_json::Value) -> Vec<u64> {
    list["traces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|trace| u64::from_str_radix(trace["trace_id"].as_str().unwrap(), 16).unwrap())
        .collect()
}

#[tokio::test]
async fn lists_newest_first_and_by_filter() {
    let viewer = filled().await;
    for (target, expected) in [
        ("/api/traces", vec![3, 2, 1]),
        ("/api/traces?limit=2", vec![3, 2]),
        ("/api/traces?limit=0", vec![]),
        ("/api/traces?errors=1", vec![3, 2]),
        ("/api/traces?service=payment", vec![3, 2]),
        ("/api/traces?service=payment&limit=1&errors=true", vec![3]),
        ("/api/traces?service=nobody", vec![]),
        ("/api/traces?service=pay%6Dent&errors=0", vec![3, 2]),
    ] {
        assert_eq!(
            ids(&viewer.get(target).await.unwrap()),
            expected,
            "{target}"
        );
    }
    let list = viewer.get("/api/traces?errors=1").await.unwrap();
    let swallowed = &list["traces"][0];
    assert_eq!(
        (&swallowed["failed"], &swallowed["verdict"]["sentence"]),
        (
            &serde_json::json!(false),
            &serde_json::json!("1 span failed; order answered 200 all the same")
        )
    );
    let summary = &list["traces"][1];
    assert_eq!(summary["service"], "order");
    assert_eq!(summary["services"], serde_json::json!(["order", "payment"]));
    assert_eq!(
        (summary["spans"].as_u64(), summary["failures"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(
        summary["verdict"]["sentence"],
        "payment answered 500 to GET / after 10 ms; none of its own calls failed; order passed it on"
    );
    // List, trace and drawing share one judgement.
    let trace = viewer.trace(2, "").await;
    for field in [
        "verdict",
        "failures",
        "failed",
        "duration_ns",
        "start_unix_nano",
    ] {
        assert_eq!(trace[field], summary[field], "{field}");
    }
    viewer.stop().await;
}

#[tokio::test]
async fn refusals_are_sentences() {
    let viewer = filled().await;
    for (target, words) in [
        ("/api/traces/xyz", "32 hex digits"),
        ("/api/traces/", "32 hex digits"),
        (
            "/api/traces/123456789012345678901234567890123",
            "32 hex digits",
        ),
        ("/api/traces/..%2F..%2Fetc", "32 hex digits"),
        ("/api/traces/ff", "no trace ff is here"),
        ("/api/traces/0000", "3 traces start with 0000"),
        ("/api/traces?limit=many", "`limit` is a whole number"),
        ("/api/traces?errors=maybe", "`errors` is 1 or 0"),
        (
            "/api/traces?error=1",
            "`error` is not a parameter here, these are: errors",
        ),
        ("/api/traces?service=%ff", "not UTF-8"),
        ("/api/traces/01?wait=soon", "`wait` is a duration"),
        ("/api/status?x", "no parameter is known"),
        ("/api/spans", "nothing is here"),
    ] {
        let words_got = viewer.get(target).await.unwrap_err();
        assert!(words_got.contains(words), "{target}: {words_got}");
    }
    viewer.stop().await;
}

#[tokio::test]
async fn cve_2025_24010_only_local_names_and_get_are_answered() {
    let viewer = filled().await;
    let page = viewer.addresses.page;
    let port = page.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("LOCALHOST".to_owned(), 200),
        ("[::1]:80".to_owned(), 200),
        ("localhost:9".to_owned(), 200),
        (format!("evil.example:{port}"), 403),
        ("127.0.0.1.evil.example".to_owned(), 403),
        ("localhost.".to_owned(), 403),
        ("localhost:80@evil.example".to_owned(), 403),
        (String::new(), 403),
    ] {
        let get = Request::get("/api/traces")
            .header("host", &host)
            .body(Full::default());
        let answer = exchange(page, get.unwrap()).await;
        assert_eq!(answer.status(), status, "{host}");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
    let twice = Request::get("/api/traces")
        .header("host", "localhost")
        .header("host", "localhost");
    assert_eq!(
        exchange(page, twice.body(Full::default()).unwrap())
            .await
            .status(),
        403
    );
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let other = Request::builder().method(method).uri("/api/traces");
        let answer = exchange(page, other.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "GET");
    }
    viewer.stop().await;
}

#[tokio::test]
async fn waits_for_spans_and_no_longer() {
    let viewer = Running::start().await;
    let waiting = viewer.get("/api/traces/00000000000000000000000000000001?min_spans=2&wait=30s");
    let sending = async {
        viewer
            .send_grpc(request("order", vec![span(1, 1, 0).server(200)]))
            .await;
        viewer
            .send_grpc(request("payment", vec![span(1, 2, 1).server(200)]))
            .await;
    };
    let started = Instant::now();
    let (trace, ()) = tokio::join!(waiting, sending);
    assert_eq!(trace.unwrap()["rows"].as_array().unwrap().len(), 2);
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "it did not notice"
    );
    // What is there when the time is over is answered.
    let trace = viewer.trace(1, "min_spans=3&wait=50ms").await;
    assert_eq!(trace["rows"].as_array().unwrap().len(), 2);
    let refused = viewer.get("/api/traces/ff?wait=50ms").await.unwrap_err();
    assert!(refused.contains("no trace ff"), "{refused}");
    viewer.stop().await;
}

#[tokio::test]
async fn a_whole_trace_is_one_that_has_settled() {
    let viewer = Running::start().await;
    // The root comes last, as it does when every service exports by itself.
    viewer
        .send_grpc(request("payment", vec![span(1, 2, 1).server(200)]))
        .await;
    let waiting = viewer.trace(1, "whole=1&wait=20s");
    let sending = viewer.send_grpc(request("order", vec![span(1, 1, 0).server(200)]));
    let (trace, ()) = tokio::join!(waiting, sending);
    assert_eq!(
        (
            trace["missing"].as_u64(),
            trace["rows"].as_array().unwrap().len()
        ),
        (Some(0), 2)
    );
    // A gap that is never filled is waited for, but not for the whole time.
    viewer
        .send_grpc(request("payment", vec![span(2, 2, 1).server(200)]))
        .await;
    let started = Instant::now();
    let trace = viewer.trace(2, "whole=1&wait=30s").await;
    assert_eq!(trace["missing"], 1);
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "it waited for all of it"
    );
    viewer.stop().await;
}

#[tokio::test]
async fn status_counts_what_came_and_what_is_held() {
    let viewer = filled().await;
    viewer
        .send_grpc(request("order", vec![span(1, 1, 0).server(200)]))
        .await;
    let status = viewer.get("/api/status").await.unwrap();
    for (field, expected) in [
        ("requests", 3),
        ("spans_received", 6),
        ("spans_duplicate", 1),
        ("spans", 5),
        ("traces", 3),
        ("traces_evicted", 0),
    ] {
        assert_eq!(status[field], expected, "{field}");
    }
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["otlp_grpc"], viewer.addresses.grpc.to_string());
    assert_eq!(status["otlp_http"], viewer.addresses.http.to_string());
    assert_eq!(status["evicting_since"], serde_json::Value::Null);
    viewer.stop().await;
}
