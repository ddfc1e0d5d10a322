//! What the status and admin listeners show of a sidecar, and what they may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::parts;
use crate::admin::Subject;
use crate::config::Address;
use crate::correlation::Correlator;
use crate::export;
use crate::routing::reload::Reloader;

/// What admin and status show and change.
pub(super) struct State {
    pub(super) ready: AtomicBool,
    pub(super) draining: AtomicBool,
    pub(super) reloader: Arc<Reloader>,
    pub(super) correlator: Arc<Correlator>,
    pub(super) queue: Arc<export::Queue>,
}

impl Subject for State {
    fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Acquire) {
            return Err("draining".to_owned());
        }
        if !self.ready.load(Ordering::Acquire) {
            return Err("starting".to_owned());
        }
        Ok(())
    }

    fn config(&self) -> String {
        let status = self.reloader.status();
        serde_json::json!({
            "generation": status.generation,
            "last_error": status.last_error,
            "needs_restart": status.needs_restart,
            "config": self.reloader.config_in_use(),
        })
        .to_string()
    }

    fn correlation(&self) -> String {
        let apps = self.reloader.config_in_use().inbound.app.into_iter();
        let apps: Vec<Address> = apps.map(|app| app.address).collect();
        let places = parts::app_places(&apps);
        serde_json::to_string(&self.correlator.survey(&places)).unwrap_or_default()
    }

    fn export(&self) -> String {
        let (status, ledger) = (self.queue.status(), self.queue.ledger());
        let unix = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        serde_json::json!({
            "endpoint": status.endpoint,
            "protocol": status.protocol,
            "failing": status.failing,
            "code": status.code,
            "last_error": status.last_error.as_ref().map(|(error, _)| error),
            "last_error_at": status.last_error.map(|(_, at)| unix(at)),
            "last_success_at": status.last_success.map(unix),
            "spans": {
                "finished": ledger.finished,
                "exported": ledger.exported,
                "queued": ledger.queued,
                "in_flight": ledger.in_flight,
                "dropped": {
                    "queue_full": ledger.queue_full,
                    "rejected": ledger.rejected,
                    "failed": ledger.failed,
                    "shutdown": ledger.shutdown,
                    "disabled": ledger.disabled,
                },
            },
        })
        .to_string()
    }

    fn reload(&self) -> Result<String, String> {
        match self.reloader.reload() {
            Ok(reloaded) => Ok(serde_json::json!({
                "from": reloaded.from, "to": reloaded.to, "needs_restart": reloaded.needs_restart,
            })
            .to_string()),
            Err(errors) => Err(errors.to_string()),
        }
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}
