//! Names and addresses against lists.

use super::*;
use crate::config::Source;
use crate::routing::Snapshot;

fn compiled(outbound: &str) -> Snapshot {
    let source = Source::new("hopspan.yaml", format!("outbound:\n{outbound}"));
    let config = Config::parse(&source).unwrap();
    Snapshot::compile(&config, &source, 1).unwrap()
}

/// Judged as a call is: by name, then by the address it resolves to.
fn judge(outbound: &str, called: &str, resolved: &str) -> Option<Denial> {
    let snapshot = compiled(outbound);
    let lists = &snapshot.outbound.destinations;
    let called: Address = called.parse().unwrap();
    let (host, port) = (called.host().unwrap(), called.port().unwrap());
    let resolved = SocketAddr::new(resolved.parse().unwrap(), port);
    lists
        .by_name(host, port)
        .or_else(|| lists.by_address(&called, resolved))
}

#[test]
fn names_and_networks() {
    use Denial::{Denied, NotAllowed};
    let rows: &[(&str, &str, &str, Option<Denial>)] = &[
        ("  deny: []", "any:80", "198.51.100.1", None),
        ("  deny: [bad]", "BAD.:80", "198.51.100.1", Some(Denied)),
        ("  deny: ['bad:81']", "bad:80", "198.51.100.1", None),
        (
            "  deny: ['*.bad']",
            "a.bad:80",
            "198.51.100.1",
            Some(Denied),
        ),
        ("  deny: ['*.bad']", "bad:80", "198.51.100.1", None),
        (
            "  deny: [198.51.100.0/24]",
            "any:80",
            "198.51.100.1",
            Some(Denied),
        ),
        (
            "  deny: [198.51.100.1]",
            "any:80",
            "198.51.100.1",
            Some(Denied),
        ),
        (
            "  deny: [198.51.100.0/24]",
            "any:80",
            "::ffff:198.51.100.1",
            Some(Denied),
        ),
        (
            "  deny: [198.51.100.0/24]",
            "any:80",
            "64:ff9b::c633:6401",
            Some(Denied),
        ),
        ("  allow: [good]", "good:80", "198.51.100.1", None),
        (
            "  allow: [good]",
            "other:80",
            "198.51.100.1",
            Some(NotAllowed),
        ),
        (
            "  allow: [good]",
            "198.51.100.1:80",
            "198.51.100.1",
            Some(NotAllowed),
        ),
        (
            "  allow: ['*.good:80']",
            "a.good:81",
            "198.51.100.1",
            Some(NotAllowed),
        ),
        ("  allow: [198.51.100.0/24]", "any:80", "198.51.100.1", None),
        (
            "  allow: [198.51.100.0/24]",
            "any:80",
            "203.0.113.1",
            Some(NotAllowed),
        ),
        (
            "  allow: [good, 198.51.100.0/24]",
            "good:80",
            "203.0.113.1",
            None,
        ),
        (
            "  allow: ['*']\n  deny: [bad]",
            "bad:80",
            "203.0.113.1",
            Some(Denied),
        ),
        (
            "  allow: [good]\n  deny: [10.0.0.0/8]",
            "good:80",
            "10.1.2.3",
            Some(Denied),
        ),
    ];
    for (outbound, called, resolved, wanted) in rows {
        let judged = judge(outbound, called, resolved);
        assert_eq!(judged, *wanted, "{outbound}, {called} at {resolved}");
    }
    assert_eq!(rows.len(), 18);
}

#[test]
fn metadata_is_denied_by_every_address_it_has() {
    let addresses = [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "fe80::a9fe:a9fe",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
    ];
    for address in addresses {
        let denied = judge("  deny: []", "service:80", address);
        assert_eq!(denied, Some(Denial::Metadata), "{address}");
        assert_eq!(judge("  metadata: true", "service:80", address), None);
        // Being allowed by name does not help: that is how a name is turned against its caller.
        let allowed = judge("  allow: [service]", "service:80", address);
        assert_eq!(allowed, Some(Denial::Metadata), "{address}");
    }
    for name in [
        "metadata.google.internal",
        "METADATA.goog.",
        "instance-data.ec2.internal",
    ] {
        let called = format!("{name}:80");
        assert_eq!(
            judge("  deny: []", &called, "10.0.0.1"),
            Some(Denial::Metadata)
        );
    }
    for other in [
        "169.253.255.255",
        "10.0.0.1",
        "127.0.0.1",
        "::1",
        "fd00:ec3::254",
        "2001:db8::1",
    ] {
        assert_eq!(judge("  deny: []", "metadata:80", other), None, "{other}");
    }
}

#[test]
fn where_a_route_leads_is_the_operators_word() {
    let outbound =
        "  allow: [other]\n  routes:\n    - {host: credentials, to: 'http://169.254.170.2'}";
    let snapshot = compiled(outbound);
    let to = Address::tcp("169.254.170.2", 80);
    let at: SocketAddr = "169.254.170.2:80".parse().unwrap();
    assert_eq!(snapshot.outbound.destinations.by_address(&to, at), None);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let source = Source::new(
        "hopspan.yaml",
        "outbound:\n  allow: [10.0.0.1/8]\n  deny: ['http://a/b', 'a*b']",
    );
    let config = Config::parse(&source).unwrap();
    let errors = Snapshot::compile(&config, &source, 1)
        .unwrap_err()
        .to_string();
    for told in ["10.0.0.0/8", "http://a/b", "a*b"] {
        assert!(errors.contains(told), "{told} in {errors}");
    }
}
