//! The connections that hopspan itself makes, as long as they may come back to it: where connections are redirected to
//! hopspan, a rule that does not leave out hopspan's own would make it call itself for ever.
//!
//! A connection is known here before its listener can accept it, so whoever accepts one can ask without a race. Known by
//! both addresses: a NAT that gives it another source port hides it for one round, in which it is made again.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

/// A redirected connection is accepted within this, or is taken for another's.
const KEPT: Duration = Duration::from_secs(5);
/// So many at most.
const MANY: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Dialled(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    order: VecDeque<(Instant, Pair)>,
    known: HashMap<Pair, Instant>,
}

/// Where a connection comes from, and where it was to go.
type Pair = (SocketAddr, SocketAddr);

impl Dialled {
    /// Connects.
    ///
    /// # Errors
    /// As connect(2).
    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.begin(to)?;
        stream.writable().await?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    /// Begins to connect. By loopback all of it happens in here, so the lock is held.
    fn begin(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        if let Some(from) = socket.local_addr()?.as_socket() {
            state.note((canonical(from), canonical(to)), Instant::now());
        }
        drop(state);
        TcpStream::from_std(socket.into())
    }

    /// Whether a connection is one of these.
    pub(crate) fn made(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = state.known.get(&(canonical(from), canonical(to)));
        made.is_some_and(|made| made.elapsed() < KEPT)
    }
}

impl State {
    fn note(&mut self, pair: Pair, now: Instant) {
        while let Some((made, oldest)) = self.order.front() {
            if now.duration_since(*made) < KEPT && self.order.len() < MANY {
                break;
            }
            if self.known.get(oldest) == Some(made) {
                self.known.remove(oldest);
            }
            self.order.pop_front();
        }
        self.order.push_back((now, pair));
        self.known.insert(pair, now);
    }
}

/// The same address, as IPv4 where it is one in IPv6's clothes.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_it_made_is_known_to_who_accepts_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let dialled = Dialled::default();
        let made = dialled.connect(to).await.unwrap();
        let (_, from) = listener.accept().await.unwrap();
        assert_eq!(from, made.local_addr().unwrap());
        assert!(dialled.made(from, to));
        let mapped = format!("[::ffff:{}]:{}", from.ip(), from.port());
        assert!(dialled.made(mapped.parse().unwrap(), to));
        assert!(!dialled.made(to, from));
        let other = TcpStream::connect(to).await.unwrap();
        assert!(!dialled.made(other.local_addr().unwrap(), to));
        // Bound, and not listening.
        let closed = tokio::net::TcpSocket::new_v4().unwrap();
        closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let nobody = closed.local_addr().unwrap();
        let refused = dialled.connect(nobody).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn what_is_old_is_forgotten_and_there_are_never_too_many() {
        let mut state = State::default();
        let begun = Instant::now();
        let pair = |port: u16| {
            let to = SocketAddr::from(([10, 0, 0, 1], 80));
            (SocketAddr::from(([127, 0, 0, 1], port)), to)
        };
        state.note(pair(1), begun);
        state.note(pair(2), begun + KEPT / 2);
        // The same port again, before the first was forgotten.
        state.note(pair(1), begun + KEPT / 2);
        state.note(pair(3), begun + KEPT);
        assert_eq!((state.known.len(), state.order.len()), (3, 3));
        state.note(pair(4), begun + KEPT * 3);
        assert_eq!((state.known.len(), state.order.len()), (1, 1));
        for port in 0..=u16::MAX {
            state.note(pair(port), begun + KEPT * 3);
        }
        state.note(pair(1), begun + KEPT * 3);
        assert!(state.order.len() <= MANY && state.known.len() <= MANY);
    }
}
