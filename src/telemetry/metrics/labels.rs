//! What metrics are told apart by, and the buckets of durations. Values are closed sets.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::{Family, MetricConstructor};

/// Seconds, as the HTTP conventions advise for request durations.
const DURATION_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Labels of a request duration.
#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// A known method, or `_OTHER`.
    pub http_request_method: &'static str,
    /// Status sent or received; 0 where there was none.
    pub http_response_status_code: u16,
    /// The route as configured, empty where none matched.
    pub http_route: Arc<str>,
    /// `error.type`, empty where none.
    pub error_type: &'static str,
}

/// Looked up at the end of every request: the constants, of which there are few, count by their lengths.
impl Hash for RequestLabels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let method = self.http_request_method.len() as u64;
        let error = self.error_type.len() as u64;
        let status = u64::from(self.http_response_status_code);
        state.write_u64(method << 48 | error << 16 | status);
        state.write(self.http_route.as_bytes());
    }
}

/// One label: why.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Reason {
    /// A code from a closed set.
    pub reason: &'static str,
}

/// One label: by what evidence.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct EvidenceLabel {
    /// `header`, `token`, `thread`, `serial`.
    pub evidence: &'static str,
}

/// One label: what a connection speaks.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ProtocolLabel {
    /// `http1`, `http2`, `tls`, `tcp`.
    pub protocol: &'static str,
}

/// One label: what became of spans.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Outcome {
    /// `exported`, or a drop reason (`queue_full`, `rejected`, `failed`, `shutdown`, `disabled`).
    pub outcome: &'static str,
}

/// One label: on which side.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Direction {
    /// `inbound`, `outbound`, `status`, `admin`.
    pub direction: &'static str,
}

/// The exemplar of a duration: the trace it belongs to.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Exemplar {
    /// 32 hex digits, when it is shown.
    pub trace_id: HexId,
}

/// An ID that is written as hex digits when somebody looks: each request has one, and few are ever looked at.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct HexId(pub [u8; 16]);

impl EncodeLabelValue for HexId {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let mut digits = self.0.iter();
        digits.try_for_each(|byte| write!(encoder, "{byte:02x}"))
    }
}

/// Makes duration histograms (a named type since closures have none).
#[derive(Clone)]
pub struct Durations;

impl MetricConstructor<HistogramWithExemplars<Exemplar>> for Durations {
    fn new_metric(&self) -> HistogramWithExemplars<Exemplar> {
        HistogramWithExemplars::new(DURATION_BUCKETS.into_iter())
    }
}

/// Request durations by label set.
pub type DurationFamily = Family<RequestLabels, HistogramWithExemplars<Exemplar>, Durations>;
