//! Files that can and cannot be used, names in certificates, rules for them.

use std::path::Path;

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::pki_types::CertificateDer;

use super::identity::Rule;
use super::*;

/// A self-signed certificate with these names, and its key, as PEM.
fn made(names: &[SanType]) -> (rcgen::Certificate, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "frontend");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Shop");
    params.subject_alt_names = names.to_vec();
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key.serialize_pem())
}

#[test]
fn files_that_cannot_be_used_say_why_and_which() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = made(&[]);
    let (_, other_key) = made(&[]);
    let good = write("cert.pem", &cert.pem());
    let good_key = write("key.pem", &key);
    let other_key = write("other.pem", &other_key);
    let empty = write("empty.pem", "");
    let broken = write(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----",
    );
    let missing = folder.path().join("missing.pem");
    let rows: [(&Path, &Path, Option<&Path>, &str, &str); 7] = [
        (&missing, &good_key, None, "cert", "cannot read"),
        (&empty, &good_key, None, "cert", "no certificate in"),
        (&broken, &good_key, None, "cert", "is not PEM"),
        (&good, &missing, None, "key", "cannot read"),
        (&good, &good, None, "key", "no private key in"),
        (&good, &other_key, None, "key", "cannot be used"),
        (
            &good,
            &good_key,
            Some(&empty),
            "client_ca",
            "no certificate in",
        ),
    ];
    for (cert, key, roots, setting, why) in rows {
        let clients = roots.map(|roots| (roots, true));
        let error = Server::load(ServerFiles { cert, key, clients }).unwrap_err();
        assert_eq!(error.setting, setting, "{error}");
        assert!(error.why.contains(why), "{error}");
    }
    let files = ServerFiles {
        cert: &good,
        key: &good_key,
        clients: Some((&good, false)),
    };
    let server = Server::load(files).unwrap();
    // rcgen's default: the year 4096.
    assert!(server.expires() > 4_000_000_000);
    assert_eq!(server.config().alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    let error = Client::load(Some(&empty), None).unwrap_err();
    assert_eq!(error.setting, "ca");
}

#[test]
fn names_are_read_from_a_certificate() {
    let names = [
        SanType::DnsName("frontend.shop.svc".try_into().unwrap()),
        SanType::URI("spiffe://shop/frontend".try_into().unwrap()),
        SanType::IpAddress("10.0.0.7".parse().unwrap()),
        SanType::IpAddress("2001:db8::7".parse().unwrap()),
    ];
    let (cert, _) = made(&names);
    let identity = Identity::of(cert.der());
    assert_eq!(&*identity.subject, "CN=frontend, O=Shop");
    assert_eq!(
        *identity.names,
        [
            "frontend.shop.svc",
            "spiffe://shop/frontend",
            "10.0.0.7",
            "2001:db8::7"
        ]
    );
    let nonsense = CertificateDer::from(vec![0x30, 0x82, 1]);
    assert_eq!(Identity::of(&nonsense), Identity::default());
}

#[test]
fn rules_fit_whole_names() {
    let identity = Identity {
        subject: "CN=frontend, O=Shop".into(),
        names: ["frontend.shop.svc".to_owned(), "spiffe://shop/a".to_owned()].into(),
    };
    let rows = [
        ("san:frontend.shop.svc", true),
        ("san:frontend.shop", false),
        ("san:rontend.shop.svc", false),
        ("san:*.shop.svc", true),
        ("san:spiffe://shop/*", true),
        ("san:spiffe://*/a", true),
        ("san:spiffe://shop/a*a", false),
        ("san:CN=frontend, O=Shop", false),
        ("subject:CN=frontend, O=Shop", true),
        ("subject:CN=frontend,*", true),
        ("subject:frontend", false),
    ];
    for (text, fits) in rows {
        let rule = Rule::parse(text).unwrap();
        assert_eq!(rule.fits(&identity), fits, "{text}");
        assert_eq!(rule.to_string(), text);
    }
    for text in ["san:", "san:*a*", "name:x", "x"] {
        assert!(Rule::parse(text).is_none(), "{text}");
    }
}
