//! Failures by name, and addresses judged before they are connected to.

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

async fn failure(connector: &Connector, address: &str) -> &'static str {
    let address: Address = address.parse().unwrap();
    match connector.connect(&address, LIMIT).await {
        Ok(_) => "connected",
        Err(error) => error.proxy_status(),
    }
}

#[tokio::test]
async fn failures_have_the_names_of_rfc_9209() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let connector = Connector::new(None);
    assert_eq!(
        failure(&connector, &format!("127.0.0.1:{port}")).await,
        "connected"
    );
    // ::1 may be tried first and refuse: the next address is tried.
    assert_eq!(
        failure(&connector, &format!("localhost:{port}")).await,
        "connected"
    );
    drop(taken);
    for (address, name) in [
        (format!("127.0.0.1:{port}"), "connection_refused"),
        (
            "unix:/nonexistent/app.sock".to_owned(),
            "connection_refused",
        ),
        ("name.invalid:80".to_owned(), "dns_error"),
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
        (Verdict::Prohibited, "destination_ip_prohibited"),
    ] {
        let connector = Connector::new(Some(Arc::new(move |address: SocketAddr| {
            assert!(address.ip().is_loopback());
            verdict
        })));
        let named = failure(&connector, &format!("localhost:{port}")).await;
        assert_eq!(named, name);
    }
    assert!(own.accept().is_err(), "nothing connected");
}
