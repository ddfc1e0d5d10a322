//! Settings that a running hopspan cannot change: compared at a reload, left as they run, and named.

use super::Config;

/// One setting that needs a restart.
struct Cold {
    key: &'static str,
    differs: fn(&Config, &Config) -> bool,
    keep: fn(&mut Config, &Config),
}

macro_rules! cold {
    ($($key:literal $($field:ident).+;)+) => {
        &[$(Cold {
            key: $key,
            differs: |a, b| a.$($field).+ != b.$($field).+,
            keep: |config, running| config.$($field).+.clone_from(&running.$($field).+),
        }),+]
    };
}

/// All of them; every other key is hot.
const COLD: &[Cold] = cold! {
    "service" service;
    "resource" resource;
    "inbound.listen" inbound.listen;
    "inbound.socket_mode" inbound.socket_mode;
    "outbound.listen" outbound.listen;
    "outbound.transparent" outbound.transparent;
    "status.listen" status.listen;
    "admin.listen" admin.listen;
    "correlation" correlation;
    "export" export;
};

impl Config {
    /// The keys that need a restart.
    pub fn cold_keys() -> impl Iterator<Item = &'static str> {
        COLD.iter().map(|cold| cold.key)
    }

    /// Keys of which `self` wants another value than `running` has and that need a restart.
    pub fn needs_restart(&self, running: &Config) -> Vec<String> {
        COLD.iter()
            .filter(|cold| (cold.differs)(self, running))
            .map(|cold| cold.key.to_owned())
            .collect()
    }

    /// Takes over from `running` what needs a restart, so that `self` says what is in use.
    pub fn keep_cold(&mut self, running: &Config) {
        for cold in COLD {
            (cold.keep)(self, running);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;

    #[test]
    fn what_cannot_change_is_named_and_kept() {
        let running = Config::default();
        let mut wanted = Config::default();
        assert!(wanted.needs_restart(&running).is_empty());
        wanted.inbound.listen = Address::tcp("0.0.0.0", 9000);
        wanted.export.endpoint = Some("http://collector:4318".to_owned());
        wanted.inbound.app = vec![Address::tcp("127.0.0.1", 8001).into()];
        assert_eq!(wanted.needs_restart(&running), ["inbound.listen", "export"]);
        wanted.keep_cold(&running);
        assert!(wanted.needs_restart(&running).is_empty());
        assert_eq!(wanted.inbound.app, [Address::tcp("127.0.0.1", 8001).into()]);
    }
}
