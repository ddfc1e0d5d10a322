//! Real sockets, and what the kernel says of them.

use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn accepted_pair(on: &str) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind(on).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

pub(super) fn inode(socket: &impl AsRawFd) -> u32 {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    let link = link.to_str().unwrap();
    link["socket:[".len()..link.len() - 1].parse().unwrap()
}

#[test]
fn finds_the_accepted_socket_by_both_addresses() {
    for on in ["127.0.0.1:0", "[::1]:0"] {
        let (_listener, client, server) = accepted_pair(on);
        let (app, peer) = (server.local_addr().unwrap(), client.local_addr().unwrap());
        let found = Diag::new().unwrap().connection(app, peer, false).unwrap();
        assert_eq!(found.unwrap().inode, inode(&server), "{on}");
    }
}

#[test]
fn finds_a_mapped_socket_by_its_ipv4_addresses() {
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    let app = SocketAddr::from(([127, 0, 0, 1], port));
    let mut diag = Diag::new().unwrap();
    let found = diag.connection(app, client.local_addr().unwrap(), false);
    assert_eq!(found.unwrap().unwrap().inode, inode(&server));
}

#[test]
fn a_listener_is_not_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = listener.local_addr().unwrap();
    let mut diag = Diag::new().unwrap();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    assert_eq!(diag.connection(app, nobody, false).unwrap(), None);
    let all = diag.listeners(libc::AF_INET as u8).unwrap();
    assert!(
        all.iter()
            .any(|l| l.port == app.port() && l.inode == inode(&listener))
    );
    assert!(all.iter().all(|l| l.state == LISTEN));
}

#[test]
fn has_no_inode_until_accepted_and_counts_what_is_unread() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(app).unwrap();
    client.write_all(b"hello").unwrap();
    let peer = client.local_addr().unwrap();
    let mut diag = Diag::new().unwrap();
    let waiting = diag.connection(app, peer, true).unwrap().unwrap();
    assert_eq!((waiting.inode, waiting.receive_queue), (0, 5));
    let (mut server, _) = listener.accept().unwrap();
    server.read_exact(&mut [0; 3]).unwrap();
    let read = diag.connection(app, peer, true).unwrap().unwrap();
    assert_eq!(read.inode, inode(&server));
    assert_eq!((read.receive_queue, read.received), (2, Some(5)));
    assert_eq!(read.cookie, waiting.cookie);
}

#[test]
fn a_unix_sockets_peer_has_no_inode_until_it_is_accepted_and_after_it_is_closed() {
    use std::os::unix::net::{UnixListener, UnixStream};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    let cookie = socket2::SockRef::from(&client).cookie().unwrap();
    let own = inode(&client);
    let mut diag = Diag::new().unwrap();
    if !diag.knows_unix() {
        println!("SKIPPED: no unix_diag in this kernel");
        return;
    }
    let mut look = || diag.unix(own, cookie).unwrap().unwrap();
    assert_eq!((look().peer, look().unread_by_peer), (0, 0));
    client.write_all(b"hello").unwrap();
    let waiting = look();
    assert_eq!((waiting.state, waiting.peer, waiting.shut), (1, 0, 0));
    assert!(waiting.unread_by_peer > 0);
    let (mut server, _) = listener.accept().unwrap();
    assert_eq!(look().peer, inode(&server));
    server.read_exact(&mut [0; 3]).unwrap();
    assert!(look().unread_by_peer > 0, "some is left");
    server.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(look().unread_by_peer, 0);
    drop(server);
    assert_eq!((look().peer, look().shut), (0, 3));
    assert_eq!(diag.unix(own, cookie + 1).unwrap(), None);
    drop(client);
    assert_eq!(diag.unix(own, cookie).unwrap(), None);
}
