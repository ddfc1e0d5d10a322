//! The command as a user meets it: exit codes, `check`, `reload`, `health`, the start line.

use std::fs;

use serde_json::Value;

use super::support::{app, binary};

const ANY: &str = "127.0.0.1:0";

/// A config file in a folder of its own.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hopspan.yaml");
    fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap().to_owned();
    (folder, name)
}

#[tokio::test]
async fn exit_codes_are_the_documented_ones() {
    let (_good_folder, good) = file("service: shop\n");
    let (_bad_folder, bad) = file("servise: shop\n");
    let rows: &[(&str, &[&str], i32)] = &[
        ("help", &["--help"], 0),
        ("version", &["--version"], 0),
        ("no command", &[], 2),
        ("unknown flag", &["run", "--nope"], 2),
        ("a good file", &["check", &good], 0),
        ("a bad file", &["check", &bad], 1),
        ("no file", &["check", "/nonexistent/hopspan.yaml"], 1),
        ("a code", &["explain", "HOP114"], 0),
        ("all codes", &["explain"], 0),
        ("no such code", &["explain", "HOP999"], 2),
        ("nobody to ask", &["health", "--status", "127.0.0.1:1"], 1),
        ("nobody to reload", &["reload", "--admin", "127.0.0.1:1"], 1),
        (
            "no viewer",
            &["trace", "--last", "--viewer", "127.0.0.1:1"],
            1,
        ),
    ];
    let mut ran = 0;
    for (case, args, code) in rows {
        let outcome = binary::run(args.iter().copied()).await;
        assert_eq!(outcome.code, *code, "{case}: {outcome:?}");
        ran += 1;
    }
    assert_eq!(ran, 13);
}

#[tokio::test]
async fn explain_prints_a_page_by_code_or_by_reason() {
    let by_code = binary::run(["explain", "hop312"]).await;
    let by_reason = binary::run(["explain", "no_inbound"]).await;
    assert!(
        by_code.stdout.starts_with("HOP312  unlinked: "),
        "{by_code:?}"
    );
    assert_eq!(by_code.stdout, by_reason.stdout);
    let unknown = binary::run(["explain", "HOP999"]).await;
    assert!(
        unknown.stderr.contains("`hopspan explain` lists them"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn check_says_where_and_what_to_write() {
    let (_folder, bad) = file(
        "service: shop\ninbound:\n  lisen: 0.0.0.0:8080\n  routes:\n    - path: a/<itn:pk>/\n",
    );
    let outcome = binary::run(["check", bad.as_str()]).await;
    for part in [
        ":3:3: error:",
        "did you mean `listen`",
        ":5:",
        "did you mean `<int:pk>`",
        "^",
        "HOP191: the config file has mistakes",
    ] {
        assert!(
            outcome.stderr.contains(part),
            "{part} missing in\n{}",
            outcome.stderr
        );
    }
    assert!(
        !outcome.stderr.contains('\u{1b}'),
        "no colour where there is no terminal"
    );
    assert_eq!(outcome.stdout, "");
}

/// The one JSON event that says hopspan serves.
fn start_event(stderr: &str) -> Value {
    stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event["message"] == "hopspan serves")
        .unwrap_or_else(|| panic!("no start event in\n{stderr}"))
}

#[tokio::test]
async fn a_running_sidecar_tells_reloads_and_stops() {
    let app = app::http().run().await;
    let (_folder, config) = file("service: shop\n");
    let to = app.address.to_string();
    let process = binary::hopspan([
        "run",
        "--config",
        &config,
        "--app",
        &to,
        "--inbound",
        ANY,
        "--outbound",
        ANY,
        "--status",
        ANY,
        "--admin",
        ANY,
    ]);
    process.line("hopspan serves").await;
    let event = start_event(&process.stderr());
    assert_eq!(event["generation"], 1);
    assert_eq!(event["version"], env!("CARGO_PKG_VERSION"));
    let admin = event["admin"].as_str().unwrap().to_owned();
    let status = event["status"].as_str().unwrap().to_owned();

    let healthy = binary::run(["health", "--status", &status]).await;
    assert_eq!((healthy.code, healthy.stdout.as_str()), (0, "ok\n"));

    fs::write(&config, "service: shop\nsampling: { ratio: 0.5 }\n").unwrap();
    let reloaded = binary::run(["reload", "--admin", &admin]).await;
    assert_eq!(reloaded.code, 0, "{reloaded:?}");
    // The watch may have been first; the generation that serves is told either way.
    assert!(reloaded.stdout.contains("-> 2"), "{reloaded:?}");

    fs::write(&config, "sampling: { ratio: 7 }\n").unwrap();
    let refused = binary::run(["reload", "--admin", &admin]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("hopspan.yaml:1:"), "{refused:?}");
    let logged = process.line("config refused").await;
    assert!(logged.contains(r#""code":"HOP192""#), "{logged}");
    let after = binary::run(["health", "--status", &status]).await;
    assert_eq!(after.code, 0, "the last good config serves on");

    let drained = binary::run(["drain", "--admin", &admin]).await;
    assert_eq!(drained.code, 0, "{drained:?}");
    let unready = binary::run(["health", "--status", &status]).await;
    assert_eq!((unready.code, unready.stderr.as_str()), (1, "draining\n"));

    process.signal(libc::SIGTERM);
    assert_eq!(process.exit().await, 0, "{}", process.stderr());
}
