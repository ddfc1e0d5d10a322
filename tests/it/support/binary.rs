//! The compiled `hopspan`, as a user runs it.

use std::process::Command;

use super::process::Process;

/// The command, with nothing of this shell's settings for hopspan or OpenTelemetry.
pub(crate) fn command<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hopspan"));
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
