//! The sections of the file, each with its defaults: what `inbound:`, `outbound:`, `timeouts:` … may hold.
//!
//! Field names are the keys of the file. Routes are texts here; [`crate::routing`] compiles them.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::app::{App, HttpProtocol};
use super::network;
use super::tls::{ClientTls, InboundTls};
use super::trust::Trust;
use super::values::{Rate, Ratio, one_or_many};
use super::{Address, FileMode, duration};

/// `inbound:`: requests from clients to the app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inbound {
    /// Where clients connect.
    pub listen: Address,
    /// The permissions of its file, where that is a unix socket.
    pub socket_mode: FileMode,
    /// Where the app listens; several are taken in turn.
    #[serde(with = "one_or_many")]
    pub app: Vec<App>,
    /// Which HTTP the app speaks.
    pub protocol: HttpProtocol,
    /// TLS with an app that is named by `https://`.
    pub app_tls: ClientTls,
    /// Whose trace context is continued.
    pub trust: Trust,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are appended to, not replaced.
    #[serde(with = "network")]
    pub trusted_proxies: Vec<IpNet>,
    /// Peers that begin each connection with a PROXY header.
    #[serde(with = "network")]
    pub proxy_protocol: Vec<IpNet>,
    /// TLS for clients; on where it has a certificate.
    pub tls: InboundTls,
    /// Whether the hop to the app has a CLIENT span of its own.
    pub app_span: bool,
    /// First match wins.
    pub routes: Vec<InboundRoute>,
}

impl Default for Inbound {
    fn default() -> Inbound {
        Inbound {
            listen: Address::tcp("0.0.0.0", 8080),
            socket_mode: FileMode::GROUP,
            app: vec![Address::tcp("127.0.0.1", 8000).into()],
            protocol: HttpProtocol::Auto,
            app_tls: ClientTls::default(),
            trust: Trust::All,
            trusted_proxies: private_networks(),
            proxy_protocol: Vec::new(),
            tls: InboundTls::default(),
            app_span: true,
            routes: Vec::new(),
        }
    }
}

/// Loopback and private address ranges (RFC 1918, RFC 4193, RFC 6598, IPv6 link-local).
fn private_networks() -> Vec<IpNet> {
    [
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    ]
    .iter()
    .filter_map(|network| network.parse().ok())
    .collect()
}

/// One entry of `inbound.routes`. It has a `path` or a `regex`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InboundRoute {
    /// A pattern of Django's `path()`, as `orders/<int:pk>/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A pattern of Django's `re_path()`, as `^articles/(?P<year>[0-9]{4})/$`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Where these requests go; empty: to `inbound.app`.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub app: Vec<App>,
    /// Which HTTP is spoken there; absent: `inbound.protocol`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<HttpProtocol>,
    /// How long the app may take until its response begins; absent: `timeouts.response`.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Whether spans are made.
    pub trace: bool,
    /// Share of new traces that are recorded; absent: `sampling.ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

impl Default for InboundRoute {
    fn default() -> InboundRoute {
        InboundRoute {
            path: None,
            regex: None,
            app: Vec::new(),
            protocol: None,
            timeout: None,
            trace: true,
            ratio: None,
        }
    }
}

/// `outbound:`: calls that the app makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// Where the app's calls arrive (`HTTP_PROXY`, or a base URL).
    pub listen: Address,
    /// Where connections arrive that iptables or nftables redirects.
    #[serde(with = "one_or_many")]
    pub transparent: Vec<Address>,
    /// Whether a stop waits for the app to be gone before calls are refused; absent: in Kubernetes only.
    pub outlast_app: Option<bool>,
    /// Who may call, besides programs on this host.
    #[serde(with = "network")]
    pub clients: Vec<IpNet>,
    /// Where calls may go: hosts and networks; empty: everywhere.
    pub allow: Vec<String>,
    /// Where they may not, whatever `allow` says.
    pub deny: Vec<String>,
    /// Whether they may go to cloud metadata services and link-local addresses.
    pub metadata: bool,
    /// First match wins.
    pub routes: Vec<OutboundRoute>,
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound {
            listen: Address::tcp("127.0.0.1", 8081),
            transparent: Vec::new(),
            outlast_app: None,
            clients: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            metadata: false,
            routes: Vec::new(),
        }
    }
}

/// One entry of `outbound.routes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundRoute {
    /// The host that is called: a name, `*.suffix` or `*`, with `:port` or without.
    pub host: String,
    /// Where the call goes instead: `http://`, `https://` or `unix:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Which HTTP is spoken there.
    #[serde(default)]
    pub protocol: HttpProtocol,
    /// TLS, where `to` is `https://`.
    #[serde(default, skip_serializing_if = "ClientTls::is_default")]
    pub tls: ClientTls,
    /// Whether `Host` becomes that of `to`: for calls by a base URL, which name hopspan itself.
    #[serde(default)]
    pub rewrite_host: bool,
    /// Whether trace context and baggage are sent along.
    #[serde(default = "yes")]
    pub propagate: bool,
    /// Whether spans are made.
    #[serde(default = "yes")]
    pub trace: bool,
    /// How long until the response begins; absent: `timeouts.response`.
    #[serde(
        default,
        with = "duration::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
    /// Share of new traces that are recorded; absent: `sampling.ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

fn yes() -> bool {
    true
}

/// `correlation:`: how calls are joined to the request that caused them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Correlation {
    /// Whether requests carry a token to the app, which calls may bring back; absent: only with the shim of wrap mode.
    pub token: Option<bool>,
    /// Whether the kernel may be made to watch which thread reads a request and sends a call (eBPF).
    pub thread: bool,
    /// Whether the app's processes may be looked at for one that serves one request at a time.
    pub serial: bool,
}

impl Default for Correlation {
    fn default() -> Self {
        Correlation {
            token: None,
            thread: true,
            serial: true,
        }
    }
}

/// A header format for context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagator {
    /// W3C Trace Context: `traceparent`, `tracestate`.
    TraceContext,
    /// W3C Baggage.
    Baggage,
}

/// `sampling:`: which traces are recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Share of new traces that are recorded.
    pub ratio: Ratio,
    /// Whether a parent's decision is followed.
    pub parent_based: bool,
    /// New traces recorded per second at most, beyond the ratio.
    pub rate: Option<Rate>,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            ratio: Ratio::ONE,
            parent_based: true,
            rate: None,
        }
    }
}

/// `capture:`: what spans keep beyond the conventions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// Request headers kept as `http.request.header.<name>`.
    pub request_headers: Vec<String>,
    /// Response headers kept as `http.response.header.<name>`.
    pub response_headers: Vec<String>,
    /// Query parameters whose values are replaced, beyond those the conventions name.
    pub redact: Vec<String>,
}

/// `status:`: health, readiness and metrics, for everyone who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatusConfig {
    /// Where `/livez`, `/readyz` and `/metrics` answer.
    pub listen: Address,
}

impl Default for StatusConfig {
    fn default() -> StatusConfig {
        StatusConfig {
            listen: Address::tcp("0.0.0.0", 9464),
        }
    }
}

/// `admin:`: the config in use and reload, for the operator only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where `/config` and `/reload` answer.
    pub listen: Address,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            listen: Address::tcp("127.0.0.1", 9465),
        }
    }
}
