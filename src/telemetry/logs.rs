//! Logs: text on a terminal, JSON otherwise, on stderr. Level by `HOPSPAN_LOG` (an env-filter), format by
//! `HOPSPAN_LOG_FORMAT` (`text` or `json`).
//!
//! Libraries are quiet by default (hyper, h2, tonic at warn): they would log per request.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged unless `HOPSPAN_LOG` says otherwise.
pub const DEFAULT_FILTER: &str =
    "info,hyper=warn,h2=warn,tonic=warn,tower=warn,opentelemetry=warn,rustls=warn";

/// Installs the subscriber for the process. A second call does nothing (tests).
///
/// A filter that does not parse is reported on stderr and the default is used: a typo must not stop a sidecar.
pub fn init() {
    let asked = std::env::var("HOPSPAN_LOG").unwrap_or_default();
    let filter = if asked.is_empty() {
        EnvFilter::new(DEFAULT_FILTER)
    } else {
        EnvFilter::try_new(format!("{DEFAULT_FILTER},{asked}")).unwrap_or_else(|error| {
            eprintln!("hopspan: HOPSPAN_LOG: {error}; using the default");
            EnvFilter::new(DEFAULT_FILTER)
        })
    };
    let json = match std::env::var("HOPSPAN_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        _ => !std::io::stderr().is_terminal(),
    };
    let color = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // Already installed is fine: several sidecars share one test process.
    let _ = if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
            .map_err(drop)
    } else {
        builder.with_ansi(color).try_init().map_err(drop)
    };
}
