//! Inbound routes: which Django pattern a request's path fits, and what is done with it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::pattern::{Pattern, Patterns};
use super::upstream::{self, Upstream};
use crate::config::{App, ClientAuth, Config, Fault, Trust, Trusted};
use crate::tls::identity::Rule;
use crate::tls::{self, Client, Identity, ServerFiles};

/// One compiled route.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundRoute {
    /// `http.route`: the pattern as written; `None` for the default route.
    pub pattern: Option<Arc<str>>,
    /// Where these requests go; never empty.
    pub app: Vec<Upstream>,
    /// How long the app may take until its response begins.
    pub timeout: Option<Duration>,
    /// Whether spans are made.
    pub trace: bool,
    /// Share of new traces recorded.
    pub ratio: Option<f64>,
}

/// All inbound routes.
#[derive(Debug)]
pub struct InboundTable {
    /// TLS for clients.
    pub tls: Option<Tls>,
    trust: TrustTable,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Peers that begin each connection with a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
    /// Whether the hop to the app has a CLIENT span of its own.
    pub app_span: bool,
    routes: Vec<Arc<InboundRoute>>,
    default: Arc<InboundRoute>,
    patterns: Patterns,
}

/// TLS for clients, compiled.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate and key, and whose certificates are asked for.
    pub server: tls::Server,
    /// Whether clients may also come without TLS.
    pub plaintext: bool,
}

/// Whose trace context is continued, compiled.
#[derive(Debug)]
enum TrustTable {
    All,
    Some {
        networks: Vec<IpNet>,
        certificates: Vec<Rule>,
    },
}

impl TrustTable {
    fn compile(trust: &Trust) -> TrustTable {
        let all = match trust {
            Trust::All => return TrustTable::All,
            Trust::None => &[][..],
            Trust::Some(all) => all,
        };
        let networks = all.iter().filter_map(|one| match one {
            Trusted::Network(network) => Some(*network),
            Trusted::Certificate(_) => None,
        });
        let certificates = all.iter().filter_map(|one| match one {
            Trusted::Network(_) => None,
            // Checked when it was read.
            Trusted::Certificate(text) => Rule::parse(text),
        });
        TrustTable::Some {
            networks: networks.collect(),
            certificates: certificates.collect(),
        }
    }
}

impl InboundTable {
    pub(super) fn compile(config: &Config, faults: &mut Vec<Fault>) -> Option<InboundTable> {
        let inbound = &config.inbound;
        let mut patterns = Vec::new();
        let mut routes = Vec::new();
        let client = client_side(config, faults);
        let client = client.as_ref();
        let apps = |at: &str, written: &[App], protocol, faults: &mut Vec<Fault>| {
            upstream::apps(config, at, written, protocol, client, faults)
        };
        for (index, written) in inbound.routes.iter().enumerate() {
            let (key, text, pattern) = match (&written.path, &written.regex) {
                (Some(path), None) => ("path", path, Pattern::path(path)),
                (None, Some(regex)) => ("regex", regex, Pattern::regex(regex)),
                (path, _) => {
                    faults.extend(undecided(config, index, path.is_some()));
                    continue;
                }
            };
            let at = format!("inbound.routes[{index}].{key}");
            match pattern {
                Ok(pattern) => patterns.push((at, pattern)),
                Err(wrong) => faults.push(wrong.fault(config, &at, text)),
            }
            let protocol = written.protocol.unwrap_or(inbound.protocol);
            let (app_at, app) = match written.app.is_empty() {
                true => ("inbound.app".to_owned(), &inbound.app),
                false => (format!("inbound.routes[{index}].app"), &written.app),
            };
            routes.push(Arc::new(InboundRoute {
                pattern: Some(Arc::from(text.as_str())),
                app: apps(&app_at, app, protocol, faults),
                timeout: written.timeout.or(config.timeouts.response),
                trace: written.trace,
                ratio: written.ratio.map(|ratio| ratio.get()),
            }));
        }
        let default = apps("inbound.app", &inbound.app, inbound.protocol, faults);
        let patterns = Patterns::compile(config, patterns, faults)?;
        Some(InboundTable {
            tls: compile_tls(config, faults),
            trust: TrustTable::compile(&inbound.trust),
            trusted_proxies: inbound.trusted_proxies.clone(),
            proxy_protocol: inbound.proxy_protocol.clone(),
            app_span: inbound.app_span,
            routes,
            default: Arc::new(InboundRoute {
                pattern: None,
                app: default,
                timeout: config.timeouts.response,
                trace: true,
                ratio: None,
            }),
            patterns,
        })
    }

    /// The route of a request by the raw path of its target; the default route where none fits.
    pub fn route(&self, path: &str) -> &Arc<InboundRoute> {
        self.patterns
            .first(&as_django_sees(path))
            .and_then(|index| self.routes.get(index))
            .unwrap_or(&self.default)
    }

    /// The routes as written, in order.
    pub fn routes(&self) -> &[Arc<InboundRoute>] {
        &self.routes
    }

    /// Whether the trace context of a peer is continued. `identity`: by its certificate, where it has one.
    pub fn trusts(&self, peer: IpAddr, identity: Option<&Identity>) -> bool {
        match &self.trust {
            TrustTable::All => true,
            TrustTable::Some {
                networks,
                certificates,
            } => {
                contains(networks, peer)
                    || identity.is_some_and(|it| certificates.iter().any(|rule| rule.fits(it)))
            }
        }
    }

    /// Whether the forwarding headers of a peer are believed.
    pub fn is_trusted_proxy(&self, peer: IpAddr) -> bool {
        contains(&self.trusted_proxies, peer)
    }
}

/// IPv4 in IPv6 (`::ffff:10.0.0.1`, what a dual-stack socket reports) counts as IPv4.
fn contains(networks: &[IpNet], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    networks.iter().any(|network| network.contains(&peer))
}

/// Our side of TLS with the app, where one is named by `https://`.
fn client_side(config: &Config, faults: &mut Vec<Fault>) -> Option<Client> {
    let inbound = &config.inbound;
    let routes = inbound.routes.iter().flat_map(|route| &route.app);
    inbound.app.iter().chain(routes).find(|app| app.tls)?;
    upstream::client(config, &inbound.app_tls, "inbound.app_tls")
        .map_err(|fault| faults.push(fault))
        .ok()
}

/// Reads the files of `inbound.tls`.
fn compile_tls(config: &Config, faults: &mut Vec<Fault>) -> Option<Tls> {
    let written = &config.inbound.tls;
    let (cert, key) = (written.cert.as_deref()?, written.key.as_deref()?);
    let required = written.client_auth == ClientAuth::Required;
    let files = ServerFiles {
        cert,
        key,
        clients: written.client_ca.as_deref().map(|roots| (roots, required)),
    };
    match tls::Server::load(files) {
        Ok(server) => Some(Tls {
            server,
            plaintext: written.plaintext,
        }),
        Err(unusable) => {
            let at = format!("inbound.tls.{}", unusable.setting);
            faults.push(config.fault(&at, unusable.why, unusable.help));
            None
        }
    }
}

fn undecided(config: &Config, index: usize, both: bool) -> Option<Fault> {
    let at = format!("inbound.routes[{index}]");
    if both {
        return Some(config.fault(
            &format!("{at}.regex"),
            "a route has a `path` or a `regex`, not both",
            "make two routes of it",
        ));
    }
    // What was wrong with the path has been said already.
    (!config.positions.is_mended(&at)).then(|| {
        config.fault(
            &at,
            "`path` is missing here",
            "add `path:` with a pattern of Django's path(), as in orders/<int:pk>/",
        )
    })
}

/// What Django matches: the path without its first slash, percent-decoded; bytes that are not UTF-8 stay encoded
/// (`repercent_broken_unicode` in `django.utils.encoding`).
fn as_django_sees(path: &str) -> Cow<'_, str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let bytes: Cow<'_, [u8]> = percent_decode_str(path).into();
    let mut decoded = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        decoded.push_str(chunk.valid());
        for byte in chunk.invalid() {
            decoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests;
