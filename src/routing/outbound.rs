//! Outbound routes: whom the app calls, and where that call goes instead.
//!
//! The first route that fits wins, as written. Host names are compared as DNS does: without case, a trailing dot is
//! nothing. Names are not resolved here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use ipnet::IpNet;

use super::{Destinations, upstream};
use crate::config::advice::Advice;
use crate::config::{Address, Config, Fault, HttpProtocol};
use crate::tls::Peer;

/// Where a call goes instead of where the app said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Where to connect.
    pub address: Address,
    /// Whether TLS is spoken there.
    pub https: bool,
    /// Put before the path of the request; empty, or begins with `/` and ends without.
    pub path_prefix: Arc<str>,
}

/// One compiled route.
#[derive(Clone, Debug)]
pub struct OutboundRoute {
    /// The host pattern as written; `None` for the default route.
    pub name: Option<Arc<str>>,
    /// Where the call goes instead.
    pub to: Option<Destination>,
    /// Which HTTP is spoken there.
    pub protocol: HttpProtocol,
    /// TLS, where it is spoken there.
    pub tls: Option<Arc<Peer>>,
    /// What `Host` becomes.
    pub host: Option<HeaderValue>,
    /// Whether context is sent along.
    pub propagate: bool,
    /// Whether a span is made.
    pub trace: bool,
    /// How long until the response begins.
    pub timeout: Option<Duration>,
    /// Share of new traces recorded.
    pub ratio: Option<f64>,
}

/// All outbound routes.
#[derive(Debug)]
pub struct OutboundTable {
    /// Where calls may go.
    pub destinations: Destinations,
    /// Who besides programs on this host may call.
    clients: Vec<IpNet>,
    routes: Vec<Arc<OutboundRoute>>,
    default: Arc<OutboundRoute>,
    exact: HashMap<Box<str>, Vec<Candidate>>,
    /// By what follows `*.`.
    below: HashMap<Box<str>, Vec<Candidate>>,
    any: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    port: Option<u16>,
    route: usize,
}

/// A host pattern taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    Exact(String),
    Below(String),
    Any,
}

impl OutboundTable {
    /// Whether a peer that is no program on this host may call.
    pub fn serves(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.clients.iter().any(|network| network.contains(&peer))
    }

    pub(super) fn compile(config: &Config, faults: &mut Vec<Fault>) -> OutboundTable {
        let mut table = OutboundTable {
            destinations: Destinations::default(),
            clients: config.outbound.clients.clone(),
            routes: Vec::new(),
            default: Arc::new(OutboundRoute {
                name: None,
                to: None,
                protocol: HttpProtocol::Auto,
                tls: None,
                host: None,
                propagate: true,
                trace: true,
                timeout: config.timeouts.response,
                ratio: None,
            }),
            exact: HashMap::new(),
            below: HashMap::new(),
            any: Vec::new(),
        };
        for (index, written) in config.outbound.routes.iter().enumerate() {
            let path = |key: &str| format!("outbound.routes[{index}].{key}");
            let to = match written.to.as_deref().map(destination).transpose() {
                Ok(to) => to,
                Err(advice) => {
                    faults.push(config.fault(&path("to"), advice.message, advice.help));
                    None
                }
            };
            match host(&written.host) {
                Ok((host, port)) => {
                    if let Some(earlier) = table.shadow(&host, port) {
                        faults.push(config.fault(
                            &path("host"),
                            format!("never reached: `{earlier}` above takes all of its calls"),
                            "put it before that one, or remove it",
                        ));
                    }
                    table.add(host, port);
                }
                Err(advice) => {
                    faults.push(config.fault(&path("host"), advice.message, advice.help));
                }
            }
            let tls = tls(config, index, to.as_ref()).unwrap_or_else(|fault| {
                faults.push(fault);
                None
            });
            let new_host = to.as_ref().filter(|_| written.rewrite_host);
            table.routes.push(Arc::new(OutboundRoute {
                name: Some(Arc::from(written.host.as_str())),
                protocol: written.protocol,
                tls,
                host: new_host.and_then(Destination::authority),
                to,
                propagate: written.propagate,
                trace: written.trace,
                timeout: written.timeout.or(config.timeouts.response),
                ratio: written.ratio.map(|ratio| ratio.get()),
            }));
        }
        let leads = table.routes.iter().filter_map(|route| route.to.as_ref());
        let routed = leads.map(|to| to.address.clone()).collect();
        table.destinations = Destinations::compile(config, routed, faults);
        table
    }

    fn add(&mut self, host: Host, port: Option<u16>) {
        let candidate = Candidate {
            port,
            route: self.routes.len(),
        };
        match host {
            Host::Exact(name) => self.exact.entry(name.into()).or_default().push(candidate),
            Host::Below(name) => self.below.entry(name.into()).or_default().push(candidate),
            Host::Any => self.any.push(candidate),
        }
    }

    /// The earlier route that takes all that this one would.
    fn shadow(&self, host: &Host, port: Option<u16>) -> Option<&str> {
        let covers = |candidate: &&Candidate| candidate.port.is_none() || candidate.port == port;
        let mut earlier: Vec<&Candidate> = self.any.iter().collect();
        let (name, inside) = match host {
            Host::Exact(name) => {
                earlier.extend(self.exact.get(name.as_str()).into_iter().flatten());
                (name.as_str(), false)
            }
            Host::Below(name) => (name.as_str(), true),
            Host::Any => ("", false),
        };
        if inside {
            earlier.extend(self.below.get(name).into_iter().flatten());
        }
        for parent in parents(name) {
            earlier.extend(self.below.get(parent).into_iter().flatten());
        }
        let first = earlier
            .into_iter()
            .filter(covers)
            .min_by_key(|candidate| candidate.route)?;
        self.routes.get(first.route)?.name.as_deref()
    }

    /// The route for a call to `host` (a name or IP literal, with or without brackets) and `port`; the default route
    /// where none fits.
    pub fn route(&self, host: &str, port: u16) -> &Arc<OutboundRoute> {
        let host = folded(host);
        let exact = self.exact.get(host.as_ref()).into_iter().flatten();
        let below = parents(&host)
            .filter_map(|parent| self.below.get(parent))
            .flatten();
        exact
            .chain(below)
            .chain(&self.any)
            .filter(|candidate| candidate.port.is_none_or(|wanted| wanted == port))
            .min_by_key(|candidate| candidate.route)
            .and_then(|candidate| self.routes.get(candidate.route))
            .unwrap_or(&self.default)
    }

    /// The routes as written, in order.
    pub fn routes(&self) -> &[Arc<OutboundRoute>] {
        &self.routes
    }
}

/// `a.b.c` -> `b.c`, `c`.
pub(super) fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.')
        .filter_map(move |(dot, _)| name.get(dot + 1..))
}

/// A host as compared: lower case, no trailing dot, no brackets.
pub(super) fn folded(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Takes `payment:8080`, `*.internal`, `*` or `[::1]:80` apart.
pub(super) fn host(text: &str) -> Result<(Host, Option<u16>), Advice> {
    let wrong = |why: &str| {
        Advice::new(
            format!("`{text}` is not a host: {why}"),
            "write a name, '*.suffix' or '*', with :port if it matters, as in payment-service:8080",
        )
    };
    if text.contains("://") || text.contains('/') {
        return Err(wrong(
            "it is compared with the host of the call, not with its URL",
        ));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, _)) if name.contains(':') && !name.ends_with(']') => (text, None),
        Some((name, port)) => {
            let port = port
                .parse::<u16>()
                .map_err(|_| wrong("the port must be a number from 0 to 65535"))?;
            (name, Some(port))
        }
        None => (text, None),
    };
    let name = folded(name).into_owned();
    if name == "*" {
        return Ok((Host::Any, port));
    }
    let (name, below) = match name.strip_prefix("*.") {
        Some(rest) => (rest.to_owned(), true),
        None => (name, false),
    };
    if name.is_empty() {
        return Err(wrong("it is empty"));
    }
    if name.contains('*') {
        return Err(wrong("a `*` stands only at the beginning, before a dot"));
    }
    let literal = name.parse::<std::net::IpAddr>().is_ok();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !literal && !name.bytes().all(allowed) {
        return Err(wrong("a name has letters, digits, dashes and dots"));
    }
    let host = if below {
        Host::Below(name)
    } else {
        Host::Exact(name)
    };
    Ok((host, port))
}

/// TLS of a route.
fn tls(
    config: &Config,
    index: usize,
    to: Option<&Destination>,
) -> Result<Option<Arc<Peer>>, Fault> {
    let Some(to) = to.filter(|to| to.https) else {
        return Ok(None);
    };
    let settings = config.outbound.routes.get(index).map(|route| &route.tls);
    let settings = settings.cloned().unwrap_or_default();
    let at = format!("outbound.routes[{index}].tls");
    let to_at = format!("outbound.routes[{index}].to");
    let client = upstream::client(config, &settings, &at)?;
    upstream::peer(config, &client, &settings, &to.address, &at, &to_at)
        .map(|peer| Some(Arc::new(peer)))
}

/// Reads a `to:`.
fn destination(text: &str) -> Result<Destination, Advice> {
    let wrong = |why: &str| {
        Advice::new(
            format!("`{text}` is not a destination: {why}"),
            "write http://host:port, https://host:port or unix:/path",
        )
    };
    if text.starts_with("unix:") {
        let address = text
            .parse()
            .map_err(|_| wrong("a unix socket needs an absolute path"))?;
        return Ok(Destination {
            address,
            https: false,
            path_prefix: Arc::from(""),
        });
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong("the scheme is missing"));
    };
    let (https, port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (false, 80),
        "https" => (true, 443),
        other => return Err(wrong(&format!("there is no scheme `{other}`"))),
    };
    if rest.contains(['?', '#']) {
        return Err(wrong("it has no query and no fragment"));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(wrong("it has no user and no password"));
    }
    let address = Address::of_url(authority, port).map_err(|error| wrong(error.why()))?;
    let path = path.trim_end_matches('/');
    if path.parse::<PathAndQuery>().is_err() && !path.is_empty() {
        return Err(wrong("the path makes no sense"));
    }
    Ok(Destination {
        address,
        https,
        path_prefix: Arc::from(path),
    })
}

impl Destination {
    /// What `Host` is there: the port is left out where it is the scheme's own.
    fn authority(&self) -> Option<HeaderValue> {
        let own = if self.https { ":443" } else { ":80" };
        let text = match &self.address {
            Address::Unix(_) => "localhost".to_owned(),
            address => address.to_string(),
        };
        HeaderValue::from_str(text.strip_suffix(own).unwrap_or(&text)).ok()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(_) => write!(f, "{}", self.address),
            Address::Tcp { .. } => {
                let scheme = if self.https { "https" } else { "http" };
                write!(f, "{scheme}://{}{}", self.address, self.path_prefix)
            }
        }
    }
}

#[cfg(test)]
mod tests;
