//! The compiled `hopspan`, as a user runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::client;
use super::process::Process;
use super::sidecar::Builder;

/// The command, with nothing of this shell's settings for hopspan or OpenTelemetry.
pub(crate) fn command<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let built = env!("CARGO_BIN_EXE_hopspan");
    // Another build of the same, to be measured.
    let binary = std::env::var_os("HOPSPAN_TEST_BINARY").unwrap_or_else(|| built.into());
    let mut command = Command::new(binary);
    command.args(args);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("OTEL_") || text.starts_with("HOPSPAN_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Starts it.
pub(crate) fn hopspan<'a>(args: impl IntoIterator<Item = &'a str>) -> Process {
    Process::start(command(args))
}

/// What a command that ends by itself came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs it to its end.
pub(crate) async fn run<'a>(args: impl IntoIterator<Item = &'a str>) -> Outcome {
    outcome(command(args)).await
}

/// Runs a prepared command to its end.
pub(crate) async fn outcome(command: Command) -> Outcome {
    let process = Process::start(command);
    let code = process.exit().await;
    Outcome {
        code,
        stdout: process.stdout(),
        stderr: process.stderr(),
    }
}

/// A running `hopspan run`.
pub(crate) struct Serving {
    pub(crate) process: Process,
    pub(crate) inbound: SocketAddr,
    pub(crate) outbound: SocketAddr,
    pub(crate) status: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Its config file.
    pub(crate) file: PathBuf,
    _folder: tempfile::TempDir,
}

/// `hopspan run --config ... -- wrapped`, to be changed before it starts. The folder holds the config.
pub(crate) fn wrapping_command(
    config: &Builder,
    flags: &[&str],
    wrapped: &[&str],
) -> (tempfile::TempDir, Command) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hopspan.yaml");
    std::fs::write(&file, config.text()).unwrap();
    let mut command = command(["run", "--config", file.to_str().unwrap()]);
    command.args(flags);
    if !wrapped.is_empty() {
        command.arg("--").args(wrapped);
    }
    (folder, command)
}

/// Runs `hopspan run` with a config and a command (none: beside a running app), until it serves.
pub(crate) async fn wrapping(config: &Builder, wrapped: &[&str]) -> Serving {
    wrapping_with(config, &[], wrapped).await
}

/// [`wrapping`] beside a running app, where memory is looked at: nothing asks the kernel about the app, and the first
/// requests, which take memory that stays, have been.
pub(crate) async fn warm(config: Builder) -> Serving {
    let config = config
        .set("correlation.thread", json!(false))
        .set("correlation.serial", json!(false));
    let hopspan = wrapping(&config, &[]).await;
    for _ in 0..20 {
        client::get(hopspan.inbound, "/").send().await;
    }
    hopspan
}

/// [`wrapping`] with flags of `hopspan run`.
pub(crate) async fn wrapping_with(config: &Builder, flags: &[&str], wrapped: &[&str]) -> Serving {
    let (folder, command) = wrapping_command(config, flags, wrapped);
    serving(folder, command).await
}

/// Runs a command that comes to `hopspan run`, until it serves. The folder holds its config.
pub(crate) async fn serving(folder: tempfile::TempDir, command: Command) -> Serving {
    let process = Process::start(command);
    let line = process.line("hopspan serves").await;
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = |name: &str| {
        let text = event[name].as_str().unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    Serving {
        inbound: address("inbound"),
        outbound: address("outbound"),
        status: address("status"),
        admin: address("admin"),
        file: folder.path().join("hopspan.yaml"),
        process,
        _folder: folder,
    }
}
