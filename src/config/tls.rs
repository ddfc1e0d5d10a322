//! Files for TLS as written, with clients and with upstreams. What is in them is read when the config is compiled.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, Fault};

/// `inbound.tls:`: TLS for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InboundTls {
    /// PEM file of the certificate, and of those between it and its root.
    pub cert: Option<PathBuf>,
    /// PEM file of its private key.
    pub key: Option<PathBuf>,
    /// PEM file of the roots of clients' certificates; absent: no client is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate.
    pub client_auth: ClientAuth,
    /// Whether clients may also come without TLS.
    pub plaintext: bool,
}

/// `inbound.app_tls:` and `tls:` of an outbound route: TLS with an upstream that is named by `https://`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTls {
    /// PEM file of the roots to believe instead of the system's.
    pub ca: Option<PathBuf>,
    /// The name that its certificate must have, and that it is told (SNI); absent: its host.
    pub server_name: Option<String>,
    /// PEM file of hopspan's own certificate, where the upstream asks for one.
    pub cert: Option<PathBuf>,
    /// PEM file of its private key.
    pub key: Option<PathBuf>,
}

impl ClientTls {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == ClientTls::default()
    }
}

/// Whether clients must have a certificate, where one is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// A client without a certificate is refused.
    #[default]
    Required,
    /// A client may do without one; one that is not good is refused.
    Optional,
}

impl Config {
    /// Files with certificates and keys, whose content counts as the config's own.
    pub fn tls_files(&self) -> Vec<&Path> {
        let tls = &self.inbound.tls;
        let mut files = vec![&tls.cert, &tls.key, &tls.client_ca];
        let routes = self.outbound.routes.iter().map(|route| &route.tls);
        for tls in routes.chain([&self.inbound.app_tls]) {
            files.extend([&tls.ca, &tls.cert, &tls.key]);
        }
        files.into_iter().filter_map(Option::as_deref).collect()
    }

    /// Settings of TLS that are nothing without another.
    pub(super) fn lonely_tls(&self) -> Vec<Fault> {
        let missing = |at: String, this: &str, other: &str, help: &str| {
            let message = format!("`{this}` is nothing without `{other}`");
            self.fault(&format!("{at}.{this}"), message, help)
        };
        let mut faults = Vec::new();
        let tls = &self.inbound.tls;
        let mut pairs = vec![("inbound.tls".to_owned(), &tls.cert, &tls.key)];
        let app = &self.inbound.app_tls;
        pairs.push(("inbound.app_tls".to_owned(), &app.cert, &app.key));
        for (index, route) in self.outbound.routes.iter().enumerate() {
            let at = format!("outbound.routes[{index}].tls");
            pairs.push((at, &route.tls.cert, &route.tls.key));
        }
        for (at, cert, key) in pairs {
            match (cert, key) {
                (Some(_), None) => {
                    let help = "write the file of its private key as key:";
                    faults.push(missing(at, "cert", "key", help));
                }
                (None, Some(_)) => {
                    let help = "write the file of its certificate as cert:";
                    faults.push(missing(at, "key", "cert", help));
                }
                _ => {}
            }
        }
        if tls.cert.is_none() && tls.key.is_none() && tls.client_ca.is_some() {
            let help = "write the files of hopspan's own certificate and key as cert: and key:";
            faults.push(missing("inbound.tls".to_owned(), "client_ca", "cert", help));
        }
        faults
    }
}
