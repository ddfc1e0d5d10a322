//! Policy: the configuration compiled into one immutable [`Snapshot`], and the [`Table`] that swaps snapshots.
//!
//! An exchange loads one snapshot and keeps it to its end, so it sees one generation. It reads [`crate::config`] and
//! knows nothing of bytes or spans.

pub mod destinations;
pub mod inbound;
pub mod outbound;
pub mod pattern;
pub mod policy;
pub mod reload;
pub mod table;
pub mod upstream;

pub use destinations::{Denial, Destinations};
pub use inbound::{InboundRoute, InboundTable};
pub use outbound::{Destination, OutboundRoute, OutboundTable};
pub use policy::{CapturePolicy, Propagation, SamplerKind, SamplingPolicy};
pub use reload::{ReloadStatus, Reloaded, Reloader};
pub use table::Table;
pub use upstream::Upstream;

use crate::config::{self, Config, ConfigErrors, Fault, Source};

/// Everything hot, compiled: what one exchange sees.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up from 1 with each reload that was taken.
    pub generation: u64,
    /// Requests to the app.
    pub inbound: InboundTable,
    /// Calls of the app.
    pub outbound: OutboundTable,
    /// Which header formats are propagated.
    pub propagation: Propagation,
    /// Which traces are recorded.
    pub sampling: SamplingPolicy,
    /// What spans keep beyond the conventions.
    pub capture: CapturePolicy,
    /// Waits.
    pub timeouts: config::Timeouts,
    /// Sizes and counts.
    pub limits: config::Limits,
}

impl Snapshot {
    /// Compiles a config. `source` is what it was parsed from, for the places of errors.
    ///
    /// # Errors
    /// Every route, destination or header name that makes no sense.
    pub fn compile(
        config: &Config,
        source: &Source,
        generation: u64,
    ) -> Result<Snapshot, ConfigErrors> {
        compile(config, generation).map_err(|faults| ConfigErrors::place(source, faults))
    }
}

/// Parses and compiles a file in one go, with the errors of both at once.
///
/// `overlay` lays flags and environment over the file before it is compiled.
///
/// # Errors
/// Every mistake in the file.
pub fn load(
    source: &Source,
    overlay: &dyn Fn(&mut Config),
    generation: u64,
) -> Result<(Config, Snapshot), ConfigErrors> {
    let (config, mut faults) = Config::parse_leniently(source);
    if let Some(mut config) = config {
        overlay(&mut config);
        faults.extend(config.contradictions());
        match compile(&config, generation) {
            Ok(snapshot) if faults.is_empty() => return Ok((config, snapshot)),
            Ok(_) => {}
            Err(more) => faults.extend(more),
        }
    }
    Err(ConfigErrors::place(source, faults))
}

fn compile(config: &Config, generation: u64) -> Result<Snapshot, Vec<Fault>> {
    let mut faults = Vec::new();
    let inbound = InboundTable::compile(config, &mut faults);
    let outbound = OutboundTable::compile(config, &mut faults);
    let capture = CapturePolicy::compile(config, &mut faults);
    match inbound {
        Some(inbound) if faults.is_empty() => Ok(Snapshot {
            generation,
            inbound,
            outbound,
            propagation: Propagation::compile(config),
            sampling: SamplingPolicy::compile(config),
            capture,
            timeouts: config.timeouts.clone(),
            limits: config.limits.clone(),
        }),
        _ => Err(faults),
    }
}

#[cfg(test)]
mod tests;
