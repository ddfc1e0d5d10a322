//! `inbound.tls:`: the files as written. What is in them is read when the config is compiled.

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
        [&tls.cert, &tls.key, &tls.client_ca]
            .into_iter()
            .filter_map(|file| file.as_deref())
            .collect()
    }

    /// Settings of TLS that are nothing without another.
    pub(super) fn lonely_tls(&self) -> Vec<Fault> {
        let tls = &self.inbound.tls;
        let missing = |at: &str, other: &str, help: &str| {
            self.fault(
                &format!("inbound.tls.{at}"),
                format!("`{at}` is nothing without `{other}`"),
                help,
            )
        };
        let mut faults = Vec::new();
        match (&tls.cert, &tls.key) {
            (Some(_), None) => {
                faults.push(missing(
                    "cert",
                    "key",
                    "write the file of its private key as key:",
                ));
            }
            (None, Some(_)) => {
                faults.push(missing(
                    "key",
                    "cert",
                    "write the file of its certificate as cert:",
                ));
            }
            (None, None) if tls.client_ca.is_some() => faults.push(missing(
                "client_ca",
                "cert",
                "write the files of hopspan's own certificate and key as cert: and key:",
            )),
            _ => {}
        }
        faults
    }
}
