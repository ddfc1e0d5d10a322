//! Whether an address is one of this host's (of this network namespace's), by the kernel's own choice of a route.
//!
//! That it can be bound says nothing: with `net.ipv4.ip_nonlocal_bind`, which hosts of virtual addresses have, any can. A
//! UDP socket is connected instead, which sends nothing. For IPv4 the kernel takes no source that is not the host's own;
//! for IPv6 it takes any, but chooses the destination itself where that is its own (RFC 6724 section 5, rule 1).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

/// Any would do: nothing is sent there.
const DISCARD: u16 = 9;

/// Whether the host has the address; the port does not count. `false` where the kernel cannot be asked.
pub(crate) fn is_ours(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    if ip.is_loopback() {
        return true;
    }
    let (from, mut to) = match ip {
        IpAddr::V4(_) => (ip, SocketAddr::new(ip, DISCARD)),
        // As it came: a link-local address has a scope.
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), address),
    };
    to.set_port(DISCARD);
    let chosen = UdpSocket::bind((from, 0)).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    chosen.is_ok_and(|chosen| chosen.ip() == ip)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn ours(ip: &str) -> bool {
        is_ours(SocketAddr::new(ip.parse().unwrap(), 4000))
    }

    #[test]
    fn a_stranger_is_no_address_of_ours() {
        for (ip, is_ours) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("203.0.113.7", false),
            ("::ffff:203.0.113.7", false),
            ("2001:db8::7", false),
        ] {
            assert_eq!(ours(ip), is_ours, "{ip}");
        }
    }

    /// In a network namespace of its own, for the setting and the addresses.
    #[test]
    fn nor_where_any_address_can_be_bound() {
        let script = "ip link set lo up && ip addr add 10.231.0.2/32 dev lo && ip addr add 10.231.0.3/32 dev lo \
             && ip addr add fd00:231::2/64 dev lo nodad && ip route add default dev lo \
             && ip -6 route add default dev lo && echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind \
             && echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind && echo prepared \
             && exec \"$0\" --ignored --exact proxy::local::tests::where_any_address_can_be_bound";
        let tried = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .output();
        let told = tried.as_ref().map(|tried| {
            let told = [&*tried.stdout, &*tried.stderr].concat();
            String::from_utf8_lossy(&told).into_owned()
        });
        match told {
            Ok(told) if told.starts_with("prepared") => {
                assert!(told.contains("1 passed"), "{told}");
            }
            why => println!("SKIPPED: needs root, unshare (util-linux) and ip (iproute2): {why:?}"),
        }
    }

    #[test]
    #[ignore = "needs a network namespace: run by the test above in a child process"]
    fn where_any_address_can_be_bound() {
        for any in ["203.0.113.7", "2001:db8::7"] {
            let any: IpAddr = any.parse().unwrap();
            assert!(UdpSocket::bind((any, 0)).is_ok(), "{any} can be bound");
        }
        for (ip, is_ours) in [
            ("10.231.0.2", true),
            // Not the one that the kernel would choose for a source.
            ("10.231.0.3", true),
            ("fd00:231::2", true),
            ("10.231.0.4", false),
            ("203.0.113.7", false),
            ("::ffff:203.0.113.7", false),
            ("fd00:231::3", false),
            ("2001:db8::7", false),
        ] {
            assert_eq!(ours(ip), is_ours, "{ip}");
        }
    }
}
