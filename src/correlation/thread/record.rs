//! What the kernel's programs wrote down of a call: `struct call` and `struct ends` of `thread.bpf.c`.
//!
//! Times are nanoseconds of CLOCK_MONOTONIC. Addresses are IPv6, or IPv4-mapped.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::correlation::in_flight::{Ends, Nanos};

/// What speaks against a join; the numbers are those of `thread.bpf.c`.
pub(super) mod flags {
    /// The thread has read no request.
    pub(in super::super) const NO_REQUEST: u32 = 1;
    /// The request was read while its socket was in an epoll set.
    pub(in super::super) const READ_IN_EPOLL: u32 = 2;
    /// The request's socket was in one when the call was sent.
    pub(in super::super) const IN_EPOLL: u32 = 4;
    /// The call's socket was in one.
    pub(in super::super) const CALL_IN_EPOLL: u32 = 8;
    /// The thread uses io_uring.
    pub(in super::super) const URING: u32 = 16;
    /// The thread read this request before it had answered another one.
    pub(in super::super) const OVERLAP: u32 = 32;
    /// It did so before.
    pub(in super::super) const SEVERAL: u32 = 64;
    /// Another thread answered a request that it had read.
    pub(in super::super) const HANDS_OVER: u32 = 128;
    /// Several threads have read this request.
    pub(in super::super) const SPLIT_REQUEST: u32 = 256;
    /// The call's bytes came from several threads, or during several requests.
    pub(in super::super) const SPLIT_CALL: u32 = 512;
    /// Another thread has read from the request's connection since.
    pub(in super::super) const TAKEN: u32 = 1024;
    /// The request's socket was closed.
    pub(in super::super) const CLOSED: u32 = 2048;
    /// What was known of the request was evicted.
    pub(in super::super) const FORGOTTEN: u32 = 4096;
    /// The request's socket does not block. Says nothing alone.
    pub(in super::super) const NONBLOCKING: u32 = 8192;
    /// The call has been answered, at least in part.
    pub(in super::super) const ANSWERED: u32 = 16384;
    /// The thread has made a process since it began to read this request.
    pub(in super::super) const FORKED: u32 = 32768;
}

/// AF_UNIX, the family of such a connection.
const UNIX: u32 = 1;

/// The key of a call's record: both addresses of its connection, as the app's socket has them.
pub(super) type Key = [u64; 5];

/// A record as the kernel hands it out.
pub(super) type Words = [u64; 17];

/// The newest call on a connection to hopspan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Bytes that the app sent on the connection.
    pub(super) sent: u64,
    /// Of these, what was there before the call.
    pub(super) began: u64,
    /// When its thread last read of its request.
    pub(super) read_at: Nanos,
    /// When the app last wrote to the request's connection.
    pub(super) answered_at: Nanos,
    /// Bytes that the app wrote to the request's connection in all.
    pub(super) written: u64,
    /// When its bytes were last sent.
    pub(super) sent_at: Nanos,
    /// Of [`flags`].
    pub(super) flags: u32,
    /// The caller's process, where it can be seen from here, and when that began.
    pub(super) process: Option<(u32, u64)>,
    /// The request's connection.
    pub(super) request: Key,
}

impl Record {
    pub(super) fn read(words: &Words) -> Record {
        let [
            sent,
            _cookie,
            began,
            _thread,
            _request,
            read_at,
            answered_at,
            written,
            sent_at,
            started,
            _queued,
            rest,
            request @ ..,
        ] = *words;
        let process = (rest >> 32) as u32;
        Record {
            sent,
            began,
            read_at,
            answered_at,
            written,
            sent_at,
            flags: rest as u32,
            process: (process != 0).then_some((process, started)),
            request,
        }
    }

    /// Whether one of `flags` is set.
    pub(super) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }
}

/// The key of a TCP connection whose app end is `local`.
pub(super) fn key(local: SocketAddr, remote: SocketAddr) -> Key {
    let [local_high, local_low] = words(local.ip());
    let [remote_high, remote_low] = words(remote.ip());
    // Two 16-bit ports and the family, 0, in the kernel's byte order.
    let [a, b] = local.port().to_ne_bytes();
    let [c, d] = remote.port().to_ne_bytes();
    let ports = u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]);
    [local_high, local_low, remote_high, remote_low, ports]
}

/// The connection to the app behind a key of the kernel's; IPv4 is no longer mapped. `None`: a kind that is not known.
pub(super) fn ends(key: &Key) -> Option<Ends> {
    let [local_high, local_low, remote_high, remote_low, ports] = *key;
    let [a, b, c, d, family @ ..] = ports.to_ne_bytes();
    let address = |high: u64, low: u64, port| {
        let mut octets = [0; 16];
        let bytes = high.to_ne_bytes().into_iter().chain(low.to_ne_bytes());
        octets
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = from);
        SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port)
    };
    match u32::from_ne_bytes(family) {
        0 => Some(Ends::Tcp([
            address(remote_high, remote_low, u16::from_ne_bytes([c, d])),
            address(local_high, local_low, u16::from_ne_bytes([a, b])),
        ])),
        UNIX => Some(Ends::Unix(remote_high)),
        _ => None,
    }
}

fn words(ip: IpAddr) -> [u64; 2] {
    let octets = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let (high, low) = octets.split_at(8);
    [high, low].map(|half| half.try_into().map_or(0, u64::from_ne_bytes))
}
