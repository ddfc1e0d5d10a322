//! Tokens on the wire: given to the app, taken from its calls, joined while the request is in flight, and never seen by
//! anyone else.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::app::{self, App, ReplyExt};
use crate::support::collector::{self, Collector};
use crate::support::message::Response;
use crate::support::sidecar::{self, Sidecar};
use crate::support::spans::Span;
use crate::support::w3c::Traceparent;
use crate::support::{client, raw, within};

const TOKEN: &str = "hopspan-token";

/// An app that holds every request until it is let go, and says its headers back as fields; a service that it calls.
struct Stage {
    app: App,
    service: App,
    collector: Collector,
    hopspan: Sidecar,
    gate: Arc<Semaphore>,
}

/// A request that the app holds.
struct Held {
    token: Option<String>,
    /// What the app got.
    traceparent: Traceparent,
    client: JoinHandle<Response>,
}

async fn stage(settings: &[(&str, Value)]) -> Stage {
    let gate = Arc::new(Semaphore::new(0));
    let at_the_gate = gate.clone();
    let app = app::http()
        .any(move |asked| {
            let gate = at_the_gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                let token = asked.header(TOKEN).unwrap_or("none").to_owned();
                // As an app that echoes its headers would.
                let reply = app::reply(200).header(TOKEN, &token);
                reply.header("hopspan_token", &token).text("app")
            }
        })
        .run()
        .await;
    let service = app::http()
        .any(|_| async { app::reply(200).header(TOKEN, "a-services").text("service") })
        .run()
        .await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address)
        .collector(&collector)
        .set("correlation.token", json!(true));
    let hopspan = settings.iter().fold(hopspan, |hopspan, (path, value)| {
        hopspan.set(path, value.clone())
    });
    Stage {
        hopspan: hopspan.run().await,
        app,
        service,
        collector,
        gate,
    }
}

impl Stage {
    /// A request on its own connection, held by the app.
    async fn hold(&self, request: client::Request) -> Held {
        let before = self.app.received.len();
        let client = tokio::spawn(async move { request.send().await });
        let asked = self.app.received(before + 1).await.pop().unwrap();
        Held {
            token: asked.header(TOKEN).map(str::to_owned),
            traceparent: Traceparent::only(&asked.head),
            client,
        }
    }

    fn request(&self) -> client::Request {
        client::get(self.hopspan.inbound, "/view")
    }

    /// Lets one request end, and waits for its answer.
    async fn release(&self, held: Held) -> Response {
        self.gate.add_permits(1);
        within("the answer", held.client).await.unwrap()
    }

    /// A call as the app would make it; what the service got, and the span of the call.
    async fn call(&self, token: Option<&str>, more: &[(&str, &str)]) -> (app::Asked, Span) {
        let (asked_before, spans_before) =
            (self.service.received.len(), self.collector.spans.len());
        let url = format!("http://{}/reserve", self.service.address);
        let call = client::get(self.hopspan.outbound, &url);
        let call = more
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        let call = token
            .into_iter()
            .fold(call, |call, token| call.header(TOKEN, token));
        let answer = call.send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.header(TOKEN),
            None,
            "a service's token does not reach the app"
        );
        let asked = self.service.received(asked_before + 1).await.pop().unwrap();
        untold(&asked);
        let span = self.collector.spans(spans_before + 1).await.pop().unwrap();
        (asked, span)
    }
}

/// No field of any spelling carries the token.
fn untold(asked: &app::Asked) {
    for (name, value) in &asked.head.fields {
        assert!(!name.to_lowercase().contains("hopspan"), "{name}: {value}");
    }
}

#[tokio::test]
async fn a_call_is_joined_to_the_request_in_flight_whoever_makes_it() {
    let stage = stage(&[]).await;
    let held = [
        stage.hold(stage.request()).await,
        stage.hold(stage.request()).await,
    ];
    let tokens: Vec<&str> = held
        .iter()
        .map(|held| held.token.as_deref().unwrap())
        .collect();
    assert_ne!(tokens[0], tokens[1]);
    for at in [1, 0, 1] {
        let (asked, span) = stage.call(Some(tokens[at]), &[]).await;
        let (parent, sent) = (&held[at].traceparent, Traceparent::only(&asked.head));
        assert_eq!(sent.trace_id, parent.trace_id);
        assert_eq!(
            (&span.trace_id, &span.parent),
            (&parent.trace_id, &parent.parent_id)
        );
        assert_eq!(span.attr("hopspan.parent.evidence"), "token");
        assert!(span.links.is_empty());
    }
    let metrics = stage.hopspan.metrics().await;
    assert!(
        metrics.contains("hopspan_joins_total{evidence=\"token\"} 3"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_call_that_outlives_its_request_is_linked_and_not_joined() {
    let stage = stage(&[]).await;
    let held = stage.hold(stage.request()).await;
    let (token, parent) = (held.token.clone().unwrap(), held.traceparent.clone());
    let ended = format!("{token};ended");
    // The app says that it is done, though the response is still to come.
    let (_, early) = stage.call(Some(&ended), &[]).await;
    stage.release(held).await;
    stage.collector.spans(3).await;
    let (_, late) = stage.call(Some(&token), &[]).await;
    let (_, said) = stage.call(Some(&ended), &[]).await;
    for span in [early, late, said] {
        assert_ne!(span.trace_id, parent.trace_id);
        assert_eq!(span.parent, "");
        assert_eq!(span.links, std::slice::from_ref(&parent.parent_id));
        assert_eq!(span.attr("hopspan.unlinked.reason"), "token_expired");
    }
    let metrics = stage.hopspan.metrics().await;
    let counted = "hopspan_joins_abstained_total{reason=\"token_expired\"} 3";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_token_that_names_nothing_is_counted_and_passed_over() {
    let stage = stage(&[]).await;
    let held = stage.hold(stage.request()).await;
    let token = held.token.clone().unwrap();
    let rows = [
        "",
        "x",
        "AAAAAAAAAAAAAAAAAAAAAA",
        &token[1..],
        &format!("{token}{token}"),
    ];
    for row in rows {
        let (_, span) = stage.call(Some(row), &[]).await;
        assert_ne!(span.attr("hopspan.parent.evidence"), "token", "{row}");
    }
    // Two of them are nobody's, even if one were right.
    let (_, span) = stage.call(Some(&token), &[(TOKEN, &token)]).await;
    assert_ne!(span.attr("hopspan.parent.evidence"), "token");
    let unknown = stage.hopspan.metric("hopspan_tokens_unknown_total").await;
    assert!((unknown - rows.len() as f64).abs() < 0.1, "{unknown}");
}

#[tokio::test]
async fn the_apps_own_traceparent_is_stronger() {
    let stage = stage(&[]).await;
    let held = stage.hold(stage.request()).await;
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (_, span) = stage
        .call(held.token.as_deref(), &[("traceparent", own)])
        .await;
    assert_eq!(span.parent, "b7ad6b7169203331");
    assert_eq!(span.attr("hopspan.parent.evidence"), "header");
}

#[tokio::test]
async fn baggage_is_restored_where_the_propagators_have_it() {
    for (propagators, restored) in [
        (json!(["tracecontext", "baggage"]), Some("a=b")),
        (json!(["tracecontext"]), None),
    ] {
        let stage = stage(&[("propagators", propagators)]).await;
        let request = stage.request().header("baggage", "a=b");
        let held = stage.hold(request).await;
        let (asked, span) = stage.call(held.token.as_deref(), &[]).await;
        assert_eq!(span.parent, held.traceparent.parent_id);
        assert_eq!(asked.header("baggage"), restored);
    }
}

#[tokio::test]
async fn a_client_cannot_choose_a_token_nor_read_one() {
    let stage = stage(&[("capture.request_headers", json!([TOKEN, "x-kept"]))]).await;
    let forged = "AAAAAAAAAAAAAAAAAAAAAA";
    let mut seen = std::collections::HashSet::new();
    for names in [
        vec![TOKEN],
        vec![TOKEN, TOKEN],
        vec!["Hopspan_Token"],
        vec!["HOPSPAN.TOKEN", "hopspan-token", "hopspan_token"],
    ] {
        let request = names.iter().fold(stage.request(), |request, name| {
            request.header(name, forged)
        });
        // Nominated for removal on the way: that must not take off ours.
        let request = request.header("Connection", TOKEN).header("X-Kept", "1");
        let held = stage.hold(request).await;
        let asked = stage.app.received(1).await.pop().unwrap();
        let given: Vec<_> = asked
            .head
            .fields
            .iter()
            .filter(|(name, _)| name.to_lowercase().starts_with("hopspan"))
            .collect();
        assert_eq!(given.len(), 1, "{given:?}");
        let token = held.token.clone().unwrap();
        assert_ne!(token, forged);
        assert!(seen.insert(token));
        let answer = stage.release(held).await;
        assert_eq!(answer.header(TOKEN), None);
        assert_eq!(answer.header("hopspan_token"), None);
    }
    let refused = stage.hopspan.metric("hopspan_tokens_refused_total").await;
    assert!((refused - 4.0).abs() < 0.1, "{refused}");
    for span in stage.collector.spans(8).await {
        assert_eq!(span.attr("http.request.header.hopspan-token"), "");
        if span.kind == "SERVER" {
            assert!(
                span.attr("http.request.header.x-kept").contains('1'),
                "{span:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_token_that_leaked_is_worth_nothing_to_a_client() {
    let stage = stage(&[]).await;
    let first = stage.hold(stage.request()).await;
    let leaked = first.token.clone().unwrap();
    let second = stage.hold(stage.request().header(TOKEN, &leaked)).await;
    let own = second.token.clone().unwrap();
    assert_ne!(own, leaked);
    // The call of the second is the second's, not that of whoever's token its client sent.
    let (_, span) = stage.call(Some(&own), &[]).await;
    assert_eq!(span.parent, second.traceparent.parent_id);
    let refused = stage.hopspan.metric("hopspan_tokens_refused_total").await;
    assert!((refused - 1.0).abs() < 0.1, "{refused}");
}

#[tokio::test]
async fn no_route_lets_a_token_out() {
    let service = app::service("else").await;
    let to = json!(format!("http://{}", service.address));
    let routes = json!([
        {"host": "stripped", "to": to, "propagate": false},
        {"host": "untraced", "to": to, "trace": false},
        {"host": "both", "to": to, "trace": false, "propagate": false},
        {"host": "renamed", "to": to},
    ]);
    let stage = stage(&[("outbound.routes", routes)]).await;
    let held = stage.hold(stage.request()).await;
    let token = held.token.as_deref().unwrap();
    let hosts = ["stripped", "untraced", "both", "renamed"];
    for host in hosts {
        for spelling in [TOKEN, "Hopspan_Token", "hopspan.token"] {
            let call = client::get(stage.hopspan.outbound, &format!("http://{host}/"));
            let answer = call
                .header(spelling, token)
                .header("Connection", TOKEN)
                .send()
                .await;
            assert_eq!(answer.text(), "else");
        }
    }
    let received = service.received(3 * hosts.len()).await;
    received.iter().for_each(untold);
    // A route without a span has no parent to show, but the call still belongs to the request.
    let untraced = Traceparent::only(&received[3].head);
    assert_eq!(untraced.trace_id, held.traceparent.trace_id);
}

#[tokio::test]
async fn an_upgrade_passes_without_and_a_connect_is_joined_by_its_head() {
    let upgraded = raw::server(|mut peer| async move {
        let head = peer.head().await;
        assert!(head.all(TOKEN).is_empty() && head.all("traceparent").len() == 1);
        peer.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nhopspan-token: a\r\n\r\n")
            .await;
        peer.hang().await;
    })
    .await;
    let tunnelled = raw::server(|mut peer| async move {
        let first = peer.some().await.unwrap();
        peer.write(first).await;
    })
    .await;
    let stage = stage(&[]).await;
    let held = stage.hold(stage.request()).await;
    let token = held.token.as_deref().unwrap();

    let (to, mut peer) = (upgraded.address, raw::connect(stage.hopspan.outbound).await);
    peer.write(format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{TOKEN}: {token}\r\n\r\n"))
        .await;
    let answer = peer.response().await;
    assert_eq!((answer.status, answer.header(TOKEN)), (101, None));
    drop(peer);

    let (to, mut peer) = (
        tunnelled.address,
        raw::connect(stage.hopspan.outbound).await,
    );
    peer.write(format!(
        "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{TOKEN}: {token}\r\n\r\nhello"
    ))
    .await;
    assert_eq!(peer.response_to("CONNECT").await.status, 200);
    assert_eq!(peer.rest().await, b"hello");
    drop(peer);
    for span in stage.collector.spans(2).await {
        assert_eq!(span.parent, held.traceparent.parent_id, "{span:?}");
        assert_eq!(span.attr("hopspan.parent.evidence"), "token");
    }
}

#[tokio::test]
async fn without_tokens_none_is_given_and_none_gets_out() {
    let stage = stage(&[("correlation.token", json!(null))]).await;
    let held = stage.hold(stage.request().header(TOKEN, "forged")).await;
    assert_eq!(held.token, None);
    let (_, span) = stage.call(Some("AAAAAAAAAAAAAAAAAAAAAA"), &[]).await;
    assert_ne!(span.attr("hopspan.parent.evidence"), "token");
    let answer = stage.release(held).await;
    assert_eq!(answer.header(TOKEN), None);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_token() {
    let stage = stage(&[]).await;
    let held = stage.hold(stage.request()).await;
    let token = held.token.clone().unwrap();
    held.client.abort();
    // The spans of the request end with it.
    stage.collector.spans(2).await;
    let (_, span) = stage.call(Some(&token), &[]).await;
    assert_eq!(span.attr("hopspan.unlinked.reason"), "token_expired");
}
