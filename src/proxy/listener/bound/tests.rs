//! A listener that hides, and one that closes.

use std::io::ErrorKind;

use super::*;

/// Waits for who is in the queue.
async fn next(listener: &Listener) -> Accepted {
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, listener.accept())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_hidden_listener_refuses_the_next_and_keeps_the_last() {
    for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
        let Ok(mut listener) = listen(address.parse().unwrap()) else {
            assert!(address.starts_with('['), "{address}");
            continue; // a host without IPv6
        };
        let mut to = listener.tcp_address().unwrap();
        if to.ip().is_unspecified() {
            to.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let early = TcpStream::connect(to).await.unwrap();
        assert!(listener.hide(), "{address}");
        let late = TcpStream::connect(to).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let accepted = next(&listener).await;
        assert_eq!(accepted.peer.port(), early.local_addr().unwrap().port());
        assert!(listener.accept_queued().is_none());
    }
}

#[tokio::test]
async fn a_socket_that_others_have_too_is_not_hidden() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = socket.try_clone().unwrap();
    let mut listener = Listener::inherited(socket.into()).unwrap();
    assert!(!listener.hide());
    TcpStream::connect(theirs.local_addr().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_copy_that_another_process_holds_accepts_nobody_unless_the_socket_was_passed_on() {
    for inherited in [false, true] {
        let mut listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        listener.inherited = inherited;
        let address = listener.tcp_address().unwrap();
        let copy = match &listener.kind {
            Kind::Tcp(listener, _) => SockRef::from(listener).try_clone().unwrap(),
            Kind::Unix(..) => unreachable!(),
        };
        listener.close();
        let connected = TcpStream::connect(address).await;
        assert_eq!(connected.is_ok(), inherited, "{connected:?}");
        drop(copy);
    }
}

#[tokio::test]
async fn what_the_kernel_takes_ahead_of_a_client_is_bounded() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inherited = Listener::inherited(socket.into()).unwrap();
    for listener in [listen(([127, 0, 0, 1], 0).into()).unwrap(), inherited] {
        listener.limit_ahead().unwrap();
        let _client = TcpStream::connect(listener.tcp_address().unwrap())
            .await
            .unwrap();
        let Socket::Tcp(accepted) = next(&listener).await.socket else {
            unreachable!()
        };
        let limit = SockRef::from(&accepted).tcp_notsent_lowat().unwrap();
        assert_eq!(limit, ahead::FIRST);
    }
}
