//! hopspan's own logs and counters. Metric names follow Prometheus and OpenTelemetry's Prometheus mapping.
//!
//! Nothing here is on the trace export path, and nothing logs a request at info.

pub mod logs;
pub mod metrics;

pub use metrics::Metrics;
