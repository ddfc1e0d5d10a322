//! A connection of HTTP/1.x between two requests, without hyper: what waits takes no buffers but for what is there of a head.
//!
//! hyper is given what came as soon as it can do something with it: the head is whole, or as large as what hyper takes
//! anyway, or cannot become one. Whether that is so is asked in hyper's own way: all of it is parsed once, and from then on
//! an empty line is looked for. What a head says is hyper's business alone.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use prometheus_client::metrics::gauge::Gauge;

use super::last_word::last_word;
use super::{Client, Wire, leaves};
use crate::proxy::growing::FREE;
use crate::telemetry::Metrics;

/// How the wait for a request ended.
pub(super) enum Begun {
    /// There is something for hyper.
    Head,
    /// A head did not go on in time.
    Late,
    /// The client left, was silent for too long, or is to go.
    Nothing,
}

/// Waits for a request; when a stop comes, for as long as one that is on its way may take.
pub(super) async fn begun<G: Unpin, H>(io: &mut Wire<G>, client: &Client<'_, H>) -> Begun {
    let mut looked = 0;
    let hearing = poll_fn(|cx| poll_begun(io, client, &mut looked, cx));
    let since = || client.clock.idle_since().unwrap_or_else(Instant::now);
    tokio::select! {
        biased;
        begun = hearing => begun,
        () = leaves(&client.stop, since) => match looked {
            0 => Begun::Nothing,
            // It may go on: hyper has it to the end.
            _ => Begun::Head,
        }
    }
}

/// Counts a connection that hyper has given back, while it waits.
pub(super) struct Resting(Gauge);

impl Resting {
    pub(super) fn new(metrics: &Metrics) -> Resting {
        metrics.connections_resting.inc();
        Resting(metrics.connections_resting.clone())
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Closes a connection that has nothing in hand.
pub(super) async fn leave<G: Unpin, H>(io: &mut Wire<G>, client: &Client<'_, H>) {
    tokio::select! {
        () = last_word(io, b"") => {}
        () = client.options.cut.cancelled() => {}
    }
}

/// `looked`: how much of what is ahead was looked at.
fn poll_begun<G: Unpin, H>(
    io: &mut Wire<G>,
    client: &Client<'_, H>,
    looked: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Begun> {
    let socket = io.socket();
    loop {
        let ahead = socket.ahead();
        if !ahead.is_empty() {
            client.clock.head_begins();
            if is_for_hyper(ahead, *looked) {
                return Poll::Ready(Begun::Head);
            }
            *looked = ahead.len();
        }
        match socket.poll_more(cx) {
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(Ok(0)) if *looked > 0 => return Poll::Ready(Begun::Head),
            Poll::Ready(_) => return Poll::Ready(Begun::Nothing),
            Poll::Pending => break,
        }
    }
    let limits = &client.limits;
    let deadline = client
        .clock
        .waits_until(limits.idle_timeout, limits.header_timeout);
    ready!(client.clock.poll_until(deadline, cx));
    Poll::Ready(match *looked {
        0 => Begun::Nothing,
        _ => Begun::Late,
    })
}

/// Whether hyper can do something with these bytes, of which so many were looked at before.
fn is_for_hyper(bytes: &[u8], looked: usize) -> bool {
    if bytes.len() >= FREE {
        return true;
    }
    // Empty lines before a request are skipped (RFC 9112 section 2.2).
    let begins = bytes.iter().position(|byte| !b"\r\n".contains(byte));
    let Some(head) = begins.and_then(|at| bytes.get(at..)) else {
        return false;
    };
    let before = bytes.len() - head.len();
    let looked = looked.saturating_sub(before);
    if ends(head.get(looked.saturating_sub(2)..).unwrap_or_default()) {
        return true;
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    looked == 0 && httparse::Request::new(&mut fields).parse(head).is_err()
}

/// Whether there is an empty line, as lenient as hyper is.
fn ends(bytes: &[u8]) -> bool {
    let ends = |at: usize| {
        let next = bytes.get(at + 1..).unwrap_or_default();
        next.starts_with(b"\n") || next.starts_with(b"\r\n")
    };
    let mut bytes = bytes.iter().enumerate();
    bytes.any(|(at, byte)| *byte == b'\n' && ends(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_is_given_what_it_can_do_something_with_and_no_sooner() {
        let head = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
        let large = [&head[..20], &[b'x'; FREE]].concat();
        let rows: [(&[u8], bool); 15] = [
            (head, true),
            (b"GET / HTTP/1.1\nHost: shop\n\n", true),
            (b"GET / HTTP/1.1\r\nHost: shop\n\r\n", true),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", true),
            (b"POST / HTTP/1.1\r\nHost: shop\r\n\r\ncontent", true),
            (b"G", false),
            (b"\r\n\r\n", false),
            (b"\r\n\r\nGET / HTTP/1.1\r\nHost: shop\r\n", false),
            (b"GET / HTTP/1.1\r\nHost: shop\r\n\r", false),
            (b"GET / HTTP/1.1\r\nHost: shop\n\r", false),
            // What cannot become a head is refused at once.
            (b"G\0T / HT", true),
            (b"GET / HTTP/3.0\r\n", true),
            (b"GET / HTTP/1.1\r\nHo st: shop\r\n", true),
            (b"\x16\x03\x01", true),
            (&large, true),
        ];
        for (bytes, whole) in rows {
            let what = String::from_utf8_lossy(bytes);
            assert_eq!(is_for_hyper(bytes, 0), whole, "{what}");
            // However it came: the end is seen wherever it is cut.
            let ends = whole && (bytes.ends_with(b"\n\n") || bytes.ends_with(b"\n\r\n"));
            for looked in (1..bytes.len()).filter(|_| ends) {
                assert!(is_for_hyper(bytes, looked), "{what} after {looked}");
            }
        }
    }
}
