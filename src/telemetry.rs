//! hopspan's own logs, counters and codes. Metric names follow Prometheus and OpenTelemetry's Prometheus mapping.
//!
//! Nothing here is on the trace export path, and nothing logs a request at info.

pub mod code;
pub mod logs;
pub mod metrics;

pub use code::Code;
pub use metrics::Metrics;
