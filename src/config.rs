//! Configuration as written: the YAML file, the flags and the environment, parsed into plain values.
//!
//! [`Config`] mirrors the file key by key (`config/hopspan.yaml` shows them all); [`Config::parse`] finds every mistake
//! in it at once. Nothing here is compiled or resolved: that is [`crate::routing`]'s work.

pub mod address;
pub mod advice;
pub mod app;
pub mod cold;
pub mod count;
pub mod duration;
pub mod errors;
pub mod export;
mod homes;
pub mod limits;
pub mod memory;
pub mod mode;
pub mod network;
mod off;
pub mod otel_env;
mod overlay;
mod read;
mod secrets;
pub mod sections;
mod show;
pub mod size;
pub mod snippet;
pub mod source;
pub mod suggest;
pub mod tls;
mod tree;
pub mod trust;
pub mod values;
mod yaml;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use address::Address;
pub use app::{App, HttpProtocol};
pub use errors::{ConfigError, ConfigErrors, Fault};
pub use export::{Export, Protocol};
pub use limits::{Limits, Timeouts};
pub use memory::MemoryLimit;
pub use mode::FileMode;
pub use otel_env::OtelEnv;
pub use sections::{
    AdminConfig, Capture, Correlation, Inbound, InboundRoute, Outbound, OutboundRoute, Propagator,
    Sampling, StatusConfig,
};
pub use snippet::Snippet;
pub use source::Source;
pub use tls::{ClientAuth, ClientTls, InboundTls};
pub use tree::Positions;
pub use trust::{Trust, Trusted};
pub use values::{Rate, Ratio};

/// Everything that can be set, as written. Each key has a default, so an empty file is a config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `service.name` of the app that hopspan speaks for.
    pub service: Option<String>,
    /// Resource attributes, as `service.version`.
    pub resource: BTreeMap<String, String>,
    /// Requests to the app.
    pub inbound: Inbound,
    /// Calls that the app makes.
    pub outbound: Outbound,
    /// How calls are joined to their cause.
    pub correlation: Correlation,
    /// What is propagated.
    pub propagators: Vec<Propagator>,
    /// Which traces are recorded.
    pub sampling: Sampling,
    /// What spans keep beyond the conventions.
    pub capture: Capture,
    /// Waits.
    pub timeouts: Timeouts,
    /// Sizes and counts.
    pub limits: Limits,
    /// Where spans go.
    pub export: Export,
    /// Health, readiness and metrics.
    pub status: StatusConfig,
    /// Config in use, reload.
    pub admin: AdminConfig,
    /// Where each key stands in the file.
    #[serde(skip)]
    pub positions: Positions,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            service: None,
            resource: BTreeMap::new(),
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            correlation: Correlation::default(),
            propagators: vec![Propagator::TraceContext, Propagator::Baggage],
            sampling: Sampling::default(),
            capture: Capture::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            export: Export::default(),
            status: StatusConfig::default(),
            admin: AdminConfig::default(),
            positions: Positions::default(),
        }
    }
}

impl Config {
    /// Parses a file. What its routes mean is checked by [`crate::routing::Snapshot::compile`]; to get the errors of
    /// both at once use [`crate::routing::load`].
    ///
    /// # Errors
    /// Every mistake that can be found; after a YAML syntax error, only that one.
    pub fn parse(source: &Source) -> Result<Config, ConfigErrors> {
        let (config, mut faults) = Config::parse_leniently(source);
        if let Some(config) = config {
            faults.extend(config.contradictions());
            if faults.is_empty() {
                return Ok(config);
            }
        }
        Err(ConfigErrors::place(source, faults))
    }

    /// Parses what can be parsed and says what cannot, so that the rest can be checked as well; not for
    /// [`Config::contradictions`].
    pub fn parse_leniently(source: &Source) -> (Option<Config>, Vec<Fault>) {
        let mut tree = match yaml::parse(source) {
            Ok(tree) => tree,
            Err(fault) => return (None, vec![fault]),
        };
        let (config, positions, faults) = tree::read::<Config>(&mut tree, homes::of);
        let config = config.map(|config| Config {
            positions,
            ..config
        });
        (config, faults)
    }

    /// A fault at the value of a key, for checks that come after parsing.
    pub fn fault(&self, path: &str, message: impl Into<String>, help: impl Into<String>) -> Fault {
        Fault {
            at: self.positions.of(path),
            path: path.to_owned(),
            message: message.into(),
            help: Some(help.into()),
        }
    }

    /// Values that are each right but cannot be together.
    pub fn contradictions(&self) -> Vec<Fault> {
        let mut faults = self.clashing_listeners();
        faults.extend(self.unreachable_listeners());
        faults.extend(self.lonely_tls());
        let wrong = self.timeouts.impossible();
        let wrong = wrong.chain(self.limits.impossible());
        let wrong = wrong.chain(self.export.contradictions());
        faults.extend(wrong.map(|(key, advice)| self.fault(key, advice.message, advice.help)));
        for (index, app) in self.inbound.app.iter().enumerate() {
            if meet(&app.address, &self.inbound.listen) {
                let path = self.item("inbound.app", index);
                faults.push(self.fault(
                    &path,
                    format!("`{app}` is where hopspan itself listens"),
                    "write the address where the app listens",
                ));
            }
        }
        if self.inbound.app.is_empty() {
            faults.push(self.fault(
                "inbound.app",
                "no app to send requests to",
                "write at least one address, as in 127.0.0.1:8000",
            ));
        }
        faults
    }

    /// All but inbound's.
    fn tcp_listeners(&self) -> Vec<(String, &Address)> {
        let transparent = self.outbound.transparent.iter().enumerate();
        let transparent = transparent.map(|(index, address)| {
            let path = self.item("outbound.transparent", index);
            (path, address)
        });
        let mut listeners = vec![
            ("outbound.listen".to_owned(), &self.outbound.listen),
            ("status.listen".to_owned(), &self.status.listen),
            ("admin.listen".to_owned(), &self.admin.listen),
        ];
        listeners.extend(transparent);
        listeners
    }

    /// Where an item stands of what may be a list or its only item.
    fn item(&self, list: &str, index: usize) -> String {
        let item = format!("{list}[{index}]");
        match self.positions.of(&item) {
            Some(_) => item,
            None => list.to_owned(),
        }
    }

    /// Those that are called by TCP only.
    fn unreachable_listeners(&self) -> Vec<Fault> {
        let listeners = self.tcp_listeners().into_iter();
        let unix = listeners.filter(|(_, address)| address.port().is_none());
        unix.map(|(path, address)| {
            self.fault(
                &path,
                format!("`{address}`: only inbound.listen can be a unix socket"),
                "write host:port",
            )
        })
        .collect()
    }

    fn clashing_listeners(&self) -> Vec<Fault> {
        let mut listeners = vec![("inbound.listen".to_owned(), &self.inbound.listen)];
        listeners.extend(self.tcp_listeners());
        let mut faults = Vec::new();
        for (index, (path, address)) in listeners.iter().enumerate() {
            for (other_path, other) in listeners.iter().take(index) {
                if meet(address, other) {
                    // Point at the one that is written, not at a default.
                    let (here, there) = if self.positions.of(path).is_some() {
                        (path, other_path)
                    } else {
                        (other_path, path)
                    };
                    faults.push(self.fault(
                        here,
                        format!("`{address}` is already taken by {there}"),
                        "give each listener a port of its own",
                    ));
                }
            }
        }
        faults
    }
}

/// Whether two listeners cannot both be bound (or one would connect to the other). Port 0 never clashes.
fn meet(a: &Address, b: &Address) -> bool {
    let any = |host: &str| matches!(host, "0.0.0.0" | "::" | "[::]");
    let folded = |host: &str| match host {
        "localhost" => "127.0.0.1".to_owned(),
        host => host.to_ascii_lowercase(),
    };
    match (a, b) {
        (Address::Tcp { host: ha, port: pa }, Address::Tcp { host: hb, port: pb }) => {
            let local = |host: &str| any(host) || folded(host).starts_with("127.") || host == "::1";
            let same = folded(ha) == folded(hb);
            pa == pb && *pa != 0 && (same || (any(ha) && local(hb)) || (any(hb) && local(ha)))
        }
        (Address::Unix(a), Address::Unix(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
