//! `hopspan doctor` and `hopspan explain`: to stdout, and an exit code.

use std::io::Write;
use std::process::ExitCode;

use hopspan::doctor::explain;
use hopspan::telemetry::Code;

/// `hopspan explain`: a code's page, or the list of all.
pub fn explain(code: Option<Code>) -> ExitCode {
    match code {
        Some(code) => print(explain::page(code)),
        None => print(&explain::list()),
    }
    ExitCode::SUCCESS
}

/// A reader that has left (`| head`) is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
