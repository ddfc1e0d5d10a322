//! A connection for which there is no memory once it has something to say: told in its own protocol, and closed.

use super::last_word::last_word;
use super::{Client, Wire};
use crate::proxy::frames::CALM;
use crate::proxy::refusal;
use crate::proxy::sniff::Spoken;
use crate::proxy::timed::Clock;

/// SETTINGS without any, which HTTP/2 begins with (RFC 9113 section 3.4).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Whether there is memory to speak with the client; if not, it is counted and told.
pub(super) async fn has_room<G: Unpin, H>(
    spoken: Spoken,
    io: &mut Wire<G>,
    client: &Client<'_, H>,
) -> bool {
    let has_room = client.clock.growing.begins(spoken.takes());
    if !has_room {
        client.options.count("memory");
        tell(spoken, io, &client.clock).await;
    }
    has_room
}

/// Tells the client, as far as what it speaks has a word for it: a handshake has none yet.
async fn tell<G: Unpin>(spoken: Spoken, io: &mut Wire<G>, clock: &Clock) {
    // What it still sends is read and thrown away, or the answer would be lost with a RST.
    clock.request_begins(true);
    let words = match spoken {
        Spoken::Http1 => refusal::answer(503),
        Spoken::Http2 => [&SETTINGS[..], &CALM].concat(),
        Spoken::Tls => return,
    };
    last_word(io, &words).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::proxy::held::Held;
    use crate::proxy::pressure::{Level, Pressure};
    use crate::proxy::sniff::Rewound;
    use crate::proxy::socket::Socket;
    use crate::proxy::timed::Timed;
    use crate::telemetry::Metrics;

    async fn told(spoken: Spoken) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let pressure = Arc::new(Pressure::default());
        pressure.set(Level::Out, 0);
        let clock = Clock::new(Duration::from_secs(1), &pressure);
        let socket = Rewound::new(Vec::new(), Socket::Tcp(socket));
        let held = Held::requests(&Metrics::new());
        let mut io = Timed::new(socket, clock.clone(), None, held, ());
        tell(spoken, &mut io, &clock).await;
        drop(io);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn each_is_told_in_its_own_protocol() {
        let http1 = told(Spoken::Http1).await;
        assert!(http1.starts_with(b"HTTP/1.1 503 Service Unavailable\r\n"));
        assert_eq!(told(Spoken::Http2).await, [&SETTINGS[..], &CALM].concat());
        assert_eq!(told(Spoken::Tls).await, b"");
    }
}
