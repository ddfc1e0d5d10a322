//! Doctor on a host without a sidecar: what one would be able to do, and with which settings.

use super::{doctor, hasty_doctor};
use crate::support::{app, binary, collector, python, raw};

/// Nobody listens there.
fn nobody() -> String {
    raw::closed_port().to_string()
}

/// A config file in a folder of its own, whose admin listener nobody has.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hopspan.yaml");
    std::fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap().to_owned();
    (folder, name)
}

#[tokio::test]
async fn it_says_what_this_host_allows() {
    let django = python::gunicorn().args(["--workers", "2"]).run().await;
    let collector = collector::http();
    let endpoint = collector.endpoint();
    let (_folder, config) = file(&format!("admin: {{ listen: '{}' }}\n", nobody()));
    let app = django.address.to_string();
    let args = ["--config", &config, "--app", &app, "--fail-on", "warn"];
    let told = doctor(&args, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    assert_eq!(told.code, 0, "{:#}", told.report);
    told.has("HOP101", "note", "what the host would allow");
    told.has("HOP104", "ok", &app);
    told.has("HOP124", "ok", "gunicorn serves by one request per process");
    told.has("HOP123", "ok", "serial: works");
    told.has("HOP172", "ok", "answers; no span was sent yet");
    told.has("HOP151", "note", "token: off");
    // It tried: the collector was asked, and got no span.
    assert_eq!(collector.exports.all()[0].spans, 0);
}

#[tokio::test]
async fn the_environment_is_read_as_a_sidecar_would() {
    let admin = nobody();
    let off = doctor(
        &["--admin", &admin],
        &[
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_PROPAGATORS", "baggage"),
            ("OTEL_TRACES_SAMPLER", "always_off"),
        ],
    )
    .await;
    off.has("HOP171", "warn", "export is disabled");
    off.has("HOP112", "warn", "no traceparent");
    off.has("HOP113", "warn", "ratio is 0");
    off.has("HOP101", "error", "no sidecar answers");
    off.has(
        "HOP104",
        "note",
        "nothing accepts connections at 127.0.0.1:8000",
    );
}

#[tokio::test]
async fn collectors_that_would_not_take_spans_are_told_apart() {
    let other = app::http().run().await;
    let rows = [
        (raw::closed_port(), "HOP172", "cannot be reached"),
        (other.address, "HOP174", "404"),
    ];
    for (address, code, words) in rows {
        let endpoint = format!("http://{address}");
        let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
        let told = doctor(&["--admin", &nobody()], &env).await;
        told.has(code, "error", words);
    }
    let mute = raw::server(|mut peer| async move { peer.closed().await }).await;
    let endpoint = format!("http://{}", mute.address);
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let told = hasty_doctor(&["--admin", &nobody()], &env).await;
    told.has("HOP173", "error", "did not answer in time");
}

#[tokio::test]
async fn a_file_is_judged_before_anybody_starts_with_it() {
    let text = format!(
        "admin: {{ listen: '{}' }}\noutbound: {{ clients: [0.0.0.0/0] }}\n",
        nobody()
    );
    let (_folder, good) = file(&text);
    let told = doctor(&["-c", &good], &[]).await;
    told.has("HOP191", "ok", "no mistakes");
    told.has("HOP195", "warn", "outbound serves everyone");
    told.has(
        "HOP104",
        "error",
        "nothing accepts connections at 127.0.0.1:8000",
    );

    let (_folder, bad) = file("servise: shop\ninbuond: {}\n");
    let told = doctor(&["-c", &bad, "--admin", &nobody()], &[]).await;
    told.has("HOP191", "error", "hopspan.yaml:1:1: ");
    told.has("HOP191", "error", "(and 1 more)");
}

#[tokio::test]
async fn usage_is_2() {
    let rows: [(&[&str], i32); 4] = [
        (&["doctor", "-o", "yaml"], 2),
        (&["doctor", "--fail-on", "note"], 2),
        (&["doctor", "--wait", "soon"], 2),
        (&["doctor", "--nope"], 2),
    ];
    for (args, code) in rows {
        let outcome = binary::run(args.iter().copied()).await;
        assert_eq!(outcome.code, code, "{args:?} {outcome:?}");
        assert_eq!(outcome.stdout, "");
    }
}

#[tokio::test]
async fn variables_that_are_not_understood_are_told() {
    let env = [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
    ];
    let told = doctor(&["--admin", &nobody()], &env).await;
    told.has("HOP196", "error", "OTEL_EXPORTER_OTLP_ENDPOINT: ");
    let told = doctor(&["--admin", &nobody()], &env[..1]).await;
    told.has("HOP196", "warn", "OTEL_EXPORTER_OTLP_TIMEOUT: ");
}

#[tokio::test]
async fn a_manifest_is_judged_without_a_cluster() {
    let deployed = python::root().join("deploy/kubernetes/deployment.yaml");
    let healthy = doctor(
        &["-f", deployed.to_str().unwrap(), "--fail-on", "warn"],
        &[],
    )
    .await;
    assert_eq!(healthy.code, 0, "{:#}", healthy.report);
    healthy.has(
        "HOP208",
        "ok",
        "Deployment order: hopspan is a native sidecar",
    );
    let text = std::fs::read_to_string(&deployed).unwrap();
    let (_folder, alone) = file(&text.replace("shareProcessNamespace: true", "hostNetwork: false"));
    // Where the environment names a config, too.
    let env = [("HOPSPAN_CONFIG", "/nowhere.yaml")];
    let told = doctor(&["-f", &alone, "--fail-on", "warn"], &env).await;
    assert_eq!(told.code, 3, "{:#}", told.report);
    told.has("HOP203", "warn", "does not share its process namespace");
    let absent = doctor(&["-f", "/nowhere.yaml", "--fail-on", "error"], &[]).await;
    assert_eq!(absent.code, 3);
    absent.has("HOP201", "error", "No such file");
}
