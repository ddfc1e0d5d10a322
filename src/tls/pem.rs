//! PEM files (RFC 7468): certificates, keys, roots.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Unusable;

/// All certificates of a file, at least one.
pub(super) fn certificates(
    path: &Path,
    setting: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<_, _>>);
    match found {
        Ok(list) if list.is_empty() => Err(Unusable {
            setting,
            why: format!("there is no certificate in {}", path.display()),
            help: "write a PEM file with BEGIN CERTIFICATE in it".to_owned(),
        }),
        Ok(list) => Ok(list),
        Err(error) => Err(unreadable(path, setting, &error)),
    }
}

/// The first private key of a file.
pub(super) fn private_key(
    path: &Path,
    setting: &'static str,
) -> Result<PrivateKeyDer<'static>, Unusable> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        Error::NoItemsFound => Unusable {
            setting,
            why: format!("there is no private key in {}", path.display()),
            help: "write a PEM file with BEGIN PRIVATE KEY in it, without a passphrase".to_owned(),
        },
        error => unreadable(path, setting, &error),
    })
}

/// The certificates of a file as roots.
pub(super) fn roots(path: &Path, setting: &'static str) -> Result<RootCertStore, Unusable> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(path, setting)?);
    if added > 0 {
        return Ok(store);
    }
    Err(Unusable {
        setting,
        why: format!("no certificate in {} can be a root", path.display()),
        help: "write a PEM file with certificates of authorities in it".to_owned(),
    })
}

fn unreadable(path: &Path, setting: &'static str, error: &Error) -> Unusable {
    let path = path.display();
    match error {
        Error::Io(error) => Unusable {
            setting,
            why: format!("cannot read {path}: {error}"),
            help: "write a path that hopspan's user may read".to_owned(),
        },
        error => Unusable {
            setting,
            why: format!("{path} is not PEM: {error}"),
            help: "write a PEM file, as openssl and cert-manager make them".to_owned(),
        },
    }
}
