//! Where calls may go: `outbound.allow`, `outbound.deny`, and cloud metadata services, which are denied unless asked for.
//!
//! A name is judged before it is resolved, and each address it resolves to before it is connected to: a name that
//! answers with another address the second time gains nothing. `deny` wins over `allow`. A route's `to` is the
//! operator's own word and is held against neither.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::outbound::{Host, folded, host, parents};
use crate::config::{Address, Config, Fault, network};

/// Why a destination is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It is, or may be, a service that hands out the machine's own credentials.
    Metadata,
    /// `deny` lists it.
    Denied,
    /// There is an `allow`, and it does not list it.
    NotAllowed,
}

impl Denial {
    /// What to tell the caller.
    pub fn why(self) -> &'static str {
        match self {
            Denial::Metadata => {
                "cloud metadata and link-local addresses are not called through hopspan \
                 (leave them out by NO_PROXY, or set outbound.metadata)"
            }
            Denial::Denied => "outbound.deny lists it",
            Denial::NotAllowed => "outbound.allow does not list it",
        }
    }
}

/// The compiled lists.
#[derive(Debug, Default)]
pub struct Destinations {
    allow: Option<List>,
    deny: List,
    metadata: bool,
    /// Where routes lead.
    routed: HashSet<Address>,
}

#[derive(Debug, Default)]
struct List {
    hosts: Vec<(Host, Option<u16>)>,
    networks: Vec<IpNet>,
}

impl Destinations {
    pub(super) fn compile(
        config: &Config,
        routed: HashSet<Address>,
        faults: &mut Vec<Fault>,
    ) -> Destinations {
        let outbound = &config.outbound;
        let mut list = |key: &str, texts: &[String]| {
            let mut list = List::default();
            for (index, text) in texts.iter().enumerate() {
                if let Err(advice) = list.add(text) {
                    let path = format!("outbound.{key}[{index}]");
                    faults.push(config.fault(&path, advice.message, advice.help));
                }
            }
            list
        };
        Destinations {
            allow: (!outbound.allow.is_empty()).then(|| list("allow", &outbound.allow)),
            deny: list("deny", &outbound.deny),
            metadata: outbound.metadata,
            routed,
        }
    }

    /// Judges the name or IP literal that is called, where no route's `to` takes it elsewhere.
    pub fn by_name(&self, host: &str, port: u16) -> Option<Denial> {
        let host = folded(host);
        if self.deny.names(&host, port) {
            return Some(Denial::Denied);
        }
        if !self.metadata && METADATA_NAMES.contains(&&*host) {
            return Some(Denial::Metadata);
        }
        let allow = self.allow.as_ref()?;
        // Its address may be in one.
        let open = !allow.networks.is_empty() || allow.names(&host, port);
        (!open).then_some(Denial::NotAllowed)
    }

    /// Judges an address that `called` has been resolved to.
    pub fn by_address(&self, called: &Address, resolved: SocketAddr) -> Option<Denial> {
        if self.routed.contains(called) {
            return None;
        }
        let ip = resolved.ip().to_canonical();
        let inner = embedded(ip).map(IpAddr::V4);
        let any = |list: &List| list.holds(ip) || inner.is_some_and(|inner| list.holds(inner));
        if any(&self.deny) {
            return Some(Denial::Denied);
        }
        if !self.metadata && (is_metadata(ip) || inner.is_some_and(is_metadata)) {
            return Some(Denial::Metadata);
        }
        let allow = self.allow.as_ref()?;
        let named = called
            .host()
            .is_some_and(|host| allow.names(&folded(host), resolved.port()));
        (!named && !allow.holds(ip)).then_some(Denial::NotAllowed)
    }
}

impl List {
    fn add(&mut self, text: &str) -> Result<(), crate::config::advice::Advice> {
        if text.contains('/') || text.parse::<IpAddr>().is_ok() {
            self.networks.push(network::parse(text)?);
        } else {
            self.hosts.push(host(text)?);
        }
        Ok(())
    }

    fn names(&self, name: &str, port: u16) -> bool {
        self.hosts.iter().any(|(host, only)| {
            let fits = match host {
                Host::Exact(known) => known == name,
                Host::Below(known) => parents(name).any(|parent| parent == known),
                Host::Any => true,
            };
            fits && only.is_none_or(|only| only == port)
        })
    }

    fn holds(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&ip))
    }
}

/// Names of metadata services that no other service has. Others resolve to what [`is_metadata`] knows.
const METADATA_NAMES: [&str; 3] = [
    "metadata.google.internal",
    "metadata.goog",
    "instance-data.ec2.internal",
];

/// Link-local addresses (AWS, Azure, Google, ECS tasks, EKS pod identity, …), and those of services elsewhere: Alibaba,
/// Oracle, Azure's host, AWS and Google over IPv6.
fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || matches!(
                    v4.octets(),
                    [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16]
                )
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || matches!(v6.segments(), [0xfd00, 0x0ec2, ..])
                || v6 == Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

/// The IPv4 address that an IPv6 one leads to: NAT64 (RFC 6052), 6to4 (RFC 3056), the old compatible form.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = ip else { return None };
    let pair = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(pair(high, low)),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(pair(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
