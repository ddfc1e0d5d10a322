//! Rungs check each other: where two answer for one call and disagree, the weaker is wrong, and is switched off.
//!
//! A share of the joins is asked of the weaker rungs too, after the call has its parent: it waits for none of this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::unlinked::Unlinked;
use super::{Correlator, OutboundCall};
use crate::telemetry::Code;
use crate::telemetry::metrics::EvidenceLabel;
use crate::trace::{Context, Evidence};

/// One join in so many is checked, the first one among them.
const SHARE: u64 = 64;

/// What the checks brought so far.
#[derive(Debug, Default)]
pub(super) struct Audit {
    joins: AtomicU64,
    serial_off: AtomicBool,
}

impl Audit {
    fn is_due(&self) -> bool {
        self.joins
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(SHARE)
    }

    /// Whether the serial rung is not believed any more.
    pub(super) fn serial_off(&self) -> bool {
        self.serial_off.load(Ordering::Relaxed)
    }
}

impl Correlator {
    /// Has a join that a stronger rung made checked by the weaker ones, now and then, in a task of its own.
    /// [`Correlator::parent_of`] does so for its own joins.
    pub fn double_check(
        self: &Arc<Correlator>,
        call: &OutboundCall,
        parent: &Context,
        by: Evidence,
    ) {
        let weaker = match by {
            Evidence::Token => true,
            Evidence::Thread => self.engine.is_some(),
            Evidence::Header | Evidence::Serial => false,
        };
        if !weaker || !self.audit.is_due() {
            return;
        }
        let (correlator, call, parent) = (self.clone(), *call, parent.clone());
        tokio::spawn(async move {
            if by == Evidence::Token
                && let Some(thread) = &correlator.thread
            {
                let answer = thread.ask(&call, &correlator.in_flight).await;
                let answer = answer.map_err(|refusal| refusal.reason);
                correlator.compare(&parent, by, answer, Evidence::Thread);
            }
            if let Some(engine) = correlator.serial_engine() {
                let answer = engine.ask(call).await;
                correlator.compare(&parent, by, answer, Evidence::Serial);
            }
        });
    }

    /// Switches `weaker` off where it answers differently. That it has no answer says nothing.
    fn compare(
        &self,
        parent: &Context,
        by: Evidence,
        answer: Result<Context, Unlinked>,
        weaker: Evidence,
    ) {
        let Ok(other) = answer else { return };
        if (other.trace_id, other.span_id) == (parent.trace_id, parent.span_id) {
            return;
        }
        self.metrics
            .disagreements
            .get_or_create(&EvidenceLabel {
                evidence: weaker.as_str(),
            })
            .inc();
        let before = match (weaker, &self.thread) {
            (Evidence::Thread, Some(thread)) => thread.switch_off(),
            (Evidence::Serial, _) => self.audit.serial_off.swap(true, Ordering::Relaxed),
            _ => true,
        };
        if !before {
            tracing::error!(
                code = %Code::RungsDisagree,
                stronger = by.as_str(),
                weaker = weaker.as_str(),
                stronger_parent = %parent.span_id,
                weaker_parent = %other.span_id,
                trace = %parent.trace_id,
                "two proofs disagree: the weaker is switched off until a restart; please report it"
            );
        }
    }
}

#[cfg(test)]
mod tests;
