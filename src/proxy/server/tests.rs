//! What a connection says of its client.

use super::*;

fn from(peer: &str, local: &str) -> bool {
    let connection = Connection {
        id: 1,
        peer: peer.parse().unwrap(),
        balancer: None,
        unix: None,
        original: None,
        local: local.parse().unwrap(),
        accepted: Instant::now(),
        received: Arc::default(),
        from_here: OnceLock::new(),
        named: Named::default(),
        tls: None,
        breaks: None,
    };
    connection.is_from_this_host()
}

#[test]
fn a_client_is_local_by_its_address() {
    for (peer, local, is_local) in [
        ("127.0.0.1:4000", "127.0.0.1:8081", true),
        ("[::1]:4000", "[::1]:8081", true),
        ("[::ffff:127.0.0.1]:4000", "[::]:8081", true),
        // The same address at both ends: the pod calls itself.
        ("203.0.113.7:4000", "203.0.113.7:8081", true),
        ("203.0.113.7:4000", "203.0.113.8:8081", false),
        ("[2001:db8::7]:4000", "[2001:db8::8]:8081", false),
        ("203.0.113.7:4000", "127.0.0.1:8081", false),
    ] {
        assert_eq!(from(peer, local), is_local, "{peer} to {local}");
    }
}
