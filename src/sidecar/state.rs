//! What the status and admin listeners show of a sidecar, and what they may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::parts;
use crate::admin::Subject;
use crate::correlation::Correlator;
use crate::routing::reload::Reloader;

/// What admin and status show and change.
pub(super) struct State {
    pub(super) ready: AtomicBool,
    pub(super) draining: AtomicBool,
    pub(super) reloader: Arc<Reloader>,
    pub(super) correlator: Arc<Correlator>,
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
        let apps = parts::app_addresses(&self.reloader.config_in_use().inbound.app);
        let rung = self.correlator.describe(&apps).to_string();
        let thread = self.correlator.thread_rung().to_string();
        let (connections, requests) = self.correlator.remembered();
        serde_json::json!({ "thread": thread, "rung": rung, "app_connections": connections, "requests": requests })
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
