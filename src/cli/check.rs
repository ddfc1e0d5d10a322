//! `hopspan check FILE`: parses and compiles the config and exits, like `nginx -t`. All errors at once, on stderr.

use std::path::Path;
use std::process::ExitCode;

use hopspan::config::{ConfigErrors, Source};
use hopspan::routing;
use hopspan::telemetry::Code;

/// 0 if a sidecar would take the file.
pub fn check(file: &Path) -> ExitCode {
    let source = match Source::read(file) {
        Ok(source) => source,
        Err(errors) => return refused(&errors),
    };
    match routing::load(&source, &|_| {}, 1) {
        Ok(_) => {
            println!("{}: ok", file.display());
            ExitCode::SUCCESS
        }
        Err(errors) => refused(&errors),
    }
}

fn refused(errors: &ConfigErrors) -> ExitCode {
    eprintln!("{}", errors.render(super::colors(&std::io::stderr())));
    // As doctor says it, so that one search finds both.
    let code = Code::ConfigInvalid;
    eprintln!("{code}: {} (hopspan explain {code})", code.title());
    ExitCode::FAILURE
}
