//! TLS material: PEM files to what rustls needs, with errors that say which file and what to do; who a peer is by its
//! certificate.
//!
//! Used by whoever accepts or makes TLS connections; it opens none itself. The crypto provider is chosen by the cargo
//! features `tls-ring` and `tls-aws-lc`. TLS 1.2 and 1.3; no revocation lists.

pub mod client;
pub mod identity;
mod pem;
pub mod server;

use std::sync::Arc;

pub use client::{Client, Offer, Peer};
pub use identity::Identity;
pub use server::{Server, ServerFiles};

/// Why files cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}: {help}")]
pub struct Unusable {
    /// Which of the settings names the file: `cert`, `key`, `client_ca`, `ca`.
    pub setting: &'static str,
    /// One clause, with the file's name.
    pub why: String,
    /// What to do.
    pub help: String,
}

/// The process's provider, or the one hopspan was built with: rustls' own default panics where there are two.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    if let Some(installed) = rustls::crypto::CryptoProvider::get_default() {
        return installed.clone();
    }
    #[cfg(feature = "tls-ring")]
    return Arc::new(rustls::crypto::ring::default_provider());
    #[cfg(all(feature = "tls-aws-lc", not(feature = "tls-ring")))]
    return Arc::new(rustls::crypto::aws_lc_rs::default_provider());
}

#[cfg(test)]
mod tests;
