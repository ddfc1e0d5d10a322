//! hopspan itself, in this process, on ports of its own, with a config file that a test can rewrite.
//!
//! ```ignore
//! let hopspan = sidecar::to(app.address).collector(&collector)
//!     .set("inbound.routes", json!([{"path": "orders/<int:pk>/"}]))
//!     .run().await;
//! client::get(hopspan.inbound, "/orders/7/").send().await;
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;

use hopspan::config::Address;
use serde_json::{Value, json};

use super::collector::Collector;
use super::{client, within};

/// A sidecar in the making: a config as it will stand in its file (JSON is YAML).
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    settings: Value,
    file: Option<PathBuf>,
}

/// A sidecar before `app`, that exports nothing.
pub(crate) fn to(app: SocketAddr) -> Builder {
    let builder = Builder {
        settings: json!({ "service": "shop" }),
        file: None,
    };
    ["inbound", "outbound", "status", "admin"]
        .iter()
        .fold(builder, |builder, section| {
            builder.set(&format!("{section}.listen"), json!("127.0.0.1:0"))
        })
        .set("inbound.app", json!(app.to_string()))
        .set("export.disabled", json!(true))
}

impl Builder {
    /// Sets a key by its dotted path.
    pub(crate) fn set(mut self, path: &str, value: Value) -> Builder {
        let mut at = &mut self.settings;
        for key in path.split('.') {
            if at.is_null() {
                *at = json!({});
            }
            at = &mut at[key];
        }
        *at = value;
        self
    }

    /// The name of the service it speaks for.
    pub(crate) fn service(self, name: &str) -> Builder {
        self.set("service", json!(name))
    }

    /// Exports there, soon.
    pub(crate) fn collector(self, collector: &Collector) -> Builder {
        self.set("export.disabled", json!(false))
            .set("export.endpoint", json!(collector.endpoint()))
            .set("export.protocol", json!(collector.protocol()))
            .set("export.schedule_delay", json!("20ms"))
    }

    /// Reads its config from this file, which is there already.
    pub(crate) fn file(mut self, file: &std::path::Path) -> Builder {
        self.file = Some(file.to_owned());
        self
    }

    /// Binds and runs it.
    pub(crate) async fn run(self) -> Sidecar {
        let folder = tempfile::tempdir().unwrap();
        let file = self.file.clone().unwrap_or_else(|| {
            let file = folder.path().join("hopspan.yaml");
            std::fs::write(&file, self.text()).unwrap();
            file
        });
        let options = hopspan::sidecar::Options {
            path: Some(file.clone()),
            overlay: std::sync::Arc::new(|_| ()),
            child: None,
            loader: None,
            activated: hopspan::sidecar::Activated::default(),
        };
        let bound = hopspan::sidecar::Sidecar::bind(options).await;
        let running = bound.unwrap_or_else(|error| panic!("{error}")).start();
        let addresses = running.addresses().clone();
        Sidecar {
            inbound: match addresses.inbound {
                Address::Unix(_) => ([0, 0, 0, 0], 0).into(),
                tcp => tcp.to_string().parse().unwrap(),
            },
            outbound: addresses.outbound,
            status: addresses.status,
            admin: addresses.admin,
            file,
            running,
            _folder: folder,
        }
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string_pretty(&self.settings).unwrap()
    }
}

/// A running sidecar.
pub(crate) struct Sidecar {
    /// Nowhere, where it is a unix socket.
    pub(crate) inbound: SocketAddr,
    pub(crate) outbound: SocketAddr,
    pub(crate) status: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Its config file.
    pub(crate) file: PathBuf,
    running: hopspan::sidecar::Running,
    _folder: tempfile::TempDir,
}

impl Sidecar {
    /// Stops it as SIGTERM would, and waits until it is done.
    pub(crate) async fn stop(self) -> hopspan::sidecar::Stopped {
        let patience = self.running.drain_patience();
        self.running.stop(patience).await
    }

    /// The exposition of its metrics.
    pub(crate) async fn metrics(&self) -> String {
        metrics(self.status).await
    }

    /// The sum of all series of this name.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        sum(&self.metrics().await, name)
    }

    /// Waits until the sum of all series of this name is `least`, or more: counters that go on may pass it unseen.
    pub(crate) async fn at_least(&self, name: &str, least: f64) {
        reached(self.status, name, least, |sum| sum >= least).await;
    }

    /// Waits until the sum of all series of this name is `value`.
    pub(crate) async fn until(&self, name: &str, value: f64) {
        until(self.status, name, value).await;
    }
}

async fn metrics(status: SocketAddr) -> String {
    let answer = client::get(status, "/metrics").send().await;
    assert_eq!(answer.status, 200);
    answer.text()
}

/// Waits until the sum of all series of this name is `value`, at a sidecar's status listener.
pub(crate) async fn until(status: SocketAddr, name: &str, value: f64) {
    reached(status, name, value, |sum| (sum - value).abs() <= 0.1).await;
}

async fn reached(status: SocketAddr, name: &str, value: f64, there: impl Fn(f64) -> bool) {
    let reached = async {
        while !there(sum(&metrics(status).await, name)) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within(&format!("{name} to be {value}"), reached).await;
}

/// The sum of all series of `name` in an exposition.
pub(crate) fn sum(exposition: &str, name: &str) -> f64 {
    let lines = exposition.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    });
    let values = lines.filter_map(|line| {
        let (_, after) = line.rsplit_once("} ").or_else(|| line.split_once(' '))?;
        after.split(' ').next()?.parse::<f64>().ok()
    });
    values.sum()
}
