//! What is said about reloads: to the caller, in metrics and in the log.

use std::time::SystemTime;

use crate::config::ConfigErrors;
use crate::telemetry::Code;
use crate::telemetry::metrics::Metrics;

/// Errors of one refused file that go to the log, at most.
const LOGGED: usize = 20;

/// A reload that was taken, or that found nothing new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Generation before.
    pub from: u64,
    /// Generation now; the same where the file had not changed.
    pub to: u64,
    /// Keys whose new value is not in use until hopspan is restarted.
    pub needs_restart: Vec<String>,
}

/// How the config stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadStatus {
    /// Generation in use.
    pub generation: u64,
    /// Why the file as it is now is not in use, in full; `None` if it is.
    pub last_error: Option<String>,
    /// Keys whose new value is not in use until hopspan is restarted.
    pub needs_restart: Vec<String>,
    /// When the config in use was taken.
    pub loaded_at: SystemTime,
}

/// Sets the `hopspan_config_*` metrics.
pub(super) fn count(metrics: &Metrics, status: &ReloadStatus, successful: bool) {
    let generation = i64::try_from(status.generation).unwrap_or(i64::MAX);
    metrics.config_generation.set(generation);
    metrics
        .config_last_reload_successful
        .set(i64::from(successful));
    if successful {
        let since = status.loaded_at.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs_f64();
        metrics.config_last_reload_success_timestamp.set(seconds);
    }
    let waiting = i64::try_from(status.needs_restart.len()).unwrap_or(i64::MAX);
    metrics.config_needs_restart.set(waiting);
}

/// Logs why a file was refused, at ERROR.
pub(super) fn log_refusal(generation: u64, errors: &ConfigErrors) {
    for error in errors.0.iter().take(LOGGED) {
        tracing::error!(code = %Code::ReloadRefused, generation, "config refused: {}", error.one_line());
    }
    if let Some(more) = errors.0.len().checked_sub(LOGGED).filter(|more| *more > 0) {
        tracing::error!(
            code = %Code::ReloadRefused,
            generation,
            "config refused: {more} more errors; see hopspan check"
        );
    }
    tracing::error!(
        code = %Code::ReloadRefused,
        generation,
        "the config in use stays: generation {generation} keeps serving"
    );
}
