//! Whether the collector is there: a connection for the start line, an empty request for `doctor`. Neither waits longer
//! than it is told to, and neither is part of exporting.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::dial::Dialer;
use super::endpoint::Endpoint;
use super::transport::Transport;
use crate::config::Export;

/// An ExportTraceServiceRequest with one `ResourceSpans` that has nothing in it (field 1, length 0).
const NOTHING: [u8; 2] = [0x0a, 0];

/// What came of asking for the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing is exported.
    Disabled,
    /// It accepts connections, and TLS where it has that ([`fn@reach`]); whether it takes spans was not asked.
    Accepts,
    /// It takes spans ([`try_out`]).
    Answers,
    /// It cannot be connected to, and why.
    Unreachable(String),
    /// It did not answer in time.
    TimedOut,
    /// It answers and would not take spans, and why.
    Rejects(String),
    /// The settings cannot work, and why.
    Wrong(String),
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reach::Disabled => f.write_str("disabled"),
            Reach::Accepts => f.write_str("accepts connections"),
            Reach::Answers => f.write_str("answers"),
            Reach::TimedOut => f.write_str("did not answer in time"),
            Reach::Unreachable(why) => write!(f, "does not answer: {why}"),
            Reach::Rejects(why) | Reach::Wrong(why) => f.write_str(why),
        }
    }
}

/// Where spans would go, as shown to people; empty where the settings cannot work.
pub fn endpoint(settings: &Export) -> String {
    let endpoint = Endpoint::resolve(settings);
    endpoint
        .map(|endpoint| endpoint.shown())
        .unwrap_or_default()
}

/// Whether connections (and TLS) to the collector succeed.
pub async fn reach(settings: &Export, patience: Duration) -> Reach {
    if settings.disabled {
        return Reach::Disabled;
    }
    let dialer = Endpoint::resolve(settings).and_then(|end| Dialer::new(settings, &end));
    let dialer = match dialer {
        Ok(dialer) => dialer,
        Err(error) => return Reach::Wrong(error.to_string()),
    };
    match tokio::time::timeout(patience, dialer.dial()).await {
        Ok(Ok(_)) => Reach::Accepts,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => Reach::TimedOut,
        Ok(Err(error)) => Reach::Unreachable(super::transport::short(&error.to_string())),
        Err(_) => Reach::TimedOut,
    }
}

/// Whether the collector takes spans: an export request with none in it, which OTLP allows.
pub async fn try_out(settings: &Export, patience: Duration) -> Reach {
    let began = Instant::now();
    let reached = reach(settings, patience).await;
    if reached != Reach::Accepts {
        return reached;
    }
    let left = patience.saturating_sub(began.elapsed());
    let transport = Endpoint::resolve(settings).and_then(|end| Transport::new(settings, end));
    let mut transport = match transport {
        Ok(transport) => transport,
        Err(error) => return Reach::Wrong(error.to_string()),
    };
    match transport.send(Bytes::from_static(&NOTHING), left).await {
        Ok(_) => Reach::Answers,
        Err(failure) if failure.reason == "timeout" => Reach::TimedOut,
        Err(failure) => Reach::Rejects(failure.detail),
    }
}

#[cfg(test)]
mod tests;
