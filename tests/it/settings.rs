//! Settings that say what is recorded, told and passed on, each with another value than its default: what reaches the app,
//! the services and the collector shows that it acts. Those whose value shows only after a while are in
//! `holding/defaults.rs`; those of lists of destinations in `destinations.rs`.

use serde_json::{Value, json};

use crate::support::app::{self, App};
use crate::support::collector::{self, Collector};
use crate::support::sidecar::{self, Sidecar};
use crate::support::spans::Span;
use crate::support::tls::{self, Authority};
use crate::support::w3c::Traceparent;
use crate::support::{client, h2_server, python, raw, within};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// An app, and hopspan with these settings; the app is the service that is called as well.
struct Stage {
    app: App,
    collector: Collector,
    hopspan: Sidecar,
}

async fn stage(settings: &[(&str, Value)]) -> Stage {
    let app = app::service("app").await;
    let collector = collector::grpc();
    let hopspan = sidecar::to(app.address).collector(&collector);
    let hopspan = settings.iter().fold(hopspan, |hopspan, (path, value)| {
        hopspan.set(path, value.clone())
    });
    let hopspan = hopspan.run().await;
    Stage {
        app,
        collector,
        hopspan,
    }
}

impl Stage {
    /// What reaches the app of a GET with these fields; `url`: a path, or a whole URL for a call through outbound.
    async fn get(&self, url: &str, fields: &[(&str, &str)]) -> app::Asked {
        let before = self.app.received.len();
        let to = match url.starts_with('/') {
            true => self.hopspan.inbound,
            false => self.hopspan.outbound,
        };
        let request = fields
            .iter()
            .fold(client::get(to, url), |request, (name, value)| {
                request.header(name, value)
            });
        assert_eq!(request.send().await.status, 200, "{url}");
        self.app.received(before + 1).await.pop().unwrap()
    }

    /// Whether a request is told to be recorded as it reaches the app.
    async fn is_recorded(&self, url: &str, fields: &[(&str, &str)]) -> bool {
        let asked = self.get(url, fields).await;
        Traceparent::only(&asked.head).flags & 1 == 1
    }

    /// How many of so many new traces are.
    async fn recorded(&self, of: usize) -> usize {
        let mut recorded = 0;
        for _ in 0..of {
            recorded += usize::from(self.is_recorded("/", &[]).await);
        }
        recorded
    }

    /// A call of the app to the service, which is itself.
    fn call(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.app.address.port())
    }

    /// Every span, after the end.
    async fn spans(self) -> Vec<Span> {
        assert!(self.hopspan.stop().await.flushed);
        self.collector.spans.all()
    }
}

/// A caller's context.
fn context(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

#[tokio::test]
async fn ratio_is_the_share_of_new_traces_that_are_recorded() {
    const ALL: usize = 200;
    let mut rows = 0;
    // By chance; a half comes to as few or as many as this not once in 10^16.
    for (ratio, expected) in [(json!(0), 0..=0), (json!("50%"), 40..=160)] {
        let stage = stage(&[("sampling.ratio", ratio.clone())]).await;
        let recorded = stage.recorded(ALL).await;
        assert!(expected.contains(&recorded), "{ratio}: {recorded}");
        // A caller's word is kept.
        let caller = context("01");
        assert!(stage.is_recorded("/", &[("traceparent", &caller)]).await);
        // A span for the request, and one for the hop to the app.
        assert_eq!(stage.spans().await.len(), (recorded + 1) * 2, "{ratio}");
        rows += 1;
    }
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn parent_based_is_whether_a_callers_decision_is_followed() {
    let mut rows = 0;
    for (ratio, parent_based, flags, expected) in [
        (0, true, "01", true),
        (0, false, "01", false),
        (1, true, "00", false),
        (1, false, "00", true),
    ] {
        let settings = [
            ("sampling.ratio", json!(ratio)),
            ("sampling.parent_based", json!(parent_based)),
        ];
        let stage = stage(&settings).await;
        let caller = context(flags);
        let recorded = stage.is_recorded("/", &[("traceparent", &caller)]).await;
        assert_eq!(recorded, expected, "{ratio} {parent_based} {flags}");
        let spans = stage.spans().await;
        assert_eq!(spans.len(), if expected { 2 } else { 0 });
        rows += 1;
    }
    assert_eq!(rows, 4);
}

#[tokio::test]
async fn rate_is_how_many_new_traces_are_recorded() {
    let stage = stage(&[("sampling.rate", json!("1/m"))]).await;
    // The first, and one for each minute that this takes.
    let recorded = stage.recorded(50).await;
    assert!((1..10).contains(&recorded), "{recorded}");
    let caller = context("01");
    assert!(stage.is_recorded("/", &[("traceparent", &caller)]).await);
    assert_eq!(stage.spans().await.len(), (recorded + 1) * 2);
}

#[tokio::test]
async fn a_route_has_a_share_of_its_own() {
    let stage = stage(&[
        (
            "inbound.routes",
            json!([{ "path": "quiet", "ratio": 0 }, { "path": "loud" }]),
        ),
        (
            "outbound.routes",
            json!([{ "host": "127.0.0.1", "ratio": 0 }, { "host": "localhost" }]),
        ),
    ])
    .await;
    let (quiet, loud) = (stage.call("127.0.0.1"), stage.call("localhost"));
    for (url, expected) in [
        ("/quiet", false),
        ("/loud", true),
        (&*quiet, false),
        (&*loud, true),
    ] {
        assert_eq!(stage.is_recorded(url, &[]).await, expected, "{url}");
    }
    assert_eq!(stage.spans().await.len(), 3);
}

#[tokio::test]
async fn a_route_has_an_app_a_protocol_and_a_timeout_of_its_own() {
    let (app, held) = app::http().held("/slow", "late");
    let app = app.run().await;
    let (other, http2) = (app::service("other").await, h2_server::run("http2").await);
    let hopspan = sidecar::to(app.address)
        .set(
            "inbound.routes",
            json!([
                { "path": "other", "app": other.address.to_string() },
                { "path": "http2", "app": http2.address.to_string(), "protocol": "h2" },
                { "path": "slow", "timeout": "100ms" },
            ]),
        )
        .run()
        .await;
    let get = async |path: &str| client::get(hopspan.inbound, path).send().await;
    assert_eq!(get("/other").await.text(), "other");
    assert_eq!(get("/http2").await.text(), "http2");
    let late = get("/slow").await;
    assert_eq!(
        (late.status, late.proxy_error()),
        (504, Some("http_response_timeout"))
    );
    held.release();
    // Not even that, where a busy machine took the time to connect.
    let here = app.received.all();
    assert!(here.iter().all(|asked| asked.path() == "/slow"), "{here:?}");
}

#[tokio::test]
async fn values_of_parameters_are_redacted_that_redact_names() {
    let stage = stage(&[("capture.redact", json!(["card"]))]).await;
    let query = "?card=4111&n=1";
    let call = format!("{}{query}", stage.call("127.0.0.1"));
    for url in [&*format!("/pay{query}"), &call] {
        let asked = stage.get(url, &[]).await;
        assert!(asked.head.target().ends_with(query), "as it came");
    }
    let spans = stage.spans().await;
    assert_eq!(spans.len(), 3);
    for span in spans {
        let told = match span.kind {
            "SERVER" => span.attr("url.query"),
            _ => span.attr("url.full"),
        };
        assert!(told.ends_with("card=REDACTED&n=1"), "{span:?}");
        let shown = format!("{:?}", span.attributes);
        assert!(!shown.contains("4111"), "{shown}");
    }
}

#[tokio::test]
async fn without_tracecontext_among_the_propagators_headers_pass_as_they_are() {
    for propagators in [json!([]), json!(["baggage"])] {
        let stage = stage(&[("propagators", propagators)]).await;
        let caller = context("01");
        let fields = [("traceparent", &*caller), ("baggage", "a=b")];
        for url in ["/", &stage.call("127.0.0.1")] {
            let asked = stage.get(url, &fields).await;
            assert_eq!(asked.header("traceparent"), Some(&*caller));
            assert_eq!(asked.header("baggage"), Some("a=b"));
            let asked = stage.get(url, &[]).await;
            assert_eq!(asked.header("traceparent"), None);
        }
        // The spans are of traces of their own.
        let spans = stage.spans().await;
        assert_eq!(spans.len(), 6);
        assert!(spans.iter().all(|span| span.trace_id != TRACE));
    }
}

#[tokio::test]
async fn resource_is_on_what_is_exported() {
    let stage = stage(&[("resource", json!({ "deployment.environment.name": "prod" }))]).await;
    stage.get("/", &[]).await;
    for span in stage.spans().await {
        assert_eq!(span.resource["deployment.environment.name"], "prod");
    }
}

#[tokio::test]
async fn a_collector_that_asks_for_a_certificate_is_shown_the_clients() {
    let (app, collector, ca) = (
        app::service("app").await,
        collector::http(),
        Authority::new(),
    );
    let (files, ours) = (ca.issue(&["localhost"]), ca.issue(&["hopspan"]));
    let asking = sidecar::to(collector.address)
        .set("inbound.tls.cert", json!(tls::text(&files.cert)))
        .set("inbound.tls.key", json!(tls::text(&files.key)))
        .set("inbound.tls.client_ca", json!(tls::text(&ca.file())))
        .run()
        .await;
    let endpoint = format!("https://localhost:{}", asking.inbound.port());
    let without = sidecar::to(app.address)
        .set("export.disabled", json!(false))
        .set("export.endpoint", json!(endpoint))
        .set("export.certificate", json!(tls::text(&ca.file())));
    let with = without
        .clone()
        .set("export.client_certificate", json!(tls::text(&ours.cert)))
        .set("export.client_key", json!(tls::text(&ours.key)));
    let without = without.set("timeouts.flush", json!("100ms"));
    let with = with.set("timeouts.flush", json!("1m"));
    for (hopspan, told) in [(without, false), (with, true)] {
        let hopspan = hopspan.run().await;
        client::get(hopspan.inbound, "/").send().await;
        assert_eq!(hopspan.stop().await.flushed, told);
        assert_eq!(collector.spans.len(), if told { 2 } else { 0 });
    }
}

#[tokio::test]
async fn no_rung_that_is_off_joins_a_call() {
    let service = crate::joins::callee().await;
    let app = raw::closed_port();
    let hopspan = sidecar::to(app)
        .set("correlation", json!({ "thread": false, "serial": false }))
        .run()
        .await;
    let gunicorn = python::gunicorn_at(app).args(["--workers", "2"]);
    let _django = gunicorn.proxy(hopspan.outbound).run().await;
    let joined = crate::joins::joined(hopspan.inbound, &service, 2, 20).await;
    assert_eq!(joined, 0);
    let off = "hopspan_joins_abstained_total{reason=\"off\"}";
    let metrics = within("metrics", hopspan.metrics()).await;
    assert!(sidecar::sum(&metrics, off) >= 1.0, "{metrics}");
}
