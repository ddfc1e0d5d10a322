//! Doctor beside sidecars that run: a healthy one, and each with something wrong.

use std::net::SocketAddr;

use serde_json::json;

use super::{Told, doctor, hasty_doctor};
use crate::support::collector::Mode;
use crate::support::{app, binary, client, collector, python, raw, sidecar, within};

/// Of the sidecar whose admin listener is there.
async fn of(admin: SocketAddr, more: &[&str]) -> Told {
    let admin = admin.to_string();
    let mut args = vec!["--admin", admin.as_str()];
    args.extend(more);
    doctor(&args, &[]).await
}

#[tokio::test]
async fn a_healthy_sidecar_has_nothing_to_mend() {
    let (service, collector) = (app::http().run().await, collector::http());
    let app = raw::closed_port();
    let mut command = python::gunicorn_command();
    command.extend([
        "--bind".to_owned(),
        app.to_string(),
        "--workers".to_owned(),
        "2".to_owned(),
    ]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let config = sidecar::to(app).collector(&collector);
    let hopspan = binary::wrapping(&config, &command).await;
    hopspan.process.lines(python::BOOTED, 2).await;
    for _ in 0..4 {
        let target = format!("/call/?n=2&url=http://{}/", service.address);
        let answer = client::get(hopspan.inbound, &target).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    collector.spans(16).await;
    // The collector has them a moment before hopspan hears so.
    sidecar::until(hopspan.status, "hopspan_export_spans_total", 16.0).await;

    let file = hopspan.file.to_str().unwrap().to_owned();
    let told = of(
        hopspan.admin,
        &["--config", &file, "--wait", "10s", "--fail-on", "warn"],
    )
    .await;
    assert_eq!(told.code, 0, "{:#}", told.report);
    assert_eq!(
        (told.marked("warn"), told.marked("error")),
        (vec![], vec![])
    );
    told.has("HOP101", "ok", "is ready");
    told.has(
        "HOP124",
        "ok",
        "gunicorn serves by one request per process: 3 processes",
    );
    told.has("HOP114", "ok", "8 so far");
    told.has("HOP161", "ok", "8 of 8 calls have a parent (token 8)");
    told.has("HOP172", "ok", "takes spans by http/protobuf: 16 so far");
    told.has("HOP191", "ok", "no mistakes");
    let short = binary::run([
        "doctor",
        "--admin",
        &hopspan.admin.to_string(),
        "--timeout",
        "50s",
        "-o",
        "short",
    ])
    .await;
    assert!(short.stdout.ends_with("nothing to mend\n"), "{short:?}");
    assert_eq!(short.stdout.lines().count(), 1);
}

#[tokio::test]
async fn what_is_gone_or_refused_is_found() {
    let collector = raw::closed_port();
    let django = python::uvicorn()
        .env("HTTP_PROXY", "http://127.0.0.1:3128")
        .run()
        .await;
    let base = sidecar::to(django.address)
        .set("export.disabled", json!(false))
        .set("export.endpoint", json!(format!("http://{collector}")))
        .set("export.schedule_delay", json!("20ms"));
    let hopspan = base.clone().run().await;
    client::get(hopspan.inbound, "/healthz")
        .header("traceparent", "00-xx-yy-zz")
        .send()
        .await;
    hopspan
        .at_least("hopspan_export_batches_failed_total", 1.0)
        .await;

    let told = of(hopspan.admin, &["--fail-on", "error"]).await;
    assert_eq!(told.code, 3);
    told.has("HOP172", "error", "Connection refused");
    told.has("HOP111", "warn", "1 malformed trace headers");
    told.has("HOP114", "warn", "leads elsewhere (http://127.0.0.1:3128)");
    told.has("HOP151", "warn", "token: off");
    told.has("HOP104", "ok", "accepts connections");

    // The app goes, and someone writes the file.
    drop(django);
    let changed = base.clone().set("inbound.listen", json!("127.0.0.1:1"));
    std::fs::write(&hopspan.file, changed.text()).unwrap();
    client::request("POST", hopspan.admin, "/reload")
        .send()
        .await;
    let told = of(hopspan.admin, &[]).await;
    assert_eq!(told.code, 0, "without --fail-on");
    told.has("HOP104", "error", "nothing accepts connections");
    told.has("HOP193", "warn", "inbound.listen");
    assert_eq!(told.marked("error"), ["HOP104", "HOP172"]);

    std::fs::write(&hopspan.file, "servise: shop\n").unwrap();
    client::request("POST", hopspan.admin, "/reload")
        .send()
        .await;
    client::request("POST", hopspan.admin, "/drain")
        .send()
        .await;
    let told = of(hopspan.admin, &["--config", hopspan.file.to_str().unwrap()]).await;
    told.has("HOP192", "error", "hopspan.yaml:1:1");
    told.has("HOP191", "error", "servise");
    told.has("HOP103", "warn", "draining");
}

#[tokio::test]
async fn calls_without_a_parent_are_counted_with_the_page_to_read() {
    let service = app::http().run().await;
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    let url = format!("http://{}/", service.address);
    for _ in 0..20 {
        client::get(hopspan.outbound, &url).send().await;
    }
    let told = of(hopspan.admin, &["--fail-on", "warn"]).await;
    assert_eq!(told.code, 3);
    told.has(
        "HOP161",
        "warn",
        "0 of 20 calls have a parent (); 20 have none: ",
    );
    let page = told.checks().find(|check| check.0 == "HOP161").unwrap().2;
    let code = page.split('[').nth(1).unwrap().split(']').next().unwrap();
    assert!(hopspan::doctor::explain::find(code).is_some(), "{page}");
}

#[tokio::test]
async fn tokens_that_nobody_brings_back_are_found() {
    let service = app::http().run().await;
    let app = raw::closed_port();
    let hopspan = sidecar::to(app)
        .set("correlation.token", json!(true))
        .run()
        .await;
    // No shim: only hopspan's own rungs join.
    let _django = python::gunicorn_at(app).proxy(hopspan.outbound).run().await;
    let target = format!("/call/?n=2&url=http://{}/", service.address);
    let joined = async {
        while hopspan.metric("hopspan_joins_total").await < 1.0 {
            client::get(hopspan.inbound, &target).send().await;
        }
    };
    within("a call to be joined", joined).await;
    let told = of(hopspan.admin, &[]).await;
    told.has("HOP152", "warn", "the shim is not loaded");
    let call = client::get(hopspan.outbound, &format!("http://{}/", service.address));
    call.header("hopspan-token", "of-another-sidecar")
        .send()
        .await;
    let found = of(hopspan.admin, &[]).await;
    assert!(
        found.checks().any(|check| check.0 == "HOP153"),
        "{:#}",
        found.report
    );
    assert!(told.checks().all(|check| check.0 != "HOP153"));
}

#[tokio::test]
async fn a_collector_that_refuses_spans_is_found() {
    let (app, collector) = (app::http().run().await, collector::http());
    collector.set(Mode::Refuse(403));
    let hopspan = sidecar::to(app.address).collector(&collector).run().await;
    client::get(hopspan.inbound, "/").send().await;
    hopspan.until("hopspan_export_spans_total", 2.0).await;
    let told = of(hopspan.admin, &[]).await;
    told.has("HOP174", "error", "403");
    told.has("HOP175", "warn", "rejected 2, of 2");

    let none = sidecar::to(app.address).run().await;
    let told = of(none.admin, &[]).await;
    told.has("HOP171", "warn", "export is disabled");
}

#[tokio::test]
async fn a_timeout_is_called_one() {
    // Accepts and never answers.
    let mute = raw::server(|mut peer| async move { peer.closed().await }).await;
    let admin = mute.address.to_string();
    let told = hasty_doctor(&["--admin", &admin, "--fail-on", "error"], &[]).await;
    told.has("HOP102", "error", "did not answer in time");
    assert_eq!(told.code, 3);
    // Another program on that port is no sidecar.
    let other = app::http().run().await;
    let told = of(other.address, &[]).await;
    told.has("HOP101", "error", "no sidecar answers");
}

#[tokio::test]
async fn it_waits_for_the_app_as_long_as_it_is_told_to() {
    let address = raw::closed_port();
    let hopspan = sidecar::to(address).run().await;
    let admin = hopspan.admin;
    let late = tokio::spawn(async move { of(admin, &["--wait", "30s"]).await });
    // Somebody asked, and the app was not there.
    hopspan.until("hopspan_connections", 1.0).await;
    let _listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let told = within("it to see the app", late).await.unwrap();
    told.has("HOP104", "ok", "accepts connections");

    let nobody = raw::closed_port().to_string();
    let told = doctor(&["--admin", &nobody, "--wait", "300ms"], &[]).await;
    told.has("HOP101", "error", "no sidecar answers");
}
