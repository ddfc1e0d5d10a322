//! What the checks judge, and nothing else: gathered by [`super::gather`], made up by tests.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::correlation::survey::Survey;
use crate::export::Reach;
use crate::telemetry::Code;

/// Everything that is known.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) sidecar: Sidecar,
    pub(super) settings: Settings,
    pub(super) app: App,
    pub(super) survey: Option<Survey>,
    pub(super) collector: Collector,
    pub(super) host: Host,
}

/// The running sidecar.
#[derive(Clone, Debug, Default)]
pub(super) struct Sidecar {
    /// Where its admin listener was looked for.
    pub(super) admin: String,
    /// Whether someone said where it is, or that it is there.
    pub(super) expected: bool,
    pub(super) answer: Answer,
    /// Why it is not ready, where it is not.
    pub(super) not_ready: Option<String>,
    pub(super) generation: u64,
    /// Errors of the last reload.
    pub(super) reload_error: Option<String>,
    /// Settings that wait for a restart.
    pub(super) needs_restart: Vec<String>,
    pub(super) counts: Counts,
}

/// Whether it answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// It did.
    Whole,
    /// Nobody is there, or no sidecar.
    #[default]
    Silent,
    /// Somebody is there and did not answer in time.
    TimedOut,
}

/// What its counters say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Requests to the app that have ended.
    pub(super) requests: u64,
    /// Trace headers that were not valid, by reason.
    pub(super) malformed: BTreeMap<String, u64>,
}

/// The settings in use, as far as checks read them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    /// The file that was given, and what is wrong with it.
    pub(super) file: Option<(String, Option<String>)>,
    /// Whether that file is mounted by subPath.
    pub(super) sub_path: bool,
    /// What is wrong with `OTEL_*` variables, and whether it stops the start.
    pub(super) environment: Vec<(bool, String)>,
    pub(super) outbound: String,
    pub(super) admin: String,
    /// Networks whose programs may call out.
    pub(super) clients: Vec<String>,
    pub(super) tracecontext: bool,
    pub(super) ratio: f64,
}

impl Settings {
    /// From a whole config, as `/config` shows it and [`crate::config::Config::to_json`] writes it.
    pub(super) fn read(config: &Value) -> Settings {
        let text = |path: &str| {
            let value = config.pointer(path).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        Settings {
            outbound: text("/outbound/listen"),
            admin: text("/admin/listen"),
            clients: texts(config.pointer("/outbound/clients")),
            tracecontext: texts(config.pointer("/propagators"))
                .iter()
                .any(|name| name == "tracecontext"),
            ratio: config
                .pointer("/sampling/ratio")
                .and_then(Value::as_f64)
                .unwrap_or(1.0),
            ..Settings::default()
        }
    }
}

/// A text, or a list of them.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => {
            let texts = items.iter().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// The app's door.
#[derive(Clone, Debug, Default)]
pub(super) struct App {
    /// Its first address.
    pub(super) address: String,
    /// Whether somebody said that it is there.
    pub(super) expected: bool,
    pub(super) door: Door,
}

/// What a connection to it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Door {
    /// Accepted.
    Open,
    /// Refused, or no such socket.
    #[default]
    Refused,
    /// Neither in time.
    TimedOut,
    /// The name has no address, and why.
    Nameless(String),
}

/// The exporter's books, or what a probe brought.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    pub(super) endpoint: String,
    pub(super) books: Option<Books>,
    /// Where the books do not say: a probe of our own.
    pub(super) reach: Option<Reach>,
}

/// `/export` of a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Books {
    pub(super) endpoint: String,
    pub(super) protocol: String,
    pub(super) failing: bool,
    pub(super) code: Option<Code>,
    pub(super) last_error: Option<String>,
    pub(super) last_success_at: Option<u64>,
    pub(super) spans: Spans,
}

/// Spans by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Spans {
    pub(super) finished: u64,
    pub(super) exported: u64,
    pub(super) queued: u64,
    pub(super) in_flight: u64,
    pub(super) dropped: BTreeMap<String, u64>,
}

/// This host, for the process that looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) kernel: String,
    pub(super) machine: String,
    pub(super) btf: bool,
    /// `kernel.yama.ptrace_scope`, where there is one.
    pub(super) yama: Option<u8>,
    pub(super) user: u32,
    /// Of those that rungs need, which are in effect.
    pub(super) capabilities: Vec<&'static str>,
}
