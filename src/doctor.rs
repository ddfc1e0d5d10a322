//! `hopspan doctor` and `hopspan explain`: what works here, what does not, why, and the one command that changes it.
//!
//! Facts are gathered first (of a running sidecar, else of this host), then judged by checks that ask nothing
//! themselves. Nothing here changes anything, and nobody is asked but the sidecar, the app and the collector that are
//! configured.

mod checks;
pub mod explain;
mod facts;
mod gather;
mod host;
pub mod manifest;
pub mod report;
pub mod table;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Address, Config};
use report::Report;

/// Lays the environment over what a file says.
pub type Overlay = Box<dyn Fn(&mut Config) + Send + Sync>;

/// What to look at.
pub struct Options {
    /// The admin listener of the sidecar; else what the config says.
    pub admin: Option<Address>,
    /// The app, where somebody named it.
    pub app: Option<Address>,
    /// The config file that a sidecar here has, or would have.
    pub config: Option<PathBuf>,
    /// What flags and the environment change in it.
    pub overlay: Overlay,
    /// What is wrong with the environment's `OTEL_*` variables, and whether it stops the start.
    pub environment: Vec<(bool, String)>,
    /// How long to wait for sidecar and app before looking.
    pub wait: Duration,
    /// How long each that is asked may take; else less than a second.
    pub timeout: Option<Duration>,
}

/// Looks, and says what was found. Takes less than two seconds unless [`Options::timeout`] is more, and [`Options::wait`] at
/// most before.
pub async fn examine(options: &Options) -> Report {
    let (config, wrong) = gather::config(options);
    let admin = match &options.admin {
        Some(address) => address.clone(),
        None => reachable(&config.admin.listen),
    };
    if !options.wait.is_zero() {
        let limits = gather::Limits::of(options);
        gather::until_there(&admin, limits, options.wait).await;
    }
    checks::judge(&gather::gather(options, config, wrong, &admin).await)
}

/// Where a listener of this host is connected to.
fn reachable(listener: &Address) -> Address {
    match listener {
        Address::Tcp { host, port } if matches!(&**host, "0.0.0.0" | "::" | "[::]") => {
            Address::tcp(&Ipv4Addr::LOCALHOST.to_string(), *port)
        }
        other => other.clone(),
    }
}
