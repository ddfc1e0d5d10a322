//! Sampling, capture and propagation, compiled.

use std::sync::Arc;

use http::HeaderName;

use crate::config::{Config, Fault, Propagator};

/// How a new trace is decided on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SamplerKind {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share, from 0 to 1 without the ends.
    Ratio(f64),
}

impl SamplerKind {
    /// The sampler for a share.
    pub fn for_ratio(share: f64) -> SamplerKind {
        if share >= 1.0 {
            SamplerKind::AlwaysOn
        } else if share <= 0.0 {
            SamplerKind::AlwaysOff
        } else {
            SamplerKind::Ratio(share)
        }
    }
}

/// Which traces are recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingPolicy {
    /// For traces that begin here.
    pub sampler: SamplerKind,
    /// Whether a parent's decision is followed.
    pub parent_based: bool,
    /// New traces recorded per second at most.
    pub rate: Option<f64>,
}

impl SamplingPolicy {
    pub(super) fn compile(config: &Config) -> SamplingPolicy {
        SamplingPolicy {
            sampler: SamplerKind::for_ratio(config.sampling.ratio.get()),
            parent_based: config.sampling.parent_based,
            rate: config.sampling.rate.map(|rate| rate.per_second()),
        }
    }
}

/// Which header formats are propagated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// `traceparent` and `tracestate`.
    pub trace_context: bool,
    /// `baggage`.
    pub baggage: bool,
}

impl Propagation {
    pub(super) fn compile(config: &Config) -> Propagation {
        let has = |propagator| config.propagators.contains(&propagator);
        Propagation {
            trace_context: has(Propagator::TraceContext),
            baggage: has(Propagator::Baggage),
        }
    }
}

/// A header to keep, with the attribute that holds it.
pub type Captured = (HeaderName, Arc<str>);

/// What spans keep beyond the conventions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturePolicy {
    /// As `http.request.header.<name>`.
    pub request_headers: Vec<Captured>,
    /// As `http.response.header.<name>`.
    pub response_headers: Vec<Captured>,
    /// Query parameters whose values are replaced.
    pub redact: Vec<String>,
}

impl CapturePolicy {
    pub(super) fn compile(config: &Config, faults: &mut Vec<Fault>) -> CapturePolicy {
        let capture = &config.capture;
        let mut headers = |names: &[String], side: &str| {
            let mut captured: Vec<Captured> = Vec::new();
            for (index, name) in names.iter().enumerate() {
                match HeaderName::from_bytes(name.trim().as_bytes()) {
                    Ok(header) if captured.iter().any(|(known, _)| *known == header) => {}
                    Ok(header) => {
                        let attribute = format!("http.{side}.header.{header}");
                        captured.push((header, Arc::from(attribute)));
                    }
                    Err(_) => faults.push(config.fault(
                        &format!("capture.{side}_headers[{index}]"),
                        format!("`{name}` is not a header name"),
                        "write letters, digits and dashes, as in x-request-id",
                    )),
                }
            }
            captured
        };
        CapturePolicy {
            request_headers: headers(&capture.request_headers, "request"),
            response_headers: headers(&capture.response_headers, "response"),
            redact: capture.redact.clone(),
        }
    }
}
