//! Where every span is: the exporter's books, and how it says that it is doing.
//!
//! Kept by [`super::Queue`] under one lock; nothing else writes here.

use std::time::SystemTime;

use crate::telemetry::Code;

/// Why spans were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The queue was full; the oldest went.
    QueueFull,
    /// The collector refused them for good, all or some (partial success).
    Rejected,
    /// They could not be delivered for too long.
    Failed,
    /// They were left when hopspan stopped.
    Shutdown,
    /// Export is disabled.
    Disabled,
}

impl Dropped {
    pub(super) const ALL: [Dropped; 5] = [
        Dropped::QueueFull,
        Dropped::Rejected,
        Dropped::Failed,
        Dropped::Shutdown,
        Dropped::Disabled,
    ];

    /// The `outcome` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Dropped::QueueFull => "queue_full",
            Dropped::Rejected => "rejected",
            Dropped::Failed => "failed",
            Dropped::Shutdown => "shutdown",
            Dropped::Disabled => "disabled",
        }
    }
}

/// Where every finished span is. `finished == exported + dropped() + queued + in_flight` at every instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Spans that were handed over.
    pub finished: u64,
    /// Spans that a collector accepted.
    pub exported: u64,
    /// Dropped: the queue was full.
    pub queue_full: u64,
    /// Dropped: refused by the collector.
    pub rejected: u64,
    /// Dropped: not deliverable for too long.
    pub failed: u64,
    /// Dropped: left at shutdown.
    pub shutdown: u64,
    /// Dropped: export is disabled.
    pub disabled: u64,
    /// Spans waiting.
    pub queued: u64,
    /// Spans taken by the worker.
    pub in_flight: u64,
}

impl Ledger {
    /// Dropped for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.queue_full + self.rejected + self.failed + self.shutdown + self.disabled
    }

    /// Spans that may still be exported.
    pub fn left(&self) -> u64 {
        self.queued + self.in_flight
    }

    /// Whether every span is accounted for. Always true.
    pub fn is_balanced(&self) -> bool {
        self.finished == self.exported + self.dropped() + self.left()
    }

    /// The count of one reason.
    pub(super) fn drop_slot(&mut self, why: Dropped) -> &mut u64 {
        match why {
            Dropped::QueueFull => &mut self.queue_full,
            Dropped::Rejected => &mut self.rejected,
            Dropped::Failed => &mut self.failed,
            Dropped::Shutdown => &mut self.shutdown,
            Dropped::Disabled => &mut self.disabled,
        }
    }
}

/// How the exporter is doing, for the start line and the admin page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// URL without secrets; `none` when disabled.
    pub endpoint: String,
    /// `http/protobuf` or `grpc`.
    pub protocol: &'static str,
    /// Whether the last attempt failed and the next is being waited for.
    pub failing: bool,
    /// What went wrong last, and when. Kept after recovery.
    pub last_error: Option<(String, SystemTime)>,
    /// The page of that error.
    pub code: Option<Code>,
    /// When spans were accepted last.
    pub last_success: Option<SystemTime>,
}
