//! Failures by name, and addresses judged before they are connected to.

use super::*;
use crate::config::{Limits, Timeouts};

const LIMIT: Duration = Duration::from_secs(60);

async fn failure(connector: &Connector, address: &str) -> &'static str {
    let address: Address = address.parse().unwrap();
    let resolve = ResolveLimits {
        timeout: LIMIT,
        ..ResolveLimits::of(&Timeouts::default(), &Limits::default())
    };
    match connector.connect(&address, &resolve, LIMIT).await {
        Ok(_) => "connected",
        Err(error) => error.proxy_status(),
    }
}

#[tokio::test]
async fn failures_have_the_names_of_rfc_9209() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let connector = Connector::new(None, None);
    assert_eq!(
        failure(&connector, &format!("127.0.0.1:{port}")).await,
        "connected"
    );
    // ::1 may be tried first and refuse: the next address is tried.
    assert_eq!(
        failure(&connector, &format!("localhost:{port}")).await,
        "connected"
    );
    // Bound, and not listening: dropping `taken` would not close it where another test forks just now.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = closed.local_addr().unwrap().port();
    for (address, name) in [
        (format!("127.0.0.1:{port}"), "connection_refused"),
        (
            "unix:/nonexistent/app.sock".to_owned(),
            "destination_unavailable",
        ),
        // A label of more than 63 bytes is no name (RFC 1035 section 2.3.4): no server is asked.
        (format!("{}.invalid:80", "a".repeat(64)), "dns_error"),
    ] {
        assert_eq!(failure(&connector, &address).await, name, "{address}");
    }
}

#[test]
fn a_destination_has_one_spelling() {
    for (given, same) in [
        ("0.0.0.0", "127.0.0.1"),
        ("::ffff:169.254.169.254", "169.254.169.254"),
        ("::", "::1"),
        ("10.1.2.3", "10.1.2.3"),
    ] {
        assert_eq!(plain(given.parse().unwrap()).to_string(), same);
    }
}

#[tokio::test]
async fn an_address_is_judged_after_resolution_and_before_connecting() {
    let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    own.set_nonblocking(true).unwrap();
    let port = own.local_addr().unwrap().port();
    for (verdict, name) in [
        (Verdict::Loop, "proxy_loop_detected"),
        (Verdict::Prohibited("no"), "destination_ip_prohibited"),
    ] {
        let connector = Connector::new(
            Some(Arc::new(move |_: &Address, address: SocketAddr| {
                assert!(address.ip().is_loopback());
                verdict
            })),
            None,
        );
        let named = failure(&connector, &format!("localhost:{port}")).await;
        assert_eq!(named, name);
    }
    assert!(own.accept().is_err(), "nothing connected");
}

/// Each look-up gives the next of these addresses.
fn changing(addresses: &[&str]) -> Arc<Resolver> {
    let mut left: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    left.reverse();
    let left = std::sync::Mutex::new(left);
    Resolver::with(Box::new(move |_| {
        let address = left.lock().unwrap().pop().unwrap();
        Box::pin(async move { Ok(vec![address]) })
    }))
}

#[tokio::test]
async fn a_name_that_turns_to_a_forbidden_address_is_refused_when_it_does() {
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let judged = asked.clone();
    let connector = Connector {
        dialled: None,
        resolver: changing(&["127.0.0.1", "169.254.169.254"]),
        check: Some(Arc::new(move |called: &Address, address: SocketAddr| {
            assert_eq!(called.host(), Some("rebound.example"));
            judged.lock().unwrap().push(address.ip().to_string());
            match address.ip().is_loopback() {
                true => Verdict::Allow,
                false => Verdict::Prohibited("no"),
            }
        })),
    };
    let address = format!("rebound.example:{port}");
    assert_eq!(failure(&connector, &address).await, "connected");
    tokio::time::pause();
    // Longer than an answer is kept.
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(
        failure(&connector, &address).await,
        "destination_ip_prohibited"
    );
    assert_eq!(*asked.lock().unwrap(), ["127.0.0.1", "169.254.169.254"]);
}

/// A listener that answers nobody: its queue is full. What fills it is to be kept.
fn black_hole(address: SocketAddr) -> (socket2::Socket, Vec<std::net::TcpStream>) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let mut queued = Vec::new();
    let patience = Duration::from_millis(300);
    while let Ok(one) = std::net::TcpStream::connect_timeout(&address, patience) {
        queued.push(one);
        assert!(queued.len() < 100, "it still answers");
    }
    (listener, queued)
}

#[tokio::test]
async fn an_address_that_does_not_answer_costs_a_moment_and_not_the_time_there_is() {
    let good = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = good.local_addr().unwrap().port();
    let _hole = black_hole(SocketAddr::from(([127, 0, 0, 3], port)));
    let connect = async |addresses: &'static [&str]| {
        let all = addresses.iter().map(|it| it.parse().unwrap());
        let all: Vec<IpAddr> = all.collect();
        let connector = Connector {
            dialled: None,
            resolver: Resolver::with(Box::new(move |_| {
                let all = all.clone();
                Box::pin(async move { Ok(all) })
            })),
            check: Some(Arc::new(|_: &Address, address: SocketAddr| {
                match address.ip().to_string().starts_with("127.") {
                    true => Verdict::Allow,
                    false => Verdict::Prohibited("no"),
                }
            })),
        };
        let address: Address = format!("several.example:{port}").parse().unwrap();
        let resolve = ResolveLimits::of(&Timeouts::default(), &Limits::default());
        let begun = Instant::now();
        let outcome = connector.connect(&address, &resolve, LIMIT).await;
        assert!(begun.elapsed() < LIMIT / 3, "{:?}", begun.elapsed());
        match outcome {
            Ok(connected) => connected.peer.unwrap().ip().to_string(),
            Err(error) => error.proxy_status().to_owned(),
        }
    };
    // Nobody listens at 127.0.0.4.
    for (addresses, outcome) in [
        (&["127.0.0.3", "127.0.0.2"][..], "127.0.0.2"),
        (&["127.0.0.4", "127.0.0.3", "127.0.0.2"], "127.0.0.2"),
        (&["127.0.0.4", "127.0.0.4"], "connection_refused"),
        // What must not be called ends the list, and not what was begun before.
        (&["127.0.0.2", "10.0.0.1"], "127.0.0.2"),
        (
            &["127.0.0.4", "10.0.0.1", "127.0.0.2"],
            "destination_ip_prohibited",
        ),
        (&["10.0.0.1", "127.0.0.2"], "destination_ip_prohibited"),
    ] {
        assert_eq!(connect(addresses).await, outcome, "{addresses:?}");
    }
}
