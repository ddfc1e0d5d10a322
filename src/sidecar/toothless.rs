//! A sidecar whose correlation obeys not all of its rules, for `tests/adversary/run --without RULE`: the way to see that
//! the adversary would find a wrong parent. It is this library's test program, since only that can turn a rule off.

use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{Options, Sidecar};

/// What the adversary asks for, as JSON in `HOPSPAN_TOOTHLESS`.
#[derive(serde::Deserialize)]
struct Asked {
    /// hopspan's config file.
    config: std::path::PathBuf,
    /// The app, started as wrap mode does.
    command: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs until it is told to end; tests/adversary/run starts it"]
async fn a_sidecar_without_rules() {
    let asked = std::env::var("HOPSPAN_TOOTHLESS").expect("started by tests/adversary/run");
    let asked: Asked = serde_json::from_str(&asked).unwrap();
    let (program, arguments) = asked.command.split_first().unwrap();
    let mut app = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let pid = app.id();
    let sidecar = Sidecar::bind(Options {
        path: Some(asked.config),
        overlay: Arc::new(|config| config.export.disabled = true),
        child: Some(Arc::new(move || Some(pid))),
        loader: None,
        activated: super::Activated::default(),
    })
    .await
    .unwrap();
    let _running = sidecar.start();
    let ended = tokio::task::spawn_blocking(move || app.wait()).await;
    panic!("the app ended: {ended:?}");
}
