//! Ports that are known before somebody listens on them, or after: held, so that the kernel gives them to nobody else.
//!
//! A socket that is bound and does not listen refuses connections, and lets others listen on its port that say
//! SO_REUSEADDR, as servers do (`man 7 socket`); only who asks for any port does not get this one.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use socket2::{Domain, Socket, Type};

/// Ports held at once. Tests need theirs for seconds, and few run at the same time.
const MOST: usize = 64;

/// A port of the loopback interface on which nobody listens.
pub(crate) fn held() -> SocketAddr {
    static HELD: Mutex<VecDeque<Socket>> = Mutex::new(VecDeque::new());
    let socket = hold((Ipv4Addr::LOCALHOST, 0).into());
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut held = HELD.lock().unwrap();
    held.push_back(socket);
    if held.len() > MOST {
        held.pop_front();
    }
    address
}

/// Holds the port of `address` for as long as the socket is there; 0 is any.
pub(crate) fn hold(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}
