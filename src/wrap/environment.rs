//! What the child's environment gets so that its calls go out through hopspan.
//!
//! `http_proxy` and `HTTP_PROXY` (clients differ in which they read), and the addresses of cloud metadata services in
//! `no_proxy` and `NO_PROXY`: those refuse proxied requests on purpose, and credentials do not belong in a trace.
//! `HTTPS_PROXY` only when asked. A proxy that is set already is never overwritten.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::WrapOptions;

/// Where clouds serve metadata and credentials: EC2, GCE, Azure, OpenStack, DigitalOcean, Oracle; ECS tasks; EKS pods;
/// Alibaba; Azure's wire server. IPv6 literals have no brackets here:
/// httpx raises for those, whatever it is asked to call.
pub const METADATA_ADDRESSES: &[&str] = &[
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "168.63.129.16",
    "metadata.google.internal",
    "fd00:ec2::254",
    "fd00:ec2::23",
];

/// A proxy variable that is set already, and the ways out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} is already set to {value}, and hopspan does not overwrite it. \
     Unset it for this command (`env -u {name} hopspan run ...`) so that the app's calls go through hopspan, \
     or pass --keep-proxy to leave it: the app's calls then bypass hopspan and are not traced"
)]
pub struct ProxyConflict {
    /// The variable.
    pub name: &'static str,
    /// Its value, without a password.
    pub value: String,
}

/// The variables to set, and what a user should know about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Names and values.
    pub set: Vec<(&'static str, OsString)>,
    /// Sentences for the log.
    pub notes: Vec<String>,
}

impl Environment {
    /// Decides from the options and what is set now (`get`).
    pub fn prepare(
        options: &WrapOptions,
        get: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Environment, ProxyConflict> {
        let url = proxy_url(options.proxy);
        let mut environment = Environment::default();
        // ALL_PROXY stands in for whichever is not set, so setting ours would overrule it.
        environment.proxy(
            &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
            &url,
            options.keep_proxy,
            &get,
        )?;
        if options.https_proxy {
            environment.proxy(
                &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
                &url,
                options.keep_proxy,
                &get,
            )?;
        }
        if !environment.set.is_empty() {
            environment.no_proxy(&get);
        }
        Ok(environment)
    }

    /// Sets the first two of `names`, unless one of them all holds something else.
    fn proxy(
        &mut self,
        names: &[&'static str],
        url: &str,
        keep: bool,
        get: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<(), ProxyConflict> {
        let taken = names.iter().find_map(|name| {
            let value = get(name).filter(|value| !value.is_empty() && value != url)?;
            Some((*name, without_password(&value)))
        });
        match taken {
            None => {
                let ours = names.iter().take(2);
                self.set.extend(ours.map(|name| (*name, url.into())));
                Ok(())
            }
            Some((name, value)) if keep => {
                self.notes.push(format!(
                    "{name}={value} is kept: the app's calls bypass hopspan and are not traced"
                ));
                Ok(())
            }
            Some((name, value)) => Err(ProxyConflict { name, value }),
        }
    }

    /// Appends the metadata addresses to both spellings. An empty one takes over what the other holds.
    fn no_proxy(&mut self, get: &impl Fn(&str) -> Option<OsString>) {
        let value = |name| get(name).filter(|value| !value.is_empty());
        for (name, other) in [("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")] {
            let present = value(name).or_else(|| value(other)).unwrap_or_default();
            if present == "*" {
                // Alone it means "no proxy at all", in a list it means nothing to some clients: the user's word stays.
                let note = "NO_PROXY=* is kept: the app's calls bypass hopspan and are not traced";
                if !self.notes.iter().any(|known| known == note) {
                    self.notes.push(note.to_owned());
                }
                continue;
            }
            self.set.push((name, appended(present)));
        }
    }
}

/// `list` with the metadata addresses that it lacks.
fn appended(mut list: OsString) -> OsString {
    let present = list.to_string_lossy().into_owned();
    let known: Vec<&str> = present.split([',', ' ']).map(str::trim).collect();
    for address in METADATA_ADDRESSES {
        if known.contains(address) {
            continue;
        }
        if !list.is_empty() {
            list.push(",");
        }
        list.push(address);
    }
    list
}

/// The URL of the outbound listener as a client on this host reaches it.
fn proxy_url(mut proxy: SocketAddr) -> String {
    if proxy.ip().is_unspecified() {
        proxy.set_ip(match proxy.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    format!("http://{proxy}")
}

/// A proxy URL for a message: user and password do not belong in a log.
fn without_password(url: &OsStr) -> String {
    let url = url.to_string_lossy();
    match url.rsplit_once('@') {
        None => url.into_owned(),
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://***@{host}"),
            None => format!("***@{host}"),
        },
    }
}

#[cfg(test)]
mod tests;
