//! A trace in a line of the list.

use serde::{Deserialize, Serialize};

use super::verdict::{Case, Verdict};
use super::waterfall::{Waterfall, decimal};

/// What the list says of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// 32 hex digits.
    pub trace_id: String,
    /// Service of the first row.
    pub service: String,
    /// Name of the first row.
    pub name: String,
    /// Start of the earliest span, nanoseconds since the Unix epoch.
    #[serde(with = "decimal")]
    pub start_unix_nano: u64,
    /// Nanoseconds from the earliest start to the latest end.
    pub duration_ns: u64,
    /// Services in the order they appear.
    pub services: Vec<String>,
    /// Spans here.
    pub spans: usize,
    /// Spans that failed.
    pub error_spans: usize,
    /// Failures by origin, recovered and swallowed ones included.
    pub failures: usize,
    /// Parents that are not here (yet).
    pub missing: usize,
    /// Whether the trace as a whole failed: a failure that was recovered or swallowed does not count.
    pub failed: bool,
    /// What is said of it.
    pub verdict: Option<Verdict>,
}

impl Summary {
    /// Whether there is an error in it to look at: it failed, or somebody swallowed a failure.
    pub fn has_error(&self) -> bool {
        let said = self.verdict.as_ref();
        self.failed || said.is_some_and(|verdict| verdict.case == Case::Swallowed)
    }

    /// Sums up a trace.
    pub fn of(waterfall: &Waterfall) -> Summary {
        let top = waterfall.rows.first();
        Summary {
            trace_id: waterfall.trace_id.clone(),
            service: top.map(|row| row.service.clone()).unwrap_or_default(),
            name: top.map(|row| row.name.clone()).unwrap_or_default(),
            start_unix_nano: waterfall.start_unix_nano,
            duration_ns: waterfall.duration_ns,
            services: waterfall.services.clone(),
            spans: waterfall.rows.len(),
            error_spans: waterfall.error_spans,
            failures: waterfall.failures,
            missing: waterfall.missing,
            failed: waterfall.failed,
            verdict: waterfall.verdict.clone(),
        }
    }
}
