//! Trace context over the wire (W3C Trace Context level 2, Baggage): whatever comes in, exactly one valid
//! `traceparent` leaves on every hop, and what was valid is continued.

use serde_json::json;

use crate::support::app::{self, App};
use crate::support::collector::{self, Collector};
use crate::support::sidecar::{self, Sidecar};
use crate::support::w3c::Traceparent;
use crate::support::{client, raw};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

struct Stage {
    app: App,
    collector: Collector,
    hopspan: Sidecar,
}

async fn stage() -> Stage {
    let app = app::service("app").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    Stage {
        app,
        collector,
        hopspan,
    }
}

impl Stage {
    /// Sends a GET with these header lines, as bytes, to the app; returns what reached it.
    async fn inbound(&self, lines: &str) -> app::Asked {
        let before = self.app.received.len();
        let head = format!("GET /a HTTP/1.1\r\nHost: shop\r\n{lines}\r\n");
        let answer = raw::exchange(self.hopspan.inbound, head).await;
        assert_eq!(answer.status, 200, "{lines:?}: {}", answer.text());
        self.app.received(before + 1).await.pop().unwrap()
    }

    /// Sends a GET with these header lines through the outbound listener; returns what reached the service.
    async fn outbound(&self, lines: &str) -> app::Asked {
        let before = self.app.received.len();
        let to = self.app.address;
        let head = format!("GET http://{to}/b HTTP/1.1\r\nHost: {to}\r\n{lines}\r\n");
        let answer = raw::exchange(self.hopspan.outbound, head).await;
        assert_eq!(answer.status, 200, "{lines:?}: {}", answer.text());
        self.app.received(before + 1).await.pop().unwrap()
    }
}

/// Header lines with no valid context.
fn malformed() -> Vec<String> {
    let valid = format!("00-{TRACE}-{PARENT}-01");
    let upper = valid.to_uppercase();
    let values = [
        "".to_owned(),
        "00".to_owned(),
        "-".to_owned(),
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{TRACE}-{PARENT}-"),
        format!("00-{TRACE}-{PARENT}-1"),
        format!("00-{TRACE}-{PARENT}-zz"),
        format!("00-{TRACE}-{PARENT}-01-"),
        format!("00-{TRACE}-{PARENT}-01-more"),
        format!("00-{TRACE}-{PARENT}-01."),
        format!("0-{TRACE}-{PARENT}-01"),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!("0x-{TRACE}-{PARENT}-01"),
        format!("01-{TRACE}-{PARENT}-01more"),
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{}-{PARENT}-01", &TRACE[1..]),
        format!("00-{TRACE}0-{PARENT}-01"),
        format!("00-{TRACE}-{}-01", &PARENT[1..]),
        format!("00_{TRACE}_{PARENT}_01"),
        format!("00-+{}-{PARENT}-01", &TRACE[1..]),
        format!("\"{valid}\""),
        format!("{valid},{valid}"),
        upper,
        "00-42-42-01".to_owned(),
        "é".repeat(55),
        "0".repeat(8000),
    ];
    let mut lines: Vec<String> = values
        .iter()
        .map(|value| format!("traceparent: {value}\r\n"))
        .collect();
    // Several lines are no context, even if each were one.
    let other = format!("00-{}-{PARENT}-01", "1".repeat(32));
    lines.push(format!("traceparent: {valid}\r\ntraceparent: {other}\r\n"));
    lines.push(format!("traceparent: {valid}\r\nTraceParent: {valid}\r\n"));
    lines.push(format!("traceparent: {valid}\r\nTRACEPARENT: x\r\n"));
    lines
}

#[tokio::test]
async fn what_is_malformed_starts_a_new_trace_and_one_valid_traceparent_leaves() {
    let stage = stage().await;
    let rows = malformed();
    for lines in &rows {
        let with_state = format!("{lines}tracestate: a=1\r\n");
        for asked in [
            stage.inbound(&with_state).await,
            stage.outbound(&with_state).await,
        ] {
            let sent = Traceparent::only(&asked.head);
            assert_ne!(sent.trace_id, TRACE, "{lines:?}");
            assert_eq!(
                sent.flags, 3,
                "a new trace is sampled and random: {lines:?}"
            );
            // The state belonged to the context that was not one.
            assert!(asked.head.all("tracestate").is_empty(), "{lines:?}");
        }
    }
    assert_eq!(rows.len(), 30);
    let counted = stage
        .hopspan
        .metric("hopspan_context_malformed_total")
        .await;
    assert!(counted >= rows.len() as f64, "counted {counted}");
    let servers = stage.collector.spans(rows.len() * 3).await;
    let servers = servers.iter().filter(|span| span.kind == "SERVER");
    assert!(servers.clone().count() > 0);
    for span in servers {
        assert_eq!(span.parent, "", "{span:?}");
    }
}

#[tokio::test]
async fn what_is_valid_is_continued() {
    let stage = stage().await;
    // The value that comes, the flags that leave.
    let rows = [
        (format!("00-{TRACE}-{PARENT}-01"), 1),
        (format!("00-{TRACE}-{PARENT}-03"), 3),
        (format!("00-{TRACE}-{PARENT}-ff"), 3),
        (format!("  00-{TRACE}-{PARENT}-01\t"), 1),
        (format!("01-{TRACE}-{PARENT}-01"), 1),
        (format!("cc-{TRACE}-{PARENT}-01-what-the-future-holds"), 1),
    ];
    for (value, flags) in &rows {
        let asked = stage.inbound(&format!("TraceParent: {value}\r\n")).await;
        let sent = Traceparent::only(&asked.head);
        assert_eq!(sent.trace_id, TRACE, "{value:?}");
        assert_eq!(sent.flags, *flags, "{value:?}");
        assert_ne!(sent.parent_id, PARENT, "the app's parent is hopspan's span");
    }
    let spans = stage.collector.spans(rows.len() * 2).await;
    let servers: Vec<_> = spans.iter().filter(|span| span.kind == "SERVER").collect();
    assert_eq!(servers.len(), rows.len());
    for server in servers {
        assert_eq!((&*server.trace_id, &*server.parent), (TRACE, PARENT));
        let inner = spans.iter().find(|span| span.parent == server.span_id);
        let inner = inner.expect("the hop to the app");
        assert_eq!(inner.kind, "CLIENT");
    }
}

#[tokio::test]
async fn the_app_receives_the_innermost_span() {
    let stage = stage().await;
    let asked = stage.inbound("").await;
    let sent = Traceparent::only(&asked.head);
    let trace = stage.collector.trace(&sent.trace_id, 2).await;
    trace.assert_tree("shop SERVER GET\n  shop CLIENT GET\n");
    assert_eq!(trace.the("shop", "CLIENT").span_id, sent.parent_id);

    let asked = stage.outbound("").await;
    let sent = Traceparent::only(&asked.head);
    let trace = stage.collector.trace(&sent.trace_id, 1).await;
    let span = trace.the("shop", "CLIENT");
    assert_eq!(span.span_id, sent.parent_id);
    assert_ne!(span.attr("hopspan.unlinked.reason"), "", "{span:?}");
}

#[tokio::test]
async fn an_unsampled_trace_stays_so_and_makes_no_span() {
    let stage = stage().await;
    for flags in ["00", "02"] {
        let line = format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\ntracestate: a=1\r\n");
        for asked in [stage.inbound(&line).await, stage.outbound(&line).await] {
            let sent = Traceparent::only(&asked.head);
            assert_eq!(sent.trace_id, TRACE);
            assert_eq!(format!("{:02x}", sent.flags), flags);
            assert_eq!(asked.header("tracestate"), Some("a=1"));
        }
    }
    // A later, sampled one is the first to be exported.
    let asked = stage.inbound("").await;
    let later = Traceparent::only(&asked.head).trace_id;
    for span in stage.collector.spans(2).await {
        assert_eq!(span.trace_id, later);
    }
}

#[tokio::test]
async fn tracestate_and_baggage_pass_verbatim() {
    let stage = stage().await;
    let valid = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let members: Vec<String> = (0..32).map(|n| format!("k{n}=v{n}")).collect();
    let all = members.join(",");
    // Lines that come, the tracestate and the baggage that leave.
    let rows = [
        ("tracestate: a=1,b=2\r\n".to_owned(), Some("a=1,b=2"), None),
        (
            "tracestate: t@v=x; y ,  b=2\r\n".to_owned(),
            Some("t@v=x; y ,  b=2"),
            None,
        ),
        (format!("tracestate: {all}\r\n"), Some(&*all), None),
        (format!("tracestate: {all},one=more\r\n"), None, None),
        ("tracestate: \r\n".to_owned(), None, None),
        ("tracestate: no-equals\r\n".to_owned(), None, None),
        ("tracestate: a=1,a=2\r\n".to_owned(), None, None),
        (
            "baggage: user=ann%20b;p=1, x=y\r\n".to_owned(),
            None,
            Some("user=ann%20b;p=1, x=y"),
        ),
    ];
    for (lines, state, baggage) in &rows {
        for asked in [
            stage.inbound(&format!("{valid}{lines}")).await,
            stage.outbound(&format!("{valid}{lines}")).await,
        ] {
            assert_eq!(Traceparent::only(&asked.head).trace_id, TRACE, "{lines:?}");
            assert_eq!(asked.header("tracestate"), *state, "{lines:?}");
            assert_eq!(asked.header("baggage"), *baggage, "{lines:?}");
        }
    }
    assert_eq!(rows.len(), 8);
    // As much baggage as one may count on being carried is more than other fields may have.
    let most = format!("a={}", "b".repeat(8190));
    let lines = format!("{valid}baggage: {most}\r\n");
    let asked = stage.inbound(&lines).await;
    assert_eq!(asked.header("baggage"), Some(&*most));
    // More baggage than one may count on being carried (W3C Baggage 3.3.2): not brought in, but the app's own is its own.
    let large = format!("a={}", "b".repeat(9000));
    let lines = format!("{valid}baggage: {large}\r\n");
    assert!(stage.inbound(&lines).await.header("baggage").is_none());
    assert!(stage.outbound(&lines).await.header("baggage") == Some(&*large));
    // Lines of a list header are one list (RFC 9110, 5.3).
    let asked = stage
        .inbound(&format!(
            "{valid}tracestate: a=1\r\nx: y\r\ntracestate: b=2\r\n"
        ))
        .await;
    let joined = asked.header("tracestate").unwrap().replace(' ', "");
    assert_eq!(joined, "a=1,b=2");
}

#[tokio::test]
async fn from_a_peer_that_is_not_trusted_a_new_trace_begins_with_a_link() {
    let app = app::service("app").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("inbound.trust", json!(["203.0.113.0/24"]))
        .run()
        .await;
    let answer = client::get(hopspan.inbound, "/")
        .header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "a=1")
        .header("baggage", "secret=1")
        .send()
        .await;
    assert_eq!(answer.status, 200);
    let asked = app.received(1).await.pop().unwrap();
    let sent = Traceparent::only(&asked.head);
    assert_ne!(sent.trace_id, TRACE);
    assert!(asked.head.all("tracestate").is_empty());
    let trace = collector.trace(&sent.trace_id, 2).await;
    assert_eq!(trace.the("shop", "SERVER").links, [PARENT]);
}

#[tokio::test]
async fn context_is_never_leaked_where_it_should_not_go() {
    let app = app::service("third party").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set(
            "outbound.routes",
            json!([{"host": "api.example", "to": format!("http://{}", app.address), "propagate": false}]),
        )
        .run()
        .await;
    let answer = client::get(hopspan.outbound, "http://api.example/pay")
        .header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "a=1")
        .header("baggage", "secret=1")
        .send()
        .await;
    assert_eq!(answer.status, 200);
    let asked = app.received(1).await.pop().unwrap();
    for name in ["traceparent", "tracestate", "baggage"] {
        assert!(asked.head.all(name).is_empty(), "{name} leaked");
    }
    // There is a span all the same, in the app's own trace.
    let trace = collector.trace(TRACE, 1).await;
    assert_eq!(trace.the("shop", "CLIENT").parent, PARENT);
}

#[tokio::test]
async fn two_sidecars_in_a_row_make_one_tree() {
    let collector = collector::http();
    let inventory = app::service("in stock").await;
    let second = sidecar::to(inventory.address)
        .service("inventory")
        .collector(&collector)
        .run()
        .await;
    let first = sidecar::to(second.inbound)
        .service("order")
        .collector(&collector)
        .run()
        .await;
    let answer = client::get(first.inbound, "/x").send().await;
    assert_eq!(answer.text(), "in stock");
    let asked = inventory.received(1).await.pop().unwrap();
    let trace_id = Traceparent::only(&asked.head).trace_id;
    collector.trace(&trace_id, 4).await.assert_tree(
        "
        order SERVER GET
          order CLIENT GET
            inventory SERVER GET
              inventory CLIENT GET
        ",
    );
}
